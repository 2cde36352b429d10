"""Ribbons: the flat strands that hair and beards are made of."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_TAPER_FROM, _TAPER = 0.55, 0.85  # from this share of its length on a ribbon narrows, at the end to 15 per cent


@dataclass(frozen=True)
class Hair:
    """Ribbons of one person. R ribbons of S nodes, in template space (mm)."""

    style: str  # one of hair_styles.STYLES, or "beard"
    nodes: np.ndarray  # [R, S, 3] neutral positions, root first
    roots: np.ndarray  # [R] fine vertices the roots ride on
    width: np.ndarray  # [R] mm
    strand: np.ndarray  # [R] random 0..1
    normals: np.ndarray  # [R, S, 3] outward
    triangles: np.ndarray  # [T, 3] into the 2 R S hair vertices
    scalp: np.ndarray | None  # [H, W] atlas: where the hair darkens the skin, 0..1; None for a beard


def make_hair(style: str, nodes, roots, width, strand, normals, scalp=None) -> Hair:
    """Hair of nodes `[R, S, 3]`, roots, width, strand `[R]` and normals `[R, S, 3]`, with its triangles."""
    return Hair(
        style,
        nodes.astype(np.float32),
        roots,
        width.astype(np.float32),
        strand.astype(np.float32),
        normals.astype(np.float32),
        _triangles(nodes.shape[0], nodes.shape[1]),
        scalp,
    )


def no_hair(style: str, scalp: np.ndarray, steps: int) -> Hair:
    """Hair without ribbons: only the darkened scalp `[H, W]`."""
    nodes, none = np.zeros((0, steps, 3), np.float32), np.zeros(0, np.float32)
    return make_hair(style, nodes, np.zeros(0, np.int64), none, none, nodes, scalp)


@lru_cache(16)
def _triangles(ribbons, steps):
    """Triangles [2 R (S - 1), 3] of ribbons whose vertices come in pairs, left and right of each node."""
    base = (np.arange(ribbons)[:, None] * steps + np.arange(steps - 1)[None]).reshape(-1) * 2
    a = np.stack([base, base + 1, base + 2], 1)
    b = np.stack([base + 1, base + 3, base + 2], 1)
    return np.stack([a, b], 1).reshape(-1, 3).astype(np.int32)


def _sides(tangent, normals):
    """Unit vectors across ribbons [R, S, 3]."""
    side = np.cross(tangent, normals)
    return side / (np.linalg.norm(side, axis=-1, keepdims=True) + 1e-6)


def ribbon_vertices(hair: Hair, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices of the ribbons: positions, normals, places and tangents, each float32 `[2 R S, 3]`.

    A place is the shader's coordinate: across (-1, 1), along (0 root .. 1 end), strand.

    Args:
        moved: `[R, 3]` shift of each ribbon, mm.
    """
    r, s, _ = hair.nodes.shape
    nodes = hair.nodes + moved[:, None]
    t = np.linspace(0, 1, s, dtype=np.float32)
    tangent = np.empty_like(nodes)
    tangent[:, 1:-1] = nodes[:, 2:] - nodes[:, :-2]
    tangent[:, 0] = nodes[:, 1] - nodes[:, 0]
    tangent[:, -1] = nodes[:, -1] - nodes[:, -2]
    taper = 1 - _TAPER * np.clip((t - _TAPER_FROM) / (1 - _TAPER_FROM), 0, 1) ** 1.5
    half = 0.5 * hair.width[:, None] * taper
    offset = _sides(tangent, hair.normals) * half[..., None]
    points = np.stack([nodes - offset, nodes + offset], 2).reshape(-1, 3)
    place = np.empty((r, s, 2, 3), np.float32)
    place[..., 0, 0], place[..., 1, 0] = -1, 1
    place[..., 1] = t[None, :, None]
    place[..., 2] = hair.strand[:, None, None]
    return (
        points.astype(np.float32),
        np.repeat(hair.normals.reshape(-1, 3), 2, 0).astype(np.float32),
        place.reshape(-1, 3),
        np.repeat(tangent.reshape(-1, 3), 2, 0).astype(np.float32),
    )


def every_other_ribbon(hair: Hair) -> np.ndarray:
    """bool `[T]`: the triangles of every second ribbon."""
    each = len(hair.triangles) // max(len(hair.nodes), 1)
    return np.repeat(np.arange(len(hair.nodes)) % 2 == 0, each)


def coarse_ribbons(hair: Hair) -> tuple[np.ndarray, np.ndarray]:
    """Every fourth ribbon with every second node, three times as wide: points `[N, 3]` and triangles `[T, 3]`."""
    nodes, normals = hair.nodes[::4, ::2], hair.normals[::4, ::2]
    if not len(nodes):
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    side = _sides(np.gradient(nodes, axis=1), normals)
    half = 1.5 * hair.width[::4, None, None]
    points = np.stack([nodes - side * half, nodes + side * half], 2).reshape(-1, 3)
    return points, _triangles(nodes.shape[0], nodes.shape[1])
