"""Faces of a clip held steady: each face's points are smoothed over the frames in which it goes on, without lag."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .types import Face, Faces

JUMP = 0.25
"""A face whose points move by more than this share of its size from one frame to the next is another one, or the shot was cut."""


def steadied(faces: Faces, sigma: float) -> Faces:
    """The same faces with landmarks, depth and box smoothed by a Gaussian over time.

    Args:
        faces: of consecutive frames; faces of other frames than the neighbours' places are not touched by it.
        sigma: in frames; 0 gives `faces` back.
    """
    if sigma <= 0:
        return faces
    frames = [list(frame) for frame in faces.frames]
    for track in _tracks(frames):
        if len(track) < 2:
            continue
        own = [frames[frame][place] for frame, place in track]
        smooth = _smoothed(np.stack([_numbers(face) for face in own]), sigma)
        for (frame, place), face, numbers in zip(track, own, smooth, strict=True):
            frames[frame][place] = _with_numbers(face, numbers)
    return replace(faces, frames=tuple(map(tuple, frames)))


def _smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    """Along the first axis; beyond both ends the motion goes on as it was (point reflection), so that ends do not lag."""
    reach = min(int(4 * sigma + 0.5), len(values) - 1)
    before = 2 * values[0] - values[reach:0:-1]
    after = 2 * values[-1] - values[-2 : -reach - 2 : -1]
    return gaussian_filter1d(np.concatenate([before, values, after]), sigma, axis=0, mode="nearest")[
        reach : reach + len(values)
    ]


def _tracks(frames: list[list[Face]]) -> list[list[tuple[int, int]]]:
    """(frame, place in the frame) of each face through the clip."""
    tracks: list[list[tuple[int, int]]] = []
    going: list[list[tuple[int, int]]] = []
    for number, frame in enumerate(frames):
        candidates = []
        for index, track in enumerate(going):
            last = frames[track[-1][0]][track[-1][1]]
            candidates += [(_moved(last, face), index, place) for place, face in enumerate(frame)]
        next_going, taken_tracks, taken_places = [], set(), set()
        for moved, index, place in sorted(candidates):
            if moved < JUMP and index not in taken_tracks and place not in taken_places:
                going[index].append((number, place))
                next_going.append(going[index])
                taken_tracks.add(index)
                taken_places.add(place)
        for place in range(len(frame)):
            if place not in taken_places:
                tracks.append([(number, place)])
                next_going.append(tracks[-1])
        going = next_going
    return tracks


def _moved(first: Face, second: Face) -> float:
    """Mean motion of the points as a share of the face's side; infinite for faces of another kind."""
    if first.layout != second.layout or (first.depth is None) != (second.depth is None):
        return float("inf")
    apart = np.linalg.norm(_numbers(first)[:, :2] - _numbers(second)[:, :2], axis=1).mean()
    return float(apart / max(first.side, 1e-6))


def _numbers(face: Face) -> np.ndarray:
    """Box corners and landmarks with their depth, float64 `[2 + N, 3]`."""
    points = face.points_3d if face.depth is not None else np.column_stack([face.points, np.zeros(len(face.landmarks))])
    corners = np.array([[*face.box[:2], 0.0], [*face.box[2:], 0.0]])
    return np.concatenate([corners, points])


def _with_numbers(face: Face, numbers: np.ndarray) -> Face:
    points = numbers[2:]
    return replace(
        face,
        box=(*numbers[0, :2].tolist(), *numbers[1, :2].tolist()),
        landmarks=tuple(map(tuple, points[:, :2].tolist())),
        depth=None if face.depth is None else tuple(points[:, 2].tolist()),
    )
