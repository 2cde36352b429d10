"""Pose and expression error from landmarks."""

import numpy as np

from ....models.faces.alignment import head_of
from ....models.faces.types import Face

# Points of the 68-point mark-up (iBUG 300-W).
_EYES = (range(36, 42), range(42, 48))
_BROWS = (range(17, 22), range(22, 27))
_MOUTH_LEFT, _MOUTH_RIGHT = 48, 54
_LIP_TOP, _LIP_BOTTOM = 62, 66  # inner lips


def pose_error(result: Face, wanted: Face) -> float | None:
    """Euclidean distance of (yaw, pitch, roll) in degrees between two faces, each from an average head fitted to its landmarks.

    The measure of face-swap papers (there with HopeNet's angles), here with `models.faces.head_shape`. None when a face has no
    landmarks.
    """
    heads = [head_of(face) for face in (result, wanted)]
    if any(head is None for head in heads):
        return None
    angles = [np.array([head.yaw, head.pitch, head.roll]) for head in heads]
    return float(np.linalg.norm(angles[0] - angles[1]))


def expression(points: np.ndarray) -> np.ndarray:
    """Expression numbers `[7]` of 68 landmarks `[68, 2]` (any scale and place), each in eye distances but for the first two.

    Openness of both eyes (eye aspect ratio: Soukupova and Cech, 2016), height of both brows over their eye, width and opening of
    the mouth, and how far its corners lie below the lips' middle.
    """
    points = np.asarray(points, np.float64)
    centres = [points[list(eye)].mean(axis=0) for eye in _EYES]
    distance = np.linalg.norm(centres[1] - centres[0])
    across = (centres[1] - centres[0]) / distance
    down = np.array([-across[1], across[0]])

    def openness(eye):
        p = points[list(eye)]
        heights = np.linalg.norm(p[1] - p[5]) + np.linalg.norm(p[2] - p[4])
        return heights / (2 * np.linalg.norm(p[0] - p[3]))

    brows = [
        (centre - points[list(brow)].mean(axis=0)) @ down / distance
        for centre, brow in zip(centres, _BROWS, strict=True)
    ]
    corners = (points[_MOUTH_LEFT] + points[_MOUTH_RIGHT]) / 2
    lips = (points[_LIP_TOP] + points[_LIP_BOTTOM]) / 2
    mouth = [
        np.linalg.norm(points[_MOUTH_RIGHT] - points[_MOUTH_LEFT]) / distance,
        np.linalg.norm(points[_LIP_BOTTOM] - points[_LIP_TOP]) / distance,
        (corners - lips) @ down / distance,
    ]
    return np.array([*map(openness, _EYES), *brows, *mouth])


def expression_error(result: np.ndarray, wanted: np.ndarray) -> float:
    """Mean absolute difference of the seven `expression` numbers of two faces' 68 landmarks; no unit, 0 = the same expression.

    The landmark model's training data exclude commercial use (docs/faces.md), so this is measured only on request.
    """
    return float(np.abs(expression(result) - expression(wanted)).mean())
