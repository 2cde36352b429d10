"""The face's 468 points: cut a square, read the mesh, turn the square by what was read, until the points hold still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..resampling import invert, resample, transform
from .networks import Mesh
from .weights import run

# Outer corners of the eyes; the line between them is what a square is turned by (face_landmark_landmarks_to_roi.pbtxt).
_LEFT_CORNER, _RIGHT_CORNER = 33, 263
# Side of the square over the longer side of the points' bounding box (same file).
_SQUARE_PER_POINTS = 1.5
_PASSES = 4
# Points that moved by less than this share of the square's side (root mean square) have settled: about half a pixel of 192.
_SETTLED = 0.0025
# Below this presence a square is given up after the second pass: no face was ever seen to come back from there.
_HOPELESS = 0.1


@dataclass(frozen=True)
class Square:
    """A turned square of the picture, in picture pixels."""

    x: float
    y: float
    side: float
    angle: float
    """Radians, clockwise as seen."""

    def matrix(self, size: int) -> np.ndarray:
        """Picture to a square of `size` pixels, float64 `[2, 3]`."""
        zoom, c, s = size / self.side, np.cos(self.angle), np.sin(self.angle)
        linear = zoom * np.array([[c, s], [-s, c]])
        return np.concatenate([linear, (size / 2 - linear @ (self.x, self.y))[:, None]], axis=1)


@dataclass(frozen=True)
class Reading:
    """What the mesh said about one square."""

    points: np.ndarray
    """float64 `[468, 3]`: x and y in picture pixels, z in the same unit, smaller is nearer to the camera."""
    presence: float
    """How sure the mesh is that there is a face, 0 to 1."""
    moved: float
    """How far the points moved in the last pass, in sides of the square; infinite after one pass."""


def square_round(points: np.ndarray) -> Square:
    """The square in which the mesh wants to see a face with these points `[468, 2 or 3]`."""
    across = points[_RIGHT_CORNER, :2] - points[_LEFT_CORNER, :2]
    angle = float(np.arctan2(across[1], across[0]))
    right, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    along = np.stack([points[:, :2] @ right, points[:, :2] @ down], axis=1)
    low, high = along.min(axis=0), along.max(axis=0)
    middle = (low + high) / 2
    x, y = (middle[0] * right + middle[1] * down).tolist()
    return Square(x, y, max(1.0, _SQUARE_PER_POINTS * float((high - low).max())), angle)


def cut(picture: torch.Tensor, squares: list[Square], size: int) -> torch.Tensor:
    """The squares of a picture (bytes `[1, 3, H, W]`) as float `[B, 3, size, size]` in [0, 1]; edges are repeated outside."""
    drawn = [resample(picture, square.matrix(size), size, size, kernel="bilinear") for square in squares]
    return torch.cat(drawn) / 255


def read(picture: torch.Tensor, starts: list[Square], passes: int = _PASSES) -> list[Reading]:
    """The mesh in each square, all squares of a pass together.

    Args:
        picture: bytes `[1, 3, H, W]`.
        starts: where to look first; an angle that is off by up to about 45 degrees is found out by the next pass.
        passes: at most this many; a face whose points have settled is not read again.
    """
    readings: list[Reading | None] = [None] * len(starts)
    squares, open_ = list(starts), list(range(len(starts)))
    for _ in range(passes):
        if not open_:
            break
        points, logits = run("mesh", cut(picture, [squares[i] for i in open_], Mesh.SIZE))
        for i, raw, logit in zip(open_, points.double().numpy(), logits.sigmoid().tolist()):
            matrix = squares[i].matrix(Mesh.SIZE)
            placed = np.column_stack([transform(raw[:, :2], invert(matrix)), raw[:, 2] * squares[i].side / Mesh.SIZE])
            moved = np.inf
            if readings[i] is not None:
                apart = placed[:, :2] - readings[i].points[:, :2]
                moved = float(np.sqrt((apart**2).sum(axis=1).mean())) / squares[i].side
            readings[i] = Reading(placed, logit, moved)
            squares[i] = square_round(placed)
        open_ = [i for i in open_ if readings[i].moved > _SETTLED and not _is_hopeless(readings[i])]
    return readings


def _is_hopeless(reading: Reading) -> bool:
    return reading.presence < _HOPELESS and np.isfinite(reading.moved)
