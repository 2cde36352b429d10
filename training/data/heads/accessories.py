"""Glasses and hats as small meshes that ride on the skull.

Shares, sizes and colours were chosen by eye.
"""

from dataclasses import dataclass, replace

import numpy as np

from .look import linear
from .ribbons import Hair
from .template import load_template
from .template_space import FRAME, HAT, SKIN

_GLASSES = 0.13  # share of people
_HATS = {"none": 0.93, "beanie": 0.055, "band": 0.015}
_NO_HAT = ("bun", "afro")  # hair styles no hat fits over
_HAT_TILT = 0.10  # a hat sits lower at the back
_EAR = np.array([79.0, -4.0, -82.0])  # where a temple ends, left side


@dataclass(frozen=True)
class Mesh:
    """A rigid accessory, in mm."""

    points: np.ndarray  # [N, 3]
    normals: np.ndarray  # [N, 3]
    places: np.ndarray  # [N, 3] coordinates for the shader's pattern
    triangles: np.ndarray  # [T, 3]
    material: int


def _tube(path, radius_a, radius_b, closed, sides=6):
    """Points, normals, triangles of a tube along path [N, 3]; radius_a in the picture plane, radius_b in depth."""
    n = len(path)
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = path[1] - path[0], path[-1] - path[-2]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9
    depth = np.array([0.0, 0, 1]) - ahead * ahead[:, 2:3]
    weak = np.linalg.norm(depth, axis=1) < 0.3  # the path runs in depth: take "up" instead
    depth[weak] = np.array([0.0, 1, 0]) - ahead[weak] * ahead[weak, 1:2]
    depth /= np.linalg.norm(depth, axis=1, keepdims=True)
    side = np.cross(ahead, depth)
    a = np.arange(sides) / sides * 2 * np.pi
    normal = side[:, None] * np.cos(a)[None, :, None] + depth[:, None] * np.sin(a)[None, :, None]
    points = (
        path[:, None]
        + side[:, None] * (radius_a * np.cos(a))[None, :, None]
        + depth[:, None] * (radius_b * np.sin(a))[None, :, None]
    )
    i, j = np.meshgrid(np.arange(n if closed else n - 1), np.arange(sides), indexing="ij")
    i2, j2 = (i + 1) % n, (j + 1) % sides
    q = np.stack([i * sides + j, i2 * sides + j, i2 * sides + j2, i * sides + j2], -1).reshape(-1, 4)
    return points.reshape(-1, 3), normal.reshape(-1, 3), np.concatenate([q[:, [0, 1, 2]], q[:, [0, 2, 3]]])


def _join(parts, material):
    """One Mesh of several (points, normals, triangles)."""
    starts = np.cumsum([0] + [len(points) for points, _, _ in parts])
    points = np.concatenate([p for p, _, _ in parts]).astype(np.float32)
    normals = np.concatenate([n for _, n, _ in parts]).astype(np.float32)
    triangles = np.concatenate([t + start for (_, _, t), start in zip(parts, starts)]).astype(np.int32)
    return Mesh(points, normals, points.copy(), triangles, material)


def make_glasses(rng: np.random.Generator, fine: np.ndarray) -> Mesh:
    """Spectacle frames that fit a neutral fine mesh `[M, 3]`: two superelliptic rims, two temples, a bridge."""
    template = load_template()
    centres = [fine[e].mean(0) for e in template.eye_vertices]
    gap = centres[0][0] - centres[1][0]
    w, h = rng.uniform(0.36, 0.42) * gap, rng.uniform(0.24, 0.37) * gap
    power = rng.choice([2.0, 2.6, 4.0])  # round, soft, square
    front = max(float(fine[e][:, 2].max()) for e in template.eye_vertices) + rng.uniform(8, 12)
    thick = rng.uniform(0.7, 2.2)
    a = np.arange(40) / 40 * 2 * np.pi
    parts = []
    for c, sign in ((centres[0], 1), (centres[1], -1)):
        x = np.sign(np.cos(a)) * np.abs(np.cos(a)) ** (2 / power) * w
        y = np.sign(np.sin(a)) * np.abs(np.sin(a)) ** (2 / power) * h - 3
        out = np.clip((sign * x) / w, -1, 1)
        z = front - 2.5 - 5 * np.maximum(out, 0) ** 2  # the outer half bends back
        parts.append(_tube(np.stack([c[0] * 1.04 + x, c[1] + y, z], 1), thick, thick * 0.8, True))
        hinge = np.array([c[0] * 1.04 + sign * w, c[1] + h * 0.45 - 3, front - 7.5])
        t = np.linspace(0, 1, 10)[:, None]
        path = hinge * (1 - t) + _EAR * [sign, 1, 1] * t
        path[:, 0] += sign * 9 * np.sin(t[:, 0] * np.pi)
        parts.append(_tube(path, thick * 0.7, thick, False))
    inner = centres[0][0] * 1.04 - w
    t = np.linspace(-1, 1, 9)
    bridge = np.stack([t * inner, centres[0][1] + 2 + 2.5 * (1 - t * t), np.full(9, front - 1.5)], 1)
    parts.append(_tube(bridge, thick, thick, False))
    return _join(parts, FRAME)


def _height(points):
    """Height [...] in mm of points [..., 3] along a hat's tilted axis."""
    return points[..., 1] + (points[..., 2] + 40) * _HAT_TILT


def make_hat(rng: np.random.Generator, fine: np.ndarray, normals: np.ndarray, kind: str) -> Mesh:
    """A "beanie" or a headband ("band"): the surface of the skull (fine, normals `[M, 3]`) pushed outwards."""
    template = load_template()
    tri = template.triangles[template.material == SKIN]
    base = template.fine
    low = rng.uniform(42, 56)
    height = _height(base)
    inside = (height > low) & (np.abs(base[:, 0]) < 90)
    if kind == "band":
        inside &= height < low + rng.uniform(18, 30)
    keep = inside[tri].all(1)
    used = np.unique(tri[keep])
    remap = np.full(len(base), -1)
    remap[used] = np.arange(len(used))
    out = 9.0 if kind == "band" else 11.0 + 0.16 * np.clip(height[used] - low - 15, 0, 60)[:, None]
    points = fine[used] + normals[used] * out
    if kind != "band":
        points[:, 1] += 0.22 * np.clip(height[used] - low - 30, 0, 80)
    faces = remap[tri[keep]]
    # A rolled edge closes the gap to the skin: border edges, doubled one millimetre under it.
    edge = np.sort(np.stack([faces, np.roll(faces, -1, 1)], 2).reshape(-1, 2), 1)
    unique, count = np.unique(edge, axis=0, return_counts=True)
    rim = unique[count == 1]
    inner = fine[used] - normals[used] * 1.0
    skirt = np.concatenate(
        [
            np.stack([rim[:, 0], rim[:, 1], rim[:, 1] + len(used)], 1),
            np.stack([rim[:, 0], rim[:, 1] + len(used), rim[:, 0] + len(used)], 1),
        ]
    )
    angle = np.arctan2(base[used, 0], base[used, 2] + 80)
    places = np.stack([angle * 80, height[used], base[used, 2]], 1)  # mm around the head, height, depth
    return Mesh(
        np.concatenate([points, inner]).astype(np.float32),
        np.concatenate([normals[used], normals[used]]).astype(np.float32),
        np.concatenate([places, places]).astype(np.float32),
        np.concatenate([faces, skirt]).astype(np.int32),
        HAT,
    )


def tuck_hair(hair: Hair) -> Hair:
    """Press the upper hair under a hat."""
    nodes = hair.nodes.copy()
    top = _height(hair.nodes[:, 0]) > 48
    # What starts under the hat and stays there is hidden: shrink it onto its root.
    stays = top & (hair.nodes[:, -1, 1] > 40)
    nodes[stays] = nodes[stays, :1] + 0.05 * (nodes[stays] - nodes[stays, :1])
    # What leaves it is kept within 4 mm of the skull under it.
    high = _height(nodes) > 44
    centre = np.array([0, 28.0, -82.0])
    rel = nodes - centre
    r = np.linalg.norm(rel, axis=-1, keepdims=True)
    root = np.linalg.norm(nodes[:, :1] - centre, axis=-1, keepdims=True)
    nodes = np.where(high[..., None], centre + rel * np.minimum(1, (root + 4) / r), nodes)
    return replace(hair, nodes=nodes.astype(np.float32))


def random_accessories(
    rng: np.random.Generator,
    fine: np.ndarray,
    normals: np.ndarray,
    hair_style: str,
    glasses: bool | None = None,
    hat: str | None = None,
) -> tuple[list[Mesh], np.ndarray, np.ndarray]:
    """Accessories that fit a neutral fine mesh `[M, 3]`: meshes, and the shader's `frame` `[3]` and `hat` `[10]`.

    Args:
        glasses, hat: force glasses and a kind of hat ("none", "beanie", "band"); None leaves it to chance. A bun or
            an afro never gets a hat.
    """
    extras = []
    chance = rng.random() < _GLASSES
    glasses = chance if glasses is None else glasses
    kind = str(rng.choice(list(_HATS), p=list(_HATS.values())))
    kind = kind if hat is None else hat
    frame = linear(rng.uniform(0.02, 0.25) * np.ones(3) if rng.random() < 0.6 else rng.uniform(0.05, 0.6, 3))
    colours = linear(rng.uniform(0.05, 0.75, 3)), linear(rng.uniform(0.05, 0.85, 3))
    hat_parameters = np.array(
        [
            *colours[0],
            *colours[1],
            rng.uniform(0.5, 1.2),  # of stitches around the head, radians a mm
            rng.uniform(0.3, 0.9),  # of stitches upwards
            rng.uniform(0.1, 0.4),  # of stripes
            rng.choice([2.0, 0.4, 0.75], p=[0.6, 0.2, 0.2]),  # threshold of a stripe; 2 = no stripes
        ],
        np.float32,
    )
    if glasses:
        extras.append(make_glasses(rng, fine))
    if kind != "none" and hair_style not in _NO_HAT:
        extras.append(make_hat(rng, fine, normals, kind))
    return extras, frame.astype(np.float32), hat_parameters
