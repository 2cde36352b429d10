"""`icportrait measure speed`: ratios taken within one run (median and spread of several repetitions), and costs counted in FLOP.

Seconds of one machine say little on another, ratios say more: matching against the bare matrix product of the same size, a step of the
method against the UNet alone and against two stock ControlNets (counted on the real modules, see `flops.py`), the share of time
for which training waits for data, and what loading the pack adds to ComfyUI's start.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from ....models.method.correspondence import BLOCK, METHODS, match, unit_features
from ...core.checks import at_least, picture_sides
from ...core.feeding import Draws, feed
from ...data.samples import SampleSet, batch_of
from ...tasks.conditioning import ConditioningSettings, draw_inputs
from .curves import curves
from .diffusers_training import train_vs_diffusers
from .growth import growth
from .settings import Measure
from .step_cost import counted_steps, timed_steps
from .step_memory import memory_estimate_error
from .timing import device, device_name, dtypes, noise_samples, spread, timed

CHANNELS = 640  # of SD1.5's features at the tap

Part = Literal["counted", "curves", "timed", "correspondence", "memory", "growth", "training", "data", "import"]


@dataclass(frozen=True, kw_only=True)
class SpeedMeasure(Measure):
    """Ratios of speed, and counted costs, on the GPU where there is one."""

    only: tuple[Part, ...] = get_args(Part)
    """Parts to measure, e.g. `--only timed training`. `training` needs the packages diffusers and transformers."""

    repetitions: int = 5
    """Of each timing."""
    cells: tuple[int, ...] = (64, 128)
    """Sides of the grids matched, in cells."""
    size: int = 512 if torch.cuda.is_available() else 256
    """Side of the views whose steps of denoising and training are timed, in px (default: 512 on a GPU, 256 on a CPU)."""
    step_repetitions: int = 3
    """Of those steps, which take some seconds each on a CPU."""
    train_batch: int = 4 if torch.cuda.is_available() else 1
    """Samples of a timed training step."""
    train_rounds: int = 3
    """In which our training and diffusers' take turns."""
    memory_size: int = 512
    """Side of the views of the steps whose memory is looked at, in px."""
    runs: int = 300
    """Portraits made in one process to see whether its memory grows."""
    batches: int = 60
    """Fed to the sleeping model."""
    workers: int = 2
    """That draw them."""

    def __post_init__(self):
        at_least(1, repetitions=self.repetitions, step_repetitions=self.step_repetitions, batches=self.batches)
        at_least(1, train_batch=self.train_batch, train_rounds=self.train_rounds)
        at_least(4, runs=self.runs)
        picture_sides(size=self.size, memory_size=self.memory_size)
        at_least(0, workers=self.workers)


@torch.inference_mode()
def matching_ratios(cells: int, repetitions: int) -> dict[str, dict[str, float]]:
    """By method: time of flow and confidence over that of one matrix product of the same size, in the same blocks. All in float32,
    to which `match` turns whatever it gets: half precision makes ties."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(1, CHANNELS, cells, cells, generator=generator).to(device())
    profile = target + torch.randn(target.shape, generator=generator).to(device())
    ours, theirs = unit_features(target), unit_features(profile)

    def product() -> None:
        for rows in ours.split(max(1, BLOCK // cells**2), dim=2):
            rows.transpose(1, 2) @ theirs

    found: dict[str, list[float]] = {method: [] for method in METHODS}
    for work in (product, *(lambda method=method: match(target, profile, method) for method in METHODS)):
        work()  # the first time is slower
    for _ in range(repetitions):
        bare = timed(product)
        for method, ratios in found.items():
            ratios.append(timed(lambda method=method: match(target, profile, method)) / bare)
    return {method: spread(ratios) for method, ratios in found.items()}


class Sleeping:
    """A task that draws real batches, for a model that only sleeps."""

    def __init__(self, samples: SampleSet):
        self.samples = samples

    def items(self, step: int, batch: int) -> list:
        """As the nets' tasks have it."""
        return batch_of(self.samples.samples, batch, step, 0)

    def draw(self, step: int, items: list) -> dict:
        """As the nets' tasks have it."""
        return draw_inputs(self.samples, items, step, 0, ConditioningSettings())


def data_wait(options: SpeedMeasure, size: int, batch: int = 16, seconds: float = 0.1) -> dict[str, float]:
    """Share of the time for which a model that takes `seconds` a batch waits for data, after the first ten batches; and the
    processor's seconds for drawing one batch, which do not depend on what else the machine does."""
    with tempfile.TemporaryDirectory(prefix="icportrait-speed-") as folder:
        samples = noise_samples(Path(folder), size)
        fed = feed(Draws(Sleeping(samples), batch, 1), 0, options.workers)
        for _ in range(10):
            next(fed)
            time.sleep(seconds)
        waited = 0.0
        began = time.perf_counter()
        for _ in range(options.batches):
            held = []
            waited += timed(lambda held=held: held.append(next(fed)))
            time.sleep(seconds)
            held.clear()  # what frees a batch does not wait for one
        share = waited / (time.perf_counter() - began)
        task, began = Sleeping(samples), time.process_time()
        for step in range(options.repetitions):
            task.draw(step, task.items(step, batch))
        return {"wait_share": share, "draw_cpu_seconds": (time.process_time() - began) / options.repetitions}


def import_nodes(bytecode: Path) -> tuple[float, set[str]]:
    """Import the pack's nodes in a new process in which all is loaded that ComfyUI itself loads.

    Args:
        bytecode: folder for compiled modules, as Python keeps them beside the pack from its second start on.

    Returns:
        Seconds, and the names of the packages that came with it.
    """
    root = __package__.split(".")[0]
    code = (
        f"from {root}.training.core.comfy_runtime import start_comfy; start_comfy(); import comfy.sd, comfy_api.latest, "
        "comfy.cldm.cldm, comfy.clip_vision, folder_paths, nodes; import sys, time; before = set(sys.modules); "
        f"began = time.perf_counter(); import {root}.nodes; print(time.perf_counter() - began, "
        "*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(bytecode)
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=True, env=environment)
    seconds, *packages = done.stdout.splitlines()[-1].split()
    return float(seconds), set(packages)


def import_seconds(repetitions: int) -> dict[str, float]:
    """What importing the pack's nodes adds once ComfyUI itself is loaded; `first` compiles them too."""
    with tempfile.TemporaryDirectory(prefix="icportrait-speed-") as folder:
        first, *later = (import_nodes(Path(folder))[0] for _ in range(1 + repetitions))
    return {**spread(later), "first": first}


def measure_speed(options: SpeedMeasure) -> dict:
    """All figures; see `icportrait measure speed --help`."""
    size, steps = options.size, options.step_repetitions
    parts: dict[Part, Callable[[], dict]] = {
        "counted": lambda: {"counted": counted_steps()},
        "curves": lambda: {"curves": curves()},
        "timed": lambda: {
            "timed": {"size": size, **{name: timed_steps(size, steps, dtype) for name, dtype in dtypes().items()}}
        },
        "correspondence": lambda: {
            "correspondence_vs_matmul": {str(n): matching_ratios(n, options.repetitions) for n in options.cells}
        },
        "memory": lambda: {"memory_estimate_error": memory_estimate_error(options.memory_size)},
        "growth": lambda: {"growth_mb_per_100_runs": growth(options.runs)},
        "training": lambda: {
            "train_vs_diffusers": train_vs_diffusers(size, options.train_batch, steps, options.train_rounds)
        },
        "data": lambda: {"data": {str(n): data_wait(options, n) for n in (256, 512)}},
        "import": lambda: {"import_seconds": import_seconds(min(3, options.repetitions))},
    }
    figures = {"device": device_name(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    for part, measure in parts.items():
        if part in options.only:
            figures |= {name: found for name, found in measure().items() if found is not None}
    return figures


def print_figures(figures: dict) -> None:
    """The figures for people."""
    print(f"{figures['device']}, torch {figures['torch']}, {figures['threads']} threads")
    for name, value in figures.get("counted", {}).items():
        if isinstance(value, float):
            print(f"  {name:26s} {value:7.3f}")
        else:
            print(f"  {name:26s} " + ", ".join(f"{speed} {ratio:.3f}" for speed, ratio in value.items()) + " counted")
    for name, curve in figures.get("curves", {}).items():
        told = ", ".join(f"{x} {value:.3g}" for x, value in curve["tflop"].items())
        print(f"  TFLOP by {name}: {told}; grows with the power {curve['exponent']:.2f}")
    for dtype, ratios in figures.get("timed", {}).items():
        for name, speeds in ratios.items() if dtype != "size" else ():
            told = (f"{speed} {_told(found)}" for speed, found in speeds.items())
            print(f"  {name}, {figures['timed']['size']} px, {dtype}: " + "; ".join(told))
    for cells, methods in figures.get("correspondence_vs_matmul", {}).items():
        for method, found in methods.items():
            print(f"  match {cells} x {cells}, {method:8s} {_told(found)} x a matrix product")
    for name, found in figures.get("memory_estimate_error", {}).items():
        if isinstance(found, dict):
            print(
                f"  memory of a step, {name:6s} declared {found['declared_gb']:.3f} GB, taken {found['taken_gb']:.3f} GB: "
                f"error {found['error']:.2f}"
            )
    if "growth_mb_per_100_runs" in figures:
        found = figures["growth_mb_per_100_runs"]
        print(
            f"  growth in 100 portraits     {found['tensors']:.2f} MB of tensors, {found['process']:.2f} MB of the process"
        )
    training = figures.get("train_vs_diffusers", {})
    for name in ("plain", "cached", "cached_by_cell_of_one_view"):
        if name in training:
            print(f"  diffusers over ours, {name}: {_told(training[name])} ({training['dtype']})")
    for size, found in figures.get("data", {}).items():
        print(
            f"  data at {size} px: waited {100 * found['wait_share']:.2f} % of the time; {1000 * found['draw_cpu_seconds']:.0f} ms of a "
            "core a batch of 16"
        )
    if "import_seconds" in figures:
        print(f"  import of the pack          {figures['import_seconds']['median']:5.2f} s")


def _told(found: dict[str, float]) -> str:
    return f"{found['median']:.3f} ({found['least']:.3f} to {found['greatest']:.3f})"
