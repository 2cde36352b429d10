"""An assignment in words: report, labels for previews."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..faces.types import Faces
from .types import GroupAssignment


def assignment_report(assignment: GroupAssignment, matrices: Sequence[np.ndarray] = ()) -> str:
    """A line for each face, and the scores as a table.

    Args:
        matrices: each frame's scores from `assign`, or none.
    """
    lines, clip = [], len(assignment.frames) > 1
    names = assignment.profiles.names
    total = sum(map(len, assignment.frames))
    lines.append(f"{assignment.count} of {total} faces get a person, {total - assignment.count} are left alone")
    for number, frame in enumerate(assignment.frames):
        before = f"frame {number}, " if clip else ""
        if not frame:
            lines.append(f"{before}no face: passed through" if clip else "no face")
        numbers = assignment.numbers(number)
        for index, entry in zip(numbers, frame, strict=True):
            name = "" if entry.person is None else f"{names[entry.person]}, "
            lines.append(f"{before}face {index}: {name}{entry.reason}")
        if number < len(matrices) and len(frame):
            lines.append(f"{before}similarity to " + ", ".join(names) + ":")
            lines += [
                f"  face {index}: " + "  ".join("no face" if np.isnan(value) else f"{value:.3f}" for value in row)
                for index, row in zip(numbers, matrices[number], strict=True)
            ]
    return "\n".join(lines)


def labels(assignment: GroupAssignment) -> dict[tuple[int, int], str]:
    """Text beside each face's number on a preview, by (frame, place in the frame)."""
    texts = {}
    for frame, entries in enumerate(assignment.frames):
        for index, entry in enumerate(entries):
            name = "left alone" if entry.person is None else assignment.profiles.names[entry.person]
            texts[frame, index] = name + (f" {entry.score:.2f}" if entry.score is not None else "")
    return texts


def faces_of_assignment(assignment: GroupAssignment) -> Faces:
    """The assignment's faces alone, for drawing."""
    frames = tuple(tuple(entry.face for entry in frame) for frame in assignment.frames)
    return Faces(assignment.height, assignment.width, frames)
