"""Rules of assignment: faces to people by order or by similarity, and the photograph of a person nearest in pose.

A *person* is a list of photographs. A face without a person is left alone. Similarity gives each person at most one face.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..faces.alignment import AlignmentSettings, head_of, placement_of
from ..faces.identity import similarity
from ..faces.types import Face

SURE_FIRST = 1e-6
"""`match_bonus` that only makes a pair exactly at the threshold count."""


@dataclass(frozen=True)
class Assignment:
    """One face and its person."""

    face: int
    person: int | None
    """None: left alone."""
    score: float | None
    """Similarity that led to it, None when it was not computed or a face could not be read."""
    reason: str


def by_order(faces: int, people: int) -> list[Assignment]:
    """Person k onto face k. Faces beyond the people are left alone; people beyond the faces are not used."""
    return [
        Assignment(
            face,
            face if face < people else None,
            None,
            "by order" if face < people else f"left alone: only {people} people",
        )
        for face in range(faces)
    ]


def score_matrix(faces: list[np.ndarray | None], people: list[list[np.ndarray | None]]) -> np.ndarray:
    """Similarity face x person from embeddings, float64 `[faces, people]`; of several photographs the most similar counts.

    NaN where the face, or all photographs of the person, could not be read.
    """
    matrix = np.full((len(faces), len(people)), np.nan)
    for row, face in enumerate(faces):
        for column, photographs in enumerate(people):
            values = [value for value in (similarity(face, photo) for photo in photographs) if value is not None]
            if values:
                matrix[row, column] = max(values)
    return matrix


def by_similarity(scores: np.ndarray, threshold: float, match_bonus: float = SURE_FIRST) -> list[Assignment]:
    """The one-to-one assignment with the greatest sum of similarities over pairs of at least `threshold` (Hungarian method).

    Args:
        scores: `[faces, people]`, see `score_matrix`.
        match_bonus: what a match is worth beside its similarity above the threshold. Near 0 a sure match is never given up for two
            doubtful ones: face 0 is person 0 with 0.9, although 0.45 each for (0, 1) and (1, 0) would match one more. 1 matches as
            many people as possible.

    Pairs below the threshold never form, also not to help another pair. Deterministic.
    """
    from scipy.optimize import linear_sum_assignment

    faces, people = scores.shape
    allowed = np.isfinite(scores) & (scores >= threshold)
    # A forbidden pair is worth 0 and an allowed one its distance from the threshold plus the bonus.
    gain = np.where(allowed, np.nan_to_num(scores) - threshold + match_bonus, 0.0)
    found = (
        {int(r): int(c) for r, c in zip(*linear_sum_assignment(gain, maximize=True)) if allowed[r, c]}
        if people and faces
        else {}
    )
    result = []
    for face in range(faces):
        row = scores[face]
        readable = people > 0 and np.isfinite(row).any()
        if face in found:
            person = found[face]
            result.append(
                Assignment(face, person, float(row[person]), f"similarity {row[person]:.3f} to person {person}")
            )
        elif not readable:
            result.append(Assignment(face, None, None, "left alone: no similarity could be told"))
        else:
            best = int(np.nanargmax(row))
            why = f"below {threshold:g}" if row[best] < threshold else "taken by a better match"
            result.append(
                Assignment(
                    face, None, float(row[best]), f"left alone: nearest is person {best} with {row[best]:.3f}, {why}"
                )
            )
    return result


@dataclass(frozen=True)
class PhotographChoice:
    """Which photograph of a person suits a face, and why."""

    index: int
    reason: str
    costs: tuple[float, ...]
    """Of each photograph; infinite for one without a readable face."""


def best_photograph(
    target: Face, photographs: list[tuple[Face | None, int, int]], crop_size: int = 256
) -> PhotographChoice:
    """The photograph nearest in pose to the target, among those large enough.

    In the paper a portrait resembles one specific photograph, and the flow finds most matches where both views show the same side of
    the face. Cost, in degrees: |yaw difference| + half the |pitch difference| (five points tell the pitch badly) + 15 for each
    halving of the face below the crop's resolution + 15 for a share of the crop outside the photograph. The weights are our choice.

    Args:
        photographs: (face or None, height, width) of each picture.

    Raises:
        UserError: no photograph has a face.
    """
    wanted = head_of(target)
    costs, reasons = [], []
    for face, height, width in photographs:
        head = head_of(face) if face is not None else None
        if head is None:
            costs.append(float("inf"))
            reasons.append("no face with landmarks")
            continue
        placement = placement_of(face, height, width, AlignmentSettings(crop_size=crop_size))
        small = max(0.0, float(np.log2(placement.scale)))
        outside = _share_outside(placement.matrix, crop_size, height, width)
        turn = abs(head.yaw - wanted.yaw) + 0.5 * abs(head.pitch - wanted.pitch) if wanted else abs(head.yaw)
        costs.append(turn + 15 * small + 15 * outside)
        reasons.append(
            f"yaw {head.yaw:.0f} for {wanted.yaw:.0f} degrees"
            if wanted
            else f"yaw {head.yaw:.0f} degrees, nearest to the front"
        )
        reasons[-1] += (
            f", {1 / placement.scale:.2f} photograph pixels a crop pixel, {100 * outside:.0f} % outside the photograph"
        )
    if not photographs or not np.isfinite(min(costs)):
        raise UserError(f"none of the {len(photographs)} photographs of this person shows a face with landmarks")
    index = int(np.argmin(costs))
    return PhotographChoice(index, f"photograph {index}: {reasons[index]}", tuple(costs))


def _share_outside(crop_from_canvas: np.ndarray, size: int, height: int, width: int) -> float:
    """Share of the crop that lies beyond the photograph's edge, on a 16 x 16 grid."""
    axis = (np.arange(16) + 0.5) * size / 16
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    x, y = np.linalg.solve(crop_from_canvas[:, :2], (points - crop_from_canvas[:, 2]).T)
    return float(((x < 0) | (y < 0) | (x > width) | (y > height)).mean())
