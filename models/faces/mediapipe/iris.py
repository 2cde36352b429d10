"""Irises and eyelids, read from a square round each eye of a settled mesh."""

from __future__ import annotations

import numpy as np
import torch

from ..resampling import invert, transform
from .mesh import Square, cut
from .networks import Iris
from .topology import LEFT_EYE_READ, RIGHT_EYE_READ
from .weights import run

# Side of the square over the eye's width (iris_landmark_landmarks_to_roi.pbtxt).
_SQUARE_PER_EYE = 2.3


def with_irises(picture: torch.Tensor, meshes: list[np.ndarray]) -> list[np.ndarray]:
    """Meshes with ten more points, and with eyes and brows read again at closer sight.

    Args:
        picture: bytes `[1, 3, H, W]`.
        meshes: float64 `[468, 3]` each, picture pixels.

    Returns:
        float64 `[478, 3]` each. 468 to 472 are the iris on the viewer's left (centre, and its rim's right,
        top, left and bottom), 473 to 477 the other. x and y of the 71 points round each eye come from the iris network, z stays
        the mesh's; an iris has the mean z of its eyelids.
    """
    if not meshes:
        return []
    squares = [
        _square(points[start, :2], points[end, :2]) for points in meshes for start, end in ((33, 133), (362, 263))
    ]
    batch = cut(picture, squares, Iris.SIZE)
    batch[1::2] = batch[1::2].flip(-1)  # the network knows one eye only
    eyes, irises = (output.double().numpy() for output in run("iris", batch))
    result = []
    irises[1::2] = irises[1::2, [0, 3, 2, 1, 4]]
    for number, points in enumerate(meshes):
        points = np.concatenate([points, np.zeros((10, 3))])
        for right, (read, first) in enumerate(((LEFT_EYE_READ, 468), (RIGHT_EYE_READ, 473))):
            at = 2 * number + right
            back = invert(squares[at].matrix(Iris.SIZE))
            for target, found in ((list(read), eyes[at]), (list(range(first, first + 5)), irises[at])):
                found = found[:, :2] if not right else np.column_stack([Iris.SIZE - found[:, 0], found[:, 1]])
                points[target, :2] = transform(found, back)
            points[first : first + 5, 2] = points[list(read[:16]), 2].mean()
        result.append(points)
    return result


def _square(start: np.ndarray, end: np.ndarray) -> Square:
    """The square round an eye whose corners these are, the viewer's left one first."""
    across = end - start
    x, y = ((start + end) / 2).tolist()
    return Square(x, y, max(1.0, _SQUARE_PER_EYE * float(np.hypot(*across))), float(np.arctan2(across[1], across[0])))
