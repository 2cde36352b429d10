"""Photographs that come with installed packages: a group of six people and two portraits. The packages are not imported."""

import importlib.util
from pathlib import Path

import torch

from ...models.pictures import files


def read_picture(path: Path) -> torch.Tensor:
    """A picture file as float32 `[1, H, W, 3]` in [0, 1]. Raises UserError as `files.read_picture` does."""
    return torch.from_numpy(files.read_picture(path).copy()).float()[None] / 255


def group_photograph() -> torch.Tensor | None:
    """insightface's t1.jpg, `[1, 886, 1280, 3]`, six people; None where the package is not installed."""
    return _packaged("insightface", "data", "images", "t1.jpg")


def portrait_photograph() -> torch.Tensor | None:
    """scikit-image's astronaut, `[1, 512, 512, 3]`; None where the package is not installed."""
    return _packaged("skimage", "data", "astronaut.png")


def packaged_portraits() -> dict[str, torch.Tensor | None]:
    """By name: both of them and matplotlib's portrait of Grace Hopper (US Navy, public domain), `[1, 600, 512, 3]`."""
    hopper = _packaged("matplotlib", "mpl-data", "sample_data", "grace_hopper.jpg")
    return {"t1.jpg": group_photograph(), "astronaut.png": portrait_photograph(), "grace_hopper.jpg": hopper}


def _packaged(package: str, *parts: str) -> torch.Tensor | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))).joinpath(*parts)
    return read_picture(path) if path.is_file() else None
