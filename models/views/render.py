"""A lifted portrait seen from other cameras: a solid person before a plane. Each ray is followed until it is inside the person or meets the plane.

Where it meets the person is a place in the photograph, whose pixels stay sharp; what the photograph does not show of the person (behind an
ear, the far side of a cheek) repeats what lies before it. What the person hid of the background was filled in before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .cameras import position_of, project, rays, rotation_of
from .light import to_linear

STEPS = 64
"""Along a ray, over the depth of the person; about 5 mm each before the crossing is refined."""
_REFINE = 6
_FRINGE = 0.006
"""How far colours go on over the outline, in picture sides."""


@dataclass(frozen=True, eq=False)
class Lifted:
    """A portrait with its geometry and light, in the frame of its camera."""

    picture: torch.Tensor
    """`[S, S, 3]`, sRGB."""
    camera: torch.Tensor
    """`[25]`, of the picture."""
    frame: torch.Tensor
    """`[25]`: the same camera framing the head like an aligned crop; the picture shows more, so that views have something at their edges."""
    front: torch.Tensor
    """`[S, S]`, metres: where the person begins along depth."""
    back: torch.Tensor
    """`[S, S]`, metres: where the person ends; before `front` by the distance to the outline where no person is."""
    background: torch.Tensor
    """`[S, S, 3]`, sRGB: the picture with the person filled in."""
    plane: float
    """Metres: depth of the background."""
    normals: torch.Tensor
    """`[S, S, 3]`, unit, world axes."""
    albedo: torch.Tensor
    """`[S, S, 3]`, linear: the picture without its light; outside the mask the picture itself."""
    mask: torch.Tensor
    """`[S, S]` in 0 .. 1: the person."""
    light: torch.Tensor
    """`[9, 3]`: spherical harmonics of the photograph's light, see `light.py`."""
    known: torch.Tensor | None = None
    """`[S, S]` in 0 .. 1: where a face mesh says where the person begins; None: nowhere."""

    @property
    def depth(self) -> torch.Tensor:
        """Depth of what the picture shows, `[S, S]`, metres."""
        return torch.where(self.front < self.back, self.front, self.plane)


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


def person_along(lifted: Lifted, target: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where along each ray of the target the person begins.

    Returns:
        depth in metres, and how much of the ray's pixel the person covers, 0 to 1; `[size * size]` each. Where it is 0, depth means nothing.
    """
    origin, directions = rays(target, size)
    maps = torch.stack([lifted.front, lifted.back, lifted.mask], dim=-1)

    def look(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How far inside the person, metres along the source's depth (outside its outline minus the distance to it), and the mask there."""
        seen = project(origin + directions * t[:, None], lifted.camera)
        front, back, mask = read(maps, seen[:, :2]).unbind(dim=-1)
        return torch.minimum(seen[:, 2] - front, back - seen[:, 2]), mask

    solid = lifted.front < lifted.back
    if not solid.any():
        return torch.ones(len(directions)), torch.zeros(len(directions))
    ends = torch.cat([_seen_depths(lifted, target, at) for at in (lifted.front[solid].min(), lifted.back[solid].max())])
    near, far = float((ends.min() - 0.02).clamp_min(0.02)), float(ends.max() + 0.02)
    low, high = torch.full((len(directions),), near), torch.full((len(directions),), far)
    found = torch.zeros_like(low, dtype=torch.bool)
    most, at_most = torch.zeros_like(low), low.clone()
    for before, now in torch.linspace(near, far, STEPS + 1).unfold(0, 2, 1).tolist():
        t = torch.full_like(low, now)
        deep, mask = look(t)
        crossed = (deep > 0) & (mask > 0.5) & ~found
        low, high = low.masked_fill(crossed, before), high.masked_fill(crossed, now)
        found |= crossed
        # Soft at the outline's own softness, and where a ray passes the person by less than a pixel.
        touched = mask * (1 + deep / (t / (target[16] * size))).clamp(0, 1)
        more = touched > most
        most, at_most = torch.where(more, touched, most), at_most.masked_fill(more, now)
    for _ in range(_REFINE):
        middle = (low + high) / 2
        deep, mask = look(middle)
        within = (deep > 0) & (mask > 0.5)
        low, high = torch.where(within, low, middle), torch.where(within, middle, high)
    return torch.where(found, high, at_most), most


def _seen_depths(lifted: Lifted, target: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Depths that the target gives to the corners of the lifted picture at one depth, `[4]`."""
    corners = torch.tensor([[0.0, 0.0], [1, 0], [0, 1], [1, 1]])
    local = torch.cat([(corners - lifted.camera[[18, 21]]) / lifted.camera[[16, 20]] * at, at.expand(4, 1)], dim=-1)
    return project(local @ rotation_of(lifted.camera).T + position_of(lifted.camera), target)[:, 2]


def _outwards(picture: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The picture `[S, S, 3]` with the person's colours going on over the outline, where the photograph mixes them with the background."""
    solid = (mask > 0.95).to(picture)[None, None]
    reach = 2 * max(1, round(_FRINGE * len(mask))) + 1
    coloured = torch.cat([picture.movedim(-1, 0)[None] * solid, solid], dim=1)
    *colours, weight = F.avg_pool2d(coloured, reach, 1, reach // 2)[0]
    known = (weight > 0) & (solid[0, 0] == 0) & (mask > 0)
    return torch.where(known[..., None], torch.stack(colours, dim=-1) / weight.clamp_min(1e-6)[..., None], picture)


def render(lifted: Lifted, target: torch.Tensor, size: int, picture: torch.Tensor | None = None) -> View:
    """A lifted portrait seen by a camera.

    Args:
        target: `[25]`, of `cameras.checked_cameras`.
        size: side of the view in pixels.
        picture: `[S, S, 3]`, sRGB, instead of the lifted one: the same portrait in another light.
    """
    origin, directions = rays(target, size)
    distance, covered = person_along(lifted, target, size)
    places, alpha = project(origin + directions * distance[:, None], lifted.camera)[:, :2], covered[:, None]
    # Depth in the source's camera grows evenly along a ray.
    start, step = project(origin[None], lifted.camera)[0, 2], directions @ rotation_of(lifted.camera)[:, 2]
    to_plane = (lifted.plane - start) / step.clamp_min(0.05)
    behind = project(origin + directions * to_plane[:, None], lifted.camera)[:, :2]
    background = read(lifted.background, behind, "bicubic").clamp(0, 1)

    def over(person: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
        return (background + alpha * (person - background)).view(size, size, -1)

    own = read(_outwards(lifted.picture if picture is None else picture, lifted.mask), places, "bicubic").clamp(0, 1)
    facing = -rotation_of(lifted.camera)[:, 2]
    return View(
        over(own, background),
        torch.where(covered > 0.5, distance, to_plane).view(size, size),
        F.normalize(over(F.normalize(read(lifted.normals, places), dim=-1), facing), dim=-1),
        over(read(lifted.albedo, places).clamp_min(0), to_linear(background)),
        covered.view(size, size),
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
