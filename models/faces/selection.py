"""Picking faces. Every filter gives both the chosen and the rest, so that nothing is lost on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import UserError
from .identity import similarity
from .types import Face, Faces


def parse_indices(text: str, numbers: int | Sequence[int]) -> list[int]:
    """Numbers as an artist types them: "0, 2, 4-5, -1" (-1 is the last). Empty or "all" means all.

    Args:
        numbers: those of the faces that are there; a count stands for 0 to count - 1.

    Returns the numbers in the order typed, without repeats.

    Raises:
        UserError: not a number, or a face that is not there.
    """
    known = sorted(set(range(numbers) if isinstance(numbers, int) else numbers))
    if text.strip().lower() in ("", "all"):
        return known
    chosen: list[int] = []
    for part in text.replace(";", ",").split(","):
        part = part.strip()
        if not part:
            continue
        match = re.fullmatch(r"(-?\d+)(?:\s*-\s*(\d+))?", part)
        if not match:
            raise UserError(f'"{part[:40]}" is not a face number; write for example 0,2 or 1-3 or -1 for the last')
        wanted = range(int(match[1]), int(match[2]) + 1) if match[2] else (int(match[1]),)
        for number in wanted:
            if -len(known) <= number < 0:
                number = known[number]
            if number not in known:
                there = f": {', '.join(map(str, known))}" if known else ""
                raise UserError(f"face {number} was asked for, there are {len(known)}{there}")
            if number not in chosen:
                chosen.append(number)
    return chosen


def select(faces: Faces, keep: Callable[[int, int, Face], bool]) -> tuple[Faces, Faces]:
    """Split into (chosen, rest) by `keep(frame, index, face)`; order and frames stay."""
    chosen, rest = [], []
    for number, frame in enumerate(faces.frames):
        kept = [keep(number, index, face) for index, face in enumerate(frame)]
        chosen.append(tuple(face for face, k in zip(frame, kept) if k))
        rest.append(tuple(face for face, k in zip(frame, kept) if not k))
    return replace(faces, frames=tuple(chosen)), replace(faces, frames=tuple(rest))


def select_by_index(faces: Faces, text: str) -> tuple[Faces, Faces]:
    """(chosen, rest) by numbers, see `parse_indices`. In a clip, frames that lack a number skip it.

    All faces keep their numbers. The chosen come in the order typed; "all" keeps their order.
    """
    faces = faces.numbered()
    wanted = parse_indices(text, [face.number for frame in faces.frames for face in frame])
    chosen, rest = select(faces, lambda _, __, face: face.number in wanted)
    if text.strip().lower() not in ("", "all"):
        ordered = (tuple(sorted(frame, key=lambda face: wanted.index(face.number))) for frame in chosen.frames)
        chosen = replace(chosen, frames=tuple(ordered))
    return chosen, rest


def select_by_similarity(
    faces: Faces, photographs: list[np.ndarray], threshold: float
) -> tuple[Faces, Faces, list[list[float | None]]]:
    """(chosen, rest, scores) of the faces that look like the person on the photographs.

    Args:
        faces: with embeddings (`identity.with_embeddings`).
        photographs: embeddings of one person; a face's score is its similarity to the nearest of them.
        threshold: least similarity, 0.4 on photographs.
    """
    scores = [[_nearest(face.embedding, photographs) for face in frame] for frame in faces.frames]
    chosen, rest = select(
        faces, lambda frame, index, _: scores[frame][index] is not None and scores[frame][index] >= threshold
    )
    return chosen, rest, scores


def _nearest(embedding: tuple[float, ...] | None, photographs: list[np.ndarray]) -> float | None:
    values = [value for value in (similarity(embedding, photo) for photo in photographs) if value is not None]
    return max(values) if values else None
