"""What surfaces are made of: for a point of each material its colour and how it takes light. Numba, called a pixel.

Each function fills base [3] (linear albedo) and returns a Finish. tx, ty, tz is the point's place: template position in
mm, or as the mesh says. nx, ny, nz is its smooth normal. Positions and sizes are mm, angles radians.

Colours, sizes, frequencies and strengths were chosen by eye, if no source stands beside them.
"""

from collections import namedtuple

import numpy as np
from numba import njit

from .shader_math import hash2, noise, step
from .template_space import ATLAS_BOTTOM, ATLAS_HEIGHT, ATLAS_TOP, ATLAS_WIDTH, AXIS_Z, FRONT_WARP

# Surface classes of a picture (0 = background).
SKIN_FACE, SKIN_BODY, EYES, MOUTH_INSIDE, LASHES, HAIR_CLASS, CLOTH, GLASSES, HEADWEAR = range(1, 10)

Finish = namedtuple(
    "Finish",
    [
        "surface",  # class, one of the above
        "nx",  # normal with relief, not normalised
        "ny",
        "nz",
        "gloss",  # 0 matt .. 1 glossy
        "wrap",  # how far diffuse light creeps into the shadow (subsurface scattering)
        "warm",  # how much light leaks in from neighbouring tissue
        "tight",  # strength of the narrow highlight
        "broad",  # strength of the broad highlight
        "shine",  # strength of the environment's reflection
        "occlusion",  # 0 dark .. 1 open
    ],
)
# What a person and a scene bring to the materials; numba reads a named tuple without copying.
Paint = namedtuple(
    "Paint",
    [
        "atlas",  # [H, W, 8], see skin.paint_atlas
        "eye_centre",  # [2, 3] template positions
        "skin",  # [1]: wrap
        "eye",  # [12]: iris 3, inner iris 3, radius of iris and pupil, darkness of the limbus 0..1, lashes 3
        "hair",  # [11]: root 3, tip 3, variation, share of tip, share of odd strands, highlight's power and strength
        "cloth",  # [10], see scene.Scene
        "collar",  # [5], see scene.Scene
        "frame",  # [3]
        "hat",  # [10]: colour 3, second colour 3, stitches around and up, stripes (radians a mm), threshold of a stripe
    ],
)
_ROWS_A_MM = ATLAS_HEIGHT / (ATLAS_TOP - ATLAS_BOTTOM)
_EYE_RADIUS = 14.0  # mm; the template's eyeballs measure 13.6 to 15.2


@njit(cache=True, fastmath=True, nogil=True)
def cloth_finish(base, tx, ty, tz, nx, ny, nz, limit, cloth, collar):
    """Cloth below the collar, whose height here is `limit`."""
    edge = limit - ty
    p = 0.0  # share of the second colour
    a = np.arctan2(tx, tz - AXIS_Z) * 90.0  # mm around the body
    if cloth[6] == 1:  # stripes across
        p = 1.0 if np.sin(ty * cloth[7]) > cloth[8] else 0.0
    elif cloth[6] == 2:  # checks
        p = 0.5 * (np.sin(ty * cloth[7]) > 0) + 0.5 * (np.sin(a * cloth[7]) > 0)
    elif cloth[6] == 3:  # vertical stripes
        p = 1.0 if np.sin(a * cloth[7]) > cloth[8] else 0.0
    elif cloth[6] == 4:  # mottled
        p = step(0.4, 0.6, noise(a * cloth[7] * 0.3, ty * cloth[7] * 0.3))
    weave = 0.88 + 0.24 * noise(a * 1.3, ty * 1.3) * (0.7 + 0.3 * np.sin(a * 3.0))
    if edge < collar[4]:  # the trim
        p = cloth[9]
        weave *= 0.9 + 0.14 * np.sin(a * 4.0)
    for c in range(3):
        base[c] = (cloth[c] * (1 - p) + cloth[3 + c] * p) * weave
    # Folds: low-frequency normal perturbation.
    f = (noise(a * 0.09 + 7, ty * 0.05) - 0.5) * 0.9
    nx += f * nz
    nz -= f * nx
    ny += (noise(a * 0.06, ty * 0.08 + 3) - 0.5) * 0.5
    occlusion = 0.55 + 0.45 * step(0, 3.0, edge)
    return Finish(CLOTH, nx, ny, nz, 0.0, 0.0, 0.0, 0.0, 0.012, 0.25, occlusion)


@njit(cache=True, fastmath=True, nogil=True)
def skin_finish(base, texel, tx, ty, tz, nx, ny, nz, limit, atlas, wrap):
    """Skin from the atlas; texel [8] is scratch; cloth throws a soft shadow over 14 mm above `limit`."""
    angle = np.arctan2(tx, tz - AXIS_Z) / np.pi
    u = (0.5 + 0.5 * np.sign(angle) * abs(angle) ** FRONT_WARP) * ATLAS_WIDTH - 0.5
    v = (ATLAS_TOP - ty) * _ROWS_A_MM - 0.5
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
    gloss = np.float64(texel[3])
    surface = SKIN_FACE if texel[6] > 0.5 else SKIN_BODY
    occlusion = 1.0
    if ty < limit + 14:
        occlusion = 0.72 + 0.28 * step(0, 14, ty - limit)
    # Relief: x runs along the horizon, y up.
    hx, hz = nz, -nx
    s = 1 / np.sqrt(hx * hx + hz * hz + 1e-6)
    hx, hz = hx * s, hz * s
    ux, uy, uz = ny * hz, nz * hx - nx * hz, -ny * hx
    nx -= texel[4] * hx + texel[5] * ux
    ny -= texel[5] * uy
    nz -= texel[4] * hz + texel[5] * uz
    return Finish(surface, nx, ny, nz, gloss, np.float64(wrap), 1.0, 0.55 * gloss, 0.6, 0.6, occlusion)


@njit(cache=True, fastmath=True, nogil=True)
def eye_finish(base, tx, ty, tz, nx, ny, nz, eye_centre, eye):
    """An eyeball: a veined white, a fibrous iris with a dark rim, a pupil, a cornea."""
    which = 0 if tx > 0 else 1
    dx, dy, dz = tx - eye_centre[which, 0], ty - eye_centre[which, 1], tz - eye_centre[which, 2]
    s = 1 / np.sqrt(dx * dx + dy * dy + dz * dz)
    dx, dy, dz = dx * s, dy * s, dz * s
    # Angle from the optical axis, as mm on the ball.
    across = np.sqrt(dx * dx + dy * dy)
    r = np.arctan2(across, dz) * _EYE_RADIUS
    phi = np.arctan2(dy, dx)
    iris, pupil = eye[6], eye[7]
    # White, reddish and veined to the corners.
    vein = noise(phi * 9.0 + which * 5, r * 1.6) * step(6.5, 12.0, r)
    base[0] = 0.70 - 0.05 * vein
    base[1] = 0.62 - 0.20 * vein
    base[2] = 0.57 - 0.20 * vein
    corner = step(9.0, 13.5, r)
    base[0] *= 1 - 0.10 * corner
    base[1] *= 1 - 0.35 * corner
    base[2] *= 1 - 0.35 * corner
    if r < iris + 0.8:
        q = r / iris
        fibre = 0.72 + 0.56 * noise(phi * 11.0, q * 1.5 + which * 3) * (0.6 + 0.4 * noise(phi * 23.0, q * 3.0))
        inner = 1 - step(0.35, 0.75, q)
        limbal = 1 - (1 - eye[8]) * step(0.72, 0.98, q)
        for c in range(3):
            k2 = (eye[c] * (1 - inner) + eye[3 + c] * inner) * fibre * limbal
            k2 *= step(pupil - 0.25, pupil + 0.25, r)
            blend = step(iris - 0.5, iris + 0.6, r)
            base[c] = k2 * (1 - blend) + base[c] * blend
        base[0] += 0.004
    # The upper lid shades the ball.
    occlusion = 1 - 0.62 * step(0.12, 0.42, dy) - 0.18 * step(0.15, 0.6, -dy)
    occlusion *= 1 - 0.35 * step(0.55, 0.95, across)
    # Cornea: a stronger curvature than the ball.
    if r < iris + 1:
        k2 = 0.55 * (1 - step(iris * 0.7, iris + 1, r))
        nx += k2 * dx
        ny += k2 * dy
    return Finish(EYES, nx, ny, nz, 0.0, 0.25, 0.4, 3.0, 0.0, 0.6, occlusion)


@njit(cache=True, fastmath=True, nogil=True)
def teeth_finish(base, tz, nx, ny, nz):
    """Teeth, darker towards the back of the mouth."""
    base[0], base[1], base[2] = 0.62, 0.55, 0.44
    occlusion = 0.75 * step(-14.0, 16.0, tz)
    return Finish(MOUTH_INSIDE, nx, ny, nz, 0.6, 0.15, 0.5, 0.5, 0.0, 0.0, occlusion)


@njit(cache=True, fastmath=True, nogil=True)
def mouth_finish(base, tz, nx, ny, nz):
    """Tongue and gums, almost black at the back."""
    deep = step(6.0, 24.0, tz)
    base[0], base[1], base[2] = 0.20 * deep + 0.02, 0.06 * deep + 0.008, 0.055 * deep + 0.008
    return Finish(MOUTH_INSIDE, nx, ny, nz, 0.5, 0.2, 0.6, 0.35 * deep, 0.0, 0.0, 0.6)


@njit(cache=True, fastmath=True, nogil=True)
def hair_finish(base, across, along, strand, nx, ny, nz, hair):
    """A ribbon: across -1..1, along 0 (root)..1, strand 0..1 its random number."""
    k2 = hair[6] * (hash2(strand * 91.7, 1.3) - 0.5) + 0.10 * (hash2(np.floor(across * 2.5) * 7.1, strand * 57.3) - 0.5)
    mix = step(0.1, 1.0, along) * hair[7] + (0.85 if hash2(strand * 13.7, 4.1) < hair[8] else 0.0)
    mix = 1.0 if mix > 1 else mix
    for c in range(3):
        base[c] = (hair[c] * (1 - mix) + hair[3 + c] * mix) * np.exp(k2)
    occlusion = 0.62 + 0.38 * step(0.0, 0.4, along)
    occlusion *= 1 - 0.22 * across * across
    return Finish(HAIR_CLASS, nx, ny, nz, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, occlusion)


@njit(cache=True, fastmath=True, nogil=True)
def hat_finish(base, tx, ty, nx, ny, nz, hat):
    """Knitted cloth: tx runs around the head, ty up."""
    p = 0.86 + 0.2 * np.sin(tx * hat[6]) * np.sin(ty * hat[7])
    stripe = step(hat[9], hat[9] + 1.0, np.sin(ty * hat[8]))
    for c in range(3):
        base[c] = (hat[c] * (1 - stripe) + hat[3 + c] * stripe) * p
    nx += 0.2 * np.cos(tx * hat[6])
    return Finish(HEADWEAR, nx, ny, nz, 0.0, 0.0, 0.0, 0.0, 0.01, 0.2, 1.0)
