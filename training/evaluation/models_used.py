"""The models a measurement runs with: a bundle, or an SD1.5 checkpoint with its vision model and nets."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from ...models.errors import UserError
from ...models.nets import bundle as bundles
from ...models.nets.files import read_metadata
from ...models.nets.loading import load_portrait_nets
from ...models.nets.portrait_net import build_net, initialise_from_unet
from ...models.types import LoadedNet, PortraitNets
from ..core.diffusion import keyed_generator
from ..core.paths import InputFile, InputFolder


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """Which models a measurement runs with."""

    bundle: InputFolder | None = None
    """Bundle folder; default: the one shipped."""
    base: InputFile | None = None
    """SD1.5 checkpoint instead of a bundle."""
    vision: InputFile | None = None
    """CLIP ViT-L/14 vision model, with --base."""
    nets: InputFolder | None = None
    """Folder with matching.safetensors and appearance.safetensors."""

    def load(self) -> "Models":
        """These models; see `load_models`."""
        return load_models(self.bundle, self.base, self.vision, self.nets)


@dataclass(frozen=True)
class Models:
    """ComfyUI's objects and the nets, and which files they came from."""

    model: object
    vae: object
    vision: object
    nets: PortraitNets
    files: dict[str, str]
    """File name -> the first 16 digits of its SHA-256."""
    training: dict[str, dict]
    """What the files' metadata say about their training."""


def file_hash(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def load_models(
    bundle: Path | None = None, base: Path | None = None, vision: Path | None = None, nets: Path | None = None
) -> Models:
    """A bundle folder (default: the one shipped), or an SD1.5 `base` checkpoint, CLIP ViT-L/14 `vision` and a `nets` folder.

    The nets' folder holds `matching.safetensors` and `appearance.safetensors`. Given with a bundle, it replaces the bundle's nets.

    Raises:
        UserError: files that are missing or do not fit; `base` without `vision` and `nets`.
    """
    if base is None:
        folder = Path(bundle or bundles.FOLDER)
        model, vae, clip, portrait_nets = bundles.load_bundle(folder)
        paths = [folder / name for name in bundles.FILES if name.endswith(".safetensors")]
    else:
        if vision is None or nets is None:
            raise UserError("--base needs --vision (CLIP ViT-L/14) and --nets (folder of the two nets) too.")
        import comfy.clip_vision
        import comfy.sd

        model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(str(base), output_clip=False)
        clip = comfy.clip_vision.load(str(vision))
        portrait_nets, paths = None, [base, vision]
    if nets is not None:
        files = [Path(nets) / f"{role}.safetensors" for role in ("matching", "appearance")]
        portrait_nets = load_portrait_nets(*files)
        paths = [path for path in paths if path.name not in {file.name for file in files}] + files
    training = {path.name: read_metadata(path).get("training", {}) for path in paths if path.suffix == ".safetensors"}
    return Models(model, vae, clip, portrait_nets, {path.name: file_hash(path) for path in paths}, training)


def step0_net(model, config: dict) -> LoadedNet:
    """The matching net before any training: ControlNet's initialisation from the base UNet."""
    import comfy.model_patcher

    net = build_net(config)
    initialise_from_unet(net, model.model.diffusion_model, keyed_generator(0, "matching"))
    cpu = torch.device("cpu")
    return LoadedNet(comfy.model_patcher.ModelPatcher(net, load_device=cpu, offload_device=cpu), config, torch.float32)
