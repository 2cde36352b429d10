"""Where the eyes look: the irises of a matched profile moved to where they are in other eyes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import regions
from .correspondence import MeshMatch
from .numerics import blur, mean_within, sampled

_MOST = 0.3
"""An iris is moved by no more than this share of the eye's width: farther it would lie under the lids."""
_OPEN = 0.12
"""Between lids, in eye widths; below, nobody can tell where an eye looks. Of 198 portraits only screwed up eyes have less."""
_LIDS = ((159, 145), (386, 374))
"""The middles of the upper and the lower lid, of both eyes."""


def both_open(mesh: np.ndarray) -> bool:
    """Whether both eyes of a mesh `[468, 3]` are open."""
    heights, widths = (
        [np.linalg.norm(mesh[a, :2] - mesh[b, :2]) for a, b in pairs] for pairs in (_LIDS, regions.EYE_CORNERS)
    )
    return bool(np.min(np.divide(heights, np.maximum(widths, 1e-6))) > _OPEN)


def looking_as(
    match: MeshMatch,
    profile: np.ndarray,
    wanted: np.ndarray,
    wanted_mesh: np.ndarray,
    target: np.ndarray,
    only_mirrored: bool = False,
) -> MeshMatch:
    """The match with the gaze of other eyes.

    Args:
        profile: centres of both irises, `[2, 2]`, the viewer's left first, pixels of the profile's crop.
        wanted, wanted_mesh: the same of the eyes whose gaze is wanted, and their mesh, `[468, 3]`, in pixels of one crop.
        target: `[468, 3]`, pixels of the style's crop.
        only_mirrored: move only an eye that is the other one mirrored, which looks the other way.
    """
    size, fields = len(match.near), {"places": match.places.copy(), "mirrored": match.mirrored.copy()}
    y, x = np.mgrid[:size, :size] + 0.5
    here = np.stack([x, y], axis=-1)
    for ring, corners, own, other, theirs in zip(regions.EYES, regions.EYE_CORNERS, profile, profile[::-1], wanted):
        eye = regions.hull(target, ring, size)
        mirrored = bool(mean_within(match.near[..., None], eye)[0] < 0.5)
        if only_mirrored and not mirrored:
            continue
        places = fields["mirrored" if mirrored else "places"]
        goal = _in_eye(theirs, wanted_mesh[list(corners), :2], target[list(corners), :2])
        apart = np.linalg.norm(places - (other if mirrored else own), axis=-1)
        now = here[np.unravel_index(apart.argmin(), (size, size))]
        width = np.linalg.norm(np.diff(target[list(corners), :2], axis=0))
        shift = goal - now
        shift *= min(1.0, _MOST * width / max(np.linalg.norm(shift), 1e-6))
        # All of it on the iris, less towards the corners and the lids, which stay.
        distance = np.linalg.norm(here - now - shift, axis=-1) / width
        share = np.exp(-((distance / 0.33) ** 4)) * blur(eye, 0.004 * size)
        moved = here - share[..., None] * shift
        new = np.stack([sampled(np.ascontiguousarray(places[..., c], np.float32), moved) for c in (0, 1)], axis=-1)
        places[:] = np.where(share[..., None] > 0.01, new, places)
    return replace(match, **fields)


def _in_eye(point: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A point `[2]` at the same place of another eye, each given by its corners `[2, 2]`."""
    a, b = (complex(*(eye[1] - eye[0])) for eye in (own, other))
    there = complex(*(point - own[0])) * b / a
    return other[0] + (there.real, there.imag)
