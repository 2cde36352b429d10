"""A scene: camera, expression, light, backdrop and clothes; everything a style and its target share."""

from dataclasses import dataclass

import cv2
import numpy as np

from .camera import Camera, random_camera
from .geometry import random_expression
from .lights import Light, random_light
from .skin import linear


@dataclass(frozen=True)
class Scene:
    """One scene. Colours are linear RGB."""

    seed: int
    camera: Camera
    expression: dict
    light: Light
    cloth: np.ndarray  # [10] colour 1, colour 2, pattern, frequency, duty, collar colour choice
    collar: np.ndarray  # [5] height, tilt, depth and half width of a V, width of the trim (mm)
    backdrop_seed: int


def random_scene(seed, kind=None):
    """The scene of a seed; `kind` forces the kind of light."""
    rng = np.random.default_rng([int(seed), 1])
    camera = random_camera(rng)
    expression = random_expression(rng)
    light = random_light(rng, seed, camera.yaw, kind)
    colours = linear(_cloth_colour(rng)), linear(_cloth_colour(rng))
    pattern = rng.choice([0, 1, 2, 3, 4], p=[0.62, 0.12, 0.08, 0.08, 0.10])
    cloth = np.concatenate(
        [*colours, [pattern, rng.uniform(0.2, 0.9), rng.uniform(-0.3, 0.6), float(rng.random() < 0.4)]]
    ).astype(np.float32)
    cut = rng.choice(["crew", "v", "wide", "high"], p=[0.4, 0.25, 0.17, 0.18])
    height = {"crew": -138, "v": -136, "wide": -150, "high": -116}[cut] + rng.normal(0, 3)
    collar = np.array(
        [
            height,
            rng.uniform(0.3, 0.42),
            {"v": rng.uniform(25, 60)}.get(cut, 0.0),
            rng.uniform(28, 50),
            rng.uniform(3, 9),
        ],
        np.float32,
    )
    return Scene(int(seed), camera, expression, light, cloth, collar, int(rng.integers(2**31)))


def _cloth_colour(rng):
    if rng.random() < 0.45:  # neutrals
        return np.clip(rng.uniform(0.08, 0.92) + rng.normal(0, 0.02, 3), 0.03, 0.95)
    hue = np.array([rng.random() * 180, rng.uniform(40, 200), rng.uniform(50, 220)], np.uint8)
    return cv2.cvtColor(hue.reshape(1, 1, 3), cv2.COLOR_HSV2RGB)[0, 0] / 255.0


def backdrop(scene, size):
    """Linear RGB backdrop [size, size, 3], lit by the scene's light. Deterministic from the scene."""
    rng = np.random.default_rng([scene.backdrop_seed, 2])
    s = 64
    y, x = np.mgrid[0:s, 0:s].astype(np.float32) / s - 0.5
    kind = rng.choice(["plain", "wall", "room", "bokeh", "outdoors", "blobs"], p=[0.2, 0.17, 0.18, 0.15, 0.15, 0.15])

    def colour(low=0.05, high=0.8, grey=0.5):
        hsv = np.array(
            [
                rng.random() * 180,
                255 * rng.uniform(0.05, 0.65) * (1 - grey * rng.random()),
                255 * rng.uniform(low, high),
            ],
            np.uint8,
        )
        return linear(cv2.cvtColor(hsv.reshape(1, 1, 3), cv2.COLOR_HSV2RGB)[0, 0] / 255.0)

    one, two = colour(), colour()
    angle = rng.uniform(0, 6.28)
    ramp = np.clip(0.5 + (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.4, 1.4), 0, 1)[..., None]
    if kind == "plain":
        centre = rng.normal(0, 0.25, 2)
        glow = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / rng.uniform(0.1, 0.5))[..., None]
        picture = one * (0.45 + 0.75 * glow) * (0.8 + 0.4 * ramp)
    else:
        picture = one * (1 - ramp) + two * ramp

    def big(sigma: float) -> np.ndarray:
        """Smooth noise [s, s] of about unit size, blurred over `sigma` pixels."""
        return cv2.GaussianBlur(rng.standard_normal((s, s)).astype(np.float32), (0, 0), sigma) * sigma * 3.5

    if kind == "wall":
        picture = picture * (1 + 0.10 * big(6)[..., None])
    elif kind in ("blobs", "outdoors"):
        if kind == "outdoors":
            sky, green = (
                linear(np.array([0.62, 0.76, 0.92])) * rng.uniform(0.7, 1.3),
                linear(np.array([0.30, 0.40, 0.20])) * rng.uniform(0.4, 1.2),
            )
            edge = rng.normal(0.05, 0.15) + 0.12 * big(5)
            picture = np.where((y < edge)[..., None], sky, green) * (1 + 0.25 * big(3)[..., None])
        for _ in range(rng.integers(2, 8)):
            cx, cy = rng.uniform(-0.6, 0.6, 2)
            m = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * rng.uniform(0.05, 0.22) ** 2))[..., None]
            picture = picture * (1 - m) + colour() * m
        picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), rng.uniform(1.5, 4))
    elif kind == "room":
        for _ in range(rng.integers(2, 7)):
            x0, y0 = rng.uniform(-0.6, 0.4, 2)
            m = ((x > x0) & (x < x0 + rng.uniform(0.1, 0.6)) & (y > y0) & (y < y0 + rng.uniform(0.1, 0.9)))[..., None]
            picture = np.where(m, colour() * rng.uniform(0.5, 1.6), picture)
        picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), rng.uniform(0.8, 3.5))
    picture = cv2.resize(picture.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    if kind == "bokeh":
        picture = picture * 0.25
        for _ in range(rng.integers(8, 30)):
            centre = (int(rng.uniform(0, size)), int(rng.uniform(0, size)))
            spot = np.zeros_like(picture)
            radius = int(size * rng.uniform(0.015, 0.06))
            cv2.circle(
                spot, centre, radius, [float(v) for v in colour(0.4, 1.0, 0.2) * rng.uniform(0.4, 2.0)], -1, cv2.LINE_AA
            )
            picture = picture + spot
        picture = cv2.GaussianBlur(picture, (0, 0), size * 0.006)
    # The room is lit by the same light, usually a bit less than the person.
    tint = scene.light.ambient() * scene.light.exposure
    picture = np.clip(picture, 0.002, None) * tint * rng.uniform(0.9, 2.4)
    if scene.light.kind in ("studio", "side", "coloured") and len(scene.light.key_directions) and rng.random() < 0.6:
        fall = np.linspace(-0.5, 0.5, size, dtype=np.float32)[None, :, None]
        right = scene.camera.rotation[:, 0] @ scene.light.key_directions[0]
        picture = picture * (1 + 0.8 * right * fall)
    grain = cv2.GaussianBlur(rng.standard_normal((size, size)).astype(np.float32), (0, 0), 0.8)[..., None] * 0.02
    return (picture * (1 + grain)).astype(np.float32)
