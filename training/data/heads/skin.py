"""Skin: a person's colours, and the atlas of albedo, gloss and relief painted in template space."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from scipy.ndimage import gaussian_filter

from .template import ATLAS_HEIGHT, ATLAS_WIDTH, AXIS_Z, atlas_coordinates, load_template

# sRGB of photographed skin from very light to very dark, at equal steps of melanin.
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


def linear(srgb):
    """sRGB 0..1 to linear light."""
    s = np.asarray(srgb, np.float64)
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


@dataclass
class Look:
    """A person's colours and features; colours are linear RGB."""

    melanin: float  # 0 very light .. 1 very dark
    tone: np.ndarray  # [3] skin
    hair: np.ndarray  # [3]
    hair_name: str
    iris: np.ndarray  # [3]
    iris_name: str
    brow: dict
    lips: dict
    beard: dict
    freckles: float
    makeup: dict
    seed: int


def random_look(rng, shape):
    """A look that fits a shape's sex, age and origin, with plenty of freedom."""
    african, asian, caucasian = shape.people
    melanin = float(
        np.clip(
            african * rng.uniform(0.6, 1.0)
            + asian * rng.uniform(0.12, 0.5)
            + caucasian * rng.uniform(0.0, 0.32)
            + rng.normal(0, 0.06),
            0,
            1,
        )
    )
    at = melanin * (len(_TONES) - 1)
    i = min(int(at), len(_TONES) - 2)
    tone = linear(_TONES[i] * (1 - at + i) + _TONES[i + 1] * (at - i))
    tone = tone * np.exp(rng.normal(0, 0.04, 3) * [0.6, 0.8, 1.4])
    grey = rng.random() < np.clip((shape.age - 0.35) * 1.5, 0, 0.85)
    if grey:
        name = str(rng.choice(["grey", "white"], p=[0.65, 0.35]))
    elif rng.random() < 0.05:
        name = "dyed"
    else:
        light = max(0.0, 1 - melanin * 2.4)
        names = ["black", "dark brown", "brown", "light brown", "blond", "pale blond", "auburn", "red"]
        p = np.array(
            [
                0.25 + 1.6 * melanin + asian,
                0.5 + 0.3 * melanin,
                0.1 + 0.6 * light,
                0.05 + 0.4 * light,
                0.02 + 0.45 * light,
                0.3 * light,
                0.04 + 0.2 * light,
                0.02 + 0.25 * light,
            ]
        )
        name = str(rng.choice(names, p=p / p.sum()))
    srgb = rng.uniform(0.15, 0.75, 3) if name == "dyed" else np.array(_HAIRS[name]) / 255.0
    hair = linear(srgb) * np.exp(rng.normal(0, 0.14) + rng.normal(0, 0.04, 3))
    light = max(0.0, 1 - melanin * 2.0)
    names = list(_IRISES)
    p = np.array(
        [
            0.3 + 1.5 * melanin,
            0.5,
            0.05 + 0.25 * light,
            0.05,
            0.02 + 0.22 * light,
            0.02 + 0.4 * light,
            0.25 * light,
            0.2 * light,
        ]
    )
    iris_name = str(rng.choice(names, p=p / p.sum()))
    male = shape.sex > 0.5
    brow_hair = (
        hair
        if name not in ("white", "pale blond", "dyed", "blond")
        else linear(np.array([96, 74, 54]) / 255.0) * rng.uniform(0.5, 1.1)
    )
    brow = dict(
        colour=brow_hair * 0.75,
        height=rng.uniform(16.5, 21.0) + (0.8 if not male else 0.0),
        arch=rng.uniform(1.0, 6.0) + (1.0 if not male else 0),
        slope=rng.normal(0, 1.6),
        thick=rng.uniform(3.2, 5.6) * (1.15 if male else 0.9),
        inner=rng.uniform(8, 15),
        outer=rng.uniform(48, 56),
        peak=rng.uniform(0.45, 0.75),
        density=rng.uniform(0.6, 0.98),
        lift=rng.uniform(-1, 1),
    )
    lips = dict(colour=np.array([0.80, 0.46, 0.45]) * np.exp(rng.normal(0, 0.08, 3)), strength=rng.uniform(0.5, 1.0))
    kind = "none"
    if male:
        kind = str(
            rng.choice(
                ["none", "shadow", "stubble", "goatee", "moustache", "full", "chinstrap"],
                p=[0.34, 0.16, 0.18, 0.09, 0.06, 0.12, 0.05],
            )
        )
    beard = dict(
        kind=kind,
        colour=hair * rng.uniform(0.55, 0.95) if name != "dyed" else linear(np.array([60, 44, 34]) / 255.0),
        density=rng.uniform(0.55, 1.0),
        cheek=rng.uniform(-8, 8),
        width=rng.uniform(14, 22),
        length=rng.uniform(2.0, 16.0),
    )
    wears = (not male) and rng.random() < 0.5
    makeup = dict(
        lip=float(rng.uniform(0.35, 0.9)) if wears and rng.random() < 0.8 else 0.0,
        lip_colour=linear(
            np.array([(176, 38, 48), (196, 84, 92), (150, 66, 60), (112, 34, 62), (204, 104, 88), (128, 28, 34)])[
                rng.integers(6)
            ]
            / 255.0
        ),
        shadow=float(rng.uniform(0.2, 0.7)) if wears and rng.random() < 0.6 else 0.0,
        shadow_colour=linear(
            np.array([(92, 62, 54), (96, 72, 100), (70, 80, 104), (120, 80, 60), (60, 52, 52), (130, 80, 90)])[
                rng.integers(6)
            ]
            / 255.0
        ),
        liner=float(rng.uniform(0.4, 1.0)) if wears else 0.0,
        blush=float(rng.uniform(0.1, 0.5)) if wears else 0.0,
    )
    freckles = float(max(0.0, rng.normal(0, 0.5))) * (1 - melanin) * (1.8 if name in ("red", "auburn") else 1.0)
    return Look(
        melanin,
        tone,
        hair,
        name,
        linear(np.array(_IRISES[iris_name]) / 255.0) * np.exp(rng.normal(0, 0.12, 3)),
        iris_name,
        brow,
        lips,
        beard,
        freckles,
        makeup,
        int(rng.integers(2**31)),
    )


def _smooth(a, b, x):
    t = np.clip((x - a) / (b - a), 0, 1)
    return t * t * (3 - 2 * t)


@lru_cache(1)
def _canvas():
    """Static maps of the atlas: positions, angle, masks, noise bank."""
    template = load_template()
    p = template.atlas_position
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    angle = np.arctan2(x, z - AXIS_Z)
    rng = np.random.default_rng(7)
    bank = []
    for sigma in (0.7, 1.2, 2.5, 5.0, 10.0, 24.0):
        n = gaussian_filter(rng.standard_normal((ATLAS_HEIGHT, ATLAS_WIDTH)), sigma, mode="wrap")
        bank.append((n / n.std()).astype(np.float32))
    hairs = gaussian_filter(rng.standard_normal((ATLAS_HEIGHT, ATLAS_WIDTH)), (2.6, 0.55), mode="wrap")
    across = gaussian_filter(rng.standard_normal((ATLAS_HEIGHT, ATLAS_WIDTH)), (0.6, 4.0), mode="wrap")
    # The jaw line separates the face from the neck.
    face = (y > -116 + (20 - z) * 0.74) & (np.abs(angle) < 1.75) & (y < 95)
    return dict(
        x=x,
        y=y,
        z=z,
        ax=np.abs(x),
        angle=angle,
        front=_smooth(-75, -45, z),
        masks=template.atlas_masks,
        bank=bank,
        hairs=(hairs / hairs.std()).astype(np.float32),
        across=(across / across.std()).astype(np.float32),
        face=face.astype(np.float32),
    )


def _spot(c, sx, sy, cx, cy):
    """A soft bump at (+-cx, cy) of the front of the face."""
    return np.exp(-(((c["ax"] - cx) / sx) ** 2 + ((c["y"] - cy) / sy) ** 2)) * c["front"]


@lru_cache(1)
def _zones():
    """Static soft zones of the face."""
    c = _canvas()
    red = (
        0.9 * _spot(c, 20, 16, 42, -34)
        + 0.9 * _spot(c, 12, 11, 0, -39)
        + 0.35 * _spot(c, 16, 12, 0, -100)
        + 0.5 * c["masks"][..., 1]
        + 0.45 * _spot(c, 17, 7, 29, -10)
        + 0.3 * _spot(c, 16, 6, 29, 11)
        + 0.2 * _spot(c, 12, 12, 0, 30)
    )
    under = _spot(c, 14, 6, 27, -17)
    oil = (
        0.75 * _spot(c, 22, 22, 0, 46)
        + 0.9 * _spot(c, 8, 22, 0, -26)
        + 0.5 * _spot(c, 20, 10, 42, -22)
        + 0.5 * _spot(c, 14, 9, 0, -98)
    )
    lid = _spot(c, 17, 8.0, 29, 10.5)
    nostril = np.exp(-(((c["ax"] - 8.0) / 4.4) ** 2 + ((c["y"] + 45.5) / 2.6) ** 2)) * c["front"]
    return {k: v.astype(np.float32) for k, v in dict(red=red, under=under, oil=oil, lid=lid, nostril=nostril).items()}


@njit(cache=True)
def _splat(target, columns, rows, sizes, strengths):
    """Multiply soft dots into target [H, W]."""
    for i in range(len(columns)):
        reach = int(sizes[i] * 2.2) + 1
        for r in range(int(rows[i]) - reach, int(rows[i]) + reach + 1):
            for c in range(int(columns[i]) - reach, int(columns[i]) + reach + 1):
                if 0 <= r < target.shape[0] and 0 <= c < target.shape[1]:
                    d = ((r - rows[i]) ** 2 + (c - columns[i]) ** 2) / (sizes[i] * sizes[i])
                    target[r, c] *= 1 - strengths[i] * np.exp(-d * d)


def beard_density(look, kind=None):
    """Where the beard grows: [H, W] in 0..1 (template space)."""
    c = _canvas()
    kind = kind or look.beard["kind"]
    x, y, z = c["ax"], c["y"], c["z"]
    # Upper border: from the moustache over the cheek to the sideburn.
    border = np.interp(
        x, [0, 26, 45, 62, 72], [-49, -53, -58 + look.beard["cheek"], -40 + look.beard["cheek"], -5]
    ).astype(np.float32)
    edge = _smooth(3, -5, y - border + 1.3 * c["bank"][3])
    neck = _smooth(-128, -112, y + (20 - np.maximum(z, -60)) * -0.32)
    density = edge * neck * _smooth(-84, -70, z)
    density = density * (
        1 - 0.85 * np.exp(-(((x - 9) / 7.0) ** 2) - ((y + 88) / 5.0) ** 2)
    )  # bare beside the soul patch
    if kind == "goatee":
        density = density * _smooth(look.beard["width"] + 9, look.beard["width"] + 3, x)
    elif kind == "moustache":
        density = density * _smooth(34, 27, x) * _smooth(-67, -63, y)
    elif kind == "chinstrap":
        density = density * np.maximum(_smooth(14, 4, y + 106 - (x * 0.013) ** 2 * 60), _smooth(-30, -50, z) * 0.9)
    return density * (1 - _smooth(0.15, 0.5, c["masks"][..., 0]))


def paint_atlas(shape, look, scalp):
    """The person's atlas float32 [H, W, 8]: linear albedo 3, gloss, slope x, slope y, face, spare.

    `scalp` [H, W] in 0..1 is where hair darkens the skin.
    """
    c, zones = _canvas(), _zones()
    rng = np.random.default_rng(look.seed)
    bank = [np.roll(n, int(rng.integers(ATLAS_WIDTH)), 1) for n in c["bank"]]
    y, ax = c["y"], c["ax"]
    light = 1 - look.melanin
    out = np.empty((ATLAS_HEIGHT, ATLAS_WIDTH, 8), np.float32)
    # Melanin darkens and blood reddens; both vary slowly over the face.
    melanin = (
        0.05 * bank[5]
        + 0.035 * bank[4]
        + 0.03 * bank[3]
        + 0.03 * bank[1]
        + 0.12 * zones["under"] * rng.uniform(0.2, 1.6)
    )
    melanin += 0.10 * _smooth(30, 80, y) * rng.uniform(-0.3, 0.8) + shape.age * (
        0.05 * bank[2] + 0.04 * np.maximum(bank[3] - 1.2, 0)
    )
    blood = zones["red"] * rng.uniform(0.25, 0.85) * (0.5 + 0.5 * light) + 0.06 * bank[4] + 0.05 * bank[2] + 0.05
    spots = np.ones((ATLAS_HEIGHT, ATLAS_WIDTH), np.float32)
    if look.freckles > 0.15:
        count = int(look.freckles * 320)
        px = rng.normal(0, 34, count)
        py = rng.normal(-18, 17, count)
        points = np.stack([px, py, np.full(count, 20.0) - 0.004 * px * px], 1)
        col, row = atlas_coordinates(points)
        _splat(
            spots,
            col,
            row,
            rng.uniform(0.8, 1.9, count),
            rng.uniform(0.12, 0.42, count) * min(1.0, look.freckles + 0.4),
        )
    count = int(rng.poisson(2.5))
    if count:
        points = np.stack([rng.uniform(-58, 58, count), rng.uniform(-110, 60, count), np.full(count, 5.0)], 1)
        col, row = atlas_coordinates(points)
        _splat(spots, col, row, rng.uniform(1.3, 3.2, count), rng.uniform(0.45, 0.85, count))
    if shape.age > 0.5:
        count = int(rng.poisson(26 * shape.age))
        points = np.stack([rng.uniform(-65, 65, count), rng.uniform(-80, 80, count), np.full(count, 5.0)], 1)
        col, row = atlas_coordinates(points)
        _splat(spots, col, row, rng.uniform(1.5, 5.0, count), rng.uniform(0.06, 0.25, count))
    tone = look.tone.astype(np.float32)
    shade = [
        np.exp(-(melanin * a + blood * b)) * s
        for a, b, s in zip((0.7, 1.0, 1.25), (-0.02, 0.30, 0.24), (spots**0.75, spots, spots**1.15))
    ]
    albedo = [tone[i] * shade[i] for i in range(3)]

    # --- relief, in mm of height; slopes come from it at the end
    relief = 0.014 * bank[0] + 0.022 * bank[1] + 0.05 * bank[2] * (0.5 + shape.age)
    age = max(0.0, shape.age - 0.15) / 0.85
    if age > 0.02:
        wavy = y + 2.0 * np.sin(ax * 0.06 + rng.uniform(0, 6)) + 2.5 * bank[5]
        lines = np.maximum(0, np.sin(wavy * (2 * np.pi / rng.uniform(9, 13)) + rng.uniform(0, 6))) ** 5 * _spot(
            c, 38, 17, 0, 48
        )
        crow = np.maximum(0, np.sin((y + (ax - 44) * 0.6 * np.sign(y)) * 1.15 + rng.uniform(0, 6))) ** 4 * np.exp(
            -(((ax - 52) / 5) ** 2) - ((y + 1) / 8) ** 2
        )
        # Fold from the wing of the nose past the mouth.
        path = 15.5 + 13.5 * np.clip((-y - 42) / 34, 0, 1.3) ** 0.8
        fold = np.exp(-(((ax - path) / 2.2) ** 2)) * _smooth(-82, -72, y) * _smooth(-38, -46, y) * c["front"]
        bag = np.exp(-(((y + 17 + 0.012 * (ax - 28) ** 2) / 1.5) ** 2)) * np.exp(-(((ax - 27) / 13) ** 2)) * c["front"]
        glabella = np.exp(-(((ax - 4.5) / 1.4) ** 2) - ((y - 18) / 9) ** 2) * c["front"]
        crease = age * (
            rng.uniform(0.1, 0.7) * lines
            + rng.uniform(0.1, 0.5) * crow
            + rng.uniform(0.5, 1.2) * fold
            + rng.uniform(0.3, 1) * bag
            + rng.uniform(0, 0.8) * glabella
        )
        relief -= 0.75 * crease
        for i, k in enumerate((0.22, 0.30, 0.33)):
            albedo[i] *= 1 - k * np.minimum(crease, 1)

    # --- lids, nostrils, make-up
    lid = np.clip(zones["lid"], 0, 1)
    for i, k in enumerate((0.10, 0.18, 0.16)):
        albedo[i] *= 1 - k * lid * rng.uniform(0.6, 1.0)
        albedo[i] *= 1 - (0.72, 0.84, 0.86)[i] * np.clip(zones["nostril"], 0, 1)
    m = look.makeup
    if m["shadow"]:
        for i in range(3):
            albedo[i] += (m["shadow_colour"][i] * (0.4 + tone[i]) - albedo[i]) * (m["shadow"] * lid)
    if m["blush"]:
        spot = _spot(c, 16, 12, 46, -28) * m["blush"]
        for i, k in enumerate((0.02, 0.42, 0.34)):
            albedo[i] *= 1 - k * spot

    # --- lips
    lips = _smooth(0.25, 0.75, c["masks"][..., 0])
    ridges = 1 + 0.07 * c["hairs"] * lips
    natural = tone * (1 - look.lips["strength"] * (1 - look.lips["colour"] * (0.95 + 0.2 * look.melanin)))
    target = natural * (1 - m["lip"]) + m["lip"] * m["lip_colour"] * (0.65 + 0.35 * light)
    seam = 1 - 0.55 * np.exp(-(((y + 66.8) / 1.2) ** 2)) * lips
    for i in range(3):
        albedo[i] = albedo[i] * (1 - lips) + lips * target[i] * ridges * seam

    # --- brows
    b = look.brow
    t = (ax - b["inner"]) / (b["outer"] - b["inner"])
    rise = np.where(
        t < b["peak"],
        np.sin(np.clip(t / b["peak"], 0, 1) * np.pi / 2),
        1 - 1.15 * np.clip((t - b["peak"]) / (1 - b["peak"]), 0, 1.2) ** 1.6,
    )
    line = b["height"] + b["arch"] * rise + b["slope"] * np.clip(t, 0, 1)
    thick = b["thick"] * (1.0 - 0.62 * _smooth(b["peak"] - 0.15, 1.05, t)) * (0.72 + 0.28 * _smooth(-0.05, 0.25, t))
    inside = 1 - _smooth(0.55, 1.25, np.abs(y - line + 0.5 * bank[3]) / thick)
    inside *= _smooth(-0.08, 0.12, t) * _smooth(1.08, 0.86, t) * c["front"]
    strokes = np.clip(0.86 + 0.16 * np.roll(c["hairs"], int(rng.integers(300)), 1), 0, 1.1)
    cover = np.clip(inside * b["density"] * strokes * (0.75 + 0.25 * _smooth(-0.05, 0.3, t)), 0, 0.97)
    for i in range(3):
        albedo[i] += (b["colour"][i] - albedo[i]) * cover

    # --- beard
    gloss = 0.28 + 0.55 * zones["oil"] * rng.uniform(0.4, 1.1) + 0.10 * bank[2]
    if look.beard["kind"] != "none":
        kind = look.beard["kind"]
        density = beard_density(look)
        grain = np.clip(0.5 + 0.5 * bank[0] + 0.25 * c["hairs"], 0, 1.2)
        amount = {"shadow": 0.22, "stubble": 0.55, "full": 0.97, "goatee": 0.95, "moustache": 0.95, "chinstrap": 0.9}[
            kind
        ] * look.beard["density"]
        cover = np.clip(
            density * amount * (0.45 + 0.75 * grain if kind in ("stubble", "shadow") else 0.75 + 0.35 * grain), 0, 0.96
        )
        tint = (
            look.beard["colour"]
            if kind != "shadow"
            else 0.55 * look.beard["colour"] + 0.45 * tone * np.array([0.45, 0.5, 0.62])
        )
        for i in range(3):
            albedo[i] += (tint[i] - albedo[i]) * cover
        gloss = gloss * (1 - 0.6 * cover)
        relief += 0.10 * cover * bank[0]
    # --- scalp
    cover = np.clip(scalp * (0.975 + 0.012 * bank[1]), 0, 1)
    for i in range(3):
        albedo[i] += (0.55 * look.hair[i] - albedo[i]) * cover
    gloss = gloss * (1 - 0.8 * cover)
    gloss = gloss * (1 - lips) + lips * (0.55 + 0.4 * (m["lip"] > 0.5))

    for i in range(3):
        out[..., i] = np.clip(albedo[i], 0.003, 0.9)
    out[..., 3] = np.clip(gloss, 0, 1.2)
    # Texels are about 0.45 mm.
    out[..., 4] = (np.roll(relief, -1, 1) - np.roll(relief, 1, 1)) * 0.9
    out[..., 5] = (np.roll(relief, 1, 0) - np.roll(relief, -1, 0)) * 0.9
    np.clip(out[..., 4:6], -0.6, 0.6, out=out[..., 4:6])
    out[..., 6] = c["face"]
    out[..., 7] = 0
    return out
