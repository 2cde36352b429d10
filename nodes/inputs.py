"""Inputs and checks that several nodes share."""

import comfy.samplers
import torch
from comfy_api.latest import io

from ..models.faces.stitching import COLOR_MATCHES, StitchSettings
from ..models.mesh.geometry import EXPRESSIONS
from ..models.mesh.painter import MeshSettings
from ..models.method.correspondence import METHODS as FLOW_METHODS
from ..models.method.detail import STRENGTH as DETAIL
from ..models.method.injection import SPEEDS
from ..models.method.matching import FLOW_TIMESTEP
from ..models.methods import METHODS
from ..models.portrait import CropSettings
from ..models.types import PortraitNets
from .common import NetsType

SPEED = next(iter(SPEEDS))
NETS_MADE_BY = "'Load Portrait Nets' or 'Load Demo Bundle'"


def check_type(name: str, value, wanted: type, made_by: str) -> None:
    """Raises ValueError when another pack put a foreign object on one of our wires."""
    if not isinstance(value, wanted):
        raise ValueError(f"{name} must come from {made_by}; got {type(value).__name__}.")


def check_nets(nets) -> None:
    """Raises ValueError when the nets come from elsewhere."""
    check_type("nets", nets, PortraitNets, NETS_MADE_BY)


def check_latent(latent) -> torch.Tensor:
    """The samples `[B, 4, h, w]` of an SD1.5 LATENT, float32 as ComfyUI's own nodes make them.

    Raises:
        ValueError: no LATENT, another kind of latent, or NaN in it.
    """
    samples = latent.get("samples") if isinstance(latent, dict) else None
    if not isinstance(samples, torch.Tensor):
        raise ValueError(
            f"latent must be a LATENT, a dict with samples, as 'VAE Encode' makes it; a {type(latent).__name__} came"
        )
    if samples.ndim != 4 or samples.shape[1] != 4 or samples.numel() == 0:
        raise ValueError(
            f"The latent must be SD1.5's [B, 4, h, w]; got {list(samples.shape)}. Encode the crop with an SD1.5 VAE."
        )
    if not samples.is_floating_point() or samples.is_meta or samples.layout != torch.strided:
        raise ValueError(f"The latent must be a dense tensor of float numbers; {samples.dtype}, {samples.layout} came.")
    samples = samples.float()
    if not torch.isfinite(samples).all():
        raise ValueError("The latent holds NaN or infinite values; the node before made them, so mend it there.")
    mask = latent.get("noise_mask")
    if mask is not None:
        if not isinstance(mask, torch.Tensor) or mask.ndim not in (2, 3, 4):
            raise ValueError("The latent's noise_mask must be a mask, as 'Set Latent Noise Mask' makes it.")
        if mask.numel() == 0 or not torch.isfinite(mask).all():
            raise ValueError("The latent's noise_mask is empty, or holds NaN or infinite values.")
    return samples


def check_conditioning(name: str, conditioning) -> None:
    """Raises ValueError for what is no CONDITIONING."""
    entries = conditioning if isinstance(conditioning, list) else []
    if not entries or not all(
        isinstance(entry, list | tuple)
        and len(entry) == 2
        and isinstance(entry[0], torch.Tensor)
        and isinstance(entry[1], dict)
        for entry in entries
    ):
        came = "an empty one" if conditioning == [] else f"a {type(conditioning).__name__}"
        raise ValueError(f"{name} must be a CONDITIONING, as 'Encode Profile' makes it; {came} came")


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


def vae_input(**options) -> io.Vae.Input:
    """`vae`."""
    return io.Vae.Input("vae", tooltip="The VAE of the SD1.5 checkpoint.", **options)


def nets_input(more: str = "", **options) -> NetsType.Input:
    """`nets`; `more` goes on where the tooltip's sentence ends."""
    return NetsType.Input("nets", tooltip=f"From {NETS_MADE_BY}{more}.", **options)


def model_inputs() -> list[io.Input]:
    """`model`, `vae`, `clip_vision` and `nets` of the nodes that do everything; the mesh needs none of them."""
    return [
        io.Model.Input(
            "model", optional=True, tooltip="SD1.5 MODEL (LoRAs and other patches welcome), or the demo bundle's."
        ),
        vae_input(optional=True),
        io.ClipVision.Input(
            "clip_vision", optional=True, tooltip="CLIP ViT-L/14 image encoder with its projection (768 wide)."
        ),
        nets_input(optional=True),
    ]


def method_input() -> io.Combo.Input:
    """`method` of the nodes that do everything."""
    return io.Combo.Input(
        "method",
        options=list(METHODS),
        default=METHODS[0],
        optional=True,
        tooltip="mesh: a dense face mesh moves the photo into the style's pose and the style's light is laid on it; needs no model, and paints "
        "at the picture's own resolution (512 to 1024; crop_size, steps and noise are the nets'). nets: the paper's method. auto: nets where "
        "all four are connected and were trained on photographs, else mesh; the report says which.",
    )


def _mesh_share(name: str, tooltip: str, optional: bool) -> io.Float.Input:
    """A share 0 to 1 of `MeshSettings`, with its default."""
    default = getattr(MeshSettings, name)
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.05, optional=optional, tooltip=tooltip)


def skin_tone_input(optional: bool = False) -> io.Float.Input:
    """`skin_tone` of the mesh."""
    tooltip = "Painting by mesh: 0 is the person's own skin tone, 1 the style's. Black and white styles stay black and white. No cost."
    return _mesh_share("skin_tone", tooltip, optional)


def light_input(optional: bool = False) -> io.Float.Input:
    """`light` of the mesh."""
    return _mesh_share(
        "light", "Painting by mesh: share of the style's light; 0 keeps the photo's own. No cost.", optional
    )


def shape_input(optional: bool = False) -> io.Float.Input:
    """`shape` of the mesh."""
    return _mesh_share("shape", "Shape of the face by the mesh: 1 is the person's, 0 the style's. No cost.", optional)


def expression_input(optional: bool = False) -> io.Combo.Input:
    """`expression` of the mesh."""
    return io.Combo.Input(
        "expression",
        options=list(EXPRESSIONS),
        default=MeshSettings.expression,
        optional=optional,
        tooltip="By the mesh: whose eyes and mouth are how far open, and where the eyes look. profile: as on the photo. style: as in the "
        "style reference. profile, style's gaze: as on the photo, but looking where the style reference looks.",
    )


def mesh_inputs() -> list[io.Input]:
    """What the nodes that do everything take for the mesh, all optional."""
    return [method_input(), skin_tone_input(True), light_input(True), shape_input(True), expression_input(True)]


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


def share_input(tooltip: str) -> io.Float.Input:
    """`share` of eq. 1."""
    return io.Float.Input("share", default=0.2, min=0.0, max=1.0, step=0.01, tooltip=tooltip)


def crop_size_input() -> io.Int.Input:
    """`crop_size` of the nodes that paint; the default fits the bundle that ships with the pack."""
    return io.Int.Input(
        "crop_size",
        default=256,
        min=128,
        max=1024,
        step=64,
        tooltip="Side of the crop that is painted, in pixels. 256 for the demo bundle; set 512 for SD1.5. Time grows faster than its square.",
    )


def steps_input() -> io.Int.Input:
    """Steps of one round."""
    return io.Int.Input(
        "steps",
        default=CropSettings.steps,
        min=1,
        max=10000,
        tooltip="Denoising steps of one round; time grows with it.",
    )


def cfg_input() -> io.Float.Input:
    """`cfg`."""
    return io.Float.Input(
        "cfg",
        default=CropSettings.cfg,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="How hard the profile's embedding pulls against the zero embedding. 1 halves the time and switches it off.",
    )


def sampler_input(optional: bool = False) -> io.Combo.Input:
    """`sampler_name`."""
    return io.Combo.Input(
        "sampler_name",
        options=list(comfy.samplers.KSampler.SAMPLERS),
        default=CropSettings.sampler,
        optional=optional,
        tooltip="The sampling method, as in a KSampler. lcm noises anew at every step, which suits the demo bundle. With SD1.5 begin with "
        "euler, 20 steps and cfg 3.",
    )


def scheduler_input(optional: bool = False) -> io.Combo.Input:
    """`scheduler`, with one default in all nodes."""
    return io.Combo.Input(
        "scheduler",
        options=list(comfy.samplers.KSampler.SCHEDULERS),
        default=CropSettings.scheduler,
        optional=optional,
        tooltip="How the steps are spread, as in a KSampler.",
    )


def strength_input() -> io.Float.Input:
    """`noise_strength`."""
    return io.Float.Input(
        "noise_strength",
        default=CropSettings.noise_strength,
        min=0.01,
        max=1.0,
        step=0.01,
        tooltip="How far the style crop is noised before it is painted anew, above 0 to 1: a KSampler's `denoise`. Low keeps its light (and its "
        "face), high leaves more room for the profile's identity. 0.5 to 0.8 is a good start.",
    )


def rounds_input(
    tooltip: str = "How often to noise and paint anew; time grows with it.", optional: bool = False
) -> io.Int.Input:
    """`rounds`."""
    return io.Int.Input("rounds", default=1, min=1, max=16, optional=optional, tooltip=tooltip)


def flow_timestep_input(name: str = "flow_timestep", before: str = "", optional: bool = False) -> io.Int.Input:
    """The noise level of matching; `before` stands before the usual tooltip."""
    return io.Int.Input(
        name,
        default=FLOW_TIMESTEP,
        min=0,
        max=999,
        optional=optional,
        tooltip=f"{before}Noise level both crops are brought to for matching, 0 to 999. Low is best (50 to 150); above 600 the flow is useless. "
        "No cost.",
    )


def flow_method_input(name: str = "flow_method", optional: bool = False) -> io.Combo.Input:
    """How the cost volume becomes a flow, with one default in all nodes."""
    return io.Combo.Input(
        name,
        options=list(FLOW_METHODS),
        default=FLOW_METHODS[0],
        optional=optional,
        tooltip="How the best match becomes a flow. smooth: small and even motions are preferred, sure cells lead unsure ones. window: each "
        "cell alone, refined below one cell. paper: the plain best cell (argmax).",
    )


def detail_input(optional: bool = False) -> io.Float.Input:
    """How much detail comes from the profile, with one default in all nodes."""
    return io.Float.Input(
        "detail",
        default=DETAIL,
        min=0.0,
        max=1.0,
        step=0.05,
        optional=optional,
        tooltip="Eyelids, hairs, skin and the rims of glasses come from the profile's photo, moved by the flow; light and color stay as "
        "painted. 1 is full likeness, 0 is what the model painted (the paper's method). No cost.",
    )


def speed_input(before: str = "") -> io.Combo.Input:
    """`speed`, with one default in all nodes; optional."""
    return io.Combo.Input(
        "speed",
        options=list(SPEEDS),
        default=SPEED,
        optional=True,
        tooltip=f"{before}exact: every step works on style crop and profile. fast: every third step does; those between work on the style "
        "crop alone and reuse what it left of the profile. Half the work, a slightly different picture.",
    )


def feather_input(edge_of: str, optional: bool = False) -> io.Float.Input:
    """`feather`; the tooltip names whose edge it is."""
    return io.Float.Input(
        "feather",
        default=StitchSettings.feather,
        min=0.0,
        max=0.5,
        step=0.01,
        optional=optional,
        tooltip=f"Width of the {edge_of} soft edge, as a fraction of the crop's side.",
    )


def color_match_input(tooltip: str, optional: bool = False) -> io.Combo.Input:
    """`color_match`, with one default in all nodes."""
    return io.Combo.Input(
        "color_match", options=list(COLOR_MATCHES), default=COLOR_MATCHES[0], optional=optional, tooltip=tooltip
    )
