"""What the node files share: wire types, names, checks of inputs, and errors that name their node."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from comfy_api.latest import io

CATEGORY = "IC-Portrait"

Nets = io.Custom("ICPORTRAIT_NETS")  # models.types.PortraitNets
Profile = io.Custom("ICPORTRAIT_PROFILE")  # models.types.Profile
Flow = io.Custom("ICPORTRAIT_FLOW")  # models.types.Flow


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


def generator(seed: int) -> torch.Generator:
    """A CPU generator of its own, so that the global one stays untouched."""
    return torch.Generator().manual_seed(seed)
