"""Cameras of 25 scalars, EG3D's convention: 16 of a row-major camera-to-world matrix and 9 of intrinsics in picture widths.

E. Chan et al., Efficient geometry-aware 3D generative adversarial networks, 2022.
"""

from __future__ import annotations

import math

import torch

from ..errors import UserError

PIVOT = (0.0, -0.025, -0.04)
"""The point cameras turn about: in the middle of the head, metres."""
MOST_DEGREES = 60
"""From the face's own direction to a camera's; a photograph says nothing about the back of the head."""


def checked_cameras(cameras: torch.Tensor) -> torch.Tensor:
    """Cameras `[N, 25]` as float32.

    Raises:
        UserError: not such a tensor, numbers that are not finite, a matrix that is no rotation, intrinsics without a focal length, or a
            camera beside or behind the head.
    """
    cameras = torch.as_tensor(cameras, dtype=torch.float32)
    if cameras.ndim != 2 or cameras.shape[1] != 25 or not len(cameras):
        raise UserError(
            f"cameras must be rows of 25 numbers (16 of the matrix, 9 of the intrinsics); {list(cameras.shape)} came"
        )
    for number, camera in enumerate(cameras):
        if not torch.isfinite(camera).all():
            raise UserError(f"camera {number} has numbers that are not finite")
        rotation, place = camera[:16].view(4, 4)[:3, :3], camera[:16].view(4, 4)[:3, 3]
        if not torch.allclose(rotation.T @ rotation, torch.eye(3), atol=1e-2) or torch.det(rotation) < 0:
            raise UserError(f"camera {number}: the upper left 3 x 3 numbers of its matrix are no rotation")
        if not (0.1 <= camera[16] <= 50 and 0.1 <= camera[20] <= 50):
            raise UserError(
                f"camera {number}: focal lengths of {camera[16]:.3g} and {camera[20]:.3g} picture widths; they must lie between 0.1 and 50"
            )
        away = place - torch.tensor(PIVOT)
        distance = float(away.norm())
        if not 0.2 <= distance <= 20:
            raise UserError(f"camera {number} stands {distance:.2f} m from the head; it must be 0.2 to 20 m away")
        turned = math.degrees(math.acos(max(-1.0, min(1.0, float(away[2]) / distance))))
        if turned > MOST_DEGREES or float(rotation[:, 2] @ away) > 0:
            where = (
                "looks away from the head"
                if turned <= MOST_DEGREES
                else f"stands {turned:.0f} degrees beside the face or behind the head"
            )
            raise UserError(f"camera {number} {where}; up to {MOST_DEGREES} degrees can be rendered")
    return cameras


def parse_cameras(text: str) -> torch.Tensor:
    """Cameras `[N, 25]` from text: 25 numbers a line, apart by commas or spaces; empty lines and brackets do not count.

    Raises:
        UserError: a line with something else, naming it; or what `checked_cameras` refuses.
    """
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.translate(str.maketrans("[](),;", "      ")).split()
        if not words:
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            raise UserError(
                f"line {number} of the cameras holds something that is no number: {line.strip()[:40]!r}"
            ) from None
        if len(row) != 25:
            raise UserError(f"line {number} of the cameras holds {len(row)} numbers; a camera has 25")
        rows.append(row)
    if not rows:
        raise UserError("the cameras are empty: 25 numbers a line are needed")
    return checked_cameras(torch.tensor(rows))


def camera(
    rotation: torch.Tensor, position: torch.Tensor, focal: float, centre: tuple[float, float] = (0.5, 0.5)
) -> torch.Tensor:
    """The 25 scalars of a camera-to-world rotation `[3, 3]`, a position `[3]` in metres, focal length and centre in picture widths."""
    matrix = torch.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, position
    intrinsics = torch.tensor([focal, 0, centre[0], 0, focal, centre[1], 0, 0, 1])
    return torch.cat([matrix.flatten(), intrinsics.float()])


def rotation_of(scalars: torch.Tensor) -> torch.Tensor:
    """Camera-to-world rotation `[3, 3]` of a camera `[25]`."""
    return scalars[:16].view(4, 4)[:3, :3]


def position_of(scalars: torch.Tensor) -> torch.Tensor:
    """Where a camera `[25]` stands, `[3]`, metres."""
    return scalars[:16].view(4, 4)[:3, 3]


def orbit(
    source: torch.Tensor, yaw: float, pitch: float, distance: float = 1.0, fov: float | None = None
) -> torch.Tensor:
    """A camera `[25]` moved round the head from where another stands, along its own axes; the head stays where it is in the picture.

    Args:
        source: `[25]`.
        yaw, pitch: degrees; yaw to the viewer's right, pitch up.
        distance: as a factor; above 1 the head becomes smaller.
        fov: field of view in degrees. It sets the perspective, not the head's size: a wider lens goes nearer. None: the source's.
    """
    rotation, pivot = rotation_of(source), torch.tensor(PIVOT)
    seen = rotation.T @ (pivot - position_of(source))
    focal = float(source[16])
    new_focal = focal if fov is None else 0.5 / math.tan(math.radians(fov) / 2)
    y, p = math.radians(yaw), math.radians(pitch)
    turn = torch.tensor([[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]])
    nod = torch.tensor([[1, 0, 0], [0, math.cos(p), math.sin(p)], [0, -math.sin(p), math.cos(p)]])
    rotation = rotation @ turn @ nod
    # Where the pivot lands in the picture stays: so its sideways place grows with depth over focal length.
    depth = seen[2] * distance * new_focal / focal
    seen = torch.stack([seen[0] * distance, seen[1] * distance, depth])
    return camera(rotation, pivot - rotation @ seen, new_focal, (float(source[18]), float(source[21])))


def rays(scalars: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The rays through a picture's pixel centres: origin `[3]` and directions `[S * S, 3]` in the world, whose length is such that a
    step of 1 goes 1 m deeper."""
    at = (torch.arange(size, device=scalars.device) + 0.5) / size
    y, x = torch.meshgrid(at, at, indexing="ij")
    fx, skew, cx, fy, cy = (scalars[16 + k] for k in (0, 1, 2, 4, 5))
    down = (y - cy) / fy
    local = torch.stack([(x - cx - skew * down) / fx, down, torch.ones_like(x)], dim=-1)
    return position_of(scalars), local.view(-1, 3) @ rotation_of(scalars).T


def project(points: torch.Tensor, scalars: torch.Tensor) -> torch.Tensor:
    """World points `[..., 3]` as a camera sees them: x, y in picture widths and depth in metres, `[..., 3]`."""
    local = (points - position_of(scalars)) @ rotation_of(scalars)
    depth = local[..., 2].clamp_min(1e-4)
    down = local[..., 1] / depth
    x = local[..., 0] / depth * scalars[16] + down * scalars[17] + scalars[18]
    return torch.stack([x, down * scalars[20] + scalars[21], local[..., 2]], dim=-1)


def unproject(depth: torch.Tensor, scalars: torch.Tensor) -> torch.Tensor:
    """The world points `[S, S, 3]` that a camera sees at a depth map `[S, S]`, metres."""
    origin, directions = rays(scalars, len(depth))
    return origin + directions.view(*depth.shape, 3) * depth[..., None]
