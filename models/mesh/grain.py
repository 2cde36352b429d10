"""The style's fineness on the painted face: its grain where the photograph is softer, its softness where the photograph is finer."""

from __future__ import annotations

import numpy as np

from .numerics import blur, blurred_within

_FINE = 0.004
"""Sigma of what counts as fine, in crop sides."""
_MIDDLE = (0.008, 0.03)
"""Sigmas of the band whose contrast fine detail is compared with: features have it in any focus."""
_SOFTER = 1.15
"""How much finer than the style a face may stay; retouched skin has less detail than its picture could show."""
_BLURS = (0.0, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008)
"""Sigmas to choose from, in crop sides."""


def with_texture(picture: np.ndarray, style: np.ndarray, where: np.ndarray, style_skin: np.ndarray) -> np.ndarray:
    """The picture `[S, S, 3]` with the style's finest grain where it is softer: a small profile does not look waxy.

    Args:
        picture, style: on one mesh, sRGB.
        where: `[S, S]`, where grain may go.
        style_skin: `[S, S]`, where the style's is skin's and nothing else's.
    """
    size = len(where)
    own, grain = ((x.mean(axis=-1) - blur(x.mean(axis=-1), _FINE * size)) for x in (picture, style))
    energies = [
        np.sqrt(blurred_within((x**2)[..., None], w, 0.04 * size)[..., 0])
        for x, w in ((own, where), (grain, style_skin))
    ]
    share = (1 - energies[0] / np.maximum(energies[1], 1e-4)).clip(0, 0.6) * where * blur(style_skin, 0.01 * size)
    return (picture + (share * grain.clip(-0.025, 0.025))[..., None]).clip(0, 1)


def as_soft(picture: np.ndarray, style: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The picture `[S, S, 3]` as much out of focus as the style, judged by eyes, brows and mouth, which are fine in any sharp picture.

    Args:
        picture, style: on one mesh, sRGB.
        features: `[S, S]`, where both show them.
    """
    if features.sum() < 1:
        return picture
    wanted = _fineness(style, features) * _SOFTER
    for sigma in _BLURS:
        softer = blur(picture, sigma * len(picture)) if sigma else picture
        if _fineness(softer, features) <= wanted:
            break
    return softer


def _fineness(picture: np.ndarray, where: np.ndarray) -> float:
    """Fine detail over the middle band's."""
    size, lightness = len(picture), picture.mean(axis=-1)
    bands = [blur(lightness, sigma * size) for sigma in (_FINE, *_MIDDLE)]
    fine, middle = lightness - bands[0], bands[1] - bands[2]
    weight = where / where.sum()
    return float(np.sqrt((fine**2 * weight).sum() / max((middle**2 * weight).sum(), 1e-8)))
