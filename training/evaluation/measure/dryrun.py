"""`icportrait measure dryrun`: the SD1.5 recipe from data to picture at full size, with random weights.

A checkpoint and a CLIP ViT-L/14 of the published shapes are written, heads are rendered, both nets train for two steps with a stop
and a resume between, and ComfyUI loads what came out and paints a portrait with the nodes' default settings. Every part runs by the
command a person would give, in a process of its own whose time and peak memory are noted.
"""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.ops
import comfy.sd1_clip
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from safetensors.torch import save_file

from ....models.errors import UserError
from ....models.nets.portrait_net import SD15_UNET
from ....models.portrait import CropSettings, paint_crop
from ...core.checks import picture_sides
from ...core.modules import build_unet, build_vision
from ...core.paths import OutputFolder
from ...data.shards import read_shards
from ..models_used import load_models
from .flops import CLIP_VIT_L14, SD15_VAE
from .settings import Measure

COMMAND = f"{__package__.partition('.evaluation')[0]}.cli"


def checkpoint_shapes() -> dict[str, torch.Size]:
    """Names and shapes of every weight of an SD1.5 checkpoint; nothing is allocated."""
    with torch.device("meta"):
        unet, vae = build_unet(SD15_UNET), AutoencoderKL(ddconfig=SD15_VAE, embed_dim=4)
    text = comfy.sd1_clip.SD1ClipModel(device="meta", dtype=torch.float16)
    shapes = {f"model.diffusion_model.{name}": tensor.shape for name, tensor in unet.state_dict().items()}
    shapes |= {f"first_stage_model.{name}": tensor.shape for name, tensor in vae.state_dict().items()}
    for name, tensor in text.state_dict().items():
        if name.startswith("clip_l.transformer.text_model."):
            shapes[name.replace("clip_l.", "cond_stage_model.")] = tensor.shape
    return shapes


class RandomWeights:
    """Random fp16 tensors cut from one block: a thousand million draws would take longer than all the rest."""

    def __init__(self, seed: int):
        self.block = torch.randn(2**22, generator=torch.Generator().manual_seed(seed))
        self.used = 0

    def __call__(self, name: str, shape: torch.Size) -> torch.Tensor:
        """Weights with gain about 1, norms near 1, biases near 0."""
        count = shape.numel()
        self.used += 9973  # every tensor starts elsewhere in the block
        values = self.block.roll(-self.used)
        if count > len(values):
            values = values.repeat(-(-count // len(values)))
        values = values[:count].reshape(shape)
        if len(shape) > 1:
            return (values / values[0].numel() ** 0.5).half()
        return (values * 0.05 + (1.0 if name.endswith("weight") else 0.0)).half()


def write_checkpoint(path: Path) -> None:
    """An SD1.5 checkpoint as published: fp16, one file, position_ids included; random weights."""
    weights = RandomWeights(1)
    tensors = {name: weights(name, shape) for name, shape in checkpoint_shapes().items()}
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, path)


def write_vision(path: Path) -> None:
    """A CLIP ViT-L/14 vision model with its projection; random weights."""
    weights = RandomWeights(2)
    with torch.device("meta"):
        vision = build_vision(CLIP_VIT_L14)
    save_file({name: weights(name, tensor.shape) for name, tensor in vision.state_dict().items()}, path)


@dataclass(frozen=True, kw_only=True)
class DryRunMeasure(Measure):
    """The SD1.5 recipe at full size with random weights: seconds and peak memory of each part (needs about 17 GB of disk)."""

    size: int = 256
    """Side of one view in pixels."""
    precision: str = "no"
    """As for `icportrait train`."""
    work: OutputFolder | None = None
    """Folder for what is made; default: a temporary one, removed afterwards."""

    def __post_init__(self):
        picture_sides(size=self.size)


def measure_dryrun(options: DryRunMeasure) -> dict:
    """Seconds and peak memory by part; see `icportrait measure dryrun --help`.

    Raises:
        UserError: a part failed; its output has been shown.
    """
    if options.work is not None:
        return _measure(options, options.work)
    with tempfile.TemporaryDirectory(prefix="icportrait-dryrun-") as work:
        return _measure(options, Path(work))


def _measure(options: DryRunMeasure, work: Path) -> dict:
    work.mkdir(parents=True, exist_ok=True)
    parts: dict[str, dict] = {}
    base, vision, run, data = work / "sd15.safetensors", work / "clip_vit_l14.safetensors", work / "run", work / "data"
    write_checkpoint(base)
    write_vision(vision)
    gc.collect()
    heads = ["--groups", "1", "--identities", "1", "--scenes", "2", "--size", str(options.size), "--workers", "1"]
    parts["data heads"] = _run(["data", "heads", "--out", str(data), *heads])
    common = ["--preset", "sd15", "--run", str(run), "--data", str(data), "--base", str(base), "--vision", str(vision)]
    common += [
        "--batch",
        "1",
        "--checkpointing",
        "--precision",
        options.precision,
        "--workers",
        "0",
        "--tracker",
        "none",
    ]
    for stage in ("matching", "appearance"):
        for steps, name in ((1, stage), (2, f"{stage}, resumed")):
            parts[name] = _run(["train", stage, *common, "--steps", str(steps)])
        (run / stage / "checkpoint.safetensors").unlink()  # 4 GB
    nets = work / "nets"
    nets.mkdir(exist_ok=True)
    for stage in ("matching", "appearance"):
        shutil.copyfile(run / stage / f"sd15_{stage}_fp16.safetensors", nets / f"{stage}.safetensors")
    began = time.perf_counter()
    sample = next(read_shards(sorted(data.glob("*.tar"))))
    profile, style = (torch.from_numpy(sample[name])[None].float() / 255 for name in ("profile", "target"))
    try:
        with torch.inference_mode():
            models = load_models(None, base, vision, nets)
            result = paint_crop(models.model, models.vae, models.vision, models.nets, profile, style, CropSettings())
    finally:
        comfy.model_management.unload_all_models()
    if not result.image.isfinite().all():
        raise UserError("The portrait is not finite.")
    parts["portrait"] = {"seconds": round(time.perf_counter() - began, 1)}
    seconds = round(sum(part["seconds"] for part in parts.values()), 1)
    return {
        "size_px": options.size,
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "portrait_steps": CropSettings().steps,
        "parts": parts,
        "seconds": seconds,
        "peak_gb": max(part.get("peak_gb", 0) for part in parts.values()),
        "net_file_mb": round((nets / "appearance.safetensors").stat().st_size / 1e6, 1),
    }


def _run(arguments: list[str]) -> dict:
    """A command in its own process: its seconds and, where the system tells, its peak memory in GB."""
    print("icportrait " + " ".join(arguments), flush=True)
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", COMMAND, *arguments], stdout=sys.stderr)
    found = {}
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        unit = 1 if sys.platform == "darwin" else 1024
        found["peak_gb"] = round(usage.ru_maxrss * unit / 1e9, 2)
    if child.wait():
        raise UserError(f"`icportrait {' '.join(arguments)}` ended with {child.returncode}.")
    return {"seconds": round(time.perf_counter() - began, 1), **found}


def print_figures(figures: dict) -> None:
    """The figures for people."""
    print(f"SD1.5's shapes, random weights, {figures['size_px']} px, {figures['threads']} threads")
    for name, part in figures["parts"].items():
        memory = f"{part['peak_gb']:8.2f} GB" if "peak_gb" in part else ""
        print(f"  {name:22s} {part['seconds']:8.1f} s {memory}")
    print(f"  {'all':22s} {figures['seconds']:8.1f} s {figures['peak_gb']:8.2f} GB")
