"""The demo bundle: small models of SD1.5's interfaces that ship with the pack, as ComfyUI's own objects.

A bundle is a folder with `base.safetensors` (UNet, ldm keys), `vae.safetensors`, `vision.safetensors` with
`vision.json` beside it, `matching.safetensors` and `appearance.safetensors`. Each file's metadata hold the config that
rebuilds its model; nothing is guessed from tensor shapes.
"""

import json
from pathlib import Path

import comfy.clip_vision
import comfy.model_management
import comfy.sd
import comfy.supported_models
import comfy.utils

from ..errors import UserError
from ..types import PortraitNets
from .files import check_tensors, read_tensors
from .loading import SUPPORTED_DTYPES, built, check_keys, load_portrait_nets, load_strictly, patcher_class
from .portrait_config import AUTOENCODER, DDCONFIG, VISION, check_fields, check_unet_config

FOLDER = Path(__file__).resolve().parents[2] / "bundle"
BASE_FORMAT = "icportrait-base-1"
VAE_FORMAT = "icportrait-vae-1"
VISION_FORMAT = "icportrait-vision-1"
FILES = (
    "base.safetensors",
    "vae.safetensors",
    "vision.safetensors",
    "vision.json",
    "matching.safetensors",
    "appearance.safetensors",
)
LIFTER = "lifter.safetensors"
"""Beside them, for novel views; the nets do without."""


def check_bundle(folder: Path) -> None:
    """Raises UserError when a file of the bundle is missing, naming all that are."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UserError(f"The demo bundle in {folder} lacks {', '.join(missing)}; restore the pack's `bundle` folder.")


def _read(path: Path, wanted: str, what: str) -> tuple[dict, dict]:
    """(tensors, metadata) of a file of this format. Raises UserError for another format, or tensors that cannot be weights."""
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != wanted:
        raise UserError(f"{path} is not an IC-Portrait {what} (its metadata lack format {wanted}).")
    check_tensors(tensors, metadata, path)
    return tensors, metadata


def read_base(path: Path) -> tuple[dict, dict]:
    """(tensors, metadata) of the bundle's UNet, checked whole. Raises UserError for no or a damaged base file."""
    tensors, metadata = _read(path, BASE_FORMAT, "base model")
    check_unet_config(metadata.get("config"), path)
    return tensors, metadata


def load_base(path: Path):
    """The bundle's UNet as MODEL (ModelPatcher).

    ComfyUI's loaders only recognise SD1.5's own width, so the model is built from the stored config.

    Raises:
        UserError: not a readable base file, or tensors that do not fit its config.
    """
    tensors, metadata = read_base(path)
    unet = metadata["config"]
    config = comfy.supported_models.SD15(dict(unet))
    # The class sets SD1.5's own 8 heads; ours are in the file.
    config.unet_config["num_heads"] = unet["num_heads"]
    config.unet_config["num_head_channels"] = unet["num_head_channels"]
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    weight_dtype = comfy.utils.weight_dtype(tensors)
    dtype = comfy.model_management.unet_dtype(
        model_params=-1, supported_dtypes=SUPPORTED_DTYPES, weight_dtype=weight_dtype
    )
    config.set_inference_dtype(dtype, comfy.model_management.unet_manual_cast(dtype, load_device, SUPPORTED_DTYPES))
    base = built(lambda: config.get_model(tensors, "", device=offload_device), path)
    load_strictly(lambda: base.diffusion_model.load_state_dict(tensors, strict=False), path)
    base.diffusion_model.eval()
    return patcher_class()(base, load_device=load_device, offload_device=offload_device)


def load_vae(path: Path):
    """The bundle's autoencoder as VAE.

    Raises:
        UserError: not a readable file, or tensors that do not fit its config.
    """
    tensors, metadata = _read(path, VAE_FORMAT, "autoencoder")
    # TAESD's structure is known by its keys; an AutoencoderKL of unusual width needs its config.
    config = {"params": metadata["config"]} if "config" in metadata else None
    if config is not None:
        check_fields(metadata["config"], AUTOENCODER, path)
        check_fields(metadata["config"]["ddconfig"], DDCONFIG, path, "ddconfig")
    vae = built(lambda: comfy.sd.VAE(sd=dict(tensors), config=config), path)
    # ComfyUI loads what it finds and only logs the rest.
    wanted = vae.first_stage_model.state_dict().keys()
    check_keys(wanted - tensors.keys(), tensors.keys() - wanted, path)
    return vae


def load_vision(path: Path):
    """The bundle's vision encoder as CLIP_VISION. ComfyUI reads its config from the .json beside the file.

    Raises:
        UserError: not a readable file, or tensors that do not fit its config.
    """
    tensors, metadata = _read(path, VISION_FORMAT, "image encoder")
    check_fields(metadata.get("config"), VISION, path)
    beside = path.with_suffix(".json")
    try:
        same = json.loads(beside.read_text("utf-8")) == metadata["config"]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{beside} cannot be read: {error}") from error
    if not same:
        raise UserError(f"{beside} is not the configuration of {path.name}; put back the one that came with it.")
    vision = built(lambda: comfy.clip_vision.ClipVisionModel(str(beside)), path)
    load_strictly(lambda: vision.load_sd(tensors), path)
    return vision


def load_bundle(folder: Path = FOLDER) -> tuple[object, object, object, PortraitNets]:
    """(MODEL, VAE, CLIP_VISION, nets) of a bundle folder.

    Raises:
        UserError: a missing, unreadable or unfitting file.
    """
    folder = Path(folder)
    check_bundle(folder)
    nets = load_portrait_nets(folder / "matching.safetensors", folder / "appearance.safetensors")
    return (
        load_base(folder / "base.safetensors"),
        load_vae(folder / "vae.safetensors"),
        load_vision(folder / "vision.safetensors"),
        nets,
    )
