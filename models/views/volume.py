"""Views by the lifter: depth, outline and unseen surfaces from its volume, and the photograph's own pixels where it shows them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .cameras import PIVOT, project, rays
from .lifter import INPUT, POINTS, REACH, Lifter, Seen, TriPlane, render_volume
from .light import shading, to_srgb
from .photograph import depth_normals
from .render import Lifted, View, read, render

RAYS = 96
"""Side of the picture of rays that is rendered and then enlarged: depth and albedo of the volume have no finer detail."""
_SEEN = 0.012
"""Metres by which a place may lie behind what the photograph shows and still be the same surface."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A portrait lifted by the net."""

    net: Lifter
    planes: TriPlane
    front: Seen
    """Of the portrait's own frame, `RAYS` x `RAYS`."""


def _frame_places(lifted: Lifted, size: int) -> torch.Tensor:
    """Places in the lifted picture of the pixels of its frame, `[size * size, 2]`."""
    _, directions = rays(lifted.frame, size)
    return project(directions + lifted.frame[:16].view(4, 4)[:3, 3], lifted.camera)[:, :2]


def framed(lifted: Lifted, size: int) -> torch.Tensor:
    """The portrait as its frame's camera sees it, `[size, size, 3]`."""
    _, directions = rays(lifted.frame, size)
    from_frame = project(directions + lifted.frame[:16].view(4, 4)[:3, 3], lifted.camera)
    return read(lifted.picture, from_frame[:, :2], "bicubic").clamp(0, 1).view(size, size, 3)


def seen_by_net(lifted: Lifted) -> torch.Tensor:
    """What the encoder sees of a lifted portrait, `[6, 128, 128]`: see `lifter.SEEN_CHANNELS`."""
    size = 2 * INPUT
    places = _frame_places(lifted, size)
    picture = read(lifted.picture, places, "bicubic").clamp(0, 1) * 2 - 1
    pivot = project(lifted.frame.new_tensor(PIVOT), lifted.frame)[2]
    ends = (torch.stack([lifted.front, lifted.back], dim=-1) - pivot) / REACH
    others = read(torch.cat([lifted.mask[..., None], ends.clamp(-1, 1)], dim=-1), places)
    seen = torch.cat([picture, others], dim=-1).T.view(1, -1, size, size)
    return F.interpolate(seen, size=(INPUT, INPUT), mode="bilinear", antialias=True, align_corners=False)[0]


@torch.inference_mode()
def lift_volume(lifted: Lifted, net: Lifter, points: int = POINTS) -> Volume:
    """The volume of a lifted portrait; `points` bounds the memory, see `lifter.render_volume`."""
    portrait = framed(lifted, 2 * INPUT).movedim(-1, 0)[None]
    planes = net(F.interpolate(portrait, size=(INPUT, INPUT), mode="bilinear", antialias=True, align_corners=False))
    return Volume(net, planes, render_volume(net, planes, lifted.frame, lifted.frame, RAYS, points))


@torch.inference_mode()
def render_with_volume(
    lifted: Lifted,
    volume: Volume,
    target: torch.Tensor,
    size: int,
    picture: torch.Tensor | None = None,
    light: torch.Tensor | None = None,
    points: int = POINTS,
) -> View:
    """A portrait seen by a camera: the head by the net's volume, what is around it by the lifted depth map.

    Args:
        target: `[25]`.
        size: side of the view in pixels.
        picture: as in `render.render`.
        light: `[9, 3]` of that picture; None: the photograph's.
        points: bounds the memory, see `lifter.render_volume`.
    """
    around = render(lifted, target, size, picture)
    seen = render_volume(volume.net, volume.planes, lifted.frame, target, RAYS, points)
    maps = torch.cat([seen.albedo, seen.met[:, None], (seen.depth * seen.met)[:, None]], dim=1).view(RAYS, RAYS, 5)
    albedo, met, depth = F.interpolate(
        maps.movedim(-1, 0)[None], size=(size, size), mode="bilinear", align_corners=False
    )[0].split((3, 1, 1))
    met = met[0]
    depth = torch.where(met > 0.05, depth[0] / met.clamp_min(0.05), around.depth)
    head = ((met - 0.3) / 0.4).clamp(0, 1)[..., None]
    origin, directions = rays(target, size)
    points_seen = project(origin + directions * depth.view(-1, 1), lifted.frame)
    front = torch.stack([volume.front.depth, volume.front.met], dim=-1).view(RAYS, RAYS, 2)
    there = read(front, points_seen[:, :2])
    behind = points_seen[:, 2] - there[:, 0]
    shown = (1 - ((behind - _SEEN) / _SEEN).clamp(0, 1)) * ((there[:, 1] - 0.3) / 0.4).clamp(0, 1)
    shown = shown.view(size, size, 1)
    places = project(origin + directions * depth.view(-1, 1), lifted.camera)[:, :2]
    own = read(lifted.picture if picture is None else picture, places, "bicubic").clamp(0, 1).view(size, size, 3)
    own_albedo = read(lifted.albedo, places).view(size, size, 3)
    normals = depth_normals(depth, target)
    albedo = albedo.movedim(0, -1) / met.clamp_min(0.05)[..., None]
    made = to_srgb(albedo * shading(lifted.light if light is None else light, normals))
    colour = shown * own + (1 - shown) * made
    return View(
        head * colour + (1 - head) * around.image,
        torch.where(head[..., 0] > 0.5, depth, around.depth),
        F.normalize(head * normals + (1 - head) * around.normals, dim=-1),
        head * (shown * own_albedo + (1 - shown) * albedo) + (1 - head) * around.albedo,
        torch.maximum(head[..., 0], around.mask * (1 - head[..., 0])),
    )
