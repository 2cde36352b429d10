"""What belongs to the face in a crop: its skin, what covers it, its glasses.

The segmenter says what each pixel shows, the mesh where on the face it lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..faces.mediapipe.segmenter import segmented
from . import regions
from .numerics import LUMINANCE, blur, detail_contrast, joined, smoothstep

# The segmenter sees a fourth of a large crop's pixels; its borders are drawn along the picture's edges within this reach, in crop sides.
_EDGES = 0.006
_EDGE_STRENGTH = 2e-3
"""Variance of the luminance above which an edge is one."""
_SHADE = 0.03
"""How far hair and hands shade the skin beside them, in crop sides; chosen by eye among 0.02, 0.03 and 0.045 on 12 pairs."""
_LEAST_FACE = 0.3
"""Share of the mesh's middle that must be face; below (a statue, a mask, a drawing) the mesh alone says where the face is."""
_LEAST_GLASSES = 0.02
"""Area of glasses, in squares of the eye distance, from which they count. Of 245 portraits those of 18 with glasses have 0.09 and more, the
others at most 0.007."""

# Contrast of fine detail in the lower face over that of the cheeks: of 199 portraits those with a beard or three days' growth mostly have
# 1.9 and more, nearly all shaved ones at most 1.6. Smooth cheeks count as this much, in lightness.
_HAIRS, _SMOOTH = (1.6, 2.0), 0.6


@dataclass(frozen=True, eq=False)
class FaceParts:
    """An aligned crop and what belongs to its face; masks are float32 `[S, S]` in 0 .. 1."""

    crop: np.ndarray
    """float32 `[S, S, 3]`, sRGB in [0, 1]."""
    mesh: np.ndarray
    """`[468, 3]`, crop pixels."""
    person: np.ndarray
    """All but the background, other people too."""
    skin: np.ndarray
    """Skin of the whole person, with eyes, lips, brows and beard."""
    face: np.ndarray
    """The face with its features and its glasses, where no hair, hat or hand covers it."""
    clear: np.ndarray
    """The face away from what covers it, which colours and shades the skin beside it; eyes, brows and mouth up to its edge."""
    glasses: np.ndarray
    """Rims, arms and dark lenses; nothing where none are worn."""
    beard: float
    """How surely this face has one, 0 to 1."""

    @property
    def wears_glasses(self) -> bool:
        """Whether this face wears glasses that can be seen."""
        return bool(self.glasses.any())


def face_parts(crop: np.ndarray, mesh: np.ndarray) -> FaceParts:
    """The parts of the face in a crop `[S, S, 3]`, sRGB in [0, 1], whose mesh `[468, 3]` lies in its pixels."""
    segments, size = segmented(crop), len(crop)
    guide = crop @ LUMINANCE
    person, skin, face, hair, glasses = (
        _along_edges(part, guide)
        for part in (
            1 - segments.background,
            segments.face + segments.body,
            segments.face,
            segments.hair,
            _glasses(segments.other, mesh),
        )
    )
    face = (face + glasses + hair * regions.hull(mesh, regions.AROUND_MOUTH, size)).clip(0, 1)
    middle = regions.hull(mesh, regions.MIDDLE, size)
    if (face * middle).sum() <= _LEAST_FACE * middle.sum():
        skin = face = regions.oval(mesh, size)
    beard = _bearded(crop, face, mesh)
    # Elsewhere than round the mouth, hair is a beard's only where one is.
    face = np.maximum(face, beard * hair * regions.hull(mesh, regions.LOWER_FACE, size))
    inner = regions.shrunk(regions.oval(mesh, size), 0.03 * size)
    covered = np.maximum(hair * (1 - face), (1 - face) * inner)
    shaded = regions.grown(covered > 0.4, _SHADE * size) * (1 - regions.features(mesh, size))
    return FaceParts(crop, mesh, person, skin, face, face * (1 - blur(shaded, 0.004 * size)), glasses, beard)


def _glasses(other: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Of what is worn what stands before the eyes, and all that is joined to it."""
    size = len(other)
    eyes = regions.hull(mesh, regions.EYE_LEVEL, size) * regions.oval(mesh, size)
    left, right = (mesh[list(eye), :2].mean(axis=0) for eye in regions.EYE_CORNERS)
    there = (other > 0.5) & (eyes > 0.5)
    if there.sum() < _LEAST_GLASSES * ((right - left) ** 2).sum():
        return np.zeros_like(other)
    near = regions.grown(regions.hull(mesh, regions.EYE_LEVEL, size), 0.06 * size) > 0.5
    return other * joined((other > 0.1) & near, there)


def _bearded(crop: np.ndarray, face: np.ndarray, mesh: np.ndarray) -> float:
    size = len(crop)
    hairs = detail_contrast(crop, 0.008 * size, 0.008 * size)
    bare = (face > 0.5) & (regions.features(mesh, size) < 0.3)
    lower = regions.hull(mesh, regions.LOWER_FACE, size) > 0.5
    lower, cheeks = bare & lower, bare & (regions.hull(mesh, regions.CHEEKS, size) > 0.5) & ~lower
    if not lower.any() or not cheeks.any():
        return 0.0
    return float(smoothstep(np.median(hairs[lower]) / max(np.median(hairs[cheeks]), _SMOOTH), *_HAIRS))


def _along_edges(mask: np.ndarray, guide: np.ndarray) -> np.ndarray:
    """The mask `[S, S]` with its borders along the guide's edges: a guided filter (K. He et al., Guided Image Filtering, 2010)."""
    import cv2

    reach = (2 * max(1, round(_EDGES * len(mask))) + 1,) * 2
    guide = guide.astype(np.float32)
    mean, masked = cv2.blur(guide, reach), cv2.blur(mask, reach)
    slope = (cv2.blur(guide * mask, reach) - mean * masked) / (cv2.blur(guide**2, reach) - mean**2 + _EDGE_STRENGTH)
    offset = masked - slope * mean
    drawn = cv2.blur(slope, reach) * guide + cv2.blur(offset, reach)
    return ((drawn - 0.1) / 0.8).clip(0, 1)  # the segmenter is never surer than 0.93
