"""The pixel shader: skin, eyes, teeth, lashes, hair, cloth, glasses, hats. One numba kernel over a G-buffer."""

import numpy as np
from numba import njit

from .template import ATLAS_BOTTOM, ATLAS_HEIGHT, ATLAS_TOP, ATLAS_WIDTH, AXIS_Z, FRONT_WARP

# Columns of the vertex attributes.
NORMAL, IRRADIANCE, GRADIENT, PLACE, TANGENT, COLUMNS = 0, 3, 6, 9, 12, 15
# Surface classes written by the kernel (0 = background).
SKIN_FACE, SKIN_BODY, EYES, MOUTH_INSIDE, LASHES, HAIR_CLASS, CLOTH, GLASSES, HEADWEAR = range(1, 10)


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def _step(a, b, x):
    t = (x - a) / (b - a)
    t = 0.0 if t < 0 else (1.0 if t > 1 else t)
    return t * t * (3 - 2 * t)


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def _hash(x, y):
    h = np.sin(x * 12.9898 + y * 78.233) * 43758.5453
    return h - np.floor(h)


@njit(cache=True, fastmath=True, nogil=True)
def _noise(x, y):
    ix, iy = np.floor(x), np.floor(y)
    fx, fy = x - ix, y - iy
    fx = fx * fx * (3 - 2 * fx)
    fy = fy * fy * (3 - 2 * fy)
    a, b = _hash(ix, iy), _hash(ix + 1, iy)
    c, d = _hash(ix, iy + 1), _hash(ix + 1, iy + 1)
    return (a + (b - a) * fx) * (1 - fy) + (c + (d - c) * fx) * fy


@njit(cache=True, fastmath=True, nogil=True)
def _shadow(depth, axes, centre, scale, px, py, pz, bias, radius):
    """Share of light reaching a point through a 4x4 tap filter of the given radius in map pixels."""
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
def _sh(sh, x, y, z, c):
    """Irradiance-like smooth radiance of SH coefficients towards a direction."""
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


@njit(cache=True, fastmath=True, nogil=True)
def shade(
    ident,
    bary,
    triangles,
    material,
    points,
    attributes,
    atlas,
    eye_centre,
    camera,
    key_directions,
    key_colours,
    key_softness,
    shadow_maps,
    shadow_axes,
    shadow_centre,
    shadow_scale,
    sh,
    ambient,
    skin,
    eye,
    hair,
    cloth,
    collar,
    frame,
    hat,
    colour,
    albedo,
    kind,
):
    """Shade every covered pixel.

    ident [H, W], bary [H, W, 2] from the rasteriser; points [N, 3] world; attributes [N, 15]; atlas [H, W, 8]
    (albedo 3, gloss, slope x, slope y, face, spare); eye_centre [2, 3] template positions; camera [3] world position.
    The parameter vectors skin, eye, hair, cloth, collar, frame, hat are documented where they are drawn.
    Writes linear colour [H, W, 3], albedo [H, W, 3] and surface class [H, W].
    """
    height, width = ident.shape
    keys = key_directions.shape[0]
    row_scale = ATLAS_HEIGHT / (ATLAS_TOP - ATLAS_BOTTOM)
    value = np.empty(15, np.float32)
    base = np.empty(3, np.float32)
    texel = np.empty(8, np.float32)
    total = np.empty(3, np.float32)
    for row in range(height):
        for col in range(width):
            t = ident[row, col]
            if t < 0:
                continue
            ia, ib, ic = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            wa, wb = bary[row, col, 0], bary[row, col, 1]
            wc = 1 - wa - wb
            mat = material[t]
            for k in range(15 if mat == 5 else 12):
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
            tx, ty, tz = value[9], value[10], value[11]
            ox, oy, oz = nx, ny, nz  # the smooth normal
            surface = 0
            gloss = 0.0
            wrap = 0.0
            warm = 0.0
            tight = 0.0
            broad = 0.0
            shine = 0.0
            occlusion = 1.0

            if mat == 0:
                # Cloth below the collar surface.
                limit = collar[0] + (-45.0 - tz) * collar[1]
                if tz > -95:
                    limit -= collar[2] * max(0.0, 1 - abs(tx) / collar[3])
                if ty < limit:
                    surface = 7
                    edge = limit - ty
                    p = 0.0
                    a = np.arctan2(tx, tz - AXIS_Z) * 90.0
                    if cloth[6] == 1:  # stripes across
                        p = 1.0 if np.sin(ty * cloth[7]) > cloth[8] else 0.0
                    elif cloth[6] == 2:  # checks
                        p = 0.5 * (np.sin(ty * cloth[7]) > 0) + 0.5 * (np.sin(a * cloth[7]) > 0)
                    elif cloth[6] == 3:  # vertical stripes
                        p = 1.0 if np.sin(a * cloth[7]) > cloth[8] else 0.0
                    elif cloth[6] == 4:  # mottled
                        p = _step(0.4, 0.6, _noise(a * cloth[7] * 0.3, ty * cloth[7] * 0.3))
                    weave = 0.88 + 0.24 * _noise(a * 1.3, ty * 1.3) * (0.7 + 0.3 * np.sin(a * 3.0))
                    if edge < collar[4]:
                        p = cloth[9]
                        weave *= 0.9 + 0.14 * np.sin(a * 4.0)
                    for c in range(3):
                        base[c] = (cloth[c] * (1 - p) + cloth[3 + c] * p) * weave
                    # Folds: low-frequency normal perturbation.
                    f = (_noise(a * 0.09 + 7, ty * 0.05) - 0.5) * 0.9
                    nx += f * nz
                    nz -= f * nx
                    ny += (_noise(a * 0.06, ty * 0.08 + 3) - 0.5) * 0.5
                    broad = 0.012
                    shine = 0.25
                    occlusion = 0.55 + 0.45 * _step(0, 3.0, edge)
                else:
                    angle = np.arctan2(tx, tz - AXIS_Z) / np.pi
                    u = (0.5 + 0.5 * np.sign(angle) * abs(angle) ** FRONT_WARP) * ATLAS_WIDTH - 0.5
                    v = (ATLAS_TOP - ty) * row_scale - 0.5
                    u = min(max(u, 0.0), ATLAS_WIDTH - 1.001)
                    v = min(max(v, 0.0), ATLAS_HEIGHT - 1.001)
                    iu, iv = int(u), int(v)
                    fu, fv = u - iu, v - iv
                    w00, w01, w10, w11 = (1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv
                    for k in range(7):
                        texel[k] = (
                            w00 * atlas[iv, iu, k]
                            + w01 * atlas[iv, iu + 1, k]
                            + w10 * atlas[iv + 1, iu, k]
                            + w11 * atlas[iv + 1, iu + 1, k]
                        )
                    for c in range(3):
                        base[c] = texel[c]
                    gloss = texel[3]
                    surface = 1 if texel[6] > 0.5 else 2
                    if ty < limit + 14:  # contact shadow of the collar
                        occlusion = 0.72 + 0.28 * _step(0, 14, ty - limit)
                    # Relief: x runs along the horizon, y up.
                    hx, hz = nz, -nx
                    s = 1 / np.sqrt(hx * hx + hz * hz + 1e-6)
                    hx, hz = hx * s, hz * s
                    ux, uy, uz = ny * hz, nz * hx - nx * hz, -ny * hx
                    nx -= texel[4] * hx + texel[5] * ux
                    ny -= texel[5] * uy
                    nz -= texel[4] * hz + texel[5] * uz
                    wrap = skin[0]
                    warm = 1.0
                    tight = 0.55 * gloss
                    broad = 0.6
                    shine = 0.6
            elif mat == 1:
                surface = 3
                which = 0 if tx > 0 else 1
                dx, dy, dz = tx - eye_centre[which, 0], ty - eye_centre[which, 1], tz - eye_centre[which, 2]
                s = 1 / np.sqrt(dx * dx + dy * dy + dz * dz)
                dx, dy, dz = dx * s, dy * s, dz * s
                # Angle from the optical axis, as mm on the ball.
                across = np.sqrt(dx * dx + dy * dy)
                r = np.arctan2(across, dz) * 14.0
                phi = np.arctan2(dy, dx)
                iris, pupil = eye[6], eye[7]
                # White, reddish and veined to the corners.
                vein = _noise(phi * 9.0 + which * 5, r * 1.6) * _step(6.5, 12.0, r)
                base[0] = 0.70 - 0.05 * vein
                base[1] = 0.62 - 0.20 * vein
                base[2] = 0.57 - 0.20 * vein
                corner = _step(9.0, 13.5, r)
                base[0] *= 1 - 0.10 * corner
                base[1] *= 1 - 0.35 * corner
                base[2] *= 1 - 0.35 * corner
                if r < iris + 0.8:
                    q = r / iris
                    fibre = 0.72 + 0.56 * _noise(phi * 11.0, q * 1.5 + which * 3) * (
                        0.6 + 0.4 * _noise(phi * 23.0, q * 3.0)
                    )
                    inner = 1 - _step(0.35, 0.75, q)
                    limbal = 1 - (1 - eye[8]) * _step(0.72, 0.98, q)
                    for c in range(3):
                        k2 = (eye[c] * (1 - inner) + eye[3 + c] * inner) * fibre * limbal
                        k2 *= _step(pupil - 0.25, pupil + 0.25, r)
                        blend = _step(iris - 0.5, iris + 0.6, r)
                        base[c] = k2 * (1 - blend) + base[c] * blend
                    base[0] += 0.004
                # The upper lid shades the ball.
                occlusion = 1 - 0.62 * _step(0.12, 0.42, dy) - 0.18 * _step(0.15, 0.6, -dy)
                occlusion *= 1 - 0.35 * _step(0.55, 0.95, across)
                # Cornea: a stronger curvature than the ball.
                if r < iris + 1:
                    k2 = 0.55 * (1 - _step(iris * 0.7, iris + 1, r))
                    nx += k2 * dx
                    ny += k2 * dy
                wrap = 0.25
                warm = 0.4
                tight = 3.0
                shine = 0.6
            elif mat == 2:
                surface = 4
                base[0], base[1], base[2] = 0.62, 0.55, 0.44
                occlusion = 0.75 * _step(-14.0, 16.0, tz)
                gloss = 0.6
                tight = 0.5
                wrap = 0.15
                warm = 0.5
            elif mat == 3:
                surface = 4
                deep = _step(6.0, 24.0, tz)
                base[0], base[1], base[2] = 0.20 * deep + 0.02, 0.06 * deep + 0.008, 0.055 * deep + 0.008
                occlusion = 0.6
                gloss = 0.5
                tight = 0.35 * deep
                wrap = 0.2
                warm = 0.6
            elif mat == 4:
                surface = 5
                base[0], base[1], base[2] = eye[9], eye[10], eye[11]
            elif mat == 5:
                surface = 6
                across, along, strand = tx, ty, tz
                k2 = hair[6] * (_hash(strand * 91.7, 1.3) - 0.5) + 0.10 * (
                    _hash(np.floor(across * 2.5) * 7.1, strand * 57.3) - 0.5
                )
                mix = _step(0.1, 1.0, along) * hair[7] + (0.85 if _hash(strand * 13.7, 4.1) < hair[8] else 0.0)
                mix = 1.0 if mix > 1 else mix
                for c in range(3):
                    base[c] = (hair[c] * (1 - mix) + hair[3 + c] * mix) * np.exp(k2)
                occlusion = 0.62 + 0.38 * _step(0.0, 0.4, along)
                occlusion *= 1 - 0.22 * across * across
            elif mat == 6:
                surface = 8
                base[0], base[1], base[2] = frame[0], frame[1], frame[2]
                tight = 1.2
                broad = 0.4
                gloss = 1.0
            else:
                surface = 9
                p = 0.86 + 0.2 * np.sin(tx * hat[6]) * np.sin(ty * hat[7])
                stripe = _step(hat[9], hat[9] + 1.0, np.sin(ty * hat[8]))
                for c in range(3):
                    base[c] = (hat[c] * (1 - stripe) + hat[3 + c] * stripe) * p
                nx += 0.2 * np.cos(tx * hat[6])
                broad = 0.01
                shine = 0.2

            if surface == 7 or surface == 1 or surface == 2 or surface == 3 or surface == 9:
                s = 1 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
                nx, ny, nz = nx * s, ny * s, nz * s
            facing = nx * vx + ny * vy + nz * vz
            facing = 0.0 if facing < 0 else facing
            # Environment: vertex irradiance, corrected to first order for the relief.
            change = value[6] * (nx - ox) + value[7] * (ny - oy) + value[8] * (nz - oz)
            lum = 0.2126 * value[3] + 0.7152 * value[4] + 0.0722 * value[5]
            change = 1 + 0.8 * change / (lum + 1e-4)
            change = 0.4 if change < 0.4 else (1.6 if change > 1.6 else change)
            for c in range(3):
                d = value[3 + c] * change
                if warm > 0:  # light leaking from neighbouring tissue
                    d += warm * (0.06, 0.025, 0.016)[c] * ambient[c]
                if surface == 4:  # light enters an open mouth from the front
                    d = max(d, 0.22 * ambient[c])
                total[c] = base[c] * d * occlusion
            # Environment reflection.
            if surface != 6:
                k2 = 2 * (nx * vx + ny * vy + nz * vz)
                rx, ry, rz = k2 * nx - vx, k2 * ny - vy, k2 * nz - vz
                fresnel = 0.028 + 0.5 * (1 - facing) ** 5
                open_ = min(1.0, lum / (0.2126 * ambient[0] + 0.7152 * ambient[1] + 0.0722 * ambient[2] + 1e-4))
                k2 = fresnel * shine * open_ * occlusion * (0.55 + 0.9 * gloss)
                for c in range(3):
                    r = _sh(sh, rx, ry, rz, c)
                    total[c] += k2 * (r if r > 0 else 0.0)
            for k in range(keys):
                lx, ly, lz = key_directions[k, 0], key_directions[k, 1], key_directions[k, 2]
                cosine = nx * lx + ny * ly + nz * lz
                smooth = ox * lx + oy * ly + oz * lz
                if surface != 6 and smooth < -0.35:
                    continue
                bias = 1.6 + 3.0 * (1 - abs(smooth))
                if surface == 6:
                    bias = 4.0
                push = 1.2 if surface != 6 else 0.0
                lit = _shadow(
                    shadow_maps[k],
                    shadow_axes[k],
                    shadow_centre,
                    shadow_scale,
                    px + ox * push,
                    py + oy * push,
                    pz + oz * push,
                    bias,
                    1.0 + key_softness[k] * 0.16,
                )
                if surface == 4:
                    lit = max(lit, 0.15)
                if surface == 6:
                    tlen = 1 / np.sqrt(value[12] ** 2 + value[13] ** 2 + value[14] ** 2 + 1e-12)
                    ax, ay, az = value[12] * tlen, value[13] * tlen, value[14] * tlen
                    # Two shifted anisotropic lobes.
                    hx, hy, hz = lx + vx, ly + vy, lz + vz
                    s = 1 / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
                    th = (ax * hx + ay * hy + az * hz) * s
                    shift = 0.10 * (_hash(value[11] * 37.1, 2.2) - 0.5)
                    tl = ax * lx + ay * ly + az * lz
                    fibre = np.sqrt(max(0.0, 1 - tl * tl))
                    body = 0.5 * fibre + 0.5
                    side = 0.45 + 0.55 * smooth
                    side = 0.0 if side < 0 else side
                    one = max(0.0, 1 - (th - 0.06 + shift) ** 2) ** hair[9]
                    two = max(0.0, 1 - (th + 0.12 + shift) ** 2) ** (hair[9] * 0.3)
                    gate = _step(-0.2, 0.4, smooth)
                    for c in range(3):
                        total[c] += (
                            key_colours[k, c]
                            * lit
                            * (base[c] * body * side + gate * (hair[10] * 0.10 * one + hair[10] * 0.55 * base[c] * two))
                        )
                    continue
                # Wrapped diffuse: red light travels furthest under the skin.
                for c in range(3):
                    w = wrap * (1.0, 0.42, 0.25)[c]
                    d = (cosine + w) / (1 + w)
                    d = 0.0 if d < 0 else d
                    if w > 0:
                        d = d * (1 + 0.35 * w) if d < 1 else d
                    e = lit ** (1 - 0.2 * warm) if c == 0 else lit
                    total[c] += base[c] * d * e * key_colours[k, c] * (0.5 + 0.5 * occlusion)
                if cosine > 0 and (broad > 0 or tight > 0):
                    hx, hy, hz = lx + vx, ly + vy, lz + vz
                    s = 1 / np.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
                    nh = (nx * hx + ny * hy + nz * hz) * s
                    nh = 0.0 if nh < 0 else nh
                    vh = (vx * hx + vy * hy + vz * hz) * s
                    fresnel = 0.028 + 0.972 * (1 - vh) ** 5
                    power = 420.0 if surface == 3 else (90.0 if surface == 8 else 46.0)
                    if surface == 3:
                        power = 420.0 / (1 + 0.12 * key_softness[k])
                    spec = fresnel * (
                        broad * (0.35 + 0.65 * gloss) * (11 + 8) / 25.13 * nh**11
                        + tight * (power + 8) / 25.13 * nh**power
                    )
                    spec *= lit * _step(0.0, 0.25, cosine)
                    for c in range(3):
                        total[c] += spec * key_colours[k, c] * 3.14159 * 0.5
            for c in range(3):
                colour[row, col, c] = total[c]
                albedo[row, col, c] = base[c]
            kind[row, col] = surface
