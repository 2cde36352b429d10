"""Parts of the face by the mesh's numbers, and their shapes in a crop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..faces.mediapipe import topology
from .numerics import smoothstep

NOSE_BASE, CHIN = 2, 152
_BOTH_SIDES = (0.15, 0.4)
"""What is on one side beside what is on the other, from which on it is on both."""
_RAISED = 0.02
"""How far above the mesh's a brow may lie, in crop sides."""

# Chosen by eye on the published map of the mesh's numbers.
LEFT_CHEEK = (50, 101, 36, 205, 118, 117, 123, 187)
RIGHT_CHEEK = (280, 330, 266, 425, 347, 346, 352, 411)
NOSE = (1, 4, 5, 195, 197, 6, 98, 327)
SURELY_SKIN = (LEFT_CHEEK, RIGHT_CHEEK, NOSE)
CHEEKS = (*LEFT_CHEEK, *RIGHT_CHEEK, *NOSE)
FOREHEAD = (9, 8, 107, 336, 66, 296, 151, 108, 337)
LOWER_FACE = (61, 291, 152, 148, 176, 149, 150, 136, 172, 377, 400, 378, 379, 365, 397, 0, 17, 205, 425)
"""Where a beard grows."""
BEARDS = (*LOWER_FACE, 93, 132, 323, 361)
"""The same with whiskers up to the ears."""
AROUND_MOUTH = (61, 291, 129, 358, 148, 152, 377)
"""From the nostrils to the chin, as wide as the mouth: what grows there is a beard."""
MIDDLE = (9, 107, 336, 33, 263, 101, 330, 205, 425, 61, 291, 148, 152, 377)
"""From the brows to the chin, as wide as the eyes and the mouth: what no hair hangs over."""
EYE_LEVEL = (127, 34, 227, 137, 118, 6, 347, 366, 447, 264, 356, 283, 8, 53)
"""From brows to cheekbones, temple to temple."""
EYE_CORNERS = ((33, 133), (362, 263))
"""Of the eye on the viewer's left and of the other, left corner first."""
EYES = (topology.LEFT_EYE, topology.RIGHT_EYE)
BROWS = (topology.LEFT_BROW, topology.RIGHT_BROW)
CENTRE = (*LEFT_CHEEK, *RIGHT_CHEEK, *NOSE, *topology.LIPS_OUTER, *topology.LEFT_EYE, *topology.RIGHT_EYE)
"""From the eyes to the mouth: hair that hangs over it belongs to the face for us."""


def polygon(points: np.ndarray, size: int) -> np.ndarray:
    """A filled ring of points `[N, 2]` (crop pixels): float32 `[size, size]`, antialiased."""
    import cv2

    mask = np.zeros((size, size), np.uint8)
    # OpenCV's whole coordinates are pixel centres; three binary places of a fraction.
    cv2.fillPoly(mask, [np.round((points - 0.5) * 8).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=3)
    return mask.astype(np.float32) / 255


def hull(mesh: np.ndarray, numbers: Sequence[int], size: int) -> np.ndarray:
    """The convex hull of some of the mesh's points `[N, 2 or 3]`: float32 `[size, size]`."""
    import cv2

    return polygon(cv2.convexHull(mesh[list(numbers), :2].astype(np.float32))[:, 0], size)


def hulls(mesh: np.ndarray, parts: Sequence[Sequence[int]], size: int) -> np.ndarray:
    """The hulls of several parts in one mask, each convex by itself: float32 `[size, size]`."""
    return np.max([hull(mesh, part, size) for part in parts], axis=0)


def on_both_sides(amount: np.ndarray, part: np.ndarray, mesh: np.ndarray) -> float:
    """How evenly something lies on both sides of the line from the nose's base through the chin, 0 to 1: a beard does, not a shadow.

    Args:
        amount: of it, `[S, S]` in 0 .. 1.
        part: of the face that is looked at, `[S, S]`.
    """
    x, y = np.meshgrid(*[np.arange(len(part)) + 0.5] * 2)
    base, down = mesh[NOSE_BASE, :2], mesh[CHIN, :2] - mesh[NOSE_BASE, :2]
    left = (x - base[0]) * down[1] < (y - base[1]) * down[0]
    shares = [float((amount * side * part).sum() / max((side * part).sum(), 1e-3)) for side in (left, ~left)]
    return float(smoothstep(min(shares) / max(*shares, 1e-3), *_BOTH_SIDES))


def oval(mesh: np.ndarray, size: int) -> np.ndarray:
    """The face from hairline to chin: float32 `[size, size]`."""
    return polygon(mesh[list(topology.FACE_OVAL), :2], size)


def grown(mask: np.ndarray, pixels: float) -> np.ndarray:
    """A mask `[S, S]` made wider by so many pixels on every side, float32, antialiased; what is above one half counts as mask."""
    import cv2

    away = cv2.distanceTransform((mask <= 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    return (
        np.clip(pixels + 0.5 - away, 0, 1).astype(np.float32)
        if (mask > 0.5).any()
        else np.zeros(mask.shape, np.float32)
    )


def shrunk(mask: np.ndarray, pixels: float) -> np.ndarray:
    """A mask `[S, S]` made narrower by so many pixels on every side; see `grown`."""
    return 1 - grown((1 - mask).astype(np.float32), pixels)


def brow(mesh: np.ndarray, numbers: Sequence[int], size: int, *others: int) -> np.ndarray:
    """Where one of `BROWS` may lie, float32 `[size, size]`: raised brows go higher than the mesh. `others` widen it to more points."""
    up = mesh[NOSE_BASE, :2] - mesh[CHIN, :2]
    up = up / max(float(np.linalg.norm(up)), 1e-6) * _RAISED * size
    points = np.concatenate(
        [mesh[list(numbers), :2], mesh[list(numbers), :2] + up, mesh[list(others), :2].reshape(-1, 2)]
    )
    return hull(points, range(len(points)), size)


def around_eyes(mesh: np.ndarray, size: int) -> np.ndarray:
    """Eyes and brows and what lies between, each side by itself, float32 `[size, size]`: lids, lashes and what is painted on them."""
    return np.max([brow(mesh, ring, size, *eye) for ring, eye in zip(BROWS, EYES, strict=True)], axis=0)


def features(mesh: np.ndarray, size: int) -> np.ndarray:
    """Eyes, brows and lips with a margin, float32 `[size, size]`: what is not bare skin on any face."""
    parts = [
        *((hull(mesh, eye, size), 0.015) for eye in EYES),
        (hull(mesh, topology.LIPS_OUTER, size), 0.01),
        *((hull(mesh, ring, size), 0.0125) for ring in BROWS),
    ]
    return np.max([grown(part, margin * size) for part, margin in parts], axis=0)
