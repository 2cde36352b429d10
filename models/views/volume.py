"""Views by the lifter: the surfaces it moved, and its colours where a view shows what the photograph hides."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..mesh.numerics import blur
from .cameras import PIVOT, project, rays
from .lifter import INPUT, POINTS, REACH, Lifter, TriPlane, render_volume
from .photograph import away
from .render import Lifted, View, read, render

_SIDE = 96
"""Side at which the net's albedo of what the photograph shows is kept: it has no finer detail."""
_MOST = 2.0
"""By how much a hidden place may be brighter or darker than what lies before it."""
_GAMMA = 2.2
"""Near enough to sRGB for a change, and 1 stays 1."""
_SEEN = 0.012
"""Metres by which a place may lie behind what the photograph shows and still be the same surface."""
_EDGE = 0.1
"""Width, in frames, over which the moves end at the frame's border: the net sees no further."""
_SMOOTH = 1.5
"""By how much the moves are blurred, in cells of the planes: the outline of a view shows every roughness."""
_RIM = 0.015
"""Within this distance of the outline, metres, the moves fade."""
_STRENGTH = 0.5
"""Share of the moves that is made."""
_THIN = 0.008
"""Least depth of the person, metres."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A portrait lifted by the net."""

    net: Lifter
    planes: TriPlane
    lifted: Lifted
    """With its surfaces moved."""
    shown: torch.Tensor
    """`[96, 96, 4]`: the net's albedo (linear) of what the frame shows, black where nothing is met, and how much is met."""


def seen_by_net(lifted: Lifted) -> torch.Tensor:
    """What the encoder sees of a lifted portrait, `[6, 128, 128]`: see `lifter.SEEN_CHANNELS`."""
    size = 2 * INPUT
    places = _between(lifted.frame, lifted.camera, size)
    picture = read(lifted.picture, places, "bicubic").clamp(0, 1) * 2 - 1
    pivot = project(lifted.frame.new_tensor(PIVOT), lifted.frame)[2]
    ends = (torch.stack([lifted.front, lifted.back], dim=-1) - pivot) / REACH
    others = read(torch.cat([lifted.mask[..., None], ends.clamp(-1, 1)], dim=-1), places)
    seen = torch.cat([picture, others], dim=-1).T.view(1, -1, size, size)
    return F.interpolate(seen, size=(INPUT, INPUT), mode="bilinear", antialias=True, align_corners=False)[0]


def _between(one: torch.Tensor, other: torch.Tensor, size: int) -> torch.Tensor:
    """Where the pixels of a camera's picture lie in the picture of another that stands at the same place, `[size * size, 2]`."""
    origin, directions = rays(one, size)
    return project(origin + directions, other)[:, :2]


@torch.inference_mode()
def lift_volume(lifted: Lifted, net: Lifter, points: int = POINTS) -> Volume:
    """The volume of a lifted portrait; `points` bounds the memory, see `lifter.render_volume`."""
    seen = seen_by_net(lifted)
    planes = net(seen[None])
    front = render_volume(net, planes, lifted.frame, lifted.frame, _SIDE, points)
    shown = torch.cat([front.albedo, front.met[:, None]], dim=-1).view(_SIDE, _SIDE, 4)
    return Volume(net, planes, _moved(lifted, seen, planes), shown)


def _moved(lifted: Lifted, seen: torch.Tensor, planes: TriPlane) -> Lifted:
    """The portrait with its surfaces moved as the net says, its own detail on them."""
    size = planes.surface.shape[-1]
    pivot = project(lifted.frame.new_tensor(PIVOT), lifted.frame)[2]
    moves = planes.surface[0] - F.adaptive_avg_pool2d(seen[4:], size)
    # Where the person is: what the net says beside the outline means nothing.
    there = (planes.outline[0] > 0.3).float()
    places = _between(lifted.camera, lifted.frame, len(lifted.picture))
    known = torch.cat([moves * there, there]).movedim(0, -1).numpy()
    *moves, weight = read(torch.from_numpy(blur(known, _SMOOTH)).float(), places).T
    ramp = (torch.minimum(places, 1 - places).amin(dim=-1) / _EDGE).clamp(0, 1)
    # Nothing is moved at the outline, where before and behind meet.
    inwards = torch.from_numpy(away(lifted.mask.numpy() > 0.5, 1)).float().flatten()
    pixels = _RIM * float(lifted.frame[16] / pivot) * len(lifted.picture) * float(lifted.camera[16] / lifted.frame[16])
    ramp = ramp * (inwards / pixels).clamp(0, 1)
    ramp = ramp * _STRENGTH * (lifted.front < lifted.back).flatten() * REACH / weight.clamp_min(1e-3)
    front, back = (
        end + (ramp * move).view(end.shape) for end, move in zip((lifted.front, lifted.back), moves, strict=True)
    )
    if lifted.known is not None:
        front = front + lifted.known * (lifted.front - front)  # a mesh knows the face better
    # A back that is too near would show through.
    back = torch.where(lifted.front < lifted.back, torch.maximum(torch.maximum(back, lifted.back), front + _THIN), back)
    return dataclasses.replace(lifted, front=front, back=back)


@torch.inference_mode()
def render_with_volume(
    volume: Volume,
    target: torch.Tensor,
    size: int,
    picture: torch.Tensor | None = None,
    points: int = POINTS,
) -> View:
    """A portrait seen by a camera: its surfaces as the net moved them, and the net's albedo where the photograph hides them.

    Args:
        target: `[25]`.
        size: side of the view in pixels.
        picture: as in `render.render`.
        points: bounds the memory, see `lifter.render_volume`.
    """
    lifted = volume.lifted
    view = render(lifted, target, size, picture)
    origin, directions = rays(target, size)
    met = origin + directions * view.depth.view(-1, 1)
    place = project(met, lifted.camera)
    behind = place[:, 2] - read(lifted.front[..., None], place[:, :2])[:, 0]
    # Along the outline of the view there is nothing behind, only softness.
    within = 1 - F.max_pool2d(1 - view.mask[None, None], 5, 1, 2).flatten()
    hidden = ((behind - _SEEN) / _SEEN).clamp(0, 1) * within
    chosen = hidden > 0
    if not chosen.any():
        return view
    seen = render_volume(volume.net, volume.planes, lifted.frame, target, size, points, chosen)
    before = read(volume.shown, project(met[chosen], lifted.frame)[:, :2])
    # What lies before the place is repeated there; it takes on the colour that the net has for the place itself.
    colours = [
        x / share.clamp_min(0.05)[:, None] for x, share in ((seen.albedo, seen.met), (before[:, :3], before[:, 3]))
    ]
    change = (colours[0] / colours[1].clamp_min(0.01)).clamp(1 / _MOST, _MOST)
    share = hidden[chosen] * ((torch.minimum(seen.met, before[:, 3]) - 0.3) / 0.4).clamp(0, 1)
    change = torch.ones(size * size, 3).index_put((chosen.nonzero()[:, 0],), 1 + share[:, None] * (change - 1))
    change = change.view(size, size, 3)
    return dataclasses.replace(
        view, image=(view.image * change ** (1 / _GAMMA)).clamp(0, 1), albedo=view.albedo * change
    )
