"""Skin: the atlas of albedo, gloss and relief, painted once a person in template space, layer over layer.

All sizes (mm), amounts and counts were chosen by eye, the absorption by melanin and blood too: no measured spectrum is behind it.
"""

import numpy as np
from numba import njit

from .beard import beard_density
from .canvas import load_canvas, load_zones, smoothstep, spot
from .geometry import Shape
from .look import Look
from .template_space import ATLAS_HEIGHT, ATLAS_WIDTH, atlas_coordinates

# Layers of the atlas.
ALBEDO, GLOSS, SLOPE_X, SLOPE_Y, FACE, LAYERS = 0, 3, 4, 5, 6, 8
# Opacity of a beard that has grown everywhere.
_BEARD_COVER = {"shadow": 0.22, "stubble": 0.55, "full": 0.97, "goatee": 0.95, "moustache": 0.95, "chinstrap": 0.9}


@njit(cache=True)
def _splat(target, columns, rows, sizes, strengths):
    """Multiply soft dots into target [H, W]; columns, rows, sizes in texels."""
    for i in range(len(columns)):
        reach = int(sizes[i] * 2.2) + 1
        for r in range(int(rows[i]) - reach, int(rows[i]) + reach + 1):
            for c in range(int(columns[i]) - reach, int(columns[i]) + reach + 1):
                if 0 <= r < target.shape[0] and 0 <= c < target.shape[1]:
                    d = ((r - rows[i]) ** 2 + (c - columns[i]) ** 2) / (sizes[i] * sizes[i])
                    target[r, c] *= 1 - strengths[i] * np.exp(-d * d)


def _spots(rng, look, age):
    """Freckles, moles and age spots: a factor [H, W] on the albedo."""
    spots = np.ones((ATLAS_HEIGHT, ATLAS_WIDTH), np.float32)
    if look.freckles > 0.15:
        count = int(look.freckles * 320)
        px = rng.normal(0, 34, count)
        py = rng.normal(-18, 17, count)
        points = np.stack([px, py, np.full(count, 20.0) - 0.004 * px * px], 1)
        col, row = atlas_coordinates(points)
        sizes = rng.uniform(0.8, 1.9, count)
        _splat(spots, col, row, sizes, rng.uniform(0.12, 0.42, count) * min(1.0, look.freckles + 0.4))
    count = int(rng.poisson(2.5))  # moles
    if count:
        points = np.stack([rng.uniform(-58, 58, count), rng.uniform(-110, 60, count), np.full(count, 5.0)], 1)
        col, row = atlas_coordinates(points)
        sizes = rng.uniform(1.3, 3.2, count)
        _splat(spots, col, row, sizes, rng.uniform(0.45, 0.85, count))
    if age > 0.5:
        count = int(rng.poisson(26 * age))
        points = np.stack([rng.uniform(-65, 65, count), rng.uniform(-80, 80, count), np.full(count, 5.0)], 1)
        col, row = atlas_coordinates(points)
        sizes = rng.uniform(1.5, 5.0, count)
        _splat(spots, col, row, sizes, rng.uniform(0.06, 0.25, count))
    return spots


def _base(rng, look, age, bank):
    """Albedo [three of [H, W]] of bare skin: melanin darkens and blood reddens; both vary slowly over the face."""
    y, zones = load_canvas().y, load_zones()
    melanin = (
        0.05 * bank[5]
        + 0.035 * bank[4]
        + 0.03 * bank[3]
        + 0.03 * bank[1]
        + 0.12 * zones["under"] * rng.uniform(0.2, 1.6)
    )
    melanin += 0.10 * smoothstep(30, 80, y) * rng.uniform(-0.3, 0.8) + age * (
        0.05 * bank[2] + 0.04 * np.maximum(bank[3] - 1.2, 0)
    )
    pale = 1 - look.melanin  # blood shows through pale skin most
    blood = zones["red"] * rng.uniform(0.25, 0.85) * (0.5 + 0.5 * pale) + 0.06 * bank[4] + 0.05 * bank[2] + 0.05
    spots = _spots(rng, look, age)
    tone = look.tone.astype(np.float32)
    # Absorption of melanin and blood in red, green and blue; blood hardly absorbs red.
    shade = [
        np.exp(-(melanin * a + blood * b)) * s
        for a, b, s in zip((0.7, 1.0, 1.25), (-0.02, 0.30, 0.24), (spots**0.75, spots, spots**1.15))
    ]
    return [tone[i] * shade[i] for i in range(3)]


def _wrinkles(rng, age, bank):
    """Depth [H, W], about 0..1, of an old face's creases; age is 0..1 from the first crease on."""
    c = load_canvas()
    y, ax = c.y, c.ax
    wavy = y + 2.0 * np.sin(ax * 0.06 + rng.uniform(0, 6)) + 2.5 * bank[5]
    forehead = spot(38, 17, 0, 48)
    lines = np.maximum(0, np.sin(wavy * (2 * np.pi / rng.uniform(9, 13)) + rng.uniform(0, 6))) ** 5 * forehead
    crow = np.maximum(0, np.sin((y + (ax - 44) * 0.6 * np.sign(y)) * 1.15 + rng.uniform(0, 6))) ** 4 * np.exp(
        -(((ax - 52) / 5) ** 2) - ((y + 1) / 8) ** 2
    )
    # Fold from the wing of the nose past the mouth.
    path = 15.5 + 13.5 * np.clip((-y - 42) / 34, 0, 1.3) ** 0.8
    fold = np.exp(-(((ax - path) / 2.2) ** 2)) * smoothstep(-82, -72, y) * smoothstep(-38, -46, y) * c.front
    bag = np.exp(-(((y + 17 + 0.012 * (ax - 28) ** 2) / 1.5) ** 2)) * np.exp(-(((ax - 27) / 13) ** 2)) * c.front
    glabella = np.exp(-(((ax - 4.5) / 1.4) ** 2) - ((y - 18) / 9) ** 2) * c.front
    return age * (
        rng.uniform(0.1, 0.7) * lines
        + rng.uniform(0.1, 0.5) * crow
        + rng.uniform(0.5, 1.2) * fold
        + rng.uniform(0.3, 1) * bag
        + rng.uniform(0, 0.8) * glabella
    )


def _paint_lids_and_makeup(rng, look, albedo):
    """Darker lids, dark nostrils, eye shadow and blush."""
    zones = load_zones()
    lid = np.clip(zones["lid"], 0, 1)
    nostril = np.clip(zones["nostril"], 0, 1)
    for i, k in enumerate((0.10, 0.18, 0.16)):
        albedo[i] *= 1 - k * lid * rng.uniform(0.6, 1.0)
        albedo[i] *= 1 - (0.72, 0.84, 0.86)[i] * nostril
    m = look.makeup
    if m["shadow"]:
        for i in range(3):
            albedo[i] += (m["shadow_colour"][i] * (0.4 + look.tone.astype(np.float32)[i]) - albedo[i]) * (
                m["shadow"] * lid
            )
    if m["blush"]:
        cheeks = spot(16, 12, 46, -28) * m["blush"]
        for i, k in enumerate((0.02, 0.42, 0.34)):
            albedo[i] *= 1 - k * cheeks


def _paint_lips(look, albedo):
    """Lips with fine ridges, a dark seam and perhaps lipstick; returns their mask [H, W]."""
    c, m = load_canvas(), look.makeup
    tone = look.tone.astype(np.float32)
    lips = smoothstep(0.25, 0.75, c.lips)
    ridges = 1 + 0.07 * c.hairs * lips
    natural = tone * (1 - look.lips["strength"] * (1 - look.lips["colour"] * (0.95 + 0.2 * look.melanin)))
    target = natural * (1 - m["lip"]) + m["lip"] * m["lip_colour"] * (0.65 + 0.35 * (1 - look.melanin))
    seam = 1 - 0.55 * np.exp(-(((c.y + 66.8) / 1.2) ** 2)) * lips
    for i in range(3):
        albedo[i] = albedo[i] * (1 - lips) + lips * target[i] * ridges * seam
    return lips


def _paint_brows(rng, look, albedo, bank):
    """Brows: a band that rises to its peak and falls outwards, made of strokes."""
    c, b = load_canvas(), look.brow
    t = (c.ax - b["inner"]) / (b["outer"] - b["inner"])  # 0 at the inner end, 1 at the outer
    rise = np.where(
        t < b["peak"],
        np.sin(np.clip(t / b["peak"], 0, 1) * np.pi / 2),
        1 - 1.15 * np.clip((t - b["peak"]) / (1 - b["peak"]), 0, 1.2) ** 1.6,
    )
    line = b["height"] + b["arch"] * rise + b["slope"] * np.clip(t, 0, 1)
    outer = smoothstep(b["peak"] - 0.15, 1.05, t)
    thick = b["thick"] * (1.0 - 0.62 * outer) * (0.72 + 0.28 * smoothstep(-0.05, 0.25, t))
    inside = 1 - smoothstep(0.55, 1.25, np.abs(c.y - line + 0.5 * bank[3]) / thick)
    inside *= smoothstep(-0.08, 0.12, t) * smoothstep(1.08, 0.86, t) * c.front
    strokes = np.clip(0.86 + 0.16 * np.roll(c.hairs, int(rng.integers(300)), 1), 0, 1.1)
    cover = np.clip(inside * b["density"] * strokes * (0.75 + 0.25 * smoothstep(-0.05, 0.3, t)), 0, 0.97)
    for i in range(3):
        albedo[i] += (b["colour"][i] - albedo[i]) * cover


def _paint_beard(look, albedo, bank):
    """The beard as seen on the skin; returns its opacity [H, W]."""
    kind = look.beard["kind"]
    density = beard_density(look)
    grain = np.clip(0.5 + 0.5 * bank[0] + 0.25 * load_canvas().hairs, 0, 1.2)
    amount = _BEARD_COVER[kind] * look.beard["density"]
    grown = 0.45 + 0.75 * grain if kind in ("stubble", "shadow") else 0.75 + 0.35 * grain
    cover = np.clip(density * amount * grown, 0, 0.96)
    tint = look.beard["colour"]
    if kind == "shadow":  # hair under the skin looks bluish
        tint = 0.55 * tint + 0.45 * look.tone.astype(np.float32) * np.array([0.45, 0.5, 0.62])
    for i in range(3):
        albedo[i] += (tint[i] - albedo[i]) * cover
    return cover


def paint_atlas(shape: Shape, look: Look, scalp: np.ndarray) -> np.ndarray:
    """The person's atlas float32 `[H, W, 8]`: linear albedo 3, gloss, slope x, slope y, face, spare.

    Gloss is 0..1.2, slopes are rise over run, face is 1 on the face and 0 elsewhere.

    Args:
        scalp: `[H, W]` in 0..1, where hair darkens the skin.
    """
    zones = load_zones()
    rng = np.random.default_rng(look.seed)
    # Everybody shares the noise, turned about the axis by a random angle.
    bank = [np.roll(n, int(rng.integers(ATLAS_WIDTH)), 1) for n in load_canvas().bank]
    albedo = _base(rng, look, shape.age, bank)
    # Relief is height in mm; slopes come from it at the end.
    relief = 0.014 * bank[0] + 0.022 * bank[1] + 0.05 * bank[2] * (0.5 + shape.age)
    age = max(0.0, shape.age - 0.15) / 0.85
    if age > 0.02:
        crease = _wrinkles(rng, age, bank)
        relief -= 0.75 * crease
        for i, k in enumerate((0.22, 0.30, 0.33)):
            albedo[i] *= 1 - k * np.minimum(crease, 1)
    _paint_lids_and_makeup(rng, look, albedo)
    lips = _paint_lips(look, albedo)
    _paint_brows(rng, look, albedo, bank)
    gloss = 0.28 + 0.55 * zones["oil"] * rng.uniform(0.4, 1.1) + 0.10 * bank[2]
    if look.beard["kind"] != "none":
        cover = _paint_beard(look, albedo, bank)
        gloss = gloss * (1 - 0.6 * cover)
        relief += 0.10 * cover * bank[0]
    cover = np.clip(scalp * (0.975 + 0.012 * bank[1]), 0, 1)
    for i in range(3):
        albedo[i] += (0.55 * look.hair[i] - albedo[i]) * cover
    gloss = gloss * (1 - 0.8 * cover)
    gloss = gloss * (1 - lips) + lips * (0.55 + 0.4 * (look.makeup["lip"] > 0.5))

    out = np.zeros((ATLAS_HEIGHT, ATLAS_WIDTH, LAYERS), np.float32)
    for i in range(3):
        out[..., ALBEDO + i] = np.clip(albedo[i], 0.003, 0.9)
    out[..., GLOSS] = np.clip(gloss, 0, 1.2)
    # Central differences over two texels of about 0.45 mm, somewhat softened: 0.9 instead of 1 / 0.9.
    out[..., SLOPE_X] = (np.roll(relief, -1, 1) - np.roll(relief, 1, 1)) * 0.9
    out[..., SLOPE_Y] = (np.roll(relief, 1, 0) - np.roll(relief, -1, 0)) * 0.9
    np.clip(out[..., SLOPE_X : SLOPE_Y + 1], -0.6, 0.6, out=out[..., SLOPE_X : SLOPE_Y + 1])
    out[..., FACE] = load_canvas().face
    return out
