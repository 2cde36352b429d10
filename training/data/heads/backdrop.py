"""Backdrops: plain walls, rooms, bokeh, landscapes; blurred, and lit by the scene's light.

Shares, colours and sizes were chosen by eye.
"""

import cv2
import numpy as np

from .lights import Light
from .look import linear

_SMALL = 64  # px: backdrops are out of focus, so most are painted small
_KINDS = {"plain": 0.2, "wall": 0.17, "room": 0.18, "bokeh": 0.15, "outdoors": 0.15, "blobs": 0.15}
_SKY, _GREEN = np.array([0.62, 0.76, 0.92]), np.array([0.30, 0.40, 0.20])  # sRGB
_WALLS = ("studio", "side", "coloured")  # kinds of light that may fall off across a wall behind


def hsv_to_rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """sRGB `[3]` in 0..1 of a hue in 0..180, saturation and value in 0..255."""
    hsv = np.array([hue, saturation, value], np.uint8)
    return cv2.cvtColor(hsv.reshape(1, 1, 3), cv2.COLOR_HSV2RGB)[0, 0] / 255.0


def _blur(picture, sigma):
    return cv2.GaussianBlur(picture.astype(np.float32), (0, 0), sigma)


def _colour(rng, low=0.05, high=0.8, grey=0.5):
    """A random linear colour of value low..high; a larger `grey` makes it duller."""
    hue = rng.random() * 180
    saturation = 255 * rng.uniform(0.05, 0.65) * (1 - grey * rng.random())
    return linear(hsv_to_rgb(hue, saturation, 255 * rng.uniform(low, high)))


def _clouds(rng, sigma):
    """Noise [64, 64] of about unit deviation, with features of `sigma` px."""
    return _blur(rng.standard_normal((_SMALL, _SMALL)), sigma) * sigma * 3.5


def _scatter_blobs(rng, picture, x, y):
    for _ in range(rng.integers(2, 8)):
        cx, cy = rng.uniform(-0.6, 0.6, 2)
        m = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * rng.uniform(0.05, 0.22) ** 2))[..., None]
        picture = picture * (1 - m) + _colour(rng) * m
    return _blur(picture, rng.uniform(1.5, 4))


def _scatter_furniture(rng, picture, x, y):
    for _ in range(rng.integers(2, 7)):
        x0, y0 = rng.uniform(-0.6, 0.4, 2)
        m = ((x > x0) & (x < x0 + rng.uniform(0.1, 0.6)) & (y > y0) & (y < y0 + rng.uniform(0.1, 0.9)))[..., None]
        picture = np.where(m, _colour(rng) * rng.uniform(0.5, 1.6), picture)
    return _blur(picture, rng.uniform(0.8, 3.5))


def _scatter_bokeh(rng, picture):
    """Discs of out-of-focus lamps over a dark picture of full size."""
    size = picture.shape[0]
    picture = picture * 0.25
    for _ in range(rng.integers(8, 30)):
        centre = (int(rng.uniform(0, size)), int(rng.uniform(0, size)))
        disc = np.zeros_like(picture)
        radius = int(size * rng.uniform(0.015, 0.06))
        colour = _colour(rng, 0.4, 1.0, 0.2) * rng.uniform(0.4, 2.0)
        cv2.circle(disc, centre, radius, [float(v) for v in colour], -1, cv2.LINE_AA)
        picture = picture + disc
    return cv2.GaussianBlur(picture, (0, 0), size * 0.006)


def paint_backdrop(seed: int, light: Light, camera_right: np.ndarray, size: int) -> np.ndarray:
    """A backdrop: linear RGB float32 `[size, size, 3]`, after exposure (1 = white). Deterministic from its arguments.

    Args:
        light: tints it, and may fall off across it.
        camera_right: `[3]`, the picture's x axis in the world.
    """
    rng = np.random.default_rng([seed, 2])
    y, x = np.mgrid[0:_SMALL, 0:_SMALL].astype(np.float32) / _SMALL - 0.5
    kind = rng.choice(list(_KINDS), p=list(_KINDS.values()))
    one, two = _colour(rng), _colour(rng)
    angle = rng.uniform(0, 6.28)
    ramp = np.clip(0.5 + (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.4, 1.4), 0, 1)[..., None]
    if kind == "plain":
        centre = rng.normal(0, 0.25, 2)
        glow = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / rng.uniform(0.1, 0.5))[..., None]
        picture = one * (0.45 + 0.75 * glow) * (0.8 + 0.4 * ramp)
    else:
        picture = one * (1 - ramp) + two * ramp
    if kind == "wall":
        picture = picture * (1 + 0.10 * _clouds(rng, 6)[..., None])
    elif kind == "outdoors":
        sky, green = linear(_SKY) * rng.uniform(0.7, 1.3), linear(_GREEN) * rng.uniform(0.4, 1.2)
        horizon = rng.normal(0.05, 0.15) + 0.12 * _clouds(rng, 5)
        picture = np.where((y < horizon)[..., None], sky, green) * (1 + 0.25 * _clouds(rng, 3)[..., None])
        picture = _scatter_blobs(rng, picture, x, y)
    elif kind == "blobs":
        picture = _scatter_blobs(rng, picture, x, y)
    elif kind == "room":
        picture = _scatter_furniture(rng, picture, x, y)
    picture = cv2.resize(picture.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    if kind == "bokeh":
        picture = _scatter_bokeh(rng, picture)
    # Lit by the same light as the person, usually a bit less.
    tint = light.ambient() * light.exposure
    picture = np.clip(picture, 0.002, None) * tint * rng.uniform(0.9, 2.4)
    if light.kind in _WALLS and len(light.key_directions) and rng.random() < 0.6:
        fall = np.linspace(-0.5, 0.5, size, dtype=np.float32)[None, :, None]
        picture = picture * (1 + 0.8 * (camera_right @ light.key_directions[0]) * fall)
    grain = _blur(rng.standard_normal((size, size)), 0.8)[..., None] * 0.02
    return (picture * (1 + grain)).astype(np.float32)
