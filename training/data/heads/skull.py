"""The skull under the hair: where hair can grow, and how far out the skin is in any direction."""

from functools import lru_cache

import numpy as np

from .canvas import above_jaw
from .template import load_template
from .template_space import SKIN, read_atlas

CENTRE = np.array([0.0, 28.0, -82.0], np.float32)  # of the skull, template space
_ROWS, _COLUMNS = 48, 96  # of the table of radii: elevation and azimuth


def outer_skin(centre: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The template's skin triangles: indices `[K]`, areas in mm2, centres `[K, 3]`, and whether they face out.

    A triangle faces out if its normal points away from `centre` `[3]`; the others line nostrils and sockets.
    """
    t = load_template()
    index = np.flatnonzero(t.material == SKIN)
    corners = t.fine[t.triangles[index]]
    middle = corners.mean(1)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return index, np.linalg.norm(normal, axis=1) / 2, middle, ((middle - centre) * normal).sum(1) > 0


@lru_cache(1)
def scalp_triangles() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Skin triangles of the upper head without the ears: indices `[K]`, areas `[K]`, centres `[K, 3]`."""
    index, area, centre, outer = outer_skin(CENTRE)
    ear = read_atlas(load_template().atlas_masks[..., 1], centre)
    ok = outer & (centre[:, 1] > -75) & (np.abs(centre[:, 0]) < 78) & (ear < 0.3)
    return index[ok], area[ok], centre[ok]


def grow_from(
    rng: np.random.Generator, fine: np.ndarray, normals: np.ndarray, triangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random points in fine triangles `[R]`: positions `[R, 3]`, unit normals `[R, 3]`, nearest vertices `[R]`."""
    corners = load_template().triangles[triangles]
    w = rng.dirichlet([1, 1, 1], len(triangles))
    point = (fine[corners] * w[..., None]).sum(1)
    normal = (normals[corners] * w[..., None]).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return point, normal, corners[np.arange(len(triangles)), np.argmax(w, 1)]


@lru_cache(1)
def _radial_vertices():
    """The fine vertex in each direction from the skull's centre: [48, 96] indices."""
    t = load_template()
    skin = np.unique(t.triangles[t.material == SKIN])
    p = t.fine[skin]
    # Neither shoulders nor neck nor ears: they would push hair off the head.
    neck = (p[:, 1] < -45) & (p[:, 2] < -40) & ~above_jaw(p[:, 1], p[:, 2])
    keep = (p[:, 1] > -118) & ~neck & (np.abs(p[:, 0]) < 74)
    skin, p = skin[keep], p[keep] - CENTRE
    d = p / np.linalg.norm(p, axis=1, keepdims=True)
    el = (np.arange(_ROWS) + 0.5) / _ROWS * np.pi - np.pi / 2
    az = (np.arange(_COLUMNS) + 0.5) / _COLUMNS * 2 * np.pi - np.pi
    e, a = np.meshgrid(el, az, indexing="ij")
    grid = np.stack([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)], -1)
    score = grid.reshape(-1, 3) @ d.T
    # Among vertices in about one direction the outermost.
    return skin[np.argmax(score + 0.0002 * np.linalg.norm(p, axis=1), 1)].reshape(_ROWS, _COLUMNS)


def skull_table(fine: np.ndarray) -> np.ndarray:
    """Radii `[48, 96]` in mm of a person's head (fine vertices `[M, 3]`) about `CENTRE`."""
    return np.linalg.norm(fine[_radial_vertices()] - CENTRE, axis=-1)


def skull_radius(table: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Radius `[R]` of a `skull_table` in unit directions `[R, 3]`, bilinear."""
    el = np.arcsin(np.clip(direction[:, 1], -1, 1))
    az = np.arctan2(direction[:, 0], direction[:, 2])
    i = np.clip((el + np.pi / 2) / np.pi * _ROWS - 0.5, 0, _ROWS - 1.001)
    j = (az + np.pi) / (2 * np.pi) * _COLUMNS - 0.5
    i0 = i.astype(int)
    j0 = np.floor(j).astype(int)
    fi, fj = i - i0, j - j0
    a, b = j0 % _COLUMNS, (j0 + 1) % _COLUMNS
    return (1 - fi) * ((1 - fj) * table[i0, a] + fj * table[i0, b]) + fi * (
        (1 - fj) * table[i0 + 1, a] + fj * table[i0 + 1, b]
    )
