"""Which pixels of a crop are the face's skin, and not hair, glasses' rims, cloth or background.

No net: the mesh says where cheeks and nose are, their colours say what skin looks like in this picture, and GrabCut (C. Rother et al.,
2004, by OpenCV) draws the border between that and everything else along the picture's edges.
"""

from __future__ import annotations

import cv2
import numpy as np

from . import regions
from .numerics import blur, resized, to_lab

_SIDE = 256
# Distance from the cheeks' colour, in their own spread, up to which a pixel looks like skin. Darker counts more than lighter: hair is
# darker, highlights are lighter. Chosen on 60 photographs.
_LIKE_SKIN = 2.6
_DARKER, _LIGHTER = 0.6, 0.3
_LEAST_SPREAD = (6, 3.5, 3.5)


def skin_mask(crop: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Skin in an aligned crop.

    Args:
        crop: `[S, S, 3]`, sRGB in [0, 1].
        mesh: `[468, 3]`, crop pixels.

    Returns:
        float32 `[S, S]` in 0 .. 1. Eyes, lips and brows may be in or out.
    """
    small = resized(crop, _SIDE)
    mesh = mesh * (_SIDE / len(crop))
    oval = regions.oval(mesh, _SIDE) > 0.5
    surely = regions.hulls(mesh, (regions.LEFT_CHEEK, regions.RIGHT_CHEEK, regions.NOSE), _SIDE) > 0.5
    if not surely.any():  # a face that lies outside its crop
        return np.zeros(crop.shape[:2], np.float32)
    distance = _distance(to_lab(blur(small, 1.2)), surely)
    labels = np.full(oval.shape, cv2.GC_BGD, np.uint8)
    labels[distance < _LIKE_SKIN] = cv2.GC_PR_BGD
    near = regions.grown(oval.astype(np.uint8), 12) > 0
    labels[near] = np.where(distance < _LIKE_SKIN, cv2.GC_PR_FGD, cv2.GC_PR_BGD)[near]
    labels[oval & _below_the_eyes(mesh) & (distance < 6)] = cv2.GC_PR_FGD  # shadows and stubble
    labels[surely] = cv2.GC_FGD
    forehead = regions.hull(mesh, regions.FOREHEAD, _SIDE) > 0.5
    labels[forehead & (distance < 0.7 * _LIKE_SKIN)] = cv2.GC_FGD
    if (labels == cv2.GC_BGD).sum() + (labels == cv2.GC_PR_BGD).sum() == 0:  # nothing to tell it from
        return np.ones(crop.shape[:2], np.float32)
    cv2.setRNGSeed(0)
    bytes_ = np.ascontiguousarray((small * 255 + 0.5).clip(0, 255).astype(np.uint8)[..., ::-1])
    cv2.grabCut(bytes_, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    skin = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.float32)
    return resized(cv2.morphologyEx(skin, cv2.MORPH_OPEN, np.ones((3, 3))), len(crop))


def _distance(lab: np.ndarray, surely: np.ndarray) -> np.ndarray:
    """How far each colour is from those `surely` skin, `[S, S]`, in robust standard deviations."""
    known = lab[surely].astype(np.float64)
    middle = np.median(known, axis=0)
    spread = np.maximum(1.4826 * np.median(abs(known - middle), axis=0), _LEAST_SPREAD)
    apart = (lab - middle) / spread
    apart[..., 0] *= np.where(apart[..., 0] > 0, _LIGHTER, _DARKER)
    return np.sqrt((apart**2).sum(axis=-1))


def _below_the_eyes(mesh: np.ndarray) -> np.ndarray:
    eyes = mesh[[33, 133, 362, 263], :2].mean(axis=0)
    down = mesh[152, :2] - mesh[10, :2]
    y, x = np.mgrid[:_SIDE, :_SIDE] + 0.5
    return (x - eyes[0]) * down[0] + (y - eyes[1]) * down[1] > 0


def face_mask(skin: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Skin and what belongs to a face though it is none: eyes, mouth, beard, glasses, and brows that no hair hangs over.

    Args:
        skin: of `skin_mask`, `[S, S]`.
        mesh: `[468, 3]`, crop pixels.

    Returns:
        float32 `[S, S]` in 0 .. 1.
    """
    size = len(skin)
    inside, eye_level = regions.oval(mesh, size), regions.hull(mesh, regions.EYE_LEVEL, size)
    result = _closed(skin, 0.015)
    # Glasses' rims are thin and cross the eyes' height; what hangs there from above is wider.
    rims = _closed(np.where(inside > 0.5, skin, 1.0).astype(np.float32), 0.035)
    result = np.maximum(result, blur(rims * (inside * eye_level > 0.5), 0.004 * size))
    always = np.maximum(regions.hull(mesh, regions.CENTRE, size), regions.hull(mesh, regions.LOWER_FACE, size))
    result = np.maximum(result, blur(regions.grown(always, 0.015 * size), 0.008 * size))  # lashes, too
    for brow in regions.BROWS:
        shape = regions.hull(mesh, brow, size)
        beside = (regions.grown(shape, 0.025 * size) > 0.5) & ~(regions.grown(shape, 0.006 * size) > 0.5)
        beside &= inside > 0.5
        if beside.any() and skin[beside].mean() > 0.6:
            result = np.maximum(result, blur(regions.grown(shape, 0.01 * size), 0.006 * size))
    return result


def _closed(mask: np.ndarray, reach: float) -> np.ndarray:
    """The mask `[S, S]` without holes and notches narrower than twice `reach` (share of S)."""
    small = resized(mask, _SIDE)
    side = 2 * round(reach * _SIDE) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return resized(cv2.morphologyEx(small, cv2.MORPH_CLOSE, kernel), len(mask))
