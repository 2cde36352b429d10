"""A scene: camera, expression, light, backdrop and clothes; everything a style and its target share.

Shares, colours and heights of clothes were chosen by eye.
"""

from dataclasses import dataclass

import numpy as np

from .backdrop import hsv_to_rgb, paint_backdrop
from .camera import Camera, random_camera
from .expression import random_expression
from .lights import Light, random_light
from .look import linear

# Cloth patterns, as the shader numbers them.
PLAIN, STRIPES, CHECKS, PINSTRIPES, MOTTLED = range(5)
_PATTERNS = [0.62, 0.12, 0.08, 0.08, 0.10]
_CUTS = {"crew": 0.4, "v": 0.25, "wide": 0.17, "high": 0.18}
_COLLARS = {"crew": -138, "v": -136, "wide": -150, "high": -116}  # template y, mm


@dataclass(frozen=True)
class Scene:
    """One scene. Colours are linear RGB; `cloth` and `collar` are the shader's, see materials.py."""

    seed: int
    camera: Camera
    expression: dict[str, float]
    light: Light
    cloth: np.ndarray  # [10] colour 1, colour 2, pattern, frequency, duty, trim's choice of colour
    collar: np.ndarray  # [5] height, tilt, depth and half width of a V, width of the trim (mm)
    backdrop_seed: int

    def collar_height(self, z: np.ndarray) -> np.ndarray:
        """Template y in mm below which cloth begins at template z, but for a V."""
        return self.collar[0] + (-45.0 - z) * self.collar[1]

    def backdrop(self, size: int) -> np.ndarray:
        """The backdrop, linear RGB float32 `[size, size, 3]` after exposure; the same for everybody in the scene."""
        return paint_backdrop(self.backdrop_seed, self.light, self.camera.rotation[:, 0], size)


def random_scene(seed: int, kind: str | None = None) -> Scene:
    """The scene of a seed: the same seed always gives the same one; `kind` forces the kind of light."""
    rng = np.random.default_rng([int(seed), 1])
    camera = random_camera(rng)
    expression = random_expression(rng)
    light = random_light(rng, seed, camera.yaw, kind)
    colours = linear(_cloth_colour(rng)), linear(_cloth_colour(rng))
    pattern = rng.choice([PLAIN, STRIPES, CHECKS, PINSTRIPES, MOTTLED], p=_PATTERNS)
    cloth = [*colours, [pattern, rng.uniform(0.2, 0.9), rng.uniform(-0.3, 0.6), float(rng.random() < 0.4)]]
    cut = rng.choice(list(_CUTS), p=list(_CUTS.values()))
    collar = [
        _COLLARS[cut] + rng.normal(0, 3),
        rng.uniform(0.3, 0.42),
        rng.uniform(25, 60),
        rng.uniform(28, 50),
        rng.uniform(3, 9),
    ]
    if cut != "v":
        collar[2] = 0.0
    return Scene(
        int(seed),
        camera,
        expression,
        light,
        np.concatenate(cloth).astype(np.float32),
        np.array(collar, np.float32),
        int(rng.integers(2**31)),
    )


def _cloth_colour(rng):
    """sRGB [3]: a neutral or a colour."""
    if rng.random() < 0.45:
        return np.clip(rng.uniform(0.08, 0.92) + rng.normal(0, 0.02, 3), 0.03, 0.95)
    return hsv_to_rgb(rng.random() * 180, rng.uniform(40, 200), rng.uniform(50, 220))
