"""Glasses: found by two lines that no bare face has, the bridge across the nose and the rims below the eyes."""

from __future__ import annotations

import cv2
import numpy as np

from . import regions
from .numerics import blur, blurred_within, joined, resized, sampled, smoothstep, to_lab

_BRIDGE = (9, 8, 168, 6, 197, 195, 5)
# How much lighter or darker (CIE Lab) than the skin on both sides a line is. Of 87 portraits 8 wear glasses: 7 are above both limits,
# as are none of the others (wrinkles up to 15, brows that meet up to 27 on the bridge alone); what is missed has thin rims and tinted glass.
_LINE_ON_BRIDGE, _LINE_BELOW_EYES = 8.0, 17.0
_SIDE = 256
_CLEAR = 24.0
"""How much the rims must differ from the skin to be cut out of their picture."""


def wears_glasses(crop: np.ndarray, mesh: np.ndarray) -> bool:
    """Whether a face wears glasses with a rim that can be seen.

    Args:
        crop: `[S, S, 3]`, sRGB in [0, 1].
        mesh: `[468, 3]`, crop pixels.
    """
    return _are_rims(*_found_lines(crop, mesh))


def rims(crop: np.ndarray, mesh: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """The rims of a face's glasses, float32 `[S, S]` in 0 .. 1; nothing where it wears none, or such as hardly differ from its skin.

    Args:
        crop: `[S, S, 3]`, sRGB in [0, 1].
        mesh: `[468, 3]`, crop pixels.
        skin: of `skin.skin_mask`, `[S, S]`.
    """
    size, nothing = len(crop), np.zeros(skin.shape, np.float32)
    bridge, below = _found_lines(crop, mesh)
    if not _are_rims(bridge, below):
        return nothing
    points = np.concatenate([bridge, *below])
    points = points[points[:, 2] > _LINE_ON_BRIDGE]
    x, y = np.clip(points[:, :2].astype(int), 0, size - 1).T
    lab = to_lab(crop)
    plain = skin * (1 - regions.features(mesh, size))
    apart = (lab - blurred_within(lab, plain, 0.05 * size)) * np.float32([1, 0.7, 0.7])
    apart = np.sqrt((apart**2).sum(axis=-1))
    contrast = float(np.median(apart[y, x]))
    if contrast < _CLEAR:
        return nothing
    # The rims are what is as different as the lines that were found and joined to them; eyes are not, brows behind a rim may be.
    zone = regions.grown(regions.hull(mesh, regions.EYE_LEVEL, size), 0.04 * size)
    zone = zone * regions.grown(regions.oval(mesh, size), 0.02 * size)
    zone = zone * (1 - regions.grown(regions.hulls(mesh, regions.EYES, size), 0.01 * size))
    likely = (apart > 0.5 * contrast) & (zone > 0.5)
    near = cv2.dilate(joined(likely, (y, x), 8).astype(np.float32), np.ones((3, 3)))
    return blur(near * smoothstep(apart, 0.25 * contrast, 0.6 * contrast), 0.0012 * size)


def _are_rims(bridge: np.ndarray, below: list[np.ndarray]) -> bool:
    """Whether lines of `_found_lines` are strong enough on the bridge and below one eye."""
    if not len(bridge):
        return False
    strength = max(np.median(eye[:, 2]) for eye in below)
    return bool(bridge[:, 2].mean() > _LINE_ON_BRIDGE and strength > _LINE_BELOW_EYES)


def _found_lines(crop: np.ndarray, mesh: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The strongest line on each of nine ways down the bridge of the nose, `[9, 3]` (x, y, strength), and down from each eye."""
    scale = len(crop) / _SIDE  # lines are as strong as they look at one size
    crop, mesh = resized(crop, _SIDE), mesh / scale
    left, right = (mesh[list(eye), :2].mean(axis=0) for eye in regions.EYE_CORNERS)
    across = right - left
    apart = float(np.linalg.norm(across))
    path = mesh[list(_BRIDGE), :2]
    if apart < 8 or np.ptp(path, axis=0).max() < 4:  # a few pixels show nothing
        return np.zeros((0, 3)), []
    steps = np.linspace(0, len(_BRIDGE) - 1, 73)
    middle = np.stack([np.interp(steps, range(len(_BRIDGE)), path[:, i]) for i in (0, 1)], axis=-1)
    step = np.linalg.norm(np.diff(middle, axis=0), axis=1).mean() / apart
    beside = np.linspace(-0.1, 0.1, 9)[:, None, None] * across
    # From between the brows to half way down the nose.
    bridge = _strongest(crop, middle + beside, max(1, round(0.09 / step)), slice(12, 56))
    down = mesh[152, :2] - mesh[168, :2]
    down = down / max(np.linalg.norm(down), 1e-6) * apart
    beside, below = np.linspace(-0.22, 0.22, 9)[:, None, None] * across, np.linspace(0.15, 0.62, 40)[:, None] * down
    eyes = [_strongest(crop, eye + beside + below, 4, slice(None)) for eye in (left, right)]
    return bridge * (scale, scale, 1), [eye * (scale, scale, 1) for eye in eyes]


def _strongest(crop: np.ndarray, ways: np.ndarray, reach: int, part: slice) -> np.ndarray:
    """On each of `ways` `[N, M, 2]` the sample that differs most from both that lie `reach` before and behind it, to one side: `[N, 3]`."""
    lightness = to_lab(sampled(crop, ways))[..., 0]
    strength = np.zeros_like(lightness)
    middle = lightness[:, reach:-reach]
    before, behind = middle - lightness[:, : -2 * reach], middle - lightness[:, 2 * reach :]
    strength[:, reach:-reach] = np.minimum(abs(before), abs(behind)) * (before * behind > 0)
    best = strength[:, part].argmax(axis=1) + (part.start or 0)
    row = np.arange(len(ways))
    return np.column_stack([ways[row, best], strength[row, best]])
