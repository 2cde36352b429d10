"""Hair styles: who wears which, their measures, where they are combed to, and the hairline.

Shares and measures were chosen by eye.
"""

from dataclasses import dataclass

import numpy as np

from .geometry import Shape


@dataclass(frozen=True)
class Form:
    """Measures of a style."""

    front: float  # mean length over the forehead, mm
    back: float  # mean length at the sides and the back, mm
    lift: float  # how far hair leaves the root along the normal, against the comb
    gravity: float  # 0 stands .. 1 falls
    wave: float  # amplitude of slow waves, mm
    curl: float  # amplitude of curls, mm
    volume: float  # distance of the topmost layer from the skull, mm
    width: float = 1.0  # factor on the width of the ribbons


FORMS = {
    "buzz": Form(5, 5, 0.9, 0, 0, 0, 1.0, 0.5),
    "crop": Form(16, 12, 0.6, 0.1, 1, 0, 3, 0.75),
    "short": Form(34, 24, 0.55, 0.25, 2, 0, 7),
    "side part": Form(55, 28, 0.45, 0.25, 2, 0, 9),
    "swept back": Form(70, 40, 0.5, 0.15, 2, 0, 9),
    "fringe": Form(62, 48, 0.35, 0.7, 2, 0, 7),
    "bob": Form(140, 150, 0.3, 1, 3, 0, 9),
    "long": Form(270, 270, 0.3, 1, 4, 0, 8),
    "long parted": Form(270, 270, 0.25, 1, 3, 0, 7),
    "wavy": Form(210, 230, 0.45, 1, 11, 0, 13),
    "curly": Form(60, 120, 1.0, 0.5, 4, 10, 18, 0.9),
    "afro": Form(52, 55, 1.2, 0, 2, 5, 0, 0.9),
    "bun": Form(110, 110, 0.12, 0.0, 1, 0, 3),
    "ponytail": Form(110, 110, 0.12, 0, 1, 0, 3),
    "receding": Form(24, 24, 0.45, 0.3, 2, 0, 3),
}
# The order is part of the random draw.
STYLES = (
    "bald",
    "buzz",
    "crop",
    "short",
    "side part",
    "swept back",
    "fringe",
    "bob",
    "long",
    "long parted",
    "wavy",
    "curly",
    "afro",
    "bun",
    "ponytail",
    "receding",
)
TIED = ("bun", "ponytail")  # styles gathered in a knot behind the head
_PARTED_ASIDE = ("side part", "short", "bob", "long", "wavy")
_MEN = {
    "bald": 0.10,
    "buzz": 0.10,
    "crop": 0.14,
    "short": 0.16,
    "side part": 0.12,
    "swept back": 0.10,
    "fringe": 0.07,
    "curly": 0.06,
    "afro": 0.03,
    "receding": 0.04,
    "long": 0.03,
    "bun": 0.02,
}
_WOMEN = {
    "bald": 0.005,
    "crop": 0.04,
    "short": 0.06,
    "bob": 0.16,
    "long": 0.14,
    "long parted": 0.15,
    "wavy": 0.13,
    "curly": 0.08,
    "afro": 0.02,
    "bun": 0.12,
    "ponytail": 0.09,
    "fringe": 0.06,
    "receding": 0.0,
    "buzz": 0.015,
}
_OTHERWISE = 0.02  # weight of a style its sex's table does not name

# The hairline from the middle of the forehead over the temple and the sideburn, above the ear, to the nape.
_LINE_ANGLES = [0, 16, 28, 38, 46, 54, 61, 67, 76, 94, 106, 125, 180]  # degrees about the head's axis
_LINE = np.array([61, 61, 59, 50, 34, 18, -6, -22, 8, 8, -8, -48, -62], np.float64)  # template y, mm
_LINE_HIGH = np.array([1, 1, 1, 0.8, 0.5, 0.2, 0, 0, 0, 0, 0, 0, 0])  # share of a higher forehead
_LINE_RECEDE = np.array([0.15, 0.5, 1, 1, 0.6, 0.2, 0, 0, 0, 0, 0, 0, 0])  # share of receding temples


def hairline(angle: np.ndarray, high: float = 0.0, recede: float = 0.0) -> np.ndarray:
    """Lower border of the scalp (template y, mm) at an angle about the head's axis (radians, 0 = forwards).

    `high` lifts it over the forehead and `recede` over the temples, both in mm.
    """
    return np.interp(np.degrees(np.abs(angle)), _LINE_ANGLES, _LINE + high * _LINE_HIGH + recede * _LINE_RECEDE)


def random_style(rng: np.random.Generator, shape: Shape) -> str:
    """A style that is plausible for a sex, age and origin, with exceptions."""
    weights = dict.fromkeys(STYLES, _OTHERWISE)
    if shape.sex > 0.5:
        weights.update(_MEN)
        weights["bald"] += 0.06 * (shape.age > 0.5)
        weights["receding"] += 0.14 * (shape.age > 0.5)
    else:
        weights.update(_WOMEN)
    weights["afro"] += 0.12 * shape.people[0]
    p = np.array([weights[s] for s in STYLES])
    return str(rng.choice(STYLES, p=p / p.sum()))


def random_parting(rng: np.random.Generator, style: str) -> float:
    """Template x in mm of the parting."""
    return rng.choice([-1, 1]) * rng.uniform(12, 34) if style in _PARTED_ASIDE else rng.normal(0, 3)


def knot_position(style: str) -> np.ndarray:
    """Where the ribbons of a tied style meet, template space."""
    return np.array([0.0, 62.0 if style == "bun" else 20.0, -178.0])


def comb(rng: np.random.Generator, style: str, root: np.ndarray, parting: float) -> np.ndarray:
    """The direction `[R, 3]`, length about 1, in which a style's hair is combed at roots `[R, 3]`."""
    x, y, z = root.T
    sign = np.where(x > parting, 1.0, -1.0)
    out = np.zeros((len(root), 3))
    if style in ("crop", "short", "receding"):
        out[:] = [0.25 * rng.normal(), 0, 1.0] if rng.random() < 0.6 else [rng.choice([-0.8, 0.8]), 0.2, 0.5]
        out[y < 55] += [0, -1.2, -0.3]
    elif style == "side part":
        out[:, 0] = sign * np.where(y > 50, 1.1, 0.2)
        out[:, 1] = np.where(y > 50, 0.25, -1)
        out[:, 2] = np.where(y > 50, 0.15, -0.4)
    elif style == "swept back":
        out[:] = [0.2 * rng.normal(), 0.15, -1]
        out[y < 45] = [0, -0.5, -1]
    elif style == "fringe":
        out[:] = [0.3 * rng.normal(), 0.0, 1]
        out[z < -75] = [0, -1, -0.2]
        out[(np.abs(x) > 50) & (z < -25)] = [0, -1, 0.0]
    elif style in TIED:
        # A little behind the knot, so that hair lies flat there.
        out = knot_position(style) - [0, 0, 7] - root
        out /= np.linalg.norm(out, axis=1, keepdims=True)
    else:
        out[:, 0] = sign * np.where(y > 40, 1.0, 0.15)
        out[:, 1] = -0.25
        out[:, 2] = np.where(z > -60, -0.35, -0.25)
    out += rng.normal(0, 0.12, out.shape)
    if style in ("afro", "curly"):
        out *= 0.25 if style == "afro" else 0.7
        out += rng.normal(0, 0.35, out.shape)
    return out
