"""A lifted portrait under another light, and its photograph with it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..errors import UserError
from ..faces.resampling import invert, resample
from ..faces.types import Placement
from .cameras import rotation_of
from .light import environment_light, metered, to_srgb, turned
from .photograph import lit
from .render import Lifted

MOST_INTENSITY = 8.0
_EDGE = 0.06
"""Width, in picture sides, over which the new light ends at the lifted picture's border."""


def light_on(lifted: Lifted, environment: torch.Tensor, rotation: float = 0.0, intensity: float = 1.0) -> torch.Tensor:
    """The light `[9, 3]` of an environment map on a portrait, in the world's axes.

    The map stands as the photographer held the camera, see `light.environment_light`. Its strength is metered on the face: `intensity` 1
    lights it as a photograph is exposed, whatever the map's own brightness.

    Args:
        environment: `[H, 2H, 3]`.
        rotation: degrees, to the viewer's right.
        intensity: 0 to 8.

    Raises:
        UserError: an intensity outside, or what `environment_light` refuses.
    """
    if not 0 <= intensity <= MOST_INTENSITY:
        raise UserError(f"intensity must lie between 0 and {MOST_INTENSITY:g}, {intensity} came")
    seen_up = rotation_of(lifted.frame) @ torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    light = turned(environment_light(environment, rotation), seen_up)
    return intensity * metered(light, lifted.normals.view(-1, 3), lifted.mask.flatten())


def relight(lifted: Lifted, light: torch.Tensor) -> torch.Tensor:
    """The lifted picture under a light `[9, 3]` of `light_on`: `[S, S, 3]`, sRGB. Outside the person nothing changes."""
    picture = to_srgb(lifted.albedo * lit(light, lifted.normals, lifted.mask))
    return lifted.picture + lifted.mask[..., None] * (picture - lifted.picture)


def relit_photograph(
    image: torch.Tensor, lifted: Lifted, placement: Placement, light: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A photograph with one person under another light.

    Args:
        image: `[1, H, W, 3]`.
        placement: where the lifted picture lies in it.
        light: `[9, 3]`.

    Returns:
        the photograph, and where it was changed, `[1, H, W]` in 0 .. 1.
    """
    side = len(lifted.picture)
    at = (torch.arange(side) + 0.5) / side
    ramp = (torch.minimum(at, 1 - at) / _EDGE).clamp(0, 1)
    ramp = ramp[:, None] * ramp[None]
    change = (relight(lifted, light) - lifted.picture) * ramp[..., None]
    both = torch.cat([change, (lifted.mask * ramp)[..., None]], dim=-1).movedim(-1, 0)[None]
    # A border of nothing, because beyond a picture's edge its last pixels are repeated.
    both = F.pad(both, (1, 1, 1, 1))
    matrix = placement.matrix.copy()
    matrix[:, 2] += 1
    height, width = image.shape[1:3]
    drawn = resample(both, invert(matrix), height, width, "bilinear")[0].movedim(0, -1)
    return (image + drawn[None, ..., :3]).clamp(0, 1), drawn[None, ..., 3].clamp(0, 1)
