"""`icportrait measure speed`: ratios taken within one run (median and spread of several repetitions), and costs counted in FLOP.

Seconds of one machine say little on another, ratios say more: matching against the bare matrix product of the same size, a step of the
method against the UNet alone and against two stock ControlNets (counted on the real modules, see `flops.py`), the share of time
for which training waits for data, and what loading the pack adds to ComfyUI's start.
"""

import os
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
from ....models.method.injection import SPEEDS
from ....models.method.reuse import KeptProfile
from ....models.nets.one_token import with_one_query
from ....models.portrait import CropSettings
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
    size: int = 256
    """Side of the views whose steps are timed, in px."""
    step_repetitions: int = 3
    """Of the timed steps, some seconds each."""
    batches: int = 60
    """Fed to the sleeping model."""
    workers: int = 2
    """That draw them."""

    def __post_init__(self):
        at_least(1, repetitions=self.repetitions, step_repetitions=self.step_repetitions, batches=self.batches)
        at_least(64, size=self.size)
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


def step_costs(models: FullSize, cost: Callable[[Callable[[], object]], float]) -> dict[str, float]:
    """What one row of one denoising step costs, in the unit of `cost`; the hint is encoded once a run, so it does not count.

    Returns:
        unet_single, unet_pair, two_controlnets (stock ones, on the pair), method (the pair with the appearance net), target_alone
        (between two of the former when `fast`).
    """
    unet, net, cells = models.unet, models.appearance, models.cells
    device = next(unet.parameters()).device
    hint = torch.zeros(1, 320, cells, 2 * cells, device=device)

    def inputs(wide: bool) -> tuple[torch.Tensor, ...]:
        found = models.inputs(wide)
        return tuple(torch.zeros(found[name].shape, device=device) for name in ("noisy", "timesteps", "context"))

    def stock(wide: bool, nets: int) -> object:
        x, control = inputs(wide), None
        for _ in range(nets):
            own = as_control(net.residuals(*x, hint))
            control = (
                own
                if control is None
                else {name: [one + other for one, other in zip(control[name], own[name], strict=True)] for name in own}
            )
        return unet(*x, control=control)

    kept = KeptProfile(unet)

    def method() -> object:
        x = inputs(True)
        residuals = net.residuals(*x, hint, with_one_query({}))
        kept.residuals = [residual.chunk(2, dim=-1)[0] for residual in residuals]
        return unet(*x, control=as_control(residuals), transformer_options=with_one_query({}))

    def keeping() -> None:
        with kept.keeping((cells, 2 * cells)):
            method()

    def target_alone() -> object:
        with kept.beside():
            return unet(*inputs(False), control=as_control(kept.residuals), transformer_options=with_one_query({}))

    with torch.inference_mode():
        keeping()
        works = {
            "unet_single": lambda: stock(False, 0),
            "unet_pair": lambda: stock(True, 0),
            "two_controlnets": lambda: stock(True, 2),
            "method": keeping,
            "target_alone": target_alone,
        }
        return {name: cost(work) for name, work in works.items()}


def step_ratios(costs: dict[str, float]) -> dict[str, dict[str, float]]:
    """A step of the method over those it is compared with; `fast` is the mean over the steps of the node's default."""
    steps = CropSettings().steps
    pairs = -(-steps // SPEEDS["fast"])
    ours = {
        "default": costs["method"],
        "fast": (pairs * costs["method"] + (steps - pairs) * costs["target_alone"]) / steps,
    }
    return {
        f"step_vs_{other}": {speed: own / costs[other] for speed, own in ours.items()}
        for other in ("two_controlnets", "unet_single")
    }


def counted_steps(size: int = 512) -> dict:
    """TFLOP of one row of one denoising step, and the ratios of the method's step to others'."""
    costs = step_costs(FullSize(size), lambda work: count(work, backward=False))
    return {f"tflop_{name}": flop / 1e12 for name, flop in costs.items()} | step_ratios(costs)


def timed_steps(size: int, repetitions: int) -> dict:
    """The same ratios of seconds, with random weights in float32."""
    models = FullSize(size)
    for module in (models.unet, models.appearance):
        module.to_empty(device="cpu")
        for values in (*module.parameters(), *module.buffers()):
            torch.nn.init.uniform_(values, -0.02, 0.02)
    found = [step_ratios(step_costs(models, timed)) for _ in range(repetitions)]
    return {name: {speed: spread([one[name][speed] for one in found]) for speed in found[0][name]} for name in found[0]}


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
    return {
        "threads": torch.get_num_threads(),
        "counted": counted_steps(),
        "timed": {"size": options.size, **timed_steps(options.size, options.step_repetitions)},
        "correspondence_vs_matmul": {str(n): matching_ratios(n, options.repetitions) for n in options.cells},
        "data": {str(size): data_wait(options, size) for size in (256, 512)},
        "import_seconds": import_seconds(min(3, options.repetitions)),
    }


def print_figures(figures: dict) -> None:
    """The figures for people."""
    for name, value in figures["counted"].items():
        if isinstance(value, float):
            print(f"  {name:26s} {value:7.3f}")
    for name in ("step_vs_two_controlnets", "step_vs_unet_single"):
        for speed, value in figures["counted"][name].items():
            found = figures["timed"][name][speed]
            print(
                f"  {name + ', ' + speed:32s} {value:6.3f} counted at 512 px; timed at {figures['timed']['size']} px "
                f"{found['median']:.3f} ({found['least']:.3f} to {found['greatest']:.3f})"
            )
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
