"""Which pixels of a crop are the face's skin, and not hair, glasses' rims, cloth or background.

No net: the mesh says where cheeks and nose are, their colours say what skin looks like in this picture, and GrabCut (C. Rother et al.,
2004, by OpenCV) draws the border between that and everything else along the picture's edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from . import regions
from .beard import bearded
from .glasses import wears_glasses
from .numerics import blur, joined, resized, smoothstep, to_lab

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
    surely = regions.hulls(mesh, regions.SURELY_SKIN, _SIDE) > 0.5
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
    # A little noise: on flat colours (drawings, burnt highlights) GrabCut takes minutes.
    noise = np.random.default_rng(0).integers(-2, 3, small.shape)
    bytes_ = np.ascontiguousarray((small * 255 + 0.5 + noise).clip(0, 255).astype(np.uint8)[..., ::-1])
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


# A border between face and hair that is fainter than this (Sobel's sum, CIE Lab with colour counted 1.5 times) is none.
_FAINT = 20


def uncovered(crop: np.ndarray, mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What of the face nothing hangs over from outside: no hair, hat, hand or ear that a turned head shows; 1 outside the face.

    A watershed (F. Meyer, 1992, by OpenCV) between the middle of the face and what lies around it: their border is the strongest edge
    on the way. Strands in the colour of skin deceive colours, but not this. Where there is no edge all belongs to the face.

    Args:
        crop: `[S, S, 3]`, sRGB in [0, 1].
        mesh: `[468, 3]`, crop pixels.

    Returns:
        (well away from the border, up to the border), float32 `[S, S]` in 0 .. 1.
    """
    small = resized(crop, _SIDE)
    mesh = mesh * (_SIDE / len(crop))
    lab = to_lab(blur(small, 1.6)) * np.float32([1, 1.5, 1.5])
    slopes = [
        cv2.Sobel(np.ascontiguousarray(lab[..., c]), cv2.CV_32F, *way) for c in range(3) for way in ((1, 0), (0, 1))
    ]
    edges = np.sqrt(np.sum(np.square(slopes), axis=0))
    # Brows and lashes are no border, unless locks cross them.
    features = regions.grown(regions.hulls(mesh, (*regions.BROWS, *regions.EYES), _SIDE), 3) > 0.5
    heights = edges * np.where(features, 0.4, 1)
    inside = regions.oval(mesh, _SIDE) > 0.5
    core = regions.hull(mesh, regions.MIDDLE, _SIDE) > 0.5
    if not core.any() or not inside.any():  # a face that lies outside its crop
        return (np.ones(crop.shape[:2], np.float32),) * 2
    labels = np.zeros(inside.shape, np.int32)
    labels[~(regions.grown(inside.astype(np.float32), 4) > 0.5)] = 2
    labels[core] = 1
    cv2.watershed(np.repeat((1.5 * heights).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), labels)
    # Not through a gap in the border.
    flat = cv2.erode((core | (inside & (edges < _FAINT))).astype(np.uint8), np.ones((5, 5)))
    reached = cv2.dilate(joined(flat | core, core).astype(np.uint8), np.ones((5, 5))) > 0
    face = cv2.morphologyEx(((labels == 1) | reached).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5)))
    face = np.where(inside, face, 1).astype(np.float32)
    # A strand's edge is a part of it, and what lies beyond it is no face either. At the eyes it is mostly the end of a brow.
    narrow = np.where(
        regions.grown(regions.hulls(mesh, regions.BROWS, _SIDE), 7) > 0.5, face, cv2.erode(face, np.ones((7, 7)))
    )
    narrow = joined((narrow > 0) & inside | core, core) | ~inside
    return tuple(resized(mask.astype(np.float32), len(crop)) for mask in (narrow, face))


@dataclass(frozen=True, eq=False)
class FaceParts:
    """An aligned crop and what belongs to its face."""

    crop: np.ndarray
    """float32 `[S, S, 3]`, sRGB in [0, 1]."""
    mesh: np.ndarray
    """`[468, 3]`, crop pixels."""
    skin: np.ndarray
    """float32 `[S, S]` in 0 .. 1; eyes, lips and brows may be in or out."""
    face: np.ndarray
    """float32 `[S, S]` in 0 .. 1: skin and what belongs to a face though it is none: eyes, mouth, beard, glasses, and brows that no hair
    hangs over."""
    glasses: bool


def _colourful(crop: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """What is of quite another colour than the skin, but for eyes, nose and mouth, float32 `[S, S]` in 0 .. 1: a collar, dyed hair."""
    size = len(crop)
    colour = to_lab(blur(crop, 0.004 * size))[..., 1:]
    surely = regions.hulls(mesh, regions.SURELY_SKIN, size) > 0.5
    if not surely.any():
        return np.zeros((size, size), np.float32)
    apart = np.linalg.norm(colour - np.median(colour[surely], axis=0), axis=-1)
    features = (*regions.EYES[0], *regions.EYES[1], *regions.topology.LIPS_OUTER)
    features = regions.grown(regions.hull(mesh, features, size), 0.025 * size)
    return smoothstep(apart, 22, 32).astype(np.float32) * (1 - features)


def face_parts(crop: np.ndarray, mesh: np.ndarray) -> FaceParts:
    """The parts of the face in a crop `[S, S, 3]`, sRGB in [0, 1], whose mesh `[468, 3]` lies in its pixels."""
    size, glasses = len(crop), wears_glasses(crop, mesh)
    (free, to_the_edge), like_skin = uncovered(crop, mesh), skin_mask(crop, mesh)
    skin = like_skin * free
    inside, eye_level = regions.oval(mesh, size), regions.hull(mesh, regions.EYE_LEVEL, size)
    face, lightness = _closed(skin, 0.015), to_lab(crop)[..., 0]
    if glasses:  # their rims are thin and cross the eyes' height; what hangs there from above is wider
        rims = _closed(np.where(inside > 0.5, skin, 1.0).astype(np.float32), 0.035)
        face = np.maximum(face, blur(rims * (inside * eye_level > 0.5), 0.004 * size))
    # Lashes, too.
    eyes = regions.grown(regions.hulls(mesh, regions.EYES, size), 0.025 * size)
    middle = np.maximum(regions.grown(regions.hull(mesh, regions.MIDDLE, size), 0.015 * size), eyes)
    # The edge round a beard is no hair's that hangs over the face.
    lower = regions.hull(mesh, regions.LOWER_FACE, size) * np.maximum(free, bearded(crop, mesh) > 0.2)
    always = np.maximum.reduce([middle, free * regions.hull(mesh, regions.CENTRE, size), lower])
    face = np.maximum(face, blur(always, 0.008 * size))
    for brow in regions.BROWS:
        shape = regions.hull(mesh, brow, size)
        beside = (regions.grown(shape, 0.025 * size) > 0.5) & ~(regions.grown(shape, 0.006 * size) > 0.5)
        beside &= inside > 0.5
        if beside.any() and like_skin[beside].mean() > 0.6:
            # A brow's end is an edge, too; what crosses it in the colour of skin is lighter than the brow.
            cut, rest = (shape > 0.5) & (to_the_edge < 0.5), (shape > 0.5) & (to_the_edge > 0.5)
            crossed = cut.any() and rest.any() and lightness[cut].mean() > lightness[rest].mean() + 8
            whole = regions.grown(shape, 0.01 * size) * (to_the_edge if crossed else 1)
            face = np.maximum(face, blur(whole, 0.006 * size))
    return FaceParts(crop, mesh, skin, face * (1 - _colourful(crop, mesh)), glasses)


def _closed(mask: np.ndarray, reach: float) -> np.ndarray:
    """The mask `[S, S]` without holes and notches narrower than twice `reach` (share of S)."""
    small = resized(mask, _SIDE)
    side = 2 * round(reach * _SIDE) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return resized(cv2.morphologyEx(small, cv2.MORPH_CLOSE, kernel), len(mask))
