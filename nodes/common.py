"""What the node files share: wire types, names, checks of inputs, and errors that name their node."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from comfy_api.latest import io

from ..models.types import PortraitNets

CATEGORY = "IC-Portrait"

Nets = io.Custom("ICPORTRAIT_NETS")  # models.types.PortraitNets
Profile = io.Custom("ICPORTRAIT_PROFILE")  # models.types.Profile
Flow = io.Custom("ICPORTRAIT_FLOW")  # models.types.Flow

NETS_MADE_BY = "'Load Portrait Nets' or 'Load Demo Bundle'"


@contextmanager
def naming(node: type[io.ComfyNode]) -> Iterator[None]:
    """Put the node's display name before the sentence of any ValueError raised inside."""
    try:
        yield
    except ValueError as error:
        name = node.define_schema().display_name
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name}: {error}") from error


def check_choice(name: str, value: str, options) -> str:
    """ComfyUI before 0.9 does not check the choices of V3 nodes. Raises ValueError naming the input and the options."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}; got {value!r}.")
    return value


def check_type(name: str, value, wanted: type, made_by: str) -> None:
    """Raises ValueError when another pack put a foreign object on one of our wires."""
    if not isinstance(value, wanted):
        raise ValueError(f"{name} must come from {made_by}; got {type(value).__name__}.")


def check_nets(nets) -> None:
    """Raises ValueError when the nets come from elsewhere."""
    check_type("nets", nets, PortraitNets, NETS_MADE_BY)


def check_latent(latent: dict) -> torch.Tensor:
    """The samples `[B, 4, h, w]` of an SD1.5 LATENT. Raises ValueError for another kind of latent."""
    samples = latent["samples"]
    if samples.ndim != 4 or samples.shape[1] != 4:
        raise ValueError(
            f"The latent must be SD1.5's [B, 4, h, w]; got {list(samples.shape)}. Encode the crop with an SD1.5 VAE."
        )
    return samples


def seed_input(what: str) -> io.Int.Input:
    """The usual seed widget."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip=f"Decides {what}. The same seed gives the same result.",
    )


def vae_input() -> io.Vae.Input:
    """`vae`."""
    return io.Vae.Input("vae", tooltip="The VAE of the SD1.5 checkpoint.")


def nets_input(more: str = "") -> Nets.Input:
    """`nets`; `more` goes on where the tooltip's sentence ends."""
    return Nets.Input("nets", tooltip=f"From {NETS_MADE_BY}{more}.")


def model_inputs() -> list[io.Input]:
    """`model`, `vae`, `clip_vision` and `nets` of the nodes that do everything."""
    return [
        io.Model.Input("model", tooltip="SD1.5 MODEL (LoRAs and other patches welcome), or the demo bundle's."),
        vae_input(),
        io.ClipVision.Input("clip_vision", tooltip="CLIP ViT-L/14 image encoder with its projection (768 wide)."),
        nets_input(),
    ]


def net_strength_input(at_zero: str) -> io.Float.Input:
    """`strength` of the nets; `at_zero` ends the tooltip and says what 0 does."""
    return io.Float.Input(
        "strength",
        default=1.0,
        min=0.0,
        max=10.0,
        step=0.01,
        tooltip=f"Multiplies what the appearance net adds. 1 is as trained; {at_zero}",
    )


def generator(seed: int) -> torch.Generator:
    """A CPU generator of its own, so that the global one stays untouched."""
    return torch.Generator().manual_seed(seed)
