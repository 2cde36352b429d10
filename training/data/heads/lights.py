"""Environment light: 64 distant directions plus up to two key lights with their own shadow maps."""

from dataclasses import dataclass, field

import numpy as np

DIRECTIONS = 64
KINDS = ("studio", "side", "rim", "sky", "coloured", "soft", "hard")


def _fibonacci(n):
    # Direction k + n/2 is opposite to k, so one depth pass serves both.
    i = np.arange(n // 2) + 0.5
    y = 1 - 2 * i / n
    angle = np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - y * y)
    half = np.stack([r * np.sin(angle), y, r * np.cos(angle)], 1)
    return np.concatenate([half, -half]).astype(np.float32)


SPHERE = _fibonacci(DIRECTIONS)


def sh9(directions):
    """Real spherical harmonics up to degree 2 of unit vectors [..., 3]: [..., 9]."""
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    return np.stack(
        [
            np.full_like(x, 0.282095),
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )


@dataclass(frozen=True)
class Light:
    """A scene's light in world axes (x subject's left, y up, z forward). Colours are linear RGB."""

    kind: str
    seed: int
    environment: np.ndarray  # [64, 3] radiance of SPHERE
    key_directions: np.ndarray  # [K, 3] towards the light
    key_colours: np.ndarray  # [K, 3] irradiance of a facing surface / pi
    key_softness: np.ndarray  # [K] penumbra in mm at 100 mm distance
    exposure: float
    sh: np.ndarray = field(repr=False)  # [9, 3] radiance, keys included

    def ambient(self):
        """Mean radiance [3] of the surroundings: what tints a backdrop."""
        return self.environment.mean(0) + 0.25 * self.key_colours.sum(0)


def _direction(azimuth, elevation):
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])


def _kelvin(t):
    """Approximate linear RGB of a black body, normalised to luminance 1; t in kelvin, 2000..12000."""
    m = np.log(t / 6500.0)
    rgb = np.exp(np.array([-0.62 * m, -0.02 * m, 0.75 * m]) * np.array([1, 1, 1.0]))
    return rgb / (rgb @ [0.2126, 0.7152, 0.0722])


def _hue(rng, saturation):
    h = rng.random() * 6
    rgb = np.clip(np.array([abs(h - 3) - 1, 2 - abs(h - 2), 2 - abs(h - 4)]), 0, 1)
    rgb = 1 + saturation * (rgb - 1)
    return rgb / (rgb @ [0.2126, 0.7152, 0.0722]) ** 0.6


def random_light(rng, seed, view_yaw=0.0, kind=None):
    """A random light. `view_yaw` (degrees) turns it with the camera, so that a key light stays in front."""
    kind = kind or str(rng.choice(KINDS, p=[0.26, 0.13, 0.1, 0.17, 0.1, 0.14, 0.1]))
    side = 1 if rng.random() < 0.5 else -1
    sphere = SPHERE
    up = sphere[:, 1:2]
    keys, colours, softness = [], [], []

    def key(azimuth, elevation, colour, soft):
        keys.append(_direction(azimuth + view_yaw, elevation))
        colours.append(colour)
        softness.append(soft)

    def blob(azimuth, elevation, colour, width):
        d = _direction(azimuth + view_yaw, elevation)
        return np.exp((sphere @ d - 1)[:, None] / (1 - np.cos(np.radians(width)))) * colour

    warm = _kelvin(rng.uniform(3900, 5600))
    day = _kelvin(rng.uniform(5200, 8000))
    base = warm if rng.random() < 0.4 else day
    floor = np.clip(-up, 0, 1) * rng.uniform(0.05, 0.3) * np.array([1.0, 0.85, 0.7])
    environment = floor.copy()
    if kind == "studio":
        environment += rng.uniform(0.18, 0.5) * base + blob(
            -side * rng.uniform(30, 80), 10, 0.9 * base, 35
        ) * rng.uniform(0.2, 1)
        key(side * rng.uniform(15, 60), rng.uniform(15, 50), base * rng.uniform(0.9, 1.5), rng.uniform(12, 40))
        if rng.random() < 0.4:
            key(-side * rng.uniform(125, 160), rng.uniform(10, 40), base * rng.uniform(0.6, 1.4), 15)
    elif kind == "side":
        environment += rng.uniform(0.07, 0.25) * day
        key(side * rng.uniform(60, 100), rng.uniform(0, 35), base * rng.uniform(1.2, 1.8), rng.uniform(8, 30))
    elif kind == "rim":
        environment += rng.uniform(0.2, 0.45) * day + blob(rng.uniform(-40, 40), 20, 0.8 * base, 40)
        key(side * rng.uniform(125, 160), rng.uniform(10, 45), warm * rng.uniform(1.5, 3.0), 12)
        if rng.random() < 0.5:
            key(-side * rng.uniform(110, 150), rng.uniform(5, 40), day * rng.uniform(1.0, 2.5), 12)
    elif kind == "sky":
        sky = _kelvin(rng.uniform(7000, 11000))
        environment += np.clip(0.35 + 0.65 * up, 0.06, 1) * sky * rng.uniform(0.5, 0.9)
        environment += np.clip(-up, 0, 1) * rng.uniform(0.15, 0.4) * np.array([0.9, 0.9, 0.7])
        if rng.random() < 0.6:
            key(
                side * rng.uniform(0, 110),
                rng.uniform(25, 65),
                _kelvin(rng.uniform(4200, 5800)) * rng.uniform(0.8, 2.0),
                rng.uniform(3, 10),
            )
    elif kind == "coloured":
        s = rng.uniform(0.2, 0.65)
        environment += rng.uniform(0.1, 0.25) * _hue(rng, 0.5 * s)
        key(side * rng.uniform(25, 85), rng.uniform(0, 40), _hue(rng, s) * rng.uniform(0.8, 1.4), rng.uniform(8, 30))
        key(
            -side * rng.uniform(40, 120), rng.uniform(-10, 40), _hue(rng, s) * rng.uniform(0.6, 1.3), rng.uniform(8, 30)
        )
    elif kind == "soft":
        environment += rng.uniform(0.3, 0.6) * base
        for _ in range(rng.integers(2, 5)):
            environment += blob(
                rng.uniform(-100, 100),
                rng.uniform(-10, 70),
                _hue(rng, 0.15) * rng.uniform(0.4, 1.6),
                rng.uniform(20, 45),
            )
    else:
        environment += rng.uniform(0.02, 0.08) * base
        key(side * rng.uniform(0, 75), rng.uniform(-10, 60), base * rng.uniform(1.4, 2.0), rng.uniform(1, 6))
    for _ in range(rng.integers(0, 3)):
        environment += blob(
            rng.uniform(-180, 180), rng.uniform(-30, 60), _hue(rng, 0.3) * rng.uniform(0.1, 0.5), rng.uniform(12, 30)
        )
    key_directions = np.array(keys, np.float32).reshape(-1, 3)
    key_colours = np.array(colours, np.float32).reshape(-1, 3)
    # Exposure from the light on a few skin-like normals facing the camera, so that all people of a scene share it.
    normals = np.stack(
        [_direction(view_yaw + a, e) for a, e in ((0, 0), (45, 0), (-45, 0), (0, 40), (70, 10), (-70, 10), (0, -30))]
    )
    received = (np.clip(normals @ sphere.T, 0, None) @ environment) * (4 / DIRECTIONS)
    received = received + np.clip(normals @ key_directions.T, 0, None) @ key_colours
    luminance = received @ [0.2126, 0.7152, 0.0722]
    level = 0.5 * luminance.mean() + 0.5 * luminance.max()
    exposure = float(rng.uniform(0.85, 1.1) * 2 ** np.clip(rng.normal(0, 0.22), -0.5, 0.5) / level)
    sh = sh9(sphere).T @ environment * (4 * np.pi / DIRECTIONS) + sh9(key_directions).T @ key_colours * np.pi
    return Light(
        kind,
        int(seed),
        environment.astype(np.float32),
        key_directions,
        key_colours,
        np.array(softness, np.float32),
        exposure,
        sh.astype(np.float32),
    )
