"""A person's colours and features: skin tone, hair, eyes, brows, lips, beard, make-up.

Colours, shares and measures were chosen by eye: no census or table of measured colours is behind them.
"""

from dataclasses import dataclass

import numpy as np

from .geometry import Shape

# sRGB of skin from very light to very dark, at equal steps of melanin.
_TONES = (
    np.array(
        [(240, 202, 184), (231, 184, 160), (213, 160, 130), (183, 128, 97), (141, 93, 67), (102, 64, 46), (72, 45, 34)]
    )
    / 255.0
)
_HAIRS = {
    "black": (22, 18, 17),
    "dark brown": (48, 33, 25),
    "brown": (84, 56, 38),
    "light brown": (122, 88, 60),
    "blond": (186, 148, 98),
    "pale blond": (214, 186, 140),
    "auburn": (104, 46, 26),
    "red": (158, 76, 36),
    "grey": (128, 124, 120),
    "white": (208, 204, 198),
}
_IRISES = {
    "dark brown": (58, 34, 20),
    "brown": (98, 60, 32),
    "hazel": (118, 92, 48),
    "amber": (140, 92, 36),
    "green": (92, 112, 70),
    "blue": (86, 122, 158),
    "grey": (112, 124, 132),
    "pale blue": (128, 162, 188),
}
_BEARDS = {
    "none": 0.34,
    "shadow": 0.16,
    "stubble": 0.18,
    "goatee": 0.09,
    "moustache": 0.06,
    "full": 0.12,
    "chinstrap": 0.05,
}
_LIPSTICKS = [(176, 38, 48), (196, 84, 92), (150, 66, 60), (112, 34, 62), (204, 104, 88), (128, 28, 34)]
_EYE_SHADOWS = [(92, 62, 54), (96, 72, 100), (70, 80, 104), (120, 80, 60), (60, 52, 52), (130, 80, 90)]
# People with such hair have darker brows.
_DARKER_BROWS = ("white", "pale blond", "dyed", "blond")


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 to linear light (IEC 61966-2-1), float64."""
    s = np.asarray(srgb, np.float64)
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


def linear8(srgb: tuple[int, int, int]) -> np.ndarray:
    """sRGB in 0..255 to linear light."""
    return linear(np.array(srgb) / 255.0)


@dataclass(frozen=True)
class Look:
    """A person's colours and features; colours are linear RGB, lengths mm in template space."""

    melanin: float  # 0 very light .. 1 very dark
    tone: np.ndarray  # [3] skin
    hair: np.ndarray  # [3]
    hair_name: str
    iris: np.ndarray  # [3]
    iris_name: str
    brow: dict  # colour; height, arch, slope, thick, inner, outer in mm; peak, density 0..1
    lips: dict  # colour (a factor on the skin's), strength 0..1
    beard: dict  # kind, colour, density 0..1; cheek, width, length in mm
    freckles: float  # 0 none .. about 2 many
    makeup: dict  # lip, shadow, liner, blush 0..1; lip_colour, shadow_colour
    seed: int  # of the painted details


def _pick(rng, weights):
    """A key of {key: weight}."""
    p = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=p / p.sum()))


def _random_melanin(rng, people):
    african, asian, caucasian = people
    return float(
        np.clip(
            african * rng.uniform(0.6, 1.0)
            + asian * rng.uniform(0.12, 0.5)
            + caucasian * rng.uniform(0.0, 0.32)
            + rng.normal(0, 0.06),
            0,
            1,
        )
    )


def _random_tone(rng, melanin):
    at = melanin * (len(_TONES) - 1)
    i = min(int(at), len(_TONES) - 2)
    tone = linear(_TONES[i] * (1 - at + i) + _TONES[i + 1] * (at - i))
    return tone * np.exp(rng.normal(0, 0.04, 3) * [0.6, 0.8, 1.4])  # blue varies most: undertones


def _random_hair(rng, shape, melanin):
    """Name and colour of the hair."""
    grey = rng.random() < np.clip((shape.age - 0.35) * 1.5, 0, 0.85)
    if grey:
        name = str(rng.choice(["grey", "white"], p=[0.65, 0.35]))
    elif rng.random() < 0.05:
        name = "dyed"
    else:
        light = max(0.0, 1 - melanin * 2.4)
        name = _pick(
            rng,
            {
                "black": 0.25 + 1.6 * melanin + shape.people[1],
                "dark brown": 0.5 + 0.3 * melanin,
                "brown": 0.1 + 0.6 * light,
                "light brown": 0.05 + 0.4 * light,
                "blond": 0.02 + 0.45 * light,
                "pale blond": 0.3 * light,
                "auburn": 0.04 + 0.2 * light,
                "red": 0.02 + 0.25 * light,
            },
        )
    srgb = rng.uniform(0.15, 0.75, 3) if name == "dyed" else np.array(_HAIRS[name]) / 255.0
    return name, linear(srgb) * np.exp(rng.normal(0, 0.14) + rng.normal(0, 0.04, 3))


def _random_iris(rng, melanin):
    light = max(0.0, 1 - melanin * 2.0)
    return _pick(
        rng,
        {
            "dark brown": 0.3 + 1.5 * melanin,
            "brown": 0.5,
            "hazel": 0.05 + 0.25 * light,
            "amber": 0.05,
            "green": 0.02 + 0.22 * light,
            "blue": 0.02 + 0.4 * light,
            "grey": 0.25 * light,
            "pale blue": 0.2 * light,
        },
    )


def _random_brow(rng, male, hair, hair_name):
    if hair_name in _DARKER_BROWS:
        hair = linear8((96, 74, 54)) * rng.uniform(0.5, 1.1)
    brow = {
        "colour": hair * 0.75,
        "height": rng.uniform(16.5, 21.0) + (0.8 if not male else 0.0),
        "arch": rng.uniform(1.0, 6.0) + (1.0 if not male else 0),
        "slope": rng.normal(0, 1.6),
        "thick": rng.uniform(3.2, 5.6) * (1.15 if male else 0.9),
        "inner": rng.uniform(8, 15),
        "outer": rng.uniform(48, 56),
        "peak": rng.uniform(0.45, 0.75),
        "density": rng.uniform(0.6, 0.98),
    }
    rng.uniform(-1, 1)  # a former feature: without this draw every picture after it would change
    return brow


def _random_beard(rng, male, hair, hair_name):
    kind = _pick(rng, _BEARDS) if male else "none"
    return {
        "kind": kind,
        "colour": hair * rng.uniform(0.55, 0.95) if hair_name != "dyed" else linear8((60, 44, 34)),
        "density": rng.uniform(0.55, 1.0),
        "cheek": rng.uniform(-8, 8),
        "width": rng.uniform(14, 22),
        "length": rng.uniform(2.0, 16.0),
    }


def _random_makeup(rng, male):
    wears = (not male) and rng.random() < 0.5
    return {
        "lip": float(rng.uniform(0.35, 0.9)) if wears and rng.random() < 0.8 else 0.0,
        "lip_colour": linear8(_LIPSTICKS[rng.integers(len(_LIPSTICKS))]),
        "shadow": float(rng.uniform(0.2, 0.7)) if wears and rng.random() < 0.6 else 0.0,
        "shadow_colour": linear8(_EYE_SHADOWS[rng.integers(len(_EYE_SHADOWS))]),
        "liner": float(rng.uniform(0.4, 1.0)) if wears else 0.0,
        "blush": float(rng.uniform(0.1, 0.5)) if wears else 0.0,
    }


def random_look(rng: np.random.Generator, shape: Shape) -> Look:
    """A look that fits a shape's sex, age and origin, with plenty of freedom."""
    male = shape.sex > 0.5
    melanin = _random_melanin(rng, shape.people)
    tone = _random_tone(rng, melanin)
    hair_name, hair = _random_hair(rng, shape, melanin)
    iris_name = _random_iris(rng, melanin)
    brow = _random_brow(rng, male, hair, hair_name)
    lips = {
        "colour": np.array([0.80, 0.46, 0.45]) * np.exp(rng.normal(0, 0.08, 3)),
        "strength": rng.uniform(0.5, 1.0),
    }
    beard = _random_beard(rng, male, hair, hair_name)
    makeup = _random_makeup(rng, male)
    freckles = float(max(0.0, rng.normal(0, 0.5))) * (1 - melanin) * (1.8 if hair_name in ("red", "auburn") else 1.0)
    return Look(
        melanin=melanin,
        tone=tone,
        hair=hair,
        hair_name=hair_name,
        iris=linear8(_IRISES[iris_name]) * np.exp(rng.normal(0, 0.12, 3)),
        iris_name=iris_name,
        brow=brow,
        lips=lips,
        beard=beard,
        freckles=freckles,
        makeup=makeup,
        seed=int(rng.integers(2**31)),
    )
