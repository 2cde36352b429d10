"""The style's light on the warped profile: a gain per pixel and colour, smooth as light is, and a shift to the wanted skin tone.

The paper lets the style's light in through sparsely sampled pixels (eq. 1): low frequencies without features. Here the low frequencies
are taken directly. Their ratio between style and profile is split into what a distant light does to this surface (second-order
spherical harmonics of the normals: R. Ramamoorthi and P. Hanrahan, An efficient representation for irradiance environment maps, 2001)
and a remainder (cast shadows, highlights), which is limited, because a beard or a strand of hair looks just like it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import regions
from .beard import beard_mask, greyness
from .numerics import (
    LUMINANCE,
    blur,
    blurred_within,
    detail_contrast,
    from_lab,
    mean_within,
    resized,
    smoothstep,
    to_lab,
    to_linear,
    to_srgb,
)  # fmt: skip

# All light is computed at this side: it has no finer detail, and wide blurs cost little there.
_SIDE = 160
_SIGMA = 0.05
"""Of the low frequencies, in crop widths."""
_COLOUR_SIGMA = 0.08
_REMAINDER, _COLOUR = 0.8, 1.2
"""Greatest natural logarithm of the gain beside the spherical harmonics, and of a colour's gain beside the mean colour's."""
_DARKEST = 5e-4
_SHADING, _LEAST_SHADING = (0.006, 0.1), np.array([5, 2, 2], np.float32)
"""Sigmas of the band in which edges of shadows and highlights lie, in crop sides, and the contrast that is always left there, CIE Lab."""
_AT_JOINS = np.array([1.5, 1, 1], np.float32)
"""By how much the shading may differ from the style's along a join, CIE Lab."""
_TINT_OF_WHITES = 0.4
"""Exponent of a gain's tint on eyes and teeth: what turns one skin's colour into another's makes them blue or yellow."""
_WHITES, _LEAST_WHITE = 85, 0.45
"""Percentile of an eye's light that is its white, and how much darker than its gain makes it an eye may become: the style's may be shut."""
_STRANGE_SIGMAS, _STRANGE = (0.012, 0.1), np.array([11, 7, 7], np.float32)
"""Sigmas between which skin is compared with the style's, in crop sides, and from which difference on it is strange, CIE Lab."""
_SKIN_COLOUR = 0.35
"""Share of a difference in colour between two skins that is theirs; the rest is that of their lights and cameras."""
_PALER = 0.4
"""How much of that share is left of what would make skin paler in colour than the style's."""
_RAISED_BROW = 8.0
"""By how much, in CIE L, hair above the mesh's brow is darker than skin."""
_LIPS = 12.0
"""By how much, in CIE Lab, the lips of a black-and-white photograph may differ from its skin."""


@dataclass(frozen=True, eq=False)
class Gain:
    """What the profile's linear light is multiplied by."""

    field: np.ndarray
    """float32 `[S, S, 3]`."""
    mean: float
    """Of the skin's luminance."""


def light_gain(
    profile: np.ndarray,
    style: np.ndarray,
    profile_skin: np.ndarray,
    style_skin: np.ndarray,
    normals: np.ndarray,
) -> Gain:
    """The gain that gives the profile the style's light, both lying on the target's mesh.

    Args:
        profile, style: `[S, S, 3]`, sRGB.
        profile_skin, style_skin: `[S, S]`: bare skin of each, without eyes, lips, brows, beard.
        normals: `[S, S, 3]`, of the target's surface.
    """
    size = len(normals)
    weights = [resized(mask, _SIDE) for mask in (profile_skin, style_skin)]
    profile, style = (resized(to_linear(picture), _SIDE) for picture in (profile, style))
    lights = [
        np.log(np.maximum(_low_frequencies(picture, weight, _SIGMA), _DARKEST))
        for picture, weight in zip((profile, style), weights, strict=True)
    ]
    colours = lights[1] - lights[0]  # [s, s, 3]
    grey = colours @ LUMINANCE
    both = weights[0] * weights[1]
    basis = _harmonics(resized(normals, _SIDE))
    from_afar = basis @ _robust_fit(basis[both > 0.5], grey[both > 0.5])
    lightness = from_afar + _REMAINDER * np.tanh((grey - from_afar) / _REMAINDER)
    mean = mean_within(colours, both)
    tint = mean - mean @ LUMINANCE
    local = blurred_within(colours - grey[..., None], both, _COLOUR_SIGMA * _SIDE) - tint
    known = smoothstep(blur(both, _COLOUR_SIGMA * _SIDE), 0.05, 0.4)[..., None]
    tint = tint + np.clip(local * known, -_COLOUR, _COLOUR)
    field = np.exp(np.clip(lightness, -2.5, 2.0)[..., None] + tint)
    return Gain(resized(field, size), float(np.exp(mean @ LUMINANCE)))


def _low_frequencies(linear: np.ndarray, skin: np.ndarray, sigma: float) -> np.ndarray:
    """Blurred skin `[s, s, 3]`, going on smoothly where there is none."""
    sigma = sigma * len(skin)
    fine, wide = blurred_within(linear, skin, sigma), blurred_within(linear, skin, 3 * sigma)
    share = smoothstep(blur(skin, 3 * sigma), 0.02, 0.2)[..., None]
    wide = wide * share + mean_within(linear, skin) * (1 - share)
    share = smoothstep(blur(skin, sigma), 0.1, 0.45)[..., None]
    return fine * share + wide * (1 - share)


def _harmonics(normals: np.ndarray) -> np.ndarray:
    """The nine spherical harmonics of order 0 to 2, unnormalised, `[..., 9]`."""
    x, y, z = np.moveaxis(normals, -1, 0)
    return np.stack([np.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], axis=-1)


def _robust_fit(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients `[9]` by iterated reweighting (Huber, 0.12) with a small ridge, which keeps half-seen faces tame."""
    if len(values) < 20:
        return np.array([values.mean() if len(values) else 0.0] + [0.0] * 8)
    ridge = 0.01 * len(values) * np.diag([0, 0.02, 0.02, 0.02, 0.2, 0.2, 0.2, 0.2, 0.2])
    trust = np.ones(len(values))
    for _ in range(6):
        weighted = basis * trust[:, None]
        coefficients = np.linalg.solve(weighted.T @ basis + ridge + 1e-9 * np.eye(9), weighted.T @ values)
        trust = 1 / np.maximum(1, abs(values - basis @ coefficients) / 0.12)
    return coefficients


def relit(profile: np.ndarray, style: np.ndarray, gain: Gain, mesh: np.ndarray, beard: float = 0.0) -> np.ndarray:
    """The warped profile `[S, S, 3]` under a gain. Eyes and teeth are as white on a dark face as on a light one: there the part of
    the gain that is the difference of two skins is left out, and no eye becomes whiter than the style's.

    Args:
        style: the style's face on the same mesh.
        mesh: the target's, `[468, 3]`.
        beard: how surely the profile has one, 0 to 1.
    """
    size = len(profile)
    white = regions.hulls(mesh, (*regions.EYES, regions.topology.LIPS_INNER), size)
    # They lie deeper than the skin around, too, so that a strong light reaches them less.
    grey = (gain.field @ LUMINANCE)[..., None]
    field = grey**0.75 * (gain.field / grey) ** _TINT_OF_WHITES * np.clip(gain.mean, 0.6, 3) ** -0.5
    for eye in regions.EYES:
        shape = regions.hull(mesh, eye, size)
        inside = shape > 0.5
        if inside.any():
            own = np.percentile(to_linear(profile[inside]) * field[inside] @ LUMINANCE, _WHITES)
            theirs = np.percentile(to_linear(style[inside]) @ LUMINANCE, _WHITES)
            share = float(np.clip(theirs / max(own, _DARKEST), _LEAST_WHITE, 1))
            field = field * (1 - (1 - share) * regions.grown(shape, 0.01 * size))[..., None]
    white = blur(white, 0.006 * size)[..., None]
    # A grey beard, too, would take the difference of two skins' colours.
    lower = beard * greyness(profile, mesh) * blur(regions.hull(mesh, regions.LOWER_FACE, size), 0.01 * size)
    on_hair = grey * (gain.field / grey) ** (1 - (1 - _TINT_OF_WHITES) * lower[..., None])
    return to_srgb(to_linear(profile) * (on_hair * (1 - white) + field * white))


def strange(relit: np.ndarray, style: np.ndarray, skins: tuple[np.ndarray, np.ndarray], mesh: np.ndarray) -> np.ndarray:
    """Where beside eyes and mouth relit skin differs from skin's colour, `[S, S]` in 0 .. 1: strands, plaits, rims of hard light.

    Args:
        relit: the warped photograph under its gain, sRGB `[S, S, 3]`.
        style: the style's face on the same mesh.
        skins: bare skin of both, `[S, S]` each.
        mesh: the target's, `[468, 3]`.
    """
    size, both = len(relit), skins[0] * skins[1]
    differences = to_lab(relit) - to_lab(style), to_lab(relit)
    local = [
        np.abs(np.subtract(*(blurred_within(x, both, sigma * size) for sigma in _STRANGE_SIGMAS))) for x in differences
    ]
    known = smoothstep(blur(both, _STRANGE_SIGMAS[1] * size), 0.1, 0.3) * skins[0]
    amount = smoothstep(np.minimum(*local) / _STRANGE, 1, 1.8).max(axis=-1) * known
    middle = regions.grown(regions.hull(mesh, regions.MIDDLE, size), 0.01 * size)
    made_up = np.maximum(regions.around_eyes(mesh, size), regions.hull(mesh, regions.AROUND_MOUTH, size))
    beside = 1 - np.maximum(middle, regions.grown(made_up, 0.025 * size))
    return blur(regions.grown(amount * beside, 0.01 * size), 0.006 * size)


def brightened(gain: Gain) -> np.ndarray:
    """Where a gain makes a shadow light, `[S, S]` in 0 .. 1."""
    return smoothstep(np.log(np.maximum(gain.field @ LUMINANCE, _DARKEST) / gain.mean), 0.15, 0.9)


def evened(
    picture: np.ndarray,
    style: np.ndarray,
    brightened: np.ndarray,
    skins: tuple[np.ndarray, np.ndarray],
    joins: np.ndarray,
) -> np.ndarray:
    """The relit skin without what the photograph's light left on it: `[S, S, 3]`.

    Edges of shadows and highlights are finer than a gain and coarser than pores; in that band skin keeps little more contrast than the
    style's has there, and along joins, where such an edge is sure to lie, it has the style's shading. Of its finest colours skin keeps
    half, and less of all its detail where a shadow was made light: what hardly shows in the dark (noise, stubble, freckles) is blotches
    there.

    Args:
        picture: the relit profile, sRGB.
        style: the style's face on the same mesh.
        brightened: where a shadow was made light, `[S, S]` in 0 .. 1.
        skins: bare skin of profile and style, `[S, S]` each.
        joins: where the mirrored half or the end of what the photograph shows is near and the style has plain skin, `[S, S]` in 0 .. 1.
    """
    size, lab, skin = len(picture), to_lab(picture), skins[0]
    fine, coarse = (blurred_within(lab, skin, sigma * size) for sigma in _SHADING)
    theirs = to_lab(style)
    theirs = blurred_within(theirs, skins[1], _SHADING[0] * size) - blurred_within(theirs, skins[1], _SHADING[1] * size)
    fine[..., 1:] = lab[..., 1:]  # skin has no fine colours
    most = np.maximum(_LEAST_SHADING, 1.5 * blurred_within(abs(theirs), skins[1], _SHADING[0] * size))
    known = smoothstep(blur(skin, _SHADING[0] * size), 0.3, 0.8) * smoothstep(blur(skin, _SHADING[1] * size), 0.2, 0.6)
    shading = fine - coarse
    joins = joins[..., None]
    wanted = joins * _LEAST_SHADING * np.tanh(theirs / _LEAST_SHADING)  # no fold or crease
    most = most + joins * (_AT_JOINS - most)
    lab += known[..., None] * (wanted + most * np.tanh((shading - wanted) / most) - shading)

    detail = lab - blurred_within(lab, skin, 0.03 * size)
    less = np.stack([0.5 * brightened, 0.5 + 0.4 * brightened, 0.5 + 0.4 * brightened], axis=-1)
    known = blur(skin, 0.006 * size) * smoothstep(blur(skin, 0.03 * size), 0.1, 0.4)
    return from_lab(lab - detail * less * known[..., None])


def bare_skin(picture: np.ndarray, skin: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Skin without features and without a beard, `[S, S]`.

    Args:
        picture: `[S, S, 3]`, sRGB, on the mesh.
        skin: `[S, S]`.
        mesh: `[468, 3]`, where the picture's face lies.
    """
    size = len(skin)
    skin = skin * (1 - regions.features(mesh, size))
    lightness = to_lab(picture)[..., :1]
    darker = (blurred_within(lightness, skin, 0.05 * size) - lightness)[..., 0] > _RAISED_BROW
    raised = np.max([regions.brow(mesh, brow, size) for brow in regions.BROWS], axis=0)
    skin = skin * (1 - regions.grown(darker * raised, 0.008 * size))
    return skin * (1 - beard_mask(picture, skin, mesh))


def exposed(profile: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Where the photograph has light enough to be lit anew, `[S, S]` in 0 .. 1: not in shadows that are nearly black.

    Args:
        profile: the warped photograph, `[S, S, 3]`, sRGB.
        inside: the face, `[S, S]`.
    """
    luminance = to_linear(profile) @ LUMINANCE
    local = blurred_within(luminance[..., None], inside, 0.03 * len(inside))[..., 0]
    return smoothstep(local / max(float(np.percentile(luminance[inside > 0.5], 70)), _DARKEST), 0.02, 0.08)


def calm(picture: np.ndarray) -> np.ndarray:
    """Where skin is plain, `[S, S]` in 0 .. 1: no rims of glasses, strands, wrinkles as deep as these.

    Args:
        picture: `[S, S, 3]`, sRGB.
    """
    size = len(picture)
    return 1 - smoothstep(detail_contrast(picture, 0.025 * size, 0.008 * size), 4, 9)


def tone_shift(
    profile: np.ndarray, style: np.ndarray, profile_skin: np.ndarray, style_skin: np.ndarray, tone: float
) -> np.ndarray:
    """What is added to the relit skin's CIE Lab colour, `[3]`, so that it is the person's own rather than the style's.

    Neither how bright a skin is nor its colour can be told from its light's. Skins differ in lightness more than in colour, lights in
    colour: so of colour little is shifted, a person is made lighter only in a light picture and darker only after a photograph that is
    not dark. A style whose skin has no skin's colour (black and white, a strong tint) keeps its own, and so does one for a photograph
    like that.

    Args:
        profile, style: `[S, S, 3]`, sRGB, before relighting.
        profile_skin, style_skin: of `bare_skin`.
        tone: 0 the person's own skin tone, 1 the style's.
    """
    own, wanted = (mean_within(to_lab(x), w) for x, w in ((profile, profile_skin), (style, style_skin)))
    shift = own - wanted
    lighter = smoothstep(wanted[0], 40, 65) if shift[0] > 0 else smoothstep(own[0], 15, 40)
    colour = _SKIN_COLOUR * _natural(own)
    # A photograph paler in colour than the style was rather taken or treated so: grey skin beside a warm neck is nobody's.
    towards = wanted[1:] / max(float(np.hypot(*wanted[1:])), 1e-3)
    shift[1:] -= (1 - _PALER) * min(0.0, float(shift[1:] @ towards)) * towards
    limits = np.array([[-21, -8, -8], [10, 8, 8]])
    return np.clip(shift * (0.7 * lighter, colour, colour), *limits) * _natural(wanted) * (1 - tone)


def _natural(lab: np.ndarray) -> float:
    """How far a CIE Lab colour `[3]` can be that of skin in plain light, 0 to 1."""
    chroma, hue = np.hypot(*lab[1:]), np.degrees(np.arctan2(lab[2], lab[1]))
    return float(smoothstep(chroma, 4, 11) * (1 - smoothstep(chroma, 38, 55)) * (1 - smoothstep(abs(hue - 52), 28, 55)))


def in_tone(picture: np.ndarray, shift: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """The picture `[S, S, 3]` with its skin's mean moved by a shift of CIE Lab `[3]`; lightness as by a stronger or weaker light, so that
    brows and lashes stay dark. Darker skin is no less colourful: in a weaker light it would be."""
    lab, black = to_lab(picture), np.array([16, 0, 0], np.float32)  # lightness is a cube root of light from -16 on
    light = mean_within(lab, skin)[0] + black[0]
    ratio = (light + shift[0]) / light
    scales = np.array([ratio, max(ratio, 1 / ratio), max(ratio, 1 / ratio)], np.float32)
    return shifted(from_lab((lab + black) * scales - black), np.array([0, *shift[1:]]))


def shifted(picture: np.ndarray, shift: np.ndarray, share: np.ndarray | float = 1.0) -> np.ndarray:
    """The picture `[S, S, 3]` with a shift of CIE Lab `[3]` or `[S, S, 3]`, to a share `[S, S]` or for all of it."""
    lab = to_lab(picture)
    share = share * smoothstep(lab[..., 0], 0, 30)  # black has no colour to shift
    return from_lab(lab + shift.astype(np.float32) * share[..., None].astype(np.float32))


def toned(picture: np.ndarray, style: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture in the tones of a monochrome style (black and white, sepia, a tint over all), `[S, S, 3]`.

    A style is monochrome as far as its colour is a function of its lightness.

    Returns:
        (the picture, how monochrome the style is, 0 to 1; at 0 the picture comes back as it is).
    """
    lab, bins = to_lab(resized(style, min(256, len(style)))), 24
    place = np.clip((lab[..., 0] / 100 * bins).astype(int), 0, bins - 1).ravel()
    count = np.bincount(place, minlength=bins)
    filled, centres = np.flatnonzero(count > 20), (np.arange(bins) + 0.5) * 100 / bins
    curves = []
    for channel in (1, 2):
        means = np.bincount(place, lab[..., channel].ravel(), bins) / np.maximum(count, 1)
        curves.append(np.interp(np.arange(bins), filled, means[filled]))
    colour = np.stack([np.interp(lab[..., 0], centres, curve) for curve in curves], axis=-1)
    spread = float(np.sqrt(((lab[..., 1:] - colour) ** 2).sum(axis=-1).mean()))
    # On 79 portraits: monochrome ones at most 2.7, the others from 3.3 (a face before black) on.
    monochrome = float(1 - smoothstep(spread, 2.7, 3.3))
    if monochrome == 0:
        return picture, 0.0
    own = to_lab(picture)
    target = np.stack([own[..., 0], *(np.interp(own[..., 0], centres, curve) for curve in curves)], axis=-1)
    return from_lab(own + monochrome * (target - own)), monochrome


def coloured(
    picture: np.ndarray, style: np.ndarray, profile: np.ndarray, skins: tuple[np.ndarray, np.ndarray], mesh: np.ndarray
) -> np.ndarray:
    """Colour for a black-and-white photograph: the style's skin, redder lips, eyes and teeth nearly grey; `[S, S, 3]`.

    Args:
        picture: the relit profile.
        style: the style's face on the same mesh.
        profile: the warped photograph before relighting.
        skins: bare skin of profile and style, `[S, S]` each.
        mesh: the target's, `[468, 3]`.
    """
    colourless = 1 - smoothstep(np.hypot(*mean_within(to_lab(profile), skins[0])[1:]), 3, 8)
    if colourless == 0:
        return picture
    size, lab = len(picture), to_lab(style)
    skin = blurred_within(lab, skins[1], 0.05 * size)[..., 1:]
    known = smoothstep(blur(skins[1], 0.05 * size), 0.02, 0.2)[..., None]
    colour = skin * known + mean_within(lab, skins[1])[1:] * (1 - known)
    own = to_lab(picture)
    lips = blur(regions.hull(mesh, regions.topology.LIPS_OUTER, size), 0.006 * size)
    inner, eyes = (
        blur(mask, 0.006 * size)
        for mask in (regions.hull(mesh, regions.topology.LIPS_INNER, size), regions.hulls(mesh, regions.EYES, size))
    )
    redder = mean_within(lab, lips * (1 - inner))[1:] - mean_within(lab, skins[1])[1:]
    redder = redder * min(1.0, _LIPS / max(float(np.hypot(*redder)), 1e-3))  # but without the style's lipstick
    # Between the lips only what is as light as skin is teeth; the mesh does not know exactly where lips end.
    teeth = inner * smoothstep(own[..., 0] / max(float(mean_within(own, skins[0])[0]), 1.0), 0.8, 1.0)
    colour = colour * (1 - 0.6 * teeth)[..., None] + (lips * (1 - teeth))[..., None] * redder
    colour = colour * (1 - 0.65 * eyes)[..., None]
    own[..., 1:] += colourless * (colour - own[..., 1:])
    return from_lab(own)


def harmonised(picture: np.ndarray, wanted: np.ndarray, known: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The picture `[S, S, 3]` with its low frequencies moved to those of `wanted`, as far as these are known, and on beyond.

    Args:
        known: where both show skin that can be compared, `[S, S]`.
        share: where to, `[S, S]` in 0 .. 1.
    """
    size = len(picture)
    difference = to_lab(wanted) - to_lab(picture)
    fine, wide = (blurred_within(difference, known, sigma * size) for sigma in (0.04, 0.12))
    near = smoothstep(blur(known, 0.04 * size), 0.02, 0.2)[..., None]
    far = smoothstep(blur(known, 0.12 * size), 0.005, 0.05)[..., None]
    shift = fine * near + (wide * far + mean_within(difference, known) * (1 - far)) * (1 - near)
    return shifted(picture, shift, share)
