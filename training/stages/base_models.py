"""The frozen models a run builds on: the demo's own, a bundle's, or an SD1.5 checkpoint with CLIP ViT-L/14."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ...models.errors import UserError
from ...models.nets import bundle as bundles
from ...models.nets.files import read_metadata, read_tensors
from ..core.checkpoint import load_weights
from ..core.diffusion import LATENT_SCALE
from ..core.modules import DEMO_UNET, DEMO_VISION, build_unet, build_vae, build_vision

DEMO_BASE = "demo base"


@dataclass
class Base:
    """The frozen models a run builds on."""

    unet: torch.nn.Module
    unet_config: dict
    vae: torch.nn.Module
    vision: torch.nn.Module
    name: str


def load_vae(run: Path) -> torch.nn.Module:
    """The run's autoencoder."""
    vae = build_vae(LATENT_SCALE)
    vae.load_state_dict(read_tensors(run / "autoencoder" / "vae.safetensors")[0])
    return vae.requires_grad_(False).eval()


def load_demo_base(run: Path) -> Base:
    """The base models that `train_base` wrote; a run whose base is still training gives its last checkpoint."""
    unet, vision = build_unet(DEMO_UNET), build_vision(DEMO_VISION)
    if (run / "base" / "unet.safetensors").exists():
        unet.load_state_dict(read_tensors(run / "base" / "unet.safetensors")[0])
        vision.load_state_dict(read_tensors(run / "base" / "vision.safetensors")[0])
    else:
        load_weights(torch.nn.ModuleDict({"unet": unet, "vision": vision}), run / "base")
    for module in (unet, vision):
        module.requires_grad_(False).eval()
    return Base(unet, DEMO_UNET, load_vae(run), vision, DEMO_BASE)


def load_bundle_base(folder: Path) -> Base:
    """The models of a demo bundle, in float32.

    Raises:
        UserError: a missing or unfitting file.
    """
    bundles.check_bundle(folder)
    tensors, metadata = bundles.read_base(folder / "base.safetensors")
    unet = build_unet(metadata["config"])
    unet.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    vae = bundles.load_vae(folder / "vae.safetensors").first_stage_model.float()
    vision = bundles.load_vision(folder / "vision.safetensors").model.float()
    for module in (unet, vae, vision):
        module.requires_grad_(False).eval()
    return Base(unet, metadata["config"], vae, vision, "demo base")


def load_sd15_base(checkpoint: str | Path, vision: str | Path) -> Base:
    """An SD1.5 checkpoint and a CLIP ViT-L/14 vision model through ComfyUI's loaders, in float32.

    Raises:
        UserError: a file that is not safetensors or not readable; the checkpoint is no SD1.5 or has no VAE; the vision model's
            embedding is not 768 wide.
    """
    import comfy.clip_vision
    import comfy.sd

    for file in (Path(checkpoint), Path(vision)):
        if file.suffix != ".safetensors":
            raise UserError(f"{file} is not a .safetensors file: convert it first, pickled checkpoints are not read.")
        read_metadata(file)
    try:
        model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(
            str(checkpoint), output_clip=False, model_options={"dtype": torch.float32}
        )
        loaded = comfy.clip_vision.load(str(vision))
    except (RuntimeError, KeyError, AttributeError, TypeError, ValueError) as error:
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"ComfyUI could not load {checkpoint} and {vision}: {told[-1]}") from error
    if model is None or getattr(vae, "first_stage_model", None) is None:
        raise UserError(f"{checkpoint} is not a whole SD1.5 checkpoint: it lacks the UNet or the VAE.")
    config = model.model.model_config.unet_config
    if config.get("context_dim") != 768 or config.get("model_channels") != 320:
        raise UserError(
            f"{checkpoint} is not an SD1.5 checkpoint (context {config.get('context_dim')}, width {config.get('model_channels')})."
        )
    projection = getattr(getattr(loaded, "model", None), "visual_projection", None)
    if getattr(projection, "weight", None) is None or projection.weight.shape[0] != 768:
        raise UserError(f"{vision} does not give 768-wide image embeddings; use CLIP ViT-L/14.")
    encoder = loaded.model.float()
    unet = model.model.diffusion_model.float()
    vae_module = vae.first_stage_model.float()
    for module in (unet, encoder, vae_module):
        module.requires_grad_(False).eval()
    return Base(unet, config, vae_module, encoder, Path(checkpoint).name)
