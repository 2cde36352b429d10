"""`icportrait measure speed`: ratios taken within one run (median and spread of several repetitions), and costs counted in FLOP.

Seconds of one machine say little on another, ratios say more: matching against the bare matrix product of the same size, a step of the
method against the UNet alone and against two stock ControlNets (counted on the real modules, see `flops.py`), the share of time
for which training waits for data, and what loading the pack adds to ComfyUI's start.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ....models.method.correspondence import BLOCK, METHODS, match, unit_features
from ...core.checks import at_least
from ...core.feeding import Draws, feed
from ...data import shards
from ...data.samples import SampleSet, batch_of
from ...tasks.conditioning import ConditioningSettings, draw_inputs
from ...tasks.matching import as_control
from .flops import FullSize, count
from .settings import Measure

CHANNELS = 640  # of SD1.5's features at the tap


@dataclass(frozen=True, kw_only=True)
class SpeedMeasure(Measure):
    """Ratios of speed, and counted costs."""

    repetitions: int = 5
    """Of each timing."""
    cells: tuple[int, ...] = (64, 128)
    """Sides of the grids matched, in cells."""
    batches: int = 60
    """Fed to the sleeping model."""
    workers: int = 2
    """That draw them."""

    def __post_init__(self):
        at_least(1, repetitions=self.repetitions, batches=self.batches)
        at_least(0, workers=self.workers)


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@torch.inference_mode()
def matching_ratios(cells: int, repetitions: int) -> dict[str, dict[str, float]]:
    """By method: time of flow and confidence over that of one matrix product of the same size, in the same blocks."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(1, CHANNELS, cells, cells, generator=generator)
    profile = target + torch.randn(target.shape, generator=generator)
    ours, theirs = unit_features(target), unit_features(profile)

    def product() -> None:
        for rows in ours.split(max(1, BLOCK // cells**2), dim=2):
            rows.transpose(1, 2) @ theirs

    product()
    found: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(repetitions):
        bare = timed(product)
        for method, ratios in found.items():
            ratios.append(timed(lambda method=method: match(target, profile, method)) / bare)
    return {method: spread(ratios) for method, ratios in found.items()}


def counted_steps(size: int = 512) -> dict[str, float]:
    """TFLOP of one row of one denoising step, and the ratios of the method's step to others'."""
    models = FullSize(size)
    net = models.appearance

    def step(wide: bool, nets: int) -> int:
        x = models.inputs(wide)
        hint = torch.empty(1, 320, models.cells, (2 if wide else 1) * models.cells, device="meta")

        def work():
            residuals = None
            for _ in range(nets):  # the hint is encoded once a run, so it does not count
                own = net.residuals(x["noisy"], x["timesteps"], x["context"], hint)
                residuals = own if residuals is None else [a + b for a, b in zip(residuals, own, strict=True)]
            control = None if residuals is None else as_control(residuals)
            return models.unet(x["noisy"], x["timesteps"], x["context"], control=control)

        return count(work, backward=False)

    single, method, two = step(False, 0), step(True, 1), step(True, 2)
    return {
        "tflop_unet_single": single / 1e12,
        "tflop_unet_pair": step(True, 0) / 1e12,
        "tflop_method": method / 1e12,
        "tflop_two_controlnets": two / 1e12,
        "step_vs_two_controlnets": method / two,
        "step_vs_unet_single": method / single,
    }


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
        samples = SampleSet([_noise_shard(Path(folder) / "noise.tar", size)], folder=Path(folder))
        latents = torch.randn(4, size // 8, size // 8, generator=torch.Generator().manual_seed(1)).half()
        samples.latents = dict.fromkeys(samples.pictures, latents)
        samples.embeddings = dict.fromkeys(samples.pictures, torch.zeros(768))
        fed = feed(Draws(Sleeping(samples), batch, 1), 0, options.workers)
        for _ in range(10):
            next(fed)
            time.sleep(seconds)
        waited = 0.0
        began = time.perf_counter()
        for _ in range(options.batches):
            waited += timed(lambda: next(fed))
            time.sleep(seconds)
        share = waited / (time.perf_counter() - began)
        task, began = Sleeping(samples), time.process_time()
        for step in range(options.repetitions):
            task.draw(step, task.items(step, batch))
        return {"wait_share": share, "draw_cpu_seconds": (time.process_time() - began) / options.repetitions}


def _noise_shard(path: Path, size: int, count_: int = 32) -> Path:
    generator = np.random.default_rng(1)
    samples = []
    for i in range(count_):
        small = [generator.integers(0, 255, (size // 16, size // 16, 3), np.uint8) for _ in range(2)]
        pictures = [shards.encode_picture(np.kron(one, np.ones((16, 16, 1), np.uint8))) for one in small]
        meta = {
            "format_version": shards.FORMAT_VERSION,
            "identity": {"target": i},
            "scene": {"target": 0, "profile": 1},
        }
        samples.append({"__key__": f"s{i}", "target.webp": pictures[0], "profile.webp": pictures[1], "meta.json": meta})
    shards.write_shard(path, samples)
    return path


def import_seconds(repetitions: int) -> dict[str, float]:
    """What importing the pack's nodes adds once ComfyUI itself is loaded, each time in a new process."""
    root = __package__.split(".")[0]
    code = (
        f"from {root}.training.core.comfy_runtime import start_comfy; start_comfy(); import comfy.sd, comfy_api.latest, "
        f"comfy.cldm.cldm, comfy.clip_vision, folder_paths, nodes; import time; began = time.perf_counter(); import {root}.nodes; "
        "print(time.perf_counter() - began)"
    )
    found = []
    for _ in range(repetitions):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
        found.append(float(done.stdout.split()[-1]))
    return spread(found)


def measure_speed(options: SpeedMeasure) -> dict:
    """All figures; see `icportrait measure speed --help`."""
    return {
        "threads": torch.get_num_threads(),
        "counted": counted_steps(),
        "correspondence_vs_matmul": {str(n): matching_ratios(n, options.repetitions) for n in options.cells},
        "data": {str(size): data_wait(options, size) for size in (256, 512)},
        "import_seconds": import_seconds(min(3, options.repetitions)),
    }


def print_figures(figures: dict) -> None:
    """The figures for people."""
    for name, value in figures["counted"].items():
        print(f"  {name:26s} {value:7.3f}")
    for cells, methods in figures["correspondence_vs_matmul"].items():
        for method, found in methods.items():
            print(
                f"  match {cells} x {cells}, {method:8s} {found['median']:6.2f} x a matrix product "
                f"({found['least']:.2f} to {found['greatest']:.2f})"
            )
    for size, found in figures["data"].items():
        print(
            f"  data at {size} px: waited {100 * found['wait_share']:.2f} % of the time; {1000 * found['draw_cpu_seconds']:.0f} ms of a "
            "core a batch of 16"
        )
    print(f"  import of the pack          {figures['import_seconds']['median']:5.2f} s")
