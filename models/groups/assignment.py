"""Assignment of profiles to the faces of each frame, with a photograph for each face."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..errors import UserError
from ..faces import identity
from ..faces.types import Face, Faces
from . import rules
from .profiles import embedded
from .typed_lists import parse_pairs
from .types import AssignedFace, GroupAssignment, Profiles

METHODS = ("order", "pairs", "similarity")
PHOTOGRAPHS = ("nearest pose", "first")


def check_frames(image: torch.Tensor, height: int, width: int, frames: int, found: str) -> None:
    """Raises UserError when a picture is not the one the faces come from."""
    if tuple(image.shape[1:3]) != (height, width):
        raise UserError(
            f"the image is {image.shape[2]}x{image.shape[1]}, the {found} {width}x{height}: connect the same picture to both nodes"
        )
    if image.shape[0] != frames:
        raise UserError(
            f"the image has {image.shape[0]} frames, the {found} {frames}: connect the same batch to both nodes"
        )


def person_scores(faces: Sequence[Face], profiles: Profiles) -> np.ndarray:
    """Similarity face x person, float64 `[faces, people]`; NaN where a face could not be read. The faces need embeddings."""
    photographs = [[photo.embedding for photo in person.photographs] for person in profiles.people]
    return rules.score_matrix([face.embedding for face in faces], photographs)


def assign(
    image: torch.Tensor,
    faces: Faces,
    profiles: Profiles,
    method: str,
    pairs: str = "",
    threshold: float = identity.SAME_PERSON_ON_PHOTOGRAPHS,
    photograph: str = PHOTOGRAPHS[0],
    on_face: Callable[[int, int], None] | None = None,
) -> tuple[GroupAssignment, list[np.ndarray]]:
    """Assign people to the faces of each frame.

    Args:
        image: `[B, H, W, 3]`, the frames the faces were found in.
        method: one of `METHODS`.
        pairs: for "pairs": "0:Anna, 2:1", face number and a person's name or number.
        threshold: for "similarity": the least one.
        photograph: one of `PHOTOGRAPHS`.

    Returns:
        The assignment, and for "similarity" each frame's score matrix (otherwise an empty list).

    Raises:
        UserError: sizes that do not fit, bad pairs, no people, or similarity without dlib.
    """
    check_frames(image, faces.height, faces.width, len(faces.frames), "faces were found on")
    if not profiles.people:
        raise UserError("there are no profiles: connect 'Add Profile'")
    matrices: list[np.ndarray] = []
    wanted: dict[int, int] = {}
    if method == "similarity":
        faces = embedded(image, faces, on_face)
    elif method == "pairs":
        known = [number for frame in range(len(faces.frames)) for number in faces.numbers(frame)]
        wanted = parse_pairs(pairs, known, profiles.names)
    frames = []
    for index, frame in enumerate(faces.frames):
        if method == "order":
            found = rules.by_order(len(frame), len(profiles.people))
        elif method == "pairs":
            found = [
                rules.Assignment(
                    place, wanted.get(k), None, f"pair {k}:{wanted[k]}" if k in wanted else "left alone: not named"
                )
                for place, k in enumerate(faces.numbers(index))
            ]
        else:
            matrices.append(person_scores(frame, profiles))
            found = rules.by_similarity(matrices[-1], threshold)
        frames.append(tuple(_with_photograph(frame[one.face], one, profiles, photograph) for one in found))
    return GroupAssignment(faces.height, faces.width, tuple(frames), profiles), matrices


def _with_photograph(face: Face, found: rules.Assignment, profiles: Profiles, rule: str) -> AssignedFace:
    reason = re.sub(r"person (\d+)", lambda match: profiles.names[int(match[1])], found.reason)
    if found.person is None:
        return AssignedFace(face, None, None, found.score, reason)
    photographs = profiles.people[found.person].photographs
    if rule == "first" or len(photographs) == 1:
        index = next(k for k, photo in enumerate(photographs) if photo.face is not None)
        why = f"photograph {index}: " + ("the only one" if len(photographs) == 1 else "the first with a face")
    else:
        choice = rules.best_photograph(face, [(photo.face, *photo.image.shape[1:3]) for photo in photographs])
        index, why = choice.index, choice.reason
    return AssignedFace(face, found.person, index, found.score, f"{reason}; {why}")
