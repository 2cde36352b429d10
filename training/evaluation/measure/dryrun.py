"""`icportrait measure dryrun`: the SD1.5 recipe from data to picture at full size, with random weights.

A checkpoint and a CLIP ViT-L/14 of the published shapes are written, heads are rendered, both nets train for two steps with a stop
and a resume between, and ComfyUI loads what came out and paints a portrait with the nodes' default settings. Every part runs by the
command a person would give, in a process of its own whose time and peak memory are noted.
"""

import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import comfy.ops
import comfy.sd1_clip
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from safetensors.torch import save_file

from ....models.errors import UserError
from ....models.nets.portrait_net import SD15_UNET
from ....models.portrait import CropSettings, paint_crop
from ...core.checks import picture_sides
from ...core.loop import chosen_precision
from ...core.modules import build_unet, build_vision
from ...core.paths import OutputFolder
from ...data.shards import read_shards
from ..models_used import load_models
from .flops import CLIP_VIT_L14, SD15_VAE
from .settings import Measure

PACKAGE = __package__.partition(".")[0]
COMMAND = f"{PACKAGE}.training.cli"
BASE, VISION, NETS, PAINTED = "sd15.safetensors", "clip_vit_l14.safetensors", "nets", "portrait.json"
"""In the folder worked in."""


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


CARDS = {
    "12 GB": ["--micro-batch", "1", "--checkpointing"],
    "24 GB": ["--micro-batch", "2"],
    "48 GB": ["--micro-batch", "8"],
}
"""What docs/training.md adds to the commands, by the card's memory."""
VRAM = ((), ("--lowvram",), ("--novram",))
"""ComfyUI's options a portrait is painted with on a GPU; it refuses the latter two on CPUs."""


@dataclass(frozen=True, kw_only=True)
class DryRunMeasure(Measure):
    """The SD1.5 recipe at full size with random weights: seconds and peak memory of each part (needs about 17 GB of disk).

    Where there is a GPU each net is trained with the options for each size of card, in batches of 16, and the portrait is painted with
    --lowvram and --novram too; on CPUs once, one sample at a time.
    """

    size: int | None = None
    """Side of one view in pixels; default: 512 on a GPU, else 256."""
    precision: str = "auto"
    """As for `icportrait train`."""
    work: OutputFolder | None = None
    """Folder for what is made, and where heads made earlier are found; default: a temporary one, removed afterwards."""

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
    gpu = torch.cuda.is_available()
    size = options.size or (512 if gpu else 256)
    parts: dict[str, dict] = {}
    base, vision, run, data = work / BASE, work / VISION, work / "run", work / "data"
    write_checkpoint(base)
    write_vision(vision)
    gc.collect()
    if not list(data.glob("*.tar")):
        heads = ["--groups", "1", "--identities", "1", "--scenes", "2", "--size", str(size), "--workers", "1"]
        parts["data heads"] = _run(["data", "heads", "--out", str(data), *heads])
    common = ["--preset", "sd15", "--data", str(data), "--base", str(base), "--vision", str(vision)]
    common += ["--precision", options.precision, "--workers", "2" if gpu else "0", "--tracker", "none"]
    common += ["--batch", "16" if gpu else "1"]
    steps = (4, 6) if gpu else (1, 2)
    for card, added in CARDS.items() if gpu else {"": ["--checkpointing"]}.items():
        for stage in ("matching", "appearance"):
            folder = run / card / stage
            for until, name in zip(steps, (stage, f"{stage}, resumed"), strict=True):
                line = ["train", stage, *common, *added, "--run", str(run / card), "--steps", str(until)]
                parts[f"{card} {name}".strip()] = _run(line) | json.loads((folder / "usage.json").read_text("utf-8"))
            (folder / "checkpoint.safetensors").unlink()  # 4 GB
    nets = work / NETS
    nets.mkdir(exist_ok=True)
    for stage in ("matching", "appearance"):
        shutil.copyfile(folder.parent / stage / f"sd15_{stage}_fp16.safetensors", nets / f"{stage}.safetensors")
    for vram in VRAM if gpu else VRAM[:1]:
        parts[" ".join(("portrait", *vram))] = _painted(work, vram)
    seconds = round(sum(part["seconds"] for part in parts.values()), 1)
    return {
        "device": torch.cuda.get_device_name() if gpu else "CPU",
        "size_px": size,
        "precision": chosen_precision(options.precision),
        "threads": torch.get_num_threads(),
        "portrait_steps": CropSettings().steps,
        "parts": parts,
        "seconds": seconds,
        "peak_gb": max(part.get("peak_gb", 0) for part in parts.values()),
        "net_file_mb": round((nets / "appearance.safetensors").stat().st_size / 1e6, 1),
    }


def _painted(work: Path, vram: tuple[str, ...]) -> dict:
    """A portrait in a process of its own, which knows ComfyUI's options from its start."""
    code = (
        f"from {PACKAGE}.training.core.comfy_runtime import start_comfy; start_comfy(options={vram!r}); "
        f"from {__name__} import paint; from pathlib import Path; paint(Path({str(work)!r}))"
    )
    found = _run_line([sys.executable, "-c", code])
    return found | json.loads((work / PAINTED).read_text("utf-8"))


def paint(work: Path) -> None:
    """Paint the first sample's pair by the nets' files with the nodes' default settings, and write `portrait.json` into `work`:
    `paint_seconds`, `again_seconds` (models loaded) and, on a GPU, `gpu_gb` and `device`.

    Raises:
        UserError: the portrait is not finite.
    """
    sample = next(read_shards(sorted((work / "data").glob("*.tar"))))
    profile, style = (torch.from_numpy(sample[name])[None].float() / 255 for name in ("profile", "target"))
    gpu, times = torch.cuda.is_available(), []
    with torch.inference_mode():
        models = load_models(None, work / BASE, work / VISION, work / NETS)
        for _ in range(2):
            began = time.perf_counter()
            result = paint_crop(models.model, models.vae, models.vision, models.nets, profile, style, CropSettings())
            if not result.image.isfinite().all():
                raise UserError("The portrait is not finite.")
            times.append(round(time.perf_counter() - began, 2))
    found = dict(zip(("paint_seconds", "again_seconds"), times, strict=True))
    if gpu:
        found |= {"gpu_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2), "device": torch.cuda.get_device_name()}
    (work / PAINTED).write_text(json.dumps(found), "utf-8")


def _run(arguments: list[str]) -> dict:
    """An `icportrait` command in its own process, see `_run_line`."""
    print("icportrait " + " ".join(arguments), flush=True)
    return _run_line([sys.executable, "-m", COMMAND, *arguments])


def _run_line(line: list[str]) -> dict:
    """A process: its seconds and, where the system tells, its peak memory in GB.

    Raises:
        UserError: it failed.
    """
    began = time.perf_counter()
    child = subprocess.Popen(line, stdout=sys.stderr)
    found = {}
    if hasattr(os, "wait4"):
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        unit = 1 if sys.platform == "darwin" else 1024
        found["peak_gb"] = round(usage.ru_maxrss * unit / 1e9, 2)
    if child.wait():
        raise UserError(f"`{' '.join(line)}` ended with {child.returncode}.")
    return {"seconds": round(time.perf_counter() - began, 1), **found}


def print_figures(figures: dict) -> None:
    """The figures for people."""
    print(
        f"SD1.5's shapes, random weights, {figures['size_px']} px, {figures['device']}, precision {figures['precision']}"
    )
    for name, part in figures["parts"].items():
        told = [f"{part['seconds']:8.1f} s", f"{part['peak_gb']:8.2f} GB" if "peak_gb" in part else ""]
        if part.get("seconds_per_step"):
            told.append(f"{part['seconds_per_step']:8.3f} s a step")
        if "again_seconds" in part:
            told.append(f"{part['again_seconds']:8.2f} s with models loaded")
        if "gpu_gb" in part:
            told.append(f"{part['gpu_gb']:8.2f} GB of the GPU's")
        print(f"  {name:30s}", *told)
    print(f"  {'all':30s} {figures['seconds']:8.1f} s {figures['peak_gb']:8.2f} GB")
