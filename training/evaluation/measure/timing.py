"""What measurements of speed share: the device, seconds of work on it, and stand-ins for models and data."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ...data import shards
from ...data.samples import SampleSet


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """The GPU's own name, or `CPU`."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def dtypes() -> dict[str, torch.dtype]:
    """Name -> what is timed: float32, and on a GPU the half precision ComfyUI computes in."""
    found = {"float32": torch.float32}
    return found | {"float16": torch.float16} if torch.cuda.is_available() else found


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def _wait() -> None:
    """A GPU answers before it is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], object]) -> float:
    """Seconds, all that was asked of a GPU included."""
    _wait()
    began = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - began


def filled(module: torch.nn.Module, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    """The module, which may be on `meta`, with random weights on the device, of a size that keeps signals finite."""
    torch.nn.Module.to(module, dtype).to_empty(
        device=device()
    )  # diffusers' own `to` warns of what does not matter here
    with torch.no_grad():
        for values in (*module.parameters(), *module.buffers()):
            if not values.is_floating_point():
                values.zero_()
            elif values.ndim > 1:
                bound = values[0].numel() ** -0.5
                values.uniform_(-bound, bound)
            else:
                values.uniform_(0.9, 1.1)
    return module


def noise_samples(folder: Path, size: int, count: int = 32) -> SampleSet:
    """Samples of square noise pictures of `size` px, latents and embeddings cached, kept in `folder`."""
    samples = SampleSet([_noise_shard(folder / "noise.tar", size, count)], folder=folder)
    latents = torch.randn(4, size // 8, size // 8, generator=torch.Generator().manual_seed(1)).half()
    samples.latents = dict.fromkeys(samples.pictures, latents)
    samples.embeddings = dict.fromkeys(samples.pictures, torch.zeros(768))
    return samples


def _noise_shard(path: Path, size: int, count: int) -> Path:
    generator = np.random.default_rng(1)
    samples = []
    for i in range(count):
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
