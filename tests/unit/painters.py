"""Painters without models."""

from collections.abc import Callable

import torch

from icportrait.models.groups.painting import PainterOf
from icportrait.models.painting import CropResult


def painter_of(paint: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]) -> PainterOf:
    """For `paint_group` from a function (profile crop, style crop, face number) -> painted crop."""
    return lambda face: lambda pair: CropResult(paint(pair.profile, pair.style, face))


to_profile = painter_of(lambda profile, *_: profile)
"""The result is the profile's crop itself."""
