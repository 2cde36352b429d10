"""Environment light: 64 distant directions plus up to two key lights with their own shadow maps.

Shares, angles, strengths and colours of lamps were chosen by eye, if no source stands beside them.
"""

from dataclasses import dataclass, field

import numpy as np

from ....models.harmonics import harmonic_terms

DIRECTIONS = 64  # of the environment
KINDS = ("studio", "side", "rim", "sky", "coloured", "soft", "hard")
_SHARES = [0.26, 0.13, 0.1, 0.17, 0.1, 0.14, 0.1]
LUMINANCE = [0.2126, 0.7152, 0.0722]  # of linear RGB (Rec. 709)
# (azimuth, elevation) in degrees of skin facing the camera, by whose light the exposure is set.
_METERED = ((0, 0), (45, 0), (-45, 0), (0, 40), (70, 10), (-70, 10), (0, -30))


def _fibonacci(n):
    """n directions [n, 3], about even on the sphere; k + n/2 is opposite to k, so one depth pass serves both."""
    i = np.arange(n // 2) + 0.5
    y = 1 - 2 * i / n
    angle = np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - y * y)
    half = np.stack([r * np.sin(angle), y, r * np.cos(angle)], 1)
    return np.concatenate([half, -half]).astype(np.float32)


SPHERE = _fibonacci(DIRECTIONS)


def sh9(directions: np.ndarray) -> np.ndarray:
    """Real spherical harmonics up to degree 2 of unit vectors `[..., 3]`: `[..., 9]`.

    Order and factors as in Ramamoorthi and Hanrahan (2001).
    """
    return np.stack(harmonic_terms(*np.moveaxis(directions, -1, 0)), axis=-1)


@dataclass(frozen=True)
class Light:
    """A scene's light in world axes (x subject's left, y up, z forward). Colours are linear RGB."""

    kind: str  # one of KINDS
    seed: int
    environment: np.ndarray  # [64, 3] radiance of SPHERE
    key_directions: np.ndarray  # [K, 3] towards the light
    key_colours: np.ndarray  # [K, 3] irradiance of a facing surface / pi
    key_softness: np.ndarray  # [K] width of the penumbra: 1 sharp .. 40 very soft
    exposure: float  # factor on linear colours before the tone curve
    sh: np.ndarray = field(repr=False)  # [9, 3] radiance, keys included

    def ambient(self) -> np.ndarray:
        """About the mean radiance `[3]` of the surroundings, what tints a backdrop; keys count a quarter."""
        return self.environment.mean(0) + 0.25 * self.key_colours.sum(0)


def _direction(azimuth, elevation):
    """Unit vector; degrees; azimuth 0 is forwards, positive to the subject's left."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])


def _kelvin(t):
    """About the linear RGB of a black body, normalised to luminance 1; t in kelvin, 2000..12000. Exponents chosen by eye."""
    m = np.log(t / 6500.0)
    rgb = np.exp(np.array([-0.62 * m, -0.02 * m, 0.75 * m]))
    return rgb / (rgb @ LUMINANCE)


def _hue(rng, saturation):
    """A random hue in linear RGB, its luminance somewhat evened out; saturation 0..1."""
    h = rng.random() * 6
    rgb = np.clip(np.array([abs(h - 3) - 1, 2 - abs(h - 2), 2 - abs(h - 4)]), 0, 1)
    rgb = 1 + saturation * (rgb - 1)
    return rgb / (rgb @ LUMINANCE) ** 0.6


class _Stage:
    """The lights of a scene while they are put up; azimuths count from the camera's, in degrees."""

    def __init__(self, view_yaw: float):
        self.view_yaw = view_yaw
        self.environment = np.zeros((DIRECTIONS, 3))
        self.directions, self.colours, self.softness = [], [], []

    def key(self, azimuth, elevation, colour, softness):
        """Add a key light."""
        self.directions.append(_direction(azimuth + self.view_yaw, elevation))
        self.colours.append(colour)
        self.softness.append(softness)

    def blob(self, azimuth, elevation, colour, width):
        """Radiance [64, 3] of a soft lamp about `width` degrees wide."""
        d = _direction(azimuth + self.view_yaw, elevation)
        return np.exp((SPHERE @ d - 1)[:, None] / (1 - np.cos(np.radians(width)))) * colour


def _put_up(rng, stage, kind):
    """Add the lights of a kind to an empty stage."""
    side = 1 if rng.random() < 0.5 else -1
    up = SPHERE[:, 1:2]
    warm = _kelvin(rng.uniform(3900, 5600))
    day = _kelvin(rng.uniform(5200, 8000))
    base = warm if rng.random() < 0.4 else day
    key, blob, uniform = stage.key, stage.blob, rng.uniform
    # Light reflected by a wooden floor.
    stage.environment = np.clip(-up, 0, 1) * uniform(0.05, 0.3) * np.array([1.0, 0.85, 0.7])
    if kind == "studio":
        stage.environment += uniform(0.18, 0.5) * base + blob(-side * uniform(30, 80), 10, 0.9 * base, 35) * uniform(
            0.2, 1
        )
        key(side * uniform(15, 60), uniform(15, 50), base * uniform(0.9, 1.5), uniform(12, 40))
        if rng.random() < 0.4:
            key(-side * uniform(125, 160), uniform(10, 40), base * uniform(0.6, 1.4), 15)
    elif kind == "side":
        stage.environment += uniform(0.07, 0.25) * day
        key(side * uniform(60, 100), uniform(0, 35), base * uniform(1.2, 1.8), uniform(8, 30))
    elif kind == "rim":
        stage.environment += uniform(0.2, 0.45) * day + blob(uniform(-40, 40), 20, 0.8 * base, 40)
        key(side * uniform(125, 160), uniform(10, 45), warm * uniform(1.5, 3.0), 12)
        if rng.random() < 0.5:
            key(-side * uniform(110, 150), uniform(5, 40), day * uniform(1.0, 2.5), 12)
    elif kind == "sky":
        sky = _kelvin(uniform(7000, 11000))
        stage.environment += np.clip(0.35 + 0.65 * up, 0.06, 1) * sky * uniform(0.5, 0.9)
        stage.environment += np.clip(-up, 0, 1) * uniform(0.15, 0.4) * np.array([0.9, 0.9, 0.7])
        if rng.random() < 0.6:  # the sun
            azimuth, elevation = side * uniform(0, 110), uniform(25, 65)
            key(azimuth, elevation, _kelvin(uniform(4200, 5800)) * uniform(0.8, 2.0), uniform(3, 10))
    elif kind == "coloured":
        s = uniform(0.2, 0.65)
        stage.environment += uniform(0.1, 0.25) * _hue(rng, 0.5 * s)
        key(side * uniform(25, 85), uniform(0, 40), _hue(rng, s) * uniform(0.8, 1.4), uniform(8, 30))
        key(-side * uniform(40, 120), uniform(-10, 40), _hue(rng, s) * uniform(0.6, 1.3), uniform(8, 30))
    elif kind == "soft":
        stage.environment += uniform(0.3, 0.6) * base
        for _ in range(rng.integers(2, 5)):
            azimuth, elevation = uniform(-100, 100), uniform(-10, 70)
            stage.environment += blob(azimuth, elevation, _hue(rng, 0.15) * uniform(0.4, 1.6), uniform(20, 45))
    elif kind == "hard":
        stage.environment += uniform(0.02, 0.08) * base
        key(side * uniform(0, 75), uniform(-10, 60), base * uniform(1.4, 2.0), uniform(1, 6))
    else:
        raise ValueError(f"no such kind of light: {kind!r}; there are {', '.join(KINDS)}")
    for _ in range(rng.integers(0, 3)):  # a lamp or a window somewhere
        azimuth, elevation = uniform(-180, 180), uniform(-30, 60)
        stage.environment += blob(azimuth, elevation, _hue(rng, 0.3) * uniform(0.1, 0.5), uniform(12, 30))


def random_light(rng: np.random.Generator, seed: int, view_yaw: float = 0.0, kind: str | None = None) -> Light:
    """A random light.

    Args:
        seed: only noted in the result.
        view_yaw: degrees; turns the light with the camera, so that a key light stays in front.
        kind: one of `KINDS`; None draws one.

    Raises:
        ValueError: no such kind.
    """
    kind = kind or str(rng.choice(KINDS, p=_SHARES))
    stage = _Stage(view_yaw)
    _put_up(rng, stage, kind)
    environment = stage.environment
    key_directions = np.array(stage.directions, np.float32).reshape(-1, 3)
    key_colours = np.array(stage.colours, np.float32).reshape(-1, 3)
    # Metered as if nothing threw shadows, so that all people of a scene share the exposure.
    normals = np.stack([_direction(view_yaw + a, e) for a, e in _METERED])
    received = (np.clip(normals @ SPHERE.T, 0, None) @ environment) * (4 / DIRECTIONS)
    received = received + np.clip(normals @ key_directions.T, 0, None) @ key_colours
    luminance = received @ LUMINANCE
    level = 0.5 * luminance.mean() + 0.5 * luminance.max()
    exposure = float(rng.uniform(0.85, 1.1) * 2 ** np.clip(rng.normal(0, 0.22), -0.5, 0.5) / level)
    sh = sh9(SPHERE).T @ environment * (4 * np.pi / DIRECTIONS) + sh9(key_directions).T @ key_colours * np.pi
    return Light(
        kind,
        int(seed),
        environment.astype(np.float32),
        key_directions,
        key_colours,
        np.array(stage.softness, np.float32),
        exposure,
        sh.astype(np.float32),
    )
