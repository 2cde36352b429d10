"""Where the eyes look: the irises of a matched profile moved to where the style's are in its eyes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import regions
from .correspondence import MeshMatch
from .numerics import blur, sampled

_MOST = 0.3
"""An iris is moved by no more than this share of the eye's width: farther it would lie under the lids."""


def looking_as(
    match: MeshMatch,
    profile: np.ndarray,
    style: np.ndarray,
    style_mesh: np.ndarray,
    target: np.ndarray,
) -> MeshMatch:
    """The match with the style's gaze.

    Args:
        profile, style: centres of both irises, `[2, 2]`, the viewer's left first, pixels of each one's crop.
        style_mesh, target: `[468, 3]`, pixels of the style's crop.
    """
    size, places = len(match.near), match.places.copy()
    y, x = np.mgrid[:size, :size] + 0.5
    here = np.stack([x, y], axis=-1)
    for ring, corners, own, theirs in zip(regions.EYES, regions.EYE_CORNERS, profile, style):
        wanted = _in_eye(theirs, style_mesh[list(corners), :2], target[list(corners), :2])
        now = here[np.unravel_index(np.linalg.norm(places - own, axis=-1).argmin(), (size, size))]
        width = np.linalg.norm(np.diff(target[list(corners), :2], axis=0))
        shift = wanted - now
        shift *= min(1.0, _MOST * width / max(np.linalg.norm(shift), 1e-6))
        # All of it on the iris, less towards the corners and the lids, which stay.
        distance = np.linalg.norm(here - now - shift, axis=-1) / width
        share = np.exp(-((distance / 0.33) ** 4)) * blur(regions.hull(target, ring, size), 0.004 * size)
        moved = here - share[..., None] * shift
        new = np.stack([sampled(np.ascontiguousarray(places[..., c], np.float32), moved) for c in (0, 1)], axis=-1)
        places = np.where(share[..., None] > 0.01, new, places)
    return replace(match, places=places)


def _in_eye(point: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A point `[2]` at the same place of another eye, each given by its corners `[2, 2]`."""
    a, b = (complex(*(eye[1] - eye[0])) for eye in (own, other))
    there = complex(*(point - own[0])) * b / a
    return other[0] + (there.real, there.imag)
