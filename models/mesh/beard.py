"""A style's beard below a shaved chin: found by its darkness, and painted over with the skin around it."""

from __future__ import annotations

import numpy as np

from . import regions
from .numerics import LUMINANCE, blur, blurred_within, smoothstep, to_lab, to_linear

_CHIN = (152, 148, 377, 176, 400, 175, 199, 200, 18, 17)
_JAW = (136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365)
_EARS = (234, 454)
# Shares of the chin that are beard, from which the style has one, and up to which the person has none.
_BEARDED, _SHAVED = 0.4, 0.2


def beard_mask(picture: np.ndarray, skin: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """What is much darker than the cheeks in the lower face, float32 `[S, S]` in 0 .. 1.

    Args:
        picture: `[S, S, 3]`, sRGB, on the mesh.
        skin: bare skin and beard, without lips, `[S, S]`.
        mesh: `[468, 3]`, where the picture's face lies.
    """
    size = len(skin)
    luminance = to_linear(picture) @ LUMINANCE
    cheeks = regions.hull(mesh, (*regions.LEFT_CHEEK, *regions.RIGHT_CHEEK, *regions.NOSE), size) * skin > 0.5
    if not cheeks.any():
        return np.zeros_like(skin)
    middle = float(np.median(luminance[cheeks]))
    local = blurred_within(luminance[..., None], skin, 0.02 * size)[..., 0]
    return regions.hull(mesh, regions.LOWER_FACE, size) * (1 - smoothstep(local, 0.3 * middle, 0.55 * middle))


def bearded(picture: np.ndarray, mesh: np.ndarray) -> float:
    """Share of the chin that is beard, 0 to 1; `picture` `[S, S, 3]` on the mesh."""
    size = len(picture)
    chin = regions.hull(mesh, _CHIN, size) > 0.5
    if not chin.any():
        return 0.0
    beard = beard_mask(picture, 1 - regions.features(mesh, size), mesh)
    # A chin in shadow is as dark, but has no hairs. Limits: 23 portraits with and without beards.
    lightness = to_lab(picture)[..., 0]
    hairs = blur(abs(lightness - blur(lightness, 0.01 * size)), 0.01 * size)
    return float((beard * smoothstep(hairs, 3.0, 3.5))[chin].mean())


def shaved(image: np.ndarray, profile: np.ndarray, style: np.ndarray, skin: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """The image without what the style's beard leaves round the painted chin; as it is where the person has a beard, too, or the style none.

    Args:
        image: the painted crop, `[S, S, 3]`, sRGB.
        profile, style: both faces on the target's mesh.
        skin: of the style's picture, `[S, S]`.
        mesh: the target's, `[468, 3]`.
    """
    amount = smoothstep(bearded(style, mesh), _BEARDED, _BEARDED + 0.2) * (
        1 - smoothstep(bearded(profile, mesh), _SHAVED, _SHAVED + 0.2)
    )
    if amount == 0:
        return image
    size = len(image)
    face = regions.oval(mesh, size)
    # Below the jaw, not beside it: what is dark there may be the background.
    jaw = mesh[list(_JAW), :2]
    down = mesh[152, :2] - mesh[[61, 291], :2].mean(axis=0)
    # The neck of a turned head lies no longer under its chin.
    to_neck = np.array([mesh[list(_EARS), 0].mean() - mesh[152, 0], 0])
    below = regions.polygon(np.concatenate([jaw, jaw[::-1] + 0.5 * down + to_neck]), size)
    inner = 1 - regions.grown(1 - face, 0.03 * size)
    zone = blur(np.maximum(below, face * regions.hull(mesh, regions.LOWER_FACE, size)) * (1 - inner), 0.01 * size)
    luminance = to_linear(image) @ LUMINANCE
    known = face * (1 - regions.features(mesh, size))
    middle = float(np.median(luminance[known > 0.5]))
    light_enough = smoothstep(blur(luminance, 0.006 * size), 0.35 * middle, 0.6 * middle)
    # Skin goes on from the painted jaw and the neck; a little darker, as below any chin.
    sources = np.maximum(known, skin) * light_enough
    under = 0.85 * blurred_within(image, sources, 0.05 * size)
    share = amount * zone * blur(1 - light_enough, 0.006 * size) * smoothstep(blur(sources, 0.05 * size), 0.02, 0.15)
    return image + share[..., None] * (under - image)
