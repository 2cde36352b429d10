"""Beards: a style's, painted over with skin where the person has none, and the person's own up to the mesh's rim and beyond."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from . import regions
from .correspondence import MeshMatch
from .numerics import LUMINANCE, blur, blurred_within, sampled, smoothstep, to_lab, to_linear, to_srgb
from .skin import FaceParts

_BESIDE_LIPS = 0.025
"""How far from the lips they brighten what is beside them, in crop sides."""
_PORES = 0.025
"""Greatest difference in sRGB that is a pore's; at the face's edge there are others."""
_UNDER_CHIN, _FAR_UNDER_CHIN = 0.45, 0.65
"""How light skin is right below a chin and a chin's width farther down, beside that of the face."""
_RIM = 0.03
"""How far from its rim a painted face is mixed with what lies beyond, in crop sides."""
_GREY = (0.5, 0.9)
"""Saturation of hair beside that of the cheeks, below which it is grey and from which on it is not."""
_TINT_OF_GREY = 0.4
"""Exponent of a gain's tint on grey hair."""
_FULL, _HANGING = (0.4, 0.8), 0.08
"""Share of the chin under hair from which on a beard is a full one, and how far below the mesh it may hang, in crop sides."""
_CHIN = (18, 200, 199, 175, 152, 148, 377)
_JAW = 58, 288
_NECK, _WIDTH = (0.93, 0.97), (0.7, 0.95)
"""How far from their middle a neck and a beard below the chin end, beside the jaw's corners."""


def beard_mask(picture: np.ndarray, skin: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """What is much darker than the cheeks on both sides of the lower face, float32 `[S, S]` in 0 .. 1; on one side it is a shadow.

    Args:
        picture: `[S, S, 3]`, sRGB, on the mesh.
        skin: bare skin and beard, without lips, `[S, S]`.
        mesh: `[468, 3]`, where the picture's face lies.
    """
    import cv2

    size = len(skin)
    luminance = to_linear(picture) @ LUMINANCE
    cheeks = regions.hull(mesh, regions.CHEEKS, size) * skin > 0.5
    if not cheeks.any():
        return np.zeros_like(skin)
    middle = float(np.median(luminance[cheeks]))
    local = blurred_within(luminance[..., None], skin, 0.02 * size)[..., 0]
    lower = regions.hull(mesh, regions.LOWER_FACE, size)
    dark = 1 - smoothstep(local, 0.3 * middle, 0.55 * middle)
    beard = lower * dark * regions.on_both_sides(dark, lower * skin, mesh)
    # Beside lips and teeth, which are bright, it is no less dark than around.
    lips = regions.hull(mesh, regions.topology.LIPS_OUTER, size)
    gap = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(_BESIDE_LIPS * size) + 1,) * 2)
    closed = cv2.morphologyEx(np.maximum(beard, lips), cv2.MORPH_CLOSE, gap)
    return np.maximum(beard, closed * (beard.max() > 0.5) * lower * (1 - lips))


def greyness(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """How grey each place is beside the cheeks, `[S, S]` in 0 .. 1; dark hair is not, and nothing is where the chin as a whole is not.

    Args:
        picture: `[S, S, 3]`, sRGB, on the mesh `[468, 3]`.
    """
    size, lab = len(picture), to_lab(picture)
    saturation = np.hypot(lab[..., 1], lab[..., 2]) / (lab[..., 0] + 16)  # chroma grows with the light
    cheeks = regions.hull(mesh, regions.CHEEKS, size) > 0.5
    beside = saturation / max(float(np.median(saturation[cheeks])) if cheeks.any() else 0.0, 1e-2)
    grey = blur((1 - smoothstep(beside, *_GREY)).astype(np.float32), 0.01 * size)
    return grey * _at_chin(grey, mesh)


def _at_chin(hair: np.ndarray, mesh: np.ndarray) -> float:
    """How far the chin is under hair, 0 to 1."""
    chin = regions.hull(mesh, _CHIN, len(hair))
    return float(smoothstep(float((hair * chin).sum() / max(float(chin.sum()), 1.0)), *_FULL))


def shaved(
    image: np.ndarray,
    content: np.ndarray,
    painted: np.ndarray,
    profile: FaceParts,
    style: FaceParts,
    mesh: np.ndarray,
) -> np.ndarray:
    """The image without what the style's beard leaves round the painted chin; as it is where the person has a beard, too, or the style none.

    Args:
        image: the painted crop, `[S, S, 3]`, sRGB.
        content: the face that was painted, before it was blended in; blending has mixed the beard into its rim.
        painted: where it shows the person, `[S, S]` in 0 .. 1.
        profile, style: each in its own crop.
        mesh: the target's, `[468, 3]`.
    """
    amount = style.beard * (1 - profile.beard)
    if amount == 0:
        return image
    size = len(image)
    y, x = np.mgrid[:size, :size] + 0.5
    below = _below(mesh, size)
    # The segmenter counts a beard to the face, down to where it ends on the neck.
    beard = regions.grown(style.face, 0.008 * size) * smoothstep(below, 0, 0.5)
    known = (painted * (1 - regions.features(mesh, size))).astype(np.float32)
    fill = blurred_within(content, known, 0.04 * size)
    near = smoothstep(blur(known, 0.012 * size), 0.02, 0.3)[..., None]
    fill = fill + near * (blurred_within(content, known, 0.012 * size) - fill)
    # Skin has pores: those of the painted face, mirrored at its edge.
    rows, columns = ndimage.distance_transform_edt(painted < 0.9, return_distances=False, return_indices=True)
    detail = (content - blur(content, 0.015 * size)).clip(-_PORES, _PORES) * known[..., None]
    fill = fill + sampled(detail, np.stack([2 * columns + 1 - x, 2 * rows + 1 - y], axis=-1))
    oval = regions.oval(mesh, size)
    outside = blur(1 - oval, 0.01 * size)[..., None]
    fill = fill * (1 - outside * (1 - _under_chin(oval)))
    fill = fill + outside * (1 - _neck(mesh, below))[..., None] * (_backdrop(image, style.face) - fill)
    skin = fill + painted[..., None] * (content - fill)
    return image + (amount * blur(beard, 0.004 * size))[..., None] * (skin - image)


def with_beard(
    image: np.ndarray,
    relit: np.ndarray,
    warped: np.ndarray,
    match: MeshMatch,
    profile: FaceParts,
    style: FaceParts,
    mesh: np.ndarray,
) -> np.ndarray:
    """The image with the person's beard up to the face's rim and beyond, where the mesh ends and a beard hangs on.

    Args:
        image: the painted crop, `[S, S, 3]`, sRGB.
        relit, warped: the photograph on the target in the style's light and in its own.
        profile, style: each in its own crop.
        mesh: the target's, `[468, 3]`.
    """
    # A full beard is much darker than skin, or grey; below stubble lies a shadow.
    grey = greyness(profile.crop, profile.mesh)
    hair = np.maximum(beard_mask(profile.crop, profile.face, profile.mesh), grey)
    full = profile.beard * _at_chin(hair, profile.mesh)
    if full == 0:
        return image
    size, inside = len(image), match.drawn.inside
    away = ndimage.distance_transform_edt(~inside)
    core = regions.shrunk(inside.astype(np.float32), _RIM * size)
    y, x = np.mgrid[:size, :size] + 0.5
    # Beyond the rim the lower face's motion goes on, as an affine one and what is left of it near the rim.
    lower = mesh[list(regions.BEARDS), :2], profile.mesh[list(regions.BEARDS), :2]
    affine, *_ = np.linalg.lstsq(np.column_stack([lower[0], np.ones(len(lower[0]))]), lower[1], rcond=None)
    places = np.stack([x, y, np.ones_like(x)], axis=-1) @ affine
    apart = np.where(match.near[..., None] >= 0.5, match.places, match.mirrored) - places
    places = places + blurred_within(apart, core, 0.03 * size)
    # How much the light has changed is known on the face.
    was, now = (blurred_within(to_linear(picture), core, 0.03 * size) for picture in (warped, relit))
    change = (now / np.maximum(was, 1e-3)).clip(0.2, 5)
    lightness = (change @ LUMINANCE)[..., None]
    change = lightness * (change / lightness) ** (1 - (1 - _TINT_OF_GREY) * sampled(grey, places)[..., None])
    beyond = to_srgb(to_linear(sampled(profile.crop, places).clip(0, 1)) * change)
    inner = blur(regions.shrunk(core, 0.01 * size), 0.006 * size)[..., None]
    whole = beyond + inner * (relit - beyond)
    # Below the mouth and no wider than the jaw; beyond the rim under the chin alone.
    below = _below(mesh, size)
    share = np.where(inside, smoothstep(below, 0.55, 0.8), smoothstep(below, 0.85, 1))
    share = share * (1 - smoothstep(_beside(mesh, size), *_WIDTH))
    share = share * (1 - smoothstep(away / size, 0.5 * _HANGING, _HANGING))
    there = ((places > 0) & (places < size)).all(axis=-1)  # in the photograph's crop
    free = np.where(inside, style.face, 1)  # no hand or hair of the style lies before it
    share = blur((share * sampled(profile.face, places) * there * free).astype(np.float32), 0.006 * size)
    return image + full * share[..., None] * (whole - image)


def _under_chin(oval: np.ndarray) -> np.ndarray:
    """How light a neck is `[S, S, 1]` in sRGB: a chin keeps light from what lies right below it."""
    away = ndimage.distance_transform_edt(oval < 0.5) / len(oval)
    light = _UNDER_CHIN + (_FAR_UNDER_CHIN - _UNDER_CHIN) * smoothstep(away, 0.02, 0.2)
    return (light ** (1 / 2.2)).astype(np.float32)[..., None]


def _below(mesh: np.ndarray, size: int) -> np.ndarray:
    """How far down the face each pixel lies, `[S, S]`: 0 at the nose's base, 1 at the chin."""
    y, x = np.mgrid[:size, :size] + 0.5
    down = mesh[regions.CHIN, :2] - mesh[regions.NOSE_BASE, :2]
    return ((x - mesh[regions.NOSE_BASE, 0]) * down[0] + (y - mesh[regions.NOSE_BASE, 1]) * down[1]) / (down**2).sum()


def _beside(mesh: np.ndarray, size: int) -> np.ndarray:
    """How far from the middle of the jaw each pixel lies, `[S, S]`, across the face: 1 at the jaw's corners."""
    y, x = np.mgrid[:size, :size] + 0.5
    down = mesh[regions.CHIN, :2] - mesh[regions.NOSE_BASE, :2]
    across = np.array([-down[1], down[0]]) / max(float(np.linalg.norm(down)), 1e-6)
    ends = mesh[list(_JAW), :2] @ across
    return np.abs(x * across[0] + y * across[1] - ends.mean()) / max(abs(ends[1] - ends[0]) / 2, 1e-6)


def _neck(mesh: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Where a neck may be, `[S, S]` in 0 .. 1: between the jaw's corners, along the face; all that is not below the mouth counts, too."""
    return np.maximum(1 - smoothstep(_beside(mesh, len(below)), *_NECK), 1 - smoothstep(below, 0.4, 0.8))


def _backdrop(image: np.ndarray, face: np.ndarray) -> np.ndarray:
    """What lies beside face and beard, going on below them, `[S, S, 3]`."""
    size = len(face)
    around = 1 - regions.grown(face, 0.02 * size)
    result = blurred_within(image, around, 0.15 * size)
    for sigma in (0.06, 0.025):
        known = smoothstep(blur(around, sigma * size), 0.02, 0.15)[..., None]
        result = result + known * (blurred_within(image, around, sigma * size) - result)
    return result
