"""Customisation from photographs to a file: `icportrait customise`."""

import dataclasses
import shutil
from pathlib import Path

import torch
from accelerate import PartialState

from ...models.errors import UserError
from ...models.nets import bundle as bundles
from ...models.nets.files import read_tensors, save_tensors
from ..core.diffusion import LATENT_SCALE
from ..core.loop import train
from ..core.settings import LoopSettings
from ..data.folders.faces import FilterSettings, usable_faces
from ..data.folders.pictures import pictures_of
from ..data.samples import SampleSet
from ..tasks.customise import PAPER, CustomiseSettings, CustomiseTask, photo_samples
from .base_models import Base, load_bundle_base, load_sd15_base

UNET_PREFIX = "model.diffusion_model."


def aligned_photos(folder: Path, filters: FilterSettings) -> tuple[dict[str, torch.Tensor], list]:
    """(aligned pictures by name, what was dropped) of a folder of photographs and videos of one person.

    Raises:
        UserError: no usable face; the message lists why.
    """
    faces, drops = usable_faces(pictures_of(folder), filters)
    if not faces:
        why = "; ".join(f"{drop.name}: {drop.reason} ({drop.detail})" for drop in drops) or "it holds no pictures"
        raise UserError(f"No usable photograph in {folder}: {why}.")
    return {face.name: torch.from_numpy(face.picture) for face in faces}, drops


def prepare(samples: SampleSet, base: Base) -> SampleSet:
    """Encode and embed all pictures."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    samples.encode_latents(base.vae.to(device), LATENT_SCALE, device=device)
    samples.embed_profiles(base.vision.to(device), device=device)
    base.vae.to("cpu")
    base.vision.to("cpu")
    return samples


def train_person(
    pictures: dict[str, torch.Tensor],
    base: Base,
    run: Path,
    loop: LoopSettings = PAPER,
    settings: CustomiseSettings = CustomiseSettings(),
    prior: SampleSet | None = None,
) -> CustomiseTask:
    """Train on aligned pictures in the folder `run`; repeating the call resumes."""
    samples = prepare(photo_samples(pictures), base)
    if prior is not None:
        prepare(prior, base)
    task = CustomiseTask(samples, base.unet, settings, loop.seed, prior)
    facts = {"customise": dataclasses.asdict(settings), "photographs": len(pictures), "base": base.name}
    return train(task, loop, run, "customise", facts)


def save_person(task: CustomiseTask, out: Path, base_file: Path, facts: dict) -> Path:
    """Write what was trained: a LoRA file; or, for the whole UNet, a copy of the base with the new weights.

    Args:
        out: a `.safetensors` file, or the folder of a new bundle when `base_file` is that of a bundle.
        base_file: SD1.5 checkpoint, or `base.safetensors` of a bundle. Everything but the UNet is copied bit for bit, and
            the UNet keeps the file's precision.

    Returns:
        the file ComfyUI loads.
    """
    if task.lora is not None:
        task.lora.save(out, facts)
        return out
    state = task.unet.state_dict()
    tensors, metadata = read_tensors(base_file)
    in_bundle = metadata.get("format") == bundles.BASE_FORMAT
    prefix = "" if in_bundle else UNET_PREFIX
    missing = [name for name in state if prefix + name not in tensors]
    if missing:
        raise UserError(f"{base_file} lacks {len(missing)} tensors of its UNet (first: {prefix}{missing[0]}).")
    for name, tensor in state.items():
        tensors[prefix + name] = tensor.detach().to("cpu", tensors[prefix + name].dtype)
    if not in_bundle:
        save_tensors(out, tensors, {"customised_from": base_file.name, "training": facts})
        return out
    out.mkdir(parents=True, exist_ok=True)
    for name in bundles.FILES:
        if name != base_file.name:
            shutil.copyfile(base_file.parent / name, out / name)
    training = metadata.get("training", {}) | {"customised": facts}
    save_tensors(out / base_file.name, tensors, metadata | {"training": training})
    return out / base_file.name


def check_out(out: Path, whole_bundle: bool, bundle: Path) -> None:
    """Raises UserError when the result could not be written to --out; before any training."""
    if whole_bundle:
        if out.resolve() == bundle.resolve():
            raise UserError(f"--out {out} is the base bundle itself: choose a new folder.")
        if out.suffix == ".safetensors":
            raise UserError(f"--out {out} must be a folder: the customised demo base becomes part of a whole bundle.")
    elif out.suffix != ".safetensors":
        raise UserError(f"--out {out} must end in .safetensors.")


def customise(
    photos: Path,
    out: Path,
    checkpoint: Path | None,
    vision: Path | None,
    bundle: Path,
    filters: FilterSettings,
    loop: LoopSettings,
    settings: CustomiseSettings,
    prior: SampleSet | None = None,
    run: Path | None = None,
) -> tuple[Path, list]:
    """A folder of photographs to a customised base: `icportrait customise`.

    Args:
        checkpoint, vision: an SD1.5 checkpoint (.safetensors) and CLIP ViT-L/14, or None for the demo bundle `bundle`.
        run: folder of the training's checkpoints; default: beside `out`.

    Returns:
        (the file ComfyUI loads, photographs that were dropped).

    Raises:
        UserError: no usable photograph, or a base or --out that does not fit.
    """
    check_out(out, checkpoint is None and not settings.rank, bundle)
    if checkpoint is not None and vision is None:
        raise UserError("--base needs --vision as well: a CLIP ViT-L/14 vision model.")
    if checkpoint is not None and checkpoint.suffix != ".safetensors":
        raise UserError(f"{checkpoint} is not a .safetensors file: convert it first, pickled checkpoints are not read.")
    pictures, drops = aligned_photos(photos, filters)
    base = load_bundle_base(bundle) if checkpoint is None else load_sd15_base(checkpoint, vision)
    task = train_person(pictures, base, run or out.with_name(f"{out.stem}_training"), loop, settings, prior)
    facts = {"steps": loop.steps, "lr": loop.lr, "batch": loop.batch, "photographs": len(pictures), "base": base.name}
    facts |= {"license": "that of the base and of the photographs"}
    if PartialState().is_main_process:
        out = save_person(task, out, checkpoint or bundle / "base.safetensors", facts)
    return out, drops
