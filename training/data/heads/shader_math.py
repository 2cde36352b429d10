"""Small functions of the shader: steps, hashes, noise, shadow look-ups, smooth radiance. All numba, all scalar.

The size and softness of the shadow filter were chosen by eye.
"""

import numpy as np
from numba import njit


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def step(a, b, x):
    """0 at a, 1 at b, smooth between."""
    t = (x - a) / (b - a)
    t = 0.0 if t < 0 else (1.0 if t > 1 else t)
    return t * t * (3 - 2 * t)


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def hash2(x, y):
    """A number in 0..1 that looks random in x, y (the sine hash common in shaders)."""
    h = np.sin(x * 12.9898 + y * 78.233) * 43758.5453
    return h - np.floor(h)


@njit(cache=True, fastmath=True, nogil=True)
def noise(x, y):
    """Value noise in 0..1 with features of size 1."""
    ix, iy = np.floor(x), np.floor(y)
    fx, fy = x - ix, y - iy
    fx = fx * fx * (3 - 2 * fx)
    fy = fy * fy * (3 - 2 * fy)
    a, b = hash2(ix, iy), hash2(ix + 1, iy)
    c, d = hash2(ix, iy + 1), hash2(ix + 1, iy + 1)
    return (a + (b - a) * fx) * (1 - fy) + (c + (d - c) * fx) * fy


@njit(cache=True, fastmath=True, nogil=True)
def shadow(depth, axes, centre, scale, px, py, pz, bias, radius):
    """Share of light (0..1) reaching a point, through a 4x4 tap filter.

    depth [S, S], axes, centre, scale: a shadow map as of raster.depth_map; bias in mm; radius in map pixels.
    """
    size = depth.shape[0]
    x, y, z = px - centre[0], py - centre[1], pz - centre[2]
    u = size * 0.5 + scale * (axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z)
    v = size * 0.5 + scale * (axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z)
    w = axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z + bias
    lit = 0.0
    for j in range(4):
        for i in range(4):
            a = int(u + (i - 1.5) * radius * 0.6667)
            b = int(v + (j - 1.5) * radius * 0.6667)
            if a < 0 or b < 0 or a >= size or b >= size:
                lit += 1.0
            else:
                # A soft comparison keeps grazing surfaces from breaking into steps.
                d = (w - depth[b, a]) * 0.5 + 0.5
                lit += 0.0 if d < 0 else (1.0 if d > 1 else d)
    return lit / 16.0


@njit(cache=True, fastmath=True, nogil=True)
def smooth_radiance(sh, x, y, z, c):
    """Radiance of channel c from a direction, blurred by a cosine lobe.

    sh [9, 3] are coefficients as of lights.sh9. The lobe's factors 1, 2/3, 1/4 by degree are those of Ramamoorthi and Hanrahan (2001)
    over pi.
    """
    return (
        0.282095 * sh[0, c]
        + 0.6667 * 0.488603 * (y * sh[1, c] + z * sh[2, c] + x * sh[3, c])
        + 0.25
        * (
            1.092548 * (x * y * sh[4, c] + y * z * sh[5, c] + x * z * sh[7, c])
            + 0.315392 * (3 * z * z - 1) * sh[6, c]
            + 0.546274 * (x * x - y * y) * sh[8, c]
        )
    )
