"""A lifted portrait seen from other cameras: each ray is followed until it is behind the surface that the photograph's camera sees.

The surface is a depth map, so every place on it has a place in the photograph, whose pixels stay sharp. What the photograph does not show
(the far side of a nose, behind an ear) is spanned by the surface between its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .cameras import project, rays

STEPS = 64
"""Along a ray, over the depth of the surface; about 5 mm each before the crossing is refined."""
_REFINE = 6


@dataclass(frozen=True, eq=False)
class Lifted:
    """A portrait with its geometry and light, in the frame of its camera."""

    picture: torch.Tensor
    """`[S, S, 3]`, sRGB."""
    camera: torch.Tensor
    """`[25]`, of the picture."""
    frame: torch.Tensor
    """`[25]`: the same camera framing the head like an aligned crop; the picture shows more, so that views have something at their edges."""
    depth: torch.Tensor
    """`[S, S]`, metres."""
    normals: torch.Tensor
    """`[S, S, 3]`, unit, world axes."""
    albedo: torch.Tensor
    """`[S, S, 3]`, linear: the picture without its light; outside the mask the picture itself."""
    mask: torch.Tensor
    """`[S, S]` in 0 .. 1: the person."""
    light: torch.Tensor
    """`[9, 3]`: spherical harmonics of the photograph's light, see `light.py`."""


@dataclass(frozen=True, eq=False)
class View:
    """What one camera sees."""

    image: torch.Tensor
    """`[S, S, 3]`, sRGB."""
    depth: torch.Tensor
    """`[S, S]`, metres from this camera."""
    normals: torch.Tensor
    """`[S, S, 3]`, world axes."""
    albedo: torch.Tensor
    """`[S, S, 3]`, linear."""
    mask: torch.Tensor
    """`[S, S]` in 0 .. 1."""


def read(maps: torch.Tensor, places: torch.Tensor, kernel: str = "bilinear") -> torch.Tensor:
    """Maps `[H, W, C]` at places `[N, 2]` (x, y in picture widths; edges go on outside), `[N, C]`."""
    grid = (places * 2 - 1)[None, None]
    return F.grid_sample(maps.movedim(-1, 0)[None], grid, mode=kernel, padding_mode="border", align_corners=False)[
        0, :, 0
    ].T


def surface(depth: torch.Tensor, source: torch.Tensor, target: torch.Tensor, size: int) -> torch.Tensor:
    """How far along each ray of the target the surface lies, `[size * size]`, metres of depth.

    Args:
        depth: `[S, S]`, of the source's pixels.
        source, target: `[25]`.
    """
    origin, directions = rays(target, size)

    def behind(t: torch.Tensor) -> torch.Tensor:
        """How far behind the surface, metres; negative in front of it."""
        seen = project(origin + directions * t[:, None], source)
        return seen[:, 2] - read(depth[..., None], seen[:, :2])[:, 0]

    corners = [project_depth(depth, source, target, at) for at in (depth.min(), depth.max())]
    near, far = min(c.min() for c in corners) - 0.02, max(c.max() for c in corners) + 0.02
    near = near.clamp_min(0.02)
    low = torch.full((len(directions),), float(near))
    high = torch.full_like(low, float(far))
    found = torch.zeros_like(low, dtype=torch.bool)
    before = low.clone()
    for t in torch.linspace(float(near), float(far), STEPS)[1:]:
        now = torch.full_like(low, float(t))
        crossed = (behind(now) > 0) & ~found
        low, high = torch.where(crossed, before, low), torch.where(crossed, now, high)
        found |= crossed
        before = now
    for _ in range(_REFINE):
        middle = (low + high) / 2
        inside = behind(middle) > 0
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    return torch.where(found, (low + high) / 2, float(far))


def project_depth(depth: torch.Tensor, source: torch.Tensor, target: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Depths that the target gives to the corners of the source's picture at one depth, `[4]`."""
    corners = torch.tensor([[0.0, 0.0], [1, 0], [0, 1], [1, 1]])
    local = torch.stack(
        [
            (corners[:, 0] - source[18]) / source[16] * at,
            (corners[:, 1] - source[21]) / source[20] * at,
            at.expand(4),
        ],
        dim=-1,
    )
    world = local @ source[:16].view(4, 4)[:3, :3].T + source[:16].view(4, 4)[:3, 3]
    return project(world, target)[:, 2]


def render(lifted: Lifted, target: torch.Tensor, size: int, picture: torch.Tensor | None = None) -> View:
    """A lifted portrait seen by a camera.

    Args:
        target: `[25]`, of `cameras.checked_cameras`.
        size: side of the view in pixels.
        picture: `[S, S, 3]`, sRGB, instead of the lifted one: the same portrait in another light.
    """
    origin, directions = rays(target, size)
    distance = surface(lifted.depth, lifted.camera, target, size)
    places = project(origin + directions * distance[:, None], lifted.camera)[:, :2]
    colours = [
        x.clamp_min(0)
        for x in (read(lifted.picture if picture is None else picture, places, "bicubic"), read(lifted.albedo, places))
    ]
    normals = F.normalize(read(lifted.normals, places), dim=-1)
    mask = read(lifted.mask[..., None], places)
    square = (size, size)
    return View(
        colours[0].clamp_max(1).view(*square, 3),
        distance.view(square),
        normals.view(*square, 3),
        colours[1].view(*square, 3),
        mask.view(square),
    )


def render_all(
    lifted: Lifted,
    cameras: torch.Tensor,
    size: int,
    picture: torch.Tensor | None = None,
    done: Callable[[int, int], None] | None = None,
) -> list[View]:
    """A view for each camera `[N, 25]`; `done(number, all)` is called after each."""
    views = []
    for number, target in enumerate(cameras):
        views.append(render(lifted, target, size, picture))
        if done is not None:
            done(number + 1, len(cameras))
    return views
