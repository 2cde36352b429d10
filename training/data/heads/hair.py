"""Hair: ribbons grown on the neutral head; the roots ride on the skin, so all views share one topology."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .skin import _canvas, _smooth, atlas_coordinates, beard_density
from .template import ATLAS_HEIGHT, ATLAS_WIDTH, AXIS_Z, SKIN, load_template

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
CENTRE = np.array([0.0, 28.0, -82.0], np.float32)  # of the skull, template space


@dataclass(frozen=True)
class Hair:
    """Ribbons of one person. R ribbons of S nodes."""

    style: str
    nodes: np.ndarray  # [R, S, 3] neutral positions
    roots: np.ndarray  # [R] fine vertices the roots ride on
    width: np.ndarray  # [R] mm
    strand: np.ndarray  # [R] random 0..1
    normals: np.ndarray  # [R, S, 3] outward
    triangles: np.ndarray  # [T, 3] into the 2 R S hair vertices
    scalp: np.ndarray  # [H, W] atlas darkening


def hairline(angle, high=0.0, recede=0.0, low=0.0):
    """Lower border of the scalp (template y, mm) at an angle about the head's axis (radians)."""
    a = np.degrees(np.abs(angle))
    # From the middle of the forehead over the temple and the sideburn, above the ear, to the nape.
    knots = [0, 16, 28, 38, 46, 54, 61, 67, 76, 94, 106, 125, 180]
    values = np.array([61, 61, 59, 50, 34, 18, -6, -22, 8, 8, -8, -48, -62], np.float64)
    values = (
        values
        + high * np.array([1, 1, 1, 0.8, 0.5, 0.2, 0, 0, 0, 0, 0, 0, 0])
        + recede * np.array([0.15, 0.5, 1, 1, 0.6, 0.2, 0, 0, 0, 0, 0, 0, 0])
    )
    values = values - low * np.array([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.4, 1, 1])
    return np.interp(a, knots, values)


@lru_cache(1)
def _scalp_candidates():
    """Fine skin triangles of the upper head: indices, areas, centres."""
    t = load_template()
    keep = np.flatnonzero(t.material == SKIN)
    centre = t.fine[t.triangles[keep]].mean(1)
    ears = t.atlas_masks[..., 1]
    col, row = atlas_coordinates(centre)
    ear = ears[np.clip(row.astype(int), 0, ATLAS_HEIGHT - 1), np.clip(col.astype(int), 0, ATLAS_WIDTH - 1)]
    ok = (centre[:, 1] > -75) & (np.abs(centre[:, 0]) < 78) & (ear < 0.3)
    # Only the outer surface.
    normal = np.cross(
        t.fine[t.triangles[keep][:, 1]] - t.fine[t.triangles[keep][:, 0]],
        t.fine[t.triangles[keep][:, 2]] - t.fine[t.triangles[keep][:, 0]],
    )
    area = np.linalg.norm(normal, axis=1) / 2
    ok &= ((centre - CENTRE) * normal).sum(1) > 0
    return keep[ok], area[ok], centre[ok]


@lru_cache(1)
def _radial():
    """Vertices that give the skull's radius on a grid of directions: [48, 96] indices of fine vertices."""
    t = load_template()
    skin = np.unique(t.triangles[t.material == SKIN])
    p = t.fine[skin]
    keep = (
        (p[:, 1] > -118)
        & ~((p[:, 1] < -45) & (p[:, 2] < -40) & (p[:, 1] < -116 + (20 - p[:, 2]) * 0.74))
        & (np.abs(p[:, 0]) < 74)
    )
    skin, p = skin[keep], p[keep] - CENTRE
    d = p / np.linalg.norm(p, axis=1, keepdims=True)
    el = (np.arange(48) + 0.5) / 48 * np.pi - np.pi / 2
    az = (np.arange(96) + 0.5) / 96 * 2 * np.pi - np.pi
    e, a = np.meshgrid(el, az, indexing="ij")
    grid = np.stack([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)], -1)
    score = grid.reshape(-1, 3) @ d.T
    return skin[np.argmax(score + 0.0002 * np.linalg.norm(p, axis=1), 1)].reshape(48, 96)


def _radius(table, direction):
    el = np.arcsin(np.clip(direction[:, 1], -1, 1))
    az = np.arctan2(direction[:, 0], direction[:, 2])
    i = np.clip((el + np.pi / 2) / np.pi * 48 - 0.5, 0, 46.999)
    j = (az + np.pi) / (2 * np.pi) * 96 - 0.5
    i0 = i.astype(int)
    j0 = np.floor(j).astype(int)
    fi, fj = i - i0, j - j0
    a, b = j0 % 96, (j0 + 1) % 96
    return (1 - fi) * ((1 - fj) * table[i0, a] + fj * table[i0, b]) + fi * (
        (1 - fj) * table[i0 + 1, a] + fj * table[i0 + 1, b]
    )


def random_style(rng, shape):
    """A style that is plausible for a sex and age, with exceptions."""
    male, old = shape.sex > 0.5, shape.age > 0.5
    weights = dict.fromkeys(STYLES, 0.02)
    if male:
        weights.update(
            {
                "bald": 0.10 + 0.06 * old,
                "buzz": 0.10,
                "crop": 0.14,
                "short": 0.16,
                "side part": 0.12,
                "swept back": 0.10,
                "fringe": 0.07,
                "curly": 0.06,
                "afro": 0.03 + 0.12 * shape.people[0],
                "receding": 0.04 + 0.14 * old,
                "long": 0.03,
                "bun": 0.02,
            }
        )
    else:
        weights.update(
            {
                "bald": 0.005,
                "crop": 0.04,
                "short": 0.06,
                "bob": 0.16,
                "long": 0.14,
                "long parted": 0.15,
                "wavy": 0.13,
                "curly": 0.08,
                "afro": 0.02 + 0.12 * shape.people[0],
                "bun": 0.12,
                "ponytail": 0.09,
                "fringe": 0.06,
                "receding": 0.0,
                "buzz": 0.015,
            }
        )
    p = np.array([weights[s] for s in STYLES])
    return str(rng.choice(STYLES, p=p / p.sum()))


# length mm (front, side/back), lift, gravity, wave mm, curl mm, stiffness
_FORM = {
    "buzz": (5, 5, 0.9, 0, 0, 0, 1),
    "crop": (16, 12, 0.6, 0.1, 1, 0, 0.6),
    "short": (34, 24, 0.55, 0.25, 2, 0, 0.5),
    "side part": (55, 28, 0.45, 0.25, 2, 0, 0.4),
    "swept back": (70, 40, 0.5, 0.15, 2, 0, 0.4),
    "fringe": (62, 48, 0.35, 0.7, 2, 0, 0.3),
    "bob": (140, 150, 0.3, 1, 3, 0, 0.25),
    "long": (270, 270, 0.3, 1, 4, 0, 0.2),
    "long parted": (270, 270, 0.25, 1, 3, 0, 0.2),
    "wavy": (210, 230, 0.45, 1, 11, 0, 0.2),
    "curly": (60, 120, 1.0, 0.5, 4, 10, 0.3),
    "afro": (52, 55, 1.2, 0, 2, 5, 1),
    "bun": (110, 110, 0.12, 0.0, 1, 0, 0),
    "ponytail": (110, 110, 0.12, 0, 1, 0, 0),
    "receding": (24, 24, 0.45, 0.3, 2, 0, 0.5),
}


def grow_hair(rng, shape, fine, normals, look, style=None, ribbons=4200, steps=11):
    """Grow a person's hair on the neutral fine mesh. fine, normals [M, 3]."""
    template = load_template()
    style = style or random_style(rng, shape)
    c = _canvas()
    high, recede = rng.normal(0, 4), max(0.0, rng.normal(0, 4))
    if style == "receding":
        recede += rng.uniform(14, 34)
        high += rng.uniform(4, 18)
    line = hairline(c["angle"], high, recede)
    distance = c["y"] - line + 2.0 * c["bank"][3] + 1.2 * c["hairs"]
    scalp = _smooth(-3, 9, distance).astype(np.float32)
    scalp = scalp * (1 - _smooth(0.2, 0.5, c["masks"][..., 1]))
    empty = np.zeros((0, steps, 3), np.float32)
    if style == "bald":
        scalp = scalp * (rng.uniform(0.0, 0.35) if rng.random() < 0.6 else 0.0)
        return Hair(
            style,
            empty,
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
            np.zeros(0, np.float32),
            empty,
            np.zeros((0, 3), np.int32),
            scalp,
        )
    if style == "buzz":
        scalp = scalp * rng.uniform(0.55, 0.9)
    keep, area, centre = _scalp_candidates()
    angle = np.arctan2(centre[:, 0], centre[:, 2] - AXIS_Z)
    inside = centre[:, 1] > hairline(angle, high, recede) + 2
    if style == "receding" and rng.random() < 0.5:  # a bare crown
        inside &= ~((centre[:, 1] > 70) & (centre[:, 2] < -30) & (np.hypot(centre[:, 0], centre[:, 2] + 85) < 50))
        bare = _smooth(52, 40, np.hypot(c["x"], c["z"] + 85)) * _smooth(62, 78, c["y"])
        scalp = scalp * (1 - 0.85 * bare)
    # The hairline is denser: it is what one sees.
    rim = 1 + 1.3 * np.exp(-(((centre[:, 1] - hairline(angle, high, recede)) / 9.0) ** 2)) * (centre[:, 2] > -90)
    p = area * inside * rim
    pick = rng.choice(len(keep), ribbons, p=p / p.sum())
    tri = template.triangles[keep[pick]]
    w = rng.dirichlet([1, 1, 1], ribbons)
    root = (fine[tri] * w[..., None]).sum(1)
    normal = (normals[tri] * w[..., None]).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    roots = tri[np.arange(ribbons), np.argmax(w, 1)]
    table = np.linalg.norm(fine[_radial()] - CENTRE, axis=-1)

    front_len, back_len, lift, gravity, wave, curl, stiff = _FORM[style]
    lift *= rng.uniform(0.8, 1.25)
    front = _smooth(-90, -20, root[:, 2])
    length = (
        (front_len * front + back_len * (1 - front))
        * rng.uniform(0.8, 1.2)
        * rng.normal(1, 0.12, ribbons).clip(0.6, 1.4)
    )
    part = (
        rng.choice([-1, 1]) * rng.uniform(12, 34)
        if style in ("side part", "short", "bob", "long", "wavy")
        else rng.normal(0, 3)
    )
    sign = np.where(root[:, 0] > part, 1.0, -1.0)
    comb = np.zeros((ribbons, 3))
    if style in ("crop", "short", "receding"):
        comb[:] = [0.25 * rng.normal(), 0, 1.0] if rng.random() < 0.6 else [rng.choice([-0.8, 0.8]), 0.2, 0.5]
        comb[root[:, 1] < 55] += [0, -1.2, -0.3]
    elif style == "side part":
        comb[:, 0] = sign * np.where(root[:, 1] > 50, 1.1, 0.2)
        comb[:, 1] = np.where(root[:, 1] > 50, 0.25, -1)
        comb[:, 2] = np.where(root[:, 1] > 50, 0.15, -0.4)
    elif style == "swept back":
        comb[:] = [0.2 * rng.normal(), 0.15, -1]
        comb[root[:, 1] < 45] = [0, -0.5, -1]
    elif style == "fringe":
        comb[:] = [0.3 * rng.normal(), 0.0, 1]
        comb[root[:, 2] < -75] = [0, -1, -0.2]
        comb[(np.abs(root[:, 0]) > 50) & (root[:, 2] < -25)] = [0, -1, 0.0]
    elif style in ("bun", "ponytail"):
        comb = np.array([0.0, 62 if style == "bun" else 20, -185]) - root
        comb /= np.linalg.norm(comb, axis=1, keepdims=True)
    else:
        comb[:, 0] = sign * np.where(root[:, 1] > 40, 1.0, 0.15)
        comb[:, 1] = -0.25
        comb[:, 2] = np.where(root[:, 2] > -60, -0.35, -0.25)
    comb += rng.normal(0, 0.12, (ribbons, 3))
    if style in ("afro", "curly"):
        comb *= 0.25 if style == "afro" else 0.7
        comb += rng.normal(0, 0.35, (ribbons, 3))
    step = length / (steps - 1)
    nodes = np.empty((ribbons, steps, 3))
    outward = np.empty((ribbons, steps, 3))
    nodes[:, 0] = root - 0.5 * normal
    outward[:, 0] = normal
    direction = lift * normal + comb
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    clump = rng.integers(0, 160, ribbons)
    phase = rng.uniform(0, 6.28, 160)[clump] + rng.normal(0, 0.35, ribbons)
    strand_floor = rng.random(ribbons)
    layer = rng.uniform(0.6, 1.0, ribbons) ** 0.5
    volume = {
        "bob": 9,
        "long": 8,
        "long parted": 7,
        "wavy": 13,
        "curly": 18,
        "fringe": 7,
        "short": 7,
        "side part": 9,
        "swept back": 9,
        "afro": 0,
        "bun": 3,
        "ponytail": 3,
        "buzz": 1.0,
        "crop": 3,
        "receding": 3,
    }[style] * rng.uniform(0.8, 1.3)
    position = nodes[:, 0].copy()
    goal = np.array([0.0, 62.0 if style == "bun" else 20.0, -178.0])
    for s in range(1, steps):
        f = s / (steps - 1)
        if style in ("bun", "ponytail"):
            to = goal - position
            far = np.linalg.norm(to, axis=1, keepdims=True)
            direction = np.where(far > 12, to / np.maximum(far, 1e-3), direction)
            # Slide along the skull towards the knot.
            step_s = np.minimum(step, far[:, 0] * 0.35)
        else:
            # By arc length: the comb leads for the first centimetres, then gravity, and never into or far off the skull.
            arc = (s * step)[:, None]
            fall = gravity * np.clip(arc / 45.0, 0, 1) * 1.6
            direction = (
                0.45 * direction + comb * np.exp(-arc / 45.0) * 0.6 + np.concatenate([0 * fall, -fall, 0 * fall], 1)
            )
            rel = position - CENTRE
            up = rel / np.linalg.norm(rel, axis=1, keepdims=True)
            along = (direction * up).sum(1, keepdims=True)
            free = np.where(up[:, 1:2] < -0.1, 0.0, 1.0) * np.clip(arc / 30.0, 0, 1) * (gravity > 0)
            direction = direction - up * along * free * 0.9
            step_s = step
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        position = position + direction * step_s[:, None]
        if wave:
            t = f * length / 55 * 6.28 + phase
            position[:, 0] += wave * 0.22 * np.sin(t)
            position[:, 2] += wave * 0.22 * np.cos(t * 0.8)
        if curl:
            t = f * length / 22 * 6.28 + phase * 3
            position += curl * 0.35 * np.stack([np.sin(t), np.cos(t * 1.1), np.sin(t + 1.5)], 1) * min(1, f * 2)
        # Out of the skull.
        rel = position - CENTRE
        r = np.linalg.norm(rel, axis=1)
        unit = rel / r[:, None]
        above = np.minimum(1.0, f * 3.5) * volume * layer + 1.2
        need = _radius(table, unit) + above
        low = unit[:, 1] < -0.55
        push = np.where(low, 0, np.maximum(0, need - r))
        position = position + unit * push[:, None]
        # Neck.
        flat = position - np.array([0, 0, -95.0])
        rr = np.hypot(flat[:, 0], flat[:, 2])
        neck = (position[:, 1] < -55) & (rr < 66)
        k = np.where(neck, 66 / np.maximum(rr, 1), 1)
        position[:, 0] *= k
        position[:, 2] = -95 + (position[:, 2] + 95) * k
        # Keep the face free.
        if front_len < 100 and style != "fringe" and style not in ("bun", "ponytail"):
            floor_ = (
                hairline(np.arctan2(position[:, 0], position[:, 2] - AXIS_Z), high, recede) - 14 + 26 * strand_floor
            )
            on_face = (position[:, 2] > -70) & (position[:, 1] < floor_)
            position[:, 1] = np.where(on_face, floor_ - 0.35 * (floor_ - position[:, 1]), position[:, 1])
        elif style != "fringe":
            limit = 60 - 10 * np.clip(position[:, 1] / 60, 0, 1)
            on_face = (position[:, 2] > -62) & (position[:, 1] < 52 + high) & (np.abs(position[:, 0]) < limit + 8)
            want = (limit + 8) * np.where(position[:, 0] > (part if abs(part) < 40 else 0) * 0.3, 1, -1)
            position[:, 0] = np.where(on_face, position[:, 0] + 0.8 * (want - position[:, 0]), position[:, 0])
        else:
            low_front = (position[:, 2] > -40) & (np.abs(position[:, 0]) < 55) & (position[:, 1] < 24)
            position[:, 1] = np.where(low_front, 24 - 0.15 * (24 - position[:, 1]), position[:, 1])
        move = position - nodes[:, s - 1]
        direction = move / np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-4) * 0.75 + direction * 0.25
        nodes[:, s] = position
        flat = position - np.array([0, 0, -90.0])
        flat[:, 1] = np.where(position[:, 1] > 10, position[:, 1] - 10, 0.0)
        outward[:, s] = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3)
    width = rng.uniform(1.5, 2.8, ribbons) * {"buzz": 0.5, "crop": 0.75, "afro": 0.9, "curly": 0.9}.get(style, 1.0)
    strand = rng.random(ribbons)
    if style in ("bun", "ponytail"):
        extra = _knot(rng, style, steps, 420)
        nodes = np.concatenate([nodes, extra])
        flat = extra - np.array([0, 40.0, -150.0])
        outward = np.concatenate([outward, flat / np.linalg.norm(flat, axis=-1, keepdims=True)])
        back = int(np.argmin(np.linalg.norm(template.fine - np.array([0, 40, -165.0]), axis=1)))
        roots = np.concatenate([roots, np.full(len(extra), back)])
        width = np.concatenate([width, rng.uniform(2, 3.5, len(extra))])
        strand = np.concatenate([strand, rng.random(len(extra))])
    return Hair(
        style,
        nodes.astype(np.float32),
        roots,
        width.astype(np.float32),
        strand.astype(np.float32),
        outward.astype(np.float32),
        _ribbon_triangles(len(nodes), steps),
        scalp,
    )


def _knot(rng, style, steps, count):
    """The bun or the tail behind the head."""
    t = np.linspace(0, 1, steps)
    if style == "bun":
        turn = rng.uniform(0, 6.28, count)[:, None] + t * 3.5
        tilt = rng.uniform(-1.2, 1.2, count)[:, None]
        r = rng.uniform(24, 34)
        centre = np.array([0.0, rng.uniform(60, 105), -150.0])
        return centre + r * np.stack(
            [np.cos(turn) * np.cos(tilt), np.sin(tilt) + 0 * turn, np.sin(turn) * np.cos(tilt)], -1
        )
    x = rng.normal(0, 9, count)[:, None] * (1 + t)
    y = 25 + 18 * np.sin(t * 2.2) - t * rng.uniform(120, 210, count)[:, None]
    z = -176 - 22 * np.sin(t * 2.5) + rng.normal(0, 8, count)[:, None]
    return np.stack([x + 0 * y, y, z], -1)


def grow_beard(rng, fine, normals, look, ribbons=1500, steps=4):
    """Short ribbons for full beards, goatees and moustaches; None for the painted kinds."""
    kind = look.beard["kind"]
    if kind not in ("full", "goatee", "moustache"):
        return None
    template = load_template()
    density = beard_density(look)
    keep = np.flatnonzero(template.material == SKIN)
    centre = template.fine[template.triangles[keep]].mean(1)
    col, row = atlas_coordinates(centre)
    d = density[np.clip(row.astype(int), 0, ATLAS_HEIGHT - 1), np.clip(col.astype(int), 0, ATLAS_WIDTH - 1)]
    e1 = template.fine[template.triangles[keep][:, 1]] - template.fine[template.triangles[keep][:, 0]]
    e2 = template.fine[template.triangles[keep][:, 2]] - template.fine[template.triangles[keep][:, 0]]
    n = np.cross(e1, e2)
    outer = ((centre - np.array([0, -40, -60])) * n).sum(1) > 0
    p = np.linalg.norm(n, axis=1) * np.where((d > 0.5) & outer & (centre[:, 2] > -75), d, 0)
    pick = rng.choice(len(keep), ribbons, p=p / p.sum())
    tri = template.triangles[keep[pick]]
    w = rng.dirichlet([1, 1, 1], ribbons)
    root = (fine[tri] * w[..., None]).sum(1)
    normal = (normals[tri] * w[..., None]).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    upper = root[:, 1] > -64
    length = look.beard["length"] * rng.uniform(0.6, 1.2, ribbons) * np.where(upper, 0.5, 1) + 2
    direction = 0.45 * normal + np.stack(
        [
            np.where(upper, np.sign(root[:, 0]) * 0.9, 0.15 * np.sign(root[:, 0])),
            np.full(ribbons, -1.0),
            np.zeros(ribbons),
        ],
        1,
    )
    direction += rng.normal(0, 0.2, (ribbons, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    t = np.linspace(0, 1, steps)[None, :, None]
    nodes = root[:, None] + direction[:, None] * (length[:, None, None] * t)
    nodes[..., 1] -= (t[..., 0] ** 2) * length[:, None] * 0.15
    return Hair(
        "beard",
        nodes.astype(np.float32),
        tri[np.arange(ribbons), np.argmax(w, 1)],
        rng.uniform(0.8, 1.4, ribbons).astype(np.float32),
        rng.random(ribbons).astype(np.float32),
        np.repeat(normal[:, None], steps, 1).astype(np.float32),
        _ribbon_triangles(ribbons, steps),
        None,
    )


@lru_cache(16)
def _ribbon_triangles(ribbons, steps):
    base = (np.arange(ribbons)[:, None] * steps + np.arange(steps - 1)[None]).reshape(-1) * 2
    a = np.stack([base, base + 1, base + 2], 1)
    b = np.stack([base + 1, base + 3, base + 2], 1)
    return np.stack([a, b], 1).reshape(-1, 3).astype(np.int32)


def ribbon_vertices(hair, moved):
    """Vertices of the ribbons: positions, normals, places, tangents, each [2 R S, 3]. moved [R, 3] shifts the roots."""
    nodes = hair.nodes
    r, s, _ = nodes.shape
    t = np.linspace(0, 1, s, dtype=np.float32)
    nodes = nodes + moved[:, None]
    tangent = np.empty_like(nodes)
    tangent[:, 1:-1] = nodes[:, 2:] - nodes[:, :-2]
    tangent[:, 0] = nodes[:, 1] - nodes[:, 0]
    tangent[:, -1] = nodes[:, -1] - nodes[:, -2]
    side = np.cross(tangent, hair.normals)
    side /= np.linalg.norm(side, axis=-1, keepdims=True) + 1e-6
    # Ribbons end in a point.
    taper = 1 - 0.85 * np.clip((t - 0.55) / 0.45, 0, 1) ** 1.5
    half = 0.5 * hair.width[:, None] * taper
    offset = side * half[..., None]
    points = np.stack([nodes - offset, nodes + offset], 2).reshape(-1, 3)
    normals = np.repeat(hair.normals.reshape(-1, 3), 2, 0)
    place = np.empty((r, s, 2, 3), np.float32)
    place[..., 0, 0], place[..., 1, 0] = -1, 1
    place[..., 1] = t[None, :, None]
    place[..., 2] = hair.strand[:, None, None]
    return (
        points.astype(np.float32),
        normals.astype(np.float32),
        place.reshape(-1, 3),
        np.repeat(tangent.reshape(-1, 3), 2, 0).astype(np.float32),
    )
