"""Whether a process that paints portrait after portrait holds ever more memory."""

import gc

import comfy.utils
import numpy as np
import psutil
import torch

from ....models.nets import bundle as bundles
from ....models.portrait import CropSettings, paint_crop

WARM_UP = 1 / 3
"""Share of the runs that do not count: caches fill, and the allocator learns the sizes."""


def tensor_bytes() -> int:
    """Of all tensors that live, storages shared by several once; on a GPU those beside them in its allocator's count."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    storages = {}
    for found in gc.get_objects():
        if issubclass(type(found), torch.Tensor) and found.layout == torch.strided:
            storage = found.untyped_storage()
            if storage.device.type != "meta":  # nor a fake tensor's, which says it lies elsewhere
                storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def slope_per_100(values: list[float]) -> float:
    """Of the line through values one run apart, the first `WARM_UP` of them left out."""
    kept = values[round(len(values) * WARM_UP) :]
    return round(100 * float(np.polyfit(np.arange(len(kept)), kept, 1)[0]), 3)


@torch.inference_mode()
def growth(runs: int, size: int = 128) -> dict[str, float]:
    """MB by which 100 portraits let tensors and the process's resident memory grow: slopes over the runs after warm-up.

    Whole portraits of `size` px by the bundle shipped, `exact` and `fast` in turn, each with another seed.
    """
    comfy.utils.set_progress_bar_enabled(False)
    models = bundles.load_bundle(bundles.FOLDER)
    generator = torch.Generator().manual_seed(1)
    profile, style = (torch.rand(1, size, size, 3, generator=generator) for _ in range(2))
    process = psutil.Process()
    tensors, resident = [], []
    for run in range(runs):
        model, vae, vision, nets = models
        paint_crop(model, vae, vision, nets, profile, style, CropSettings(seed=run, pair_every=1 + 2 * (run % 2)))
        gc.collect()
        tensors.append(tensor_bytes() / 1e6)
        resident.append(process.memory_info().rss / 1e6)
    return {"runs": runs, "tensors": slope_per_100(tensors), "process": slope_per_100(resident)}
