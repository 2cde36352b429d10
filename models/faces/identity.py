"""Who is it: dlib's 128-number face embedding and the similarity made from it.

Similarity = 1 - Euclidean distance of two embeddings: 1 is the same picture, on photographs about 0.4 and more is usually the same
person (distance 0.6, the radius dlib's network was trained with), different people lie around 0.1 to 0.3. On rendered heads the
border is rather 0.5 to 0.55. A face that cannot be read has *no* similarity: None here, NaN on a node's wire, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from . import dlib_backend
from .alignment import AlignmentSettings, crop, placement_of
from .landmarks import LAYOUTS
from .pixels import to_bytes
from .types import Face, Faces

SAME_PERSON_ON_PHOTOGRAPHS = 0.4

_CHIP = AlignmentSettings(template="ffhq", crop_size=320)
# dlib's box in that chip, for faces whose layout lacks the eye corners: centre and side in pixels (as in alignment.py).
_CHIP_BOX_SIDE, _CHIP_BOX_BELOW = 320 / 1.5, 0.05


def embedding(frame: torch.Tensor, face: Face) -> np.ndarray:
    """dlib's embedding of a face.

    The face is turned upright and brought to one size first, so neither tilt, nor picture size, nor backend matter much.

    Args:
        frame: float32 `[H, W, 3]` in [0, 1], the picture the face was found in.

    Returns:
        float64 `[128]`.

    Raises:
        UserError: dlib is missing, or the face cannot be aligned.
    """
    dlib_backend.require()
    placement = placement_of(face, frame.shape[0], frame.shape[1], _CHIP)
    chip = to_bytes(crop(frame.permute(2, 0, 1)[None], placement)[0].permute(1, 2, 0))
    known = LAYOUTS[face.layout]
    order = ("eye_right_outer", "eye_right_inner", "eye_left_outer", "eye_left_inner", "nose_base")  # dlib's
    if all(name in known for name in order):
        points = np.array([placement.landmarks[list(known[name])].mean(axis=0) for name in order])
    else:
        x, y, half = 160.0, 160.0 + _CHIP_BOX_BELOW * _CHIP_BOX_SIDE, _CHIP_BOX_SIDE / 2
        points, _ = dlib_backend.landmarks(chip, (x - half, y - half, x + half, y + half))
    return dlib_backend.embed(chip, points)


def similarity(a: np.ndarray | tuple | None, b: np.ndarray | tuple | None) -> float | None:
    """1 - distance of two embeddings, in (-inf, 1]; None when either is None."""
    if a is None or b is None:
        return None
    return 1.0 - float(np.linalg.norm(np.asarray(a) - np.asarray(b)))


def with_embeddings(image: torch.Tensor, faces: Faces) -> Faces:
    """The same faces, each with its embedding; faces that have one keep it. About 0.1 s a face on one CPU core."""
    frames = []
    for index, frame in enumerate(faces.frames):
        frames.append(
            tuple(f if f.embedding else replace(f, embedding=tuple(embedding(image[index], f).tolist())) for f in frame)
        )
    return replace(faces, frames=tuple(frames))


@dataclass(frozen=True)
class SimilarityReport:
    """How alike the people of two batches of photographs are."""

    matrix: tuple[tuple[float | None, ...], ...]
    """[photographs of a][photographs of b]; None where one of the two has no face."""

    @property
    def values(self) -> list[float]:
        """All pairs that could be compared."""
        return [value for row in self.matrix for value in row if value is not None]

    @property
    def median(self) -> float | None:
        """Median over the pairs, None when there is no pair: the number to look at when several photographs are given."""
        return float(np.median(self.values)) if self.values else None

    def text(self) -> str:
        """For people: one line for one pair, a summary and the number of unreadable pairs for several."""
        total = sum(len(row) for row in self.matrix)
        values = self.values
        if not values:
            return "no similarity: no face found in " + (
                "the pictures" if total > 1 else "at least one of the two pictures"
            )
        verdict = "same person" if self.median >= SAME_PERSON_ON_PHOTOGRAPHS else "different people"
        if total == 1:
            return (
                f"similarity {values[0]:.3f} ({verdict} by the threshold {SAME_PERSON_ON_PHOTOGRAPHS} for photographs)"
            )
        lost = f", {total - len(values)} pairs without a face" if len(values) < total else ""
        return (
            f"similarity min {min(values):.3f}, median {self.median:.3f}, max {max(values):.3f}, mean {np.mean(values):.3f} over "
            f"{len(values)} pairs{lost} ({verdict} by the threshold {SAME_PERSON_ON_PHOTOGRAPHS} for photographs)"
        )


def compare(a: list[np.ndarray | None], b: list[np.ndarray | None]) -> SimilarityReport:
    """Every embedding of `a` against every one of `b`."""
    return SimilarityReport(tuple(tuple(similarity(x, y) for y in b) for x in a))
