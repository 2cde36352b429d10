"""The shader: light on every covered pixel of a G-buffer. One numba kernel over the materials of materials.py.

Numbers without a source beside them (strengths, widths, limits, biases) were chosen by eye.
"""

from collections import namedtuple

import numpy as np
from numba import njit

from .materials import (
    CLOTH,
    EYES,
    GLASSES,
    HAIR_CLASS,
    HEADWEAR,
    LASHES,
    MOUTH_INSIDE,
    Finish,
    cloth_finish,
    eye_finish,
    hair_finish,
    hat_finish,
    mouth_finish,
    skin_finish,
    teeth_finish,
)
from .shader_math import hash2, shadow, smooth_radiance, step
from .template_space import EYE, FRAME, HAIR, LASH, MOUTH, SKIN, TEETH

# Columns of the vertex attributes; a tangent is only read on hair.
NORMAL, IRRADIANCE, GRADIENT, PLACE, TANGENT, COLUMNS = 0, 3, 6, 9, 12, 15

Mesh = namedtuple(
    "Mesh",
    [
        "triangles",  # [T, 3]
        "material",  # [T]
        "points",  # [N, 3] world, mm
        "attributes",  # [N, 15]
    ],
)
KeyLights = namedtuple(
    "KeyLights",
    [
        "directions",  # [K, 3]
        "colours",  # [K, 3]
        "softness",  # [K]
        "maps",  # [K, S, S] shadow maps as of raster.depth_map
        "axes",  # [K, 3, 3]
        "centre",  # [3]
        "scale",  # map pixels a mm
    ],
)


@njit(cache=True, fastmath=True, nogil=True)
def _finish(base, texel, material, tx, ty, tz, nx, ny, nz, paint):
    """Fill base [3] and return the Finish of a point; see materials.py. texel [8] is scratch."""
    if material == SKIN:
        collar = paint.collar
        limit = collar[0] + (-45.0 - tz) * collar[1]
        if tz > -95:  # in front: the V
            limit -= collar[2] * max(0.0, 1 - abs(tx) / collar[3])
        if ty < limit:
            return cloth_finish(base, tx, ty, tz, nx, ny, nz, limit, paint.cloth, collar)
        return skin_finish(base, texel, tx, ty, tz, nx, ny, nz, limit, paint.atlas, paint.skin[0])
    if material == EYE:
        return eye_finish(base, tx, ty, tz, nx, ny, nz, paint.eye_centre, paint.eye)
    if material == TEETH:
        return teeth_finish(base, tz, nx, ny, nz)
    if material == MOUTH:
        return mouth_finish(base, tz, nx, ny, nz)
    if material == LASH:
        base[0], base[1], base[2] = paint.eye[9], paint.eye[10], paint.eye[11]
        return Finish(LASHES, nx, ny, nz, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    if material == HAIR:
        return hair_finish(base, tx, ty, tz, nx, ny, nz, paint.hair)
    if material == FRAME:
        base[0], base[1], base[2] = paint.frame[0], paint.frame[1], paint.frame[2]
        return Finish(GLASSES, nx, ny, nz, 1.0, 0.0, 0.0, 1.2, 0.4, 0.0, 1.0)
    return hat_finish(base, tx, ty, nx, ny, nz, paint.hat)


@njit(cache=True, fastmath=True, nogil=True)
def _add_hair_light(total, base, value, lx, ly, lz, vx, vy, vz, smooth, lit, colour, hair):
    """Add a key light on hair to total [3]: a soft body and two shifted highlights across the strand.

    The terms are those of Kajiya and Kay (1989, diffuse) and Marschner et al. (2003, a white highlight shifted to the root and a
    coloured one to the tip); all numbers were chosen by eye. smooth is the cosine to the ribbon's normal.
    """
    s = 1 / np.sqrt(value[12] ** 2 + value[13] ** 2 + value[14] ** 2 + 1e-12)
    ax, ay, az = value[12] * s, value[13] * s, value[14] * s
    hx, hy, hz = lx + vx, ly + vy, lz + vz
    s = 1 / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
    th = (ax * hx + ay * hy + az * hz) * s
    shift = 0.10 * (hash2(value[11] * 37.1, 2.2) - 0.5)
    tl = ax * lx + ay * ly + az * lz
    fibre = np.sqrt(max(0.0, 1 - tl * tl))
    body = 0.5 * fibre + 0.5
    side = 0.45 + 0.55 * smooth
    side = 0.0 if side < 0 else side
    one = max(0.0, 1 - (th - 0.06 + shift) ** 2) ** hair[9]
    two = max(0.0, 1 - (th + 0.12 + shift) ** 2) ** (hair[9] * 0.3)
    gate = step(-0.2, 0.4, smooth)
    for c in range(3):
        total[c] += (
            colour[c] * lit * (base[c] * body * side + gate * (hair[10] * 0.10 * one + hair[10] * 0.55 * base[c] * two))
        )


@njit(cache=True, fastmath=True, nogil=True)
def _add_key_light(total, base, f, nx, ny, nz, lx, ly, lz, vx, vy, vz, lit, colour, softness):
    """Add a key light on anything but hair to total [3]; f is the Finish, n its normalised normal."""
    cosine = nx * lx + ny * ly + nz * lz
    # Wrapped diffuse (Green, GPU Gems, 2004, chapter 16): red light travels furthest under the skin. Widths by eye.
    for c in range(3):
        w = f.wrap * (1.0, 0.42, 0.25)[c]
        d = (cosine + w) / (1 + w)
        d = 0.0 if d < 0 else d
        if w > 0:
            d = d * (1 + 0.35 * w) if d < 1 else d
        e = lit ** (1 - 0.2 * f.warm) if c == 0 else lit
        total[c] += base[c] * d * e * colour[c] * (0.5 + 0.5 * f.occlusion)
    if cosine > 0 and (f.broad > 0 or f.tight > 0):
        # Two Blinn-Phong lobes, normalised by (n + 8) / 8 pi, with Schlick's Fresnel term: 0.028 = (0.4 / 2.4)^2 is that of the
        # refractive index 1.4 of skin. Exponents and strengths by eye.
        hx, hy, hz = lx + vx, ly + vy, lz + vz
        s = 1 / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
        nh = (nx * hx + ny * hy + nz * hz) * s
        nh = 0.0 if nh < 0 else nh
        vh = (vx * hx + vy * hy + vz * hz) * s
        fresnel = 0.028 + 0.972 * (1 - vh) ** 5
        power = 420.0 if f.surface == EYES else (90.0 if f.surface == GLASSES else 46.0)
        if f.surface == EYES:  # a large lamp is a large highlight
            power = 420.0 / (1 + 0.12 * softness)
        spec = fresnel * (
            f.broad * (0.35 + 0.65 * f.gloss) * (11 + 8) / 25.13 * nh**11 + f.tight * (power + 8) / 25.13 * nh**power
        )
        spec *= lit * step(0.0, 0.25, cosine)
        for c in range(3):
            total[c] += spec * colour[c] * 3.14159 * 0.5


@njit(cache=True, fastmath=True, nogil=True)
def shade(ident, bary, mesh, paint, keys, sh, ambient, camera, colour, albedo, kind):
    """Shade every covered pixel.

    Args:
        ident, bary: int32 [H, W] and float32 [H, W, 2] from the rasteriser; pixels of ident < 0 stay as they are.
        mesh, paint, keys: Mesh, Paint, KeyLights.
        sh: float32 [9, 3] radiance coefficients over pi, for reflections.
        ambient: float32 [3] mean radiance.
        camera: float32 [3] world position.
        colour, albedo: float32 [H, W, 3], written: linear colour before exposure, and linear albedo.
        kind: uint8 [H, W], written: surface class of materials.py.
    """
    height, width = ident.shape
    value = np.empty(COLUMNS, np.float32)
    base = np.empty(3, np.float32)
    texel = np.empty(8, np.float32)
    total = np.empty(3, np.float32)
    triangles, points, attributes = mesh.triangles, mesh.points, mesh.attributes
    for row in range(height):
        for col in range(width):
            t = ident[row, col]
            if t < 0:
                continue
            ia, ib, ic = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            wa, wb = bary[row, col, 0], bary[row, col, 1]
            wc = 1 - wa - wb
            material = mesh.material[t]
            for k in range(COLUMNS if material == HAIR else TANGENT):
                value[k] = wa * attributes[ia, k] + wb * attributes[ib, k] + wc * attributes[ic, k]
            px = wa * points[ia, 0] + wb * points[ib, 0] + wc * points[ic, 0]
            py = wa * points[ia, 1] + wb * points[ib, 1] + wc * points[ic, 1]
            pz = wa * points[ia, 2] + wb * points[ib, 2] + wc * points[ic, 2]
            vx, vy, vz = camera[0] - px, camera[1] - py, camera[2] - pz
            s = 1 / np.sqrt(vx * vx + vy * vy + vz * vz)
            vx, vy, vz = vx * s, vy * s, vz * s
            nx, ny, nz = value[0], value[1], value[2]
            s = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            nx, ny, nz = nx * s, ny * s, nz * s
            ox, oy, oz = nx, ny, nz  # the smooth normal
            f = _finish(base, texel, material, value[9], value[10], value[11], nx, ny, nz, paint)
            nx, ny, nz = f.nx, f.ny, f.nz
            if f.surface <= EYES or f.surface == CLOTH or f.surface == HEADWEAR:  # those with relief
                s = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
                nx, ny, nz = nx * s, ny * s, nz * s

            # Environment: vertex irradiance, corrected to first order for the relief.
            change = value[6] * (nx - ox) + value[7] * (ny - oy) + value[8] * (nz - oz)
            lum = 0.2126 * value[3] + 0.7152 * value[4] + 0.0722 * value[5]  # Rec. 709
            change = 1 + 0.8 * change / (lum + 1e-4)
            change = 0.4 if change < 0.4 else (1.6 if change > 1.6 else change)
            for c in range(3):
                d = value[3 + c] * change
                if f.warm > 0:  # light leaking from neighbouring tissue
                    d += f.warm * (0.06, 0.025, 0.016)[c] * ambient[c]
                if f.surface == MOUTH_INSIDE:  # light enters an open mouth from the front
                    d = max(d, 0.22 * ambient[c])
                total[c] = base[c] * d * f.occlusion
            if f.surface != HAIR_CLASS:  # the environment's reflection
                facing = nx * vx + ny * vy + nz * vz
                facing = 0.0 if facing < 0 else facing
                k2 = 2 * (nx * vx + ny * vy + nz * vz)
                rx, ry, rz = k2 * nx - vx, k2 * ny - vy, k2 * nz - vz
                fresnel = 0.028 + 0.5 * (1 - facing) ** 5
                open_ = min(1.0, lum / (0.2126 * ambient[0] + 0.7152 * ambient[1] + 0.0722 * ambient[2] + 1e-4))
                k2 = fresnel * f.shine * open_ * f.occlusion * (0.55 + 0.9 * f.gloss)
                for c in range(3):
                    r = smooth_radiance(sh, rx, ry, rz, c)
                    total[c] += k2 * (r if r > 0 else 0.0)

            for k in range(keys.directions.shape[0]):
                lx, ly, lz = keys.directions[k, 0], keys.directions[k, 1], keys.directions[k, 2]
                smooth = ox * lx + oy * ly + oz * lz
                if f.surface != HAIR_CLASS and smooth < -0.35:
                    continue
                # Against a surface's own shadow: compare a little nearer to the light, more at grazing angles.
                bias = 1.6 + 3.0 * (1 - abs(smooth))
                push = 1.2
                if f.surface == HAIR_CLASS:
                    bias = 4.0
                    push = 0.0
                lit = shadow(
                    keys.maps[k],
                    keys.axes[k],
                    keys.centre,
                    keys.scale,
                    px + ox * push,
                    py + oy * push,
                    pz + oz * push,
                    bias,
                    1.0 + keys.softness[k] * 0.16,
                )
                if f.surface == MOUTH_INSIDE:
                    lit = max(lit, 0.15)
                if f.surface == HAIR_CLASS:
                    _add_hair_light(
                        total, base, value, lx, ly, lz, vx, vy, vz, smooth, lit, keys.colours[k], paint.hair
                    )
                else:
                    _add_key_light(
                        total,
                        base,
                        f,
                        nx,
                        ny,
                        nz,
                        lx,
                        ly,
                        lz,
                        vx,
                        vy,
                        vz,
                        lit,
                        keys.colours[k],
                        keys.softness[k],
                    )
            for c in range(3):
                colour[row, col, c] = total[c]
                albedo[row, col, c] = base[c]
            kind[row, col] = f.surface
