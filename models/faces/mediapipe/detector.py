"""Where faces might be: both detectors on square views of the picture.

A detector's answer is an anchor's (a fixed place's) offset to a box and six points: the eyes, nose tip, mouth and both ears. Here it
becomes a `Candidate`; whether there is a face, the mesh decides.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch

from .networks import NETWORKS
from .weights import run

# Side of a mesh's square over the detector's box: MediaPipe's own (face_detection_front_detection_to_roi.pbtxt).
SQUARE_PER_BOX = 1.5
# Two candidates nearer than this, in their mean side, are one face; the second number is for candidates that are turned differently:
# a detector that looks at a face lying on its side guesses worse.
_SAME_PLACE, _SAME_PLACE_TURNED = 0.35, 0.6
# Cosine of the angle between two candidates from which on they are turned alike.
_ALIKE = 0.9


@dataclass(frozen=True)
class View:
    """A square of the picture as a detector sees it. It may reach outside; there it is black, as in MediaPipe."""

    left: float
    top: float
    side: float
    """Picture pixels."""
    quarter_turns: int = 0
    """Counter-clockwise, before the detector looks."""


@dataclass(frozen=True)
class Candidate:
    """A possible face, in picture pixels."""

    x: float
    y: float
    side: float
    """Centre and side of the detector's box."""
    angle: float
    """Of the line from the eye on the viewer's left to the other, radians, clockwise as seen; 0 for an upright face."""
    score: float
    """0 to 1."""

    def is_near(self, other: Candidate) -> bool:
        """Whether both mean one face."""
        limit = _SAME_PLACE if self.is_alike(other) else _SAME_PLACE_TURNED
        return np.hypot(self.x - other.x, self.y - other.y) < limit * (self.side + other.side) / 2

    def is_alike(self, other: Candidate) -> bool:
        """Whether both are turned by about the same angle."""
        return np.cos(self.angle - other.angle) > _ALIKE


def detect(rgb: np.ndarray, views: list[View], name: str, least: float) -> list[Candidate]:
    """Candidates of one detector ("short_range" or "full_range") in all views, best first, one a place.

    Args:
        rgb: uint8 `[H, W, 3]`.
        least: candidates below this score are dropped; MediaPipe's own limits are 0.5 (short range) and 0.6 (full range).
    """
    if not views:
        return []
    size = NETWORKS[name].SIZE
    upright: dict[View, np.ndarray] = {}  # one square is often looked at in several turns
    for view in views:
        square = replace(view, quarter_turns=0)
        if square not in upright:
            upright[square] = _seen(rgb, square, size)
    batch = np.stack([np.rot90(upright[replace(view, quarter_turns=0)], view.quarter_turns) for view in views])
    boxes, scores = run(name, torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1)
    scores = scores.sigmoid().numpy()
    found = []
    for index, view in enumerate(views):
        chosen = np.flatnonzero(scores[index] >= least)
        for row, score in zip(decoded(boxes[index].numpy()[chosen], chosen, name), scores[index][chosen]):
            found.append(_candidate(row, float(score), view))
    return merged(found)


def decoded(rows: np.ndarray, anchors: np.ndarray, name: str) -> np.ndarray:
    """Raw rows `[N, 16]` at these anchors as `[N, 16]` fractions of the view: centre, width, height, six points."""
    rows = rows / NETWORKS[name].SIZE
    places = _anchors(name)[anchors]
    rows[:, :2] += places
    rows[:, 4:] += np.tile(places, 6)
    return rows


def merged(candidates: list[Candidate]) -> list[Candidate]:
    """One candidate a place: the mean of all near the best, weighted by score (MediaPipe's way of suppressing doubles)."""
    waiting = sorted(candidates, key=lambda c: -c.score)
    result = []
    while waiting:
        best = waiting[0]
        group = [c for c in waiting if c.is_near(best)]
        waiting = [c for c in waiting if not c.is_near(best)]
        # Another quarter turn's guess about the same face would spoil the angle.
        alike = [c for c in group if c.is_alike(best)]
        weights = np.array([c.score for c in alike]) / sum(c.score for c in alike)
        x, y, side = (float(weights @ [getattr(c, part) for c in alike]) for part in ("x", "y", "side"))
        result.append(Candidate(x, y, side, best.angle, best.score))
    return result


@functools.cache
def _anchors(name: str) -> np.ndarray:
    """Centres of the anchors `[N, 2]` (x, y), fractions of the view."""
    grids = []
    for cells, each in NETWORKS[name].CELLS:
        middle = (np.arange(cells, dtype=np.float32) + 0.5) / cells
        y, x = np.meshgrid(middle, middle, indexing="ij")
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), each, axis=0))
    return np.concatenate(grids)


def _seen(rgb: np.ndarray, view: View, size: int) -> np.ndarray:
    """The view without its turns, uint8 `[size, size, 3]`."""
    import cv2

    height, width = rgb.shape[:2]
    left, top, side = round(view.left), round(view.top), max(1, round(view.side))
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    result = np.zeros((size, size, 3), np.uint8)
    zoom = size / side
    # Whole pixels of the small square; the rounding is at most half of one of them.
    a, b = round((x0 - left) * zoom), round((y0 - top) * zoom)
    c, d = min(size, max(a + 1, round((x1 - left) * zoom))), min(size, max(b + 1, round((y1 - top) * zoom)))
    if x1 > x0 and y1 > y0 and c > a and d > b:
        kernel = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        result[b:d, a:c] = cv2.resize(rgb[y0:y1, x0:x1], (c - a, d - b), interpolation=kernel)
    return result


def _candidate(row: np.ndarray, score: float, view: View) -> Candidate:
    """One decoded row in picture pixels."""
    places = np.concatenate([row[:2], row[4:8]]).reshape(3, 2).astype(np.float64)  # centre, eyes
    for _ in range(view.quarter_turns % 4):
        # Undo np.rot90, which takes (x, y) to (y, 1 - x).
        places = np.stack([1 - places[:, 1], places[:, 0]], axis=1)
    centre, left_eye, right_eye = places * view.side + (view.left, view.top)
    across = right_eye - left_eye
    side = view.side * float(max(row[2], row[3]))
    return Candidate(*centre.tolist(), side, float(np.arctan2(across[1], across[0])), score)
