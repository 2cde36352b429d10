"""Precomputed light transfer: which of the 64 environment directions each vertex sees, and irradiance from it."""

import numpy as np
from numba import njit

from .lights import SPHERE
from .raster import depth_map

# The ball that shadow maps cover, mm: the head with its hair. What lies outside throws no shadow and is lit.
CENTRE = np.array([0.0, -20.0, -70.0], np.float32)
RADIUS = 165.0


def light_axes(direction: np.ndarray) -> np.ndarray:
    """Axes float32 `[3, 3]` of a shadow map for a unit direction: rows right, up, towards the light."""
    d = np.asarray(direction, np.float64)
    helper = np.array([0.0, 1.0, 0.0]) if abs(d[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    right = np.cross(helper, d)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(d, right), d]).astype(np.float32)


@njit(cache=True, fastmath=True, nogil=True)
def _look_up(points, normals, axes, centre, scale, depth, sign, bias, fibres_from, out, column):
    """Fill one column of out: the share of four neighbouring texels that let light through, times 255."""
    size = depth.shape[0]
    half = np.float32(size * 0.5 - 0.5)
    one = np.float32(1)
    for i in range(points.shape[0]):
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        if i < fibres_from and sign * (nx * axes[2, 0] + ny * axes[2, 1] + nz * axes[2, 2]) < np.float32(-0.25):
            continue
        x = points[i, 0] + nx * bias - centre[0]
        y = points[i, 1] + ny * bias - centre[1]
        z = points[i, 2] + nz * bias - centre[2]
        u = half + scale * (axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z)
        v = half + scale * (axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z)
        w = sign * (axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z) + bias
        if u < 0 or v < 0 or u >= size - 1 or v >= size - 1:
            out[i, column] = 255
            continue
        iu, iv = int(u), int(v)
        fu, fv = u - iu, v - iv
        lit = np.float32(0)
        if sign * depth[iv, iu] < w:
            lit += (one - fu) * (one - fv)
        if sign * depth[iv, iu + 1] < w:
            lit += fu * (one - fv)
        if sign * depth[iv + 1, iu] < w:
            lit += (one - fu) * fv
        if sign * depth[iv + 1, iu + 1] < w:
            lit += fu * fv
        out[i, column] = np.uint8(lit * np.float32(255))


def bake_visibility(
    points: np.ndarray,
    normals: np.ndarray,
    caster_points: np.ndarray,
    caster_triangles: np.ndarray,
    fibres_from: int,
    size: int = 96,
    bias: float = 3.5,
) -> np.ndarray:
    """Visibility uint8 `[N, 64]` of the directions `lights.SPHERE` from points; 255 = seen.

    Args:
        points, normals: float32 `[N, 3]`.
        caster_points, caster_triangles: float32 `[P, 3]`, int32 `[T, 3]`: what may be in the way.
        fibres_from: points before this index are surfaces and not asked about directions behind them.
        size: of the depth maps in pixels: 96 makes one 3.4 mm wide, enough for soft light.
        bias: mm towards the light, about a pixel, so that surfaces do not shade themselves.
    """
    out = np.zeros((len(points), len(SPHERE)), np.uint8)
    scale = np.float32(size * 0.5 / RADIUS)
    half = len(SPHERE) // 2
    for k in range(half):
        axes = light_axes(SPHERE[k])
        near, far = depth_map(caster_points, caster_triangles, axes, CENTRE, scale, size, True)
        _look_up(points, normals, axes, CENTRE, scale, near, np.float32(1), np.float32(bias), fibres_from, out, k)
        _look_up(
            points, normals, axes, CENTRE, scale, far, np.float32(-1), np.float32(bias), fibres_from, out, k + half
        )
    return out


@njit(cache=True, fastmath=True, nogil=True)
def irradiance(normals, visibility, sphere, environment, hair_from, out):
    """Diffuse irradiance over pi into out[:, 0:3] and its luminance-weighted direction into out[:, 3:6].

    From vertex `hair_from` on, vertices are fibres: they receive from all around, and come in pairs of equal light.

    Args:
        normals: float32 `[V, 3]`.
        visibility: uint8 `[N, 64]`, one row a vertex and from `hair_from` on one a pair.
        sphere, environment: float32 `[64, 3]` directions and their radiance.
        out: float32 `[V, 6]`, written.
    """
    n = normals.shape[0]
    share = np.float32(4.0 / 64.0 / 255.0)  # solid angle of a direction over pi; visibility is in 255ths
    zero, one = np.float32(0), np.float32(1)
    luminance = np.empty(sphere.shape[0], np.float32)
    for k in range(sphere.shape[0]):
        luminance[k] = environment[k, 0] * 0.2126 + environment[k, 1] * 0.7152 + environment[k, 2] * 0.0722
    i = 0
    while i < n:
        r = g = b = x = y = z = zero
        fibre = i >= hair_from
        row = hair_from + (i - hair_from) // 2 if fibre else i
        nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
        for k in range(sphere.shape[0]):
            v = visibility[row, k]
            if v == 0:
                continue
            c = nx * sphere[k, 0] + ny * sphere[k, 1] + nz * sphere[k, 2]
            if fibre:
                c = np.float32(0.35) + np.float32(0.65) * c if c > zero else np.float32(0.35) * (one + c)
            if c <= zero:
                continue
            f = v * share
            w = c * f
            r += environment[k, 0] * w
            g += environment[k, 1] * w
            b += environment[k, 2] * w
            if not fibre:
                f *= luminance[k]
                x += f * sphere[k, 0]
                y += f * sphere[k, 1]
                z += f * sphere[k, 2]
        out[i, 0], out[i, 1], out[i, 2], out[i, 3], out[i, 4], out[i, 5] = r, g, b, x, y, z
        if fibre:
            out[i + 1] = out[i]
            i += 1
        i += 1
