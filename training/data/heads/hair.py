"""Hair: ribbons grown on the neutral head; the roots ride on the skin, so all views share one topology.

Counts, lengths and waves were chosen by eye.
"""

import numpy as np

from .canvas import load_canvas, smoothstep
from .geometry import Shape
from .hair_styles import FORMS, TIED, Form, comb, hairline, knot_position, random_parting, random_style
from .ribbons import Hair, make_hair, no_hair
from .skull import CENTRE, grow_from, scalp_triangles, skull_radius, skull_table
from .template import load_template
from .template_space import AXIS_Z

_CLUMPS = 160  # groups of ribbons that wave together
_KNOT_RIBBONS = 420
_WAVE_MM, _CURL_MM = 55, 22  # wavelengths
_GRAVITY_MM = 45.0  # over so much of a ribbon the comb gives way to gravity
_NECK_Z, _NECK_RADIUS = -95.0, 66.0  # the neck as a cylinder that no hair enters, mm


def _darkened_scalp(rng, style, high, recede):
    """Where hair darkens the skin: [H, W] in 0..1, and whether the crown is bare."""
    c = load_canvas()
    distance = c.y - hairline(c.angle, high, recede) + 2.0 * c.bank[3] + 1.2 * c.hairs
    scalp = smoothstep(-3, 9, distance).astype(np.float32)
    scalp = scalp * (1 - smoothstep(0.2, 0.5, c.ears))
    if style == "bald":  # shaven rather than bald: a shadow remains
        scalp = scalp * (rng.uniform(0.0, 0.35) if rng.random() < 0.6 else 0.0)
    if style == "buzz":
        scalp = scalp * rng.uniform(0.55, 0.9)
    bare_crown = style == "receding" and rng.random() < 0.5
    if bare_crown:
        bare = smoothstep(52, 40, np.hypot(c.x, c.z + 85)) * smoothstep(62, 78, c.y)
        scalp = scalp * (1 - 0.85 * bare)
    return scalp, bare_crown


def _root_triangles(rng, high, recede, bare_crown, ribbons):
    """The fine triangle [R] each ribbon grows from."""
    index, area, centre = scalp_triangles()
    x, y, z = centre.T
    line = hairline(np.arctan2(x, z - AXIS_Z), high, recede)
    inside = y > line + 2
    if bare_crown:
        inside &= ~((y > 70) & (z < -30) & (np.hypot(x, z + 85) < 50))
    # The hairline is denser: it is what one sees.
    rim = 1 + 1.3 * np.exp(-(((y - line) / 9.0) ** 2)) * (z > -90)
    p = area * inside * rim
    return index[rng.choice(len(index), ribbons, p=p / p.sum())]


def _fall(position, direction, combed, arc, gravity):
    """The next direction [R, 3] of loose hair after arc [R, 1] mm: along the comb, then down, sliding on the skull."""
    down = gravity * np.clip(arc / _GRAVITY_MM, 0, 1) * 1.6
    direction = (
        0.45 * direction + combed * np.exp(-arc / _GRAVITY_MM) * 0.6 + np.concatenate([0 * down, -down, 0 * down], 1)
    )
    rel = position - CENTRE
    up = rel / np.linalg.norm(rel, axis=1, keepdims=True)
    along = (direction * up).sum(1, keepdims=True)
    slides = np.where(up[:, 1:2] < -0.1, 0.0, 1.0) * np.clip(arc / 30.0, 0, 1) * (gravity > 0)
    return direction - up * along * slides * 0.9


def _push_out(position, table, above):
    """Move positions [R, 3] out of the skull, `above` [R] mm over it, and out of the neck."""
    rel = position - CENTRE
    r = np.linalg.norm(rel, axis=1)
    unit = rel / r[:, None]
    below = unit[:, 1] < -0.55  # under the skull the table holds chin and neck
    push = np.where(below, 0, np.maximum(0, skull_radius(table, unit) + above - r))
    position = position + unit * push[:, None]
    radius = np.hypot(position[:, 0], position[:, 2] - _NECK_Z)
    in_neck = (position[:, 1] < -55) & (radius < _NECK_RADIUS)
    k = np.where(in_neck, _NECK_RADIUS / np.maximum(radius, 1), 1)
    position[:, 0] *= k
    position[:, 2] = _NECK_Z + (position[:, 2] - _NECK_Z) * k
    return position


def _free_the_face(position, style, form, high, recede, parting, strand_floor):
    """Move positions [R, 3] off the face, in place: short hair upwards, long hair aside, a fringe above the eyes."""
    x, y, z = position.T
    if style == "fringe":
        low_front = (z > -40) & (np.abs(x) < 55) & (y < 24)
        position[:, 1] = np.where(low_front, 24 - 0.15 * (24 - y), y)
    elif form.front < 100 and style not in TIED:
        floor = hairline(np.arctan2(x, z - AXIS_Z), high, recede) - 14 + 26 * strand_floor
        on_face = (z > -70) & (y < floor)
        position[:, 1] = np.where(on_face, floor - 0.35 * (floor - y), y)
    else:
        limit = 60 - 10 * np.clip(y / 60, 0, 1) + 8
        on_face = (z > -62) & (y < 52 + high) & (np.abs(x) < limit)
        want = limit * np.where(x > (parting if abs(parting) < 40 else 0) * 0.3, 1, -1)
        position[:, 0] = np.where(on_face, x + 0.8 * (want - x), x)


def _grow_ribbons(rng, style, form, root, normal, table, high, recede, steps):
    """Nodes and outward normals, each [R, S, 3], of ribbons from roots and normals [R, 3]."""
    ribbons = len(root)
    lift = form.lift * rng.uniform(0.8, 1.25)
    front = smoothstep(-90, -20, root[:, 2])
    length = (
        (form.front * front + form.back * (1 - front))
        * rng.uniform(0.8, 1.2)
        * rng.normal(1, 0.12, ribbons).clip(0.6, 1.4)
    )
    parting = random_parting(rng, style)
    combed = comb(rng, style, root, parting)
    clump = rng.integers(0, _CLUMPS, ribbons)
    phase = rng.uniform(0, 6.28, _CLUMPS)[clump] + rng.normal(0, 0.35, ribbons)
    strand_floor = rng.random(ribbons)
    layer = rng.uniform(0.6, 1.0, ribbons) ** 0.5
    volume = form.volume * rng.uniform(0.8, 1.3)

    step = length / (steps - 1)
    nodes = np.empty((ribbons, steps, 3))
    outward = np.empty((ribbons, steps, 3))
    nodes[:, 0] = root - 0.5 * normal  # half a millimetre under the skin, so that no gap shows
    outward[:, 0] = normal
    direction = lift * normal + combed
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    position = nodes[:, 0].copy()
    goal = knot_position(style)
    for s in range(1, steps):
        f = s / (steps - 1)
        if style in TIED:
            to = goal - position
            far = np.linalg.norm(to, axis=1, keepdims=True)
            direction = np.where(far > 12, to / np.maximum(far, 1e-3), direction)
            step_s = np.minimum(step, far[:, 0] * 0.35)  # slide along the skull towards the knot
        else:
            direction = _fall(position, direction, combed, (s * step)[:, None], form.gravity)
            step_s = step
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        position = position + direction * step_s[:, None]
        if form.wave:
            t = f * length / _WAVE_MM * 6.28 + phase
            position[:, 0] += form.wave * 0.22 * np.sin(t)
            position[:, 2] += form.wave * 0.22 * np.cos(t * 0.8)
        if form.curl:
            t = f * length / _CURL_MM * 6.28 + phase * 3
            position += form.curl * 0.35 * np.stack([np.sin(t), np.cos(t * 1.1), np.sin(t + 1.5)], 1) * min(1, f * 2)
        position = _push_out(position, table, np.minimum(1.0, f * 3.5) * volume * layer + 1.2)
        _free_the_face(position, style, form, high, recede, parting, strand_floor)
        move = position - nodes[:, s - 1]
        direction = move / np.maximum(np.linalg.norm(move, axis=1, keepdims=True), 1e-4) * 0.75 + direction * 0.25
        nodes[:, s] = position
        # Normals as of a capsule: round on top of the head, level below.
        away = position - np.array([0, 0, -90.0])
        away[:, 1] = np.where(position[:, 1] > 10, position[:, 1] - 10, 0.0)
        outward[:, s] = away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-3)
    return nodes, outward


def _knot(rng, style, steps, count):
    """Nodes [count, steps, 3] of the bun or the tail behind the head."""
    t = np.linspace(0, 1, steps)
    if style == "bun":
        turn = rng.uniform(0, 6.28, count)[:, None] + t * 3.5
        tilt = rng.uniform(-1.2, 1.2, count)[:, None]
        r = rng.uniform(24, 34)
        centre = np.array([0.0, rng.uniform(60, 105), -150.0])
        ball = [np.cos(turn) * np.cos(tilt), np.sin(tilt) + 0 * turn, np.sin(turn) * np.cos(tilt)]
        return centre + r * np.stack(ball, -1)
    x = rng.normal(0, 9, count)[:, None] * (1 + t)
    y = 25 + 18 * np.sin(t * 2.2) - t * rng.uniform(120, 210, count)[:, None]
    z = -176 - 22 * np.sin(t * 2.5) + rng.normal(0, 8, count)[:, None]
    return np.stack([x + 0 * y, y, z], -1)


def grow_hair(
    rng: np.random.Generator,
    shape: Shape,
    fine: np.ndarray,
    normals: np.ndarray,
    style: str | None = None,
    ribbons: int = 4200,
    steps: int = 11,
) -> Hair:
    """Grow a person's hair on the neutral head.

    Args:
        fine, normals: `[M, 3]` of the fine mesh.
        style: one of `hair_styles.STYLES`; None draws one that fits the shape.
        ribbons: how many; a tied style adds those of its knot.
        steps: nodes a ribbon.
    """
    style = style or random_style(rng, shape)
    high, recede = rng.normal(0, 4), max(0.0, rng.normal(0, 4))
    if style == "receding":
        recede += rng.uniform(14, 34)
        high += rng.uniform(4, 18)
    scalp, bare_crown = _darkened_scalp(rng, style, high, recede)
    if style == "bald":
        return no_hair(style, scalp, steps)
    form: Form = FORMS[style]
    triangles = _root_triangles(rng, high, recede, bare_crown, ribbons)
    root, normal, roots = grow_from(rng, fine, normals, triangles)
    nodes, outward = _grow_ribbons(rng, style, form, root, normal, skull_table(fine), high, recede, steps)
    width = rng.uniform(1.5, 2.8, ribbons) * form.width
    strand = rng.random(ribbons)
    if style in TIED:
        knot = _knot(rng, style, steps, _KNOT_RIBBONS)
        away = knot - np.array([0, 40.0, -150.0])
        back = int(np.argmin(np.linalg.norm(load_template().fine - np.array([0, 40, -165.0]), axis=1)))
        nodes = np.concatenate([nodes, knot])
        outward = np.concatenate([outward, away / np.linalg.norm(away, axis=-1, keepdims=True)])
        roots = np.concatenate([roots, np.full(len(knot), back)])
        width = np.concatenate([width, rng.uniform(2, 3.5, len(knot))])
        strand = np.concatenate([strand, rng.random(len(knot))])
    return make_hair(style, nodes, roots, width, strand, outward, scalp)
