"""The order of faces: stated, deterministic, and not upset by a detector that moves a box by a pixel.

Sorting by one number flips two faces whenever their numbers are nearly equal, and in real pictures that happens at *exact* equality:
faces one above the other, mirrored halves, tiled portraits. So numbers that differ by less than a tolerance count as equal, and
the next key decides. No rule can be free of a border somewhere (walk one face round another and the order must change at some
step); this one moves the border from "equal", which is common, to "4 pixels apart", which is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..errors import UserError
from .types import Face

ORDERS = (
    "left-right",
    "right-left",
    "top-bottom",
    "bottom-top",
    "large-small",
    "small-large",
    "confidence",
    "centre-out",
)

# A box edge may jitter by 1 px: centres of two faces then move by 2 px against each other, sides of boxes by 4 px.
_CENTRE_TOLERANCE_PX = 4.0
_SIDE_TOLERANCE_PX = 8.0
_SCORE_TOLERANCE = 0.01

Key = tuple[Callable[[Face], float], float]


def order_faces(faces: Sequence[Face], order: str, height: int, width: int) -> tuple[Face, ...]:
    """Sort one frame's faces.

    Ties are broken left-right, then top-bottom, then large-small, then by the exact numbers, so that the result never depends on
    the order the faces came in.

    Args:
        order: one of `ORDERS`; "centre-out" is by the distance of the box's centre from the picture's.

    Raises:
        UserError: unknown order.
    """
    x: Key = (lambda face: face.centre[0], _CENTRE_TOLERANCE_PX)
    y: Key = (lambda face: face.centre[1], _CENTRE_TOLERANCE_PX)
    side: Key = (lambda face: -face.side, _SIDE_TOLERANCE_PX)
    first: dict[str, Key] = {
        "left-right": x,
        "right-left": (lambda face: -face.centre[0], _CENTRE_TOLERANCE_PX),
        "top-bottom": y,
        "bottom-top": (lambda face: -face.centre[1], _CENTRE_TOLERANCE_PX),
        "large-small": side,
        "small-large": (lambda face: face.side, _SIDE_TOLERANCE_PX),
        "confidence": (lambda face: -face.score, _SCORE_TOLERANCE),
        "centre-out": (
            lambda face: ((face.centre[0] - width / 2) ** 2 + (face.centre[1] - height / 2) ** 2) ** 0.5,
            _CENTRE_TOLERANCE_PX,
        ),
    }
    if order not in first:
        raise UserError(f"unknown order {order!r}; choose one of: {', '.join(ORDERS)}")
    settled = sorted(faces, key=lambda face: (face.box, face.score, face.backend, face.landmarks))
    return tuple(_sort_by(settled, [first[order], x, y, side]))


def _sort_by(faces: list[Face], keys: list[Key]) -> list[Face]:
    """Sort by the first key; runs of neighbours closer than its tolerance are sorted by the remaining keys."""
    if not keys or len(faces) < 2:
        return faces
    (value, tolerance), rest = keys[0], keys[1:]
    faces = sorted(faces, key=value)
    result: list[Face] = []
    run = [faces[0]]
    for face in faces[1:]:
        if value(face) - value(run[-1]) < tolerance:
            run.append(face)
        else:
            result += _sort_by(run, rest)
            run = [face]
    return result + _sort_by(run, rest)
