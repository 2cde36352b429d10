"""Finding and reading the faces of one picture: views, detectors, mesh, irises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from . import detector, mesh
from .detector import Candidate, View
from .iris import with_irises
from .mesh import Reading, Square

# Lower than MediaPipe's 0.5 and 0.6: the mesh throws out what is no face.
_LEAST = {"short_range": 0.5, "full_range": 0.3}
# MediaPipe's own limit of the mesh's presence. What passes it and is no face does not hold still: on photographs faces moved by less than
# 0.013 of the square's side in the last pass, what is none by more than 0.024.
_PRESENT, _STEADY = 0.5, 0.02
# Two meshes whose bounding boxes overlap by more than this (intersection over union) are one face.
_SAME_FACE = 0.3


@dataclass(frozen=True)
class MeshFace:
    """A face with its points."""

    points: np.ndarray
    """float64 `[478, 3]`: x, y in picture pixels, z in the same unit, smaller is nearer to the camera."""
    score: float
    """The detector's, 0 to 1; for a face whose place was given, the mesh's presence."""

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The points' bounding box x0, y0, x1, y1."""
        low, high = self.points[:, :2].min(axis=0), self.points[:, :2].max(axis=0)
        return (*low.tolist(), *high.tolist())


@dataclass(frozen=True)
class Look:
    """One search of the picture: which views each detector gets."""

    name: str
    full_range: tuple[View, ...]
    short_range: tuple[View, ...]


def looks(effort: str, height: int, width: int) -> list[list[Look]]:
    """The searches for this effort: all of the first list are made, those of the next only while no face was found.

    The full-range detector sees faces from about a sixteenth of its view on.
    """
    longest = max(height, width)
    whole = View((width - longest) / 2, (height - longest) / 2, longest)
    far = _grown(whole, 1.7)
    first = [
        Look("the whole picture", (whole,), (whole, far)),
        Look("quarter turns", tuple(_turned(whole)), tuple(_turned(whole))),
    ]
    if effort != "fast":
        first.append(Look("halves", _tiles(height, width, 2), ()))
    if effort == "small faces":
        first.append(Look("quarters", _tiles(height, width, 4), ()))
    second = [Look("with a border", (far, *_turned(far)), tuple(_turned(far)))]
    if effort != "fast":
        tiles = _tiles(height, width, 2)
        second.append(Look("halves, turned", tuple(t for tile in tiles for t in _turned(tile)), tiles))
    return [first, second]


def find(rgb: np.ndarray, effort: str = "normal") -> tuple[list[MeshFace], list[str]]:
    """All faces of a picture, however they are turned, and the names of the looks that were made.

    Args:
        rgb: uint8 `[H, W, 3]`.
        effort: "fast" sees faces from about 7 % of the longer side on, "normal" 3 %, "small faces" 2 %.
    """
    made: list[str] = []
    for group in looks(effort, *rgb.shape[:2]):
        candidates: list[Candidate] = []
        for name in ("full_range", "short_range"):
            views = [view for look in group for view in getattr(look, name)]
            candidates += detector.detect(rgb, views, name, _LEAST[name])
        made += [look.name for look in group]
        faces = _read(rgb, detector.merged(candidates))
        if faces:
            return faces, made
    return [], made


def read_in_box(rgb: np.ndarray, box: tuple[float, float, float, float]) -> MeshFace | None:
    """The mesh of the face in a box that somebody gave, at whatever turn it is; None where the mesh sees no face."""
    side = max(box[2] - box[0], box[3] - box[1])
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    candidates = [Candidate(x, y, side * size, turn * np.pi / 2, 0.0) for turn in range(4) for size in (1.0, 1.3)]
    picture = _tensor(rgb)
    readings = mesh.read(picture, [_square(c) for c in candidates])
    inside = [r for r in readings if _is_face(r) and _overlap(_box(r), box) > 0.2]
    if not inside:
        return None
    best = max(inside, key=lambda r: r.presence)
    return MeshFace(with_irises(picture, [best.points])[0], best.presence)


def _read(rgb: np.ndarray, candidates: list[Candidate]) -> list[MeshFace]:
    """Those candidates the mesh agrees with, each face once: its steadiest reading, with the best score of all."""
    picture = _tensor(rgb)
    readings = mesh.read(picture, [_square(c) for c in candidates])
    waiting = sorted(
        ((r, c.score) for r, c in zip(readings, candidates) if _is_face(r)), key=lambda pair: pair[0].moved
    )
    kept: list[tuple[Reading, float]] = []
    while waiting:
        best = waiting[0][0]
        same = [_overlap(_box(reading), _box(best)) >= _SAME_FACE for reading, _ in waiting]
        kept.append((best, max(score for (_, score), is_same in zip(waiting, same) if is_same)))
        waiting = [pair for pair, is_same in zip(waiting, same) if not is_same]
    points = with_irises(picture, [reading.points for reading, _ in kept])
    return [MeshFace(p, score) for p, (_, score) in zip(points, kept)]


def _is_face(reading: Reading) -> bool:
    return reading.presence >= _PRESENT and reading.moved < _STEADY


def _square(candidate: Candidate) -> Square:
    return Square(candidate.x, candidate.y, detector.SQUARE_PER_BOX * candidate.side, candidate.angle)


def _tensor(rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb).permute(2, 0, 1)[None]


def _grown(view: View, factor: float) -> View:
    """The view with a border."""
    more = (factor - 1) / 2 * view.side
    return View(view.left - more, view.top - more, factor * view.side, view.quarter_turns)


def _turned(view: View) -> list[View]:
    return [View(view.left, view.top, view.side, turns) for turns in (1, 2, 3)]


def _tiles(height: int, width: int, parts: int) -> tuple[View, ...]:
    """Squares of the longer side's `parts`-th part that cover the picture and overlap by at least a third."""
    side = max(height, width) / parts

    def starts(length: int) -> np.ndarray:
        if length <= side:
            return np.array([(length - side) / 2])
        return np.linspace(0, length - side, 1 + int(np.ceil((length - side) / (side * 2 / 3))))

    return tuple(View(x, y, side) for y in starts(height) for x in starts(width))


def _box(reading: Reading) -> tuple[float, float, float, float]:
    low, high = reading.points[:, :2].min(axis=0), reading.points[:, :2].max(axis=0)
    return (*low.tolist(), *high.tolist())


def _overlap(a: tuple, b: tuple) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
