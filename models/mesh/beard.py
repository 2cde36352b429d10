"""A style's beard round a shaved chin: found by its hairs, and painted over with the skin beside it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from . import regions
from .numerics import LUMINANCE, blur, blurred_within, sampled, smoothstep, to_linear
from .skin import FaceParts

_BESIDE_LIPS = 0.025
"""How far from the lips they brighten what is beside them, in crop sides."""
_PORES = 0.025
"""Greatest difference in sRGB that is a pore's; at the face's edge there are others."""
_UNDER_CHIN = 0.7
"""How light skin is below a chin, beside that of the chin."""


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
    down = mesh[regions.CHIN, :2] - mesh[regions.NOSE_BASE, :2]
    below = ((x - mesh[regions.NOSE_BASE, 0]) * down[0] + (y - mesh[regions.NOSE_BASE, 1]) * down[1]) / (down**2).sum()
    # The segmenter counts a beard to the face, down to where it ends on the neck.
    beard = regions.grown(style.face, 0.008 * size) * smoothstep(below, 0, 0.5)
    known = (painted * (1 - regions.features(mesh, size))).astype(np.float32)
    fill = blurred_within(content, known, 0.04 * size)
    fill = fill * (1 - (1 - _UNDER_CHIN) * blur(1 - regions.oval(mesh, size), 0.01 * size))[..., None]
    # Skin has pores: those of the painted face, mirrored at its edge.
    rows, columns = ndimage.distance_transform_edt(painted < 0.9, return_distances=False, return_indices=True)
    detail = (content - blur(content, 0.015 * size)).clip(-_PORES, _PORES) * known[..., None]
    fill = fill + sampled(detail, np.stack([2 * columns + 1 - x, 2 * rows + 1 - y], axis=-1))
    skin = fill + painted[..., None] * (content - fill)
    return image + (amount * blur(beard, 0.004 * size))[..., None] * (skin - image)
