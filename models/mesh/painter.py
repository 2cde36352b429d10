"""One face painted without nets: match the meshes, warp, relight, and blend into the style's crop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from ..errors import UserError
from ..faces.alignment import beyond_canvas
from ..faces.mediapipe import finder, topology
from ..faces.pixels import to_bytes
from ..faces.resampling import transform
from ..faces.types import Placement
from ..painting import CropPair, CropResult
from . import grain, light, regions
from .beard import shaved, with_beard
from .correspondence import (
    MeshMatch,
    as_flow,
    from_better_half,
    match_meshes,
    moved_outline,
    outskirts,
)
from .gaze import both_open, looking_as
from .geometry import EXPRESSIONS, degrees_between, posed, yaw_pitch_roll
from .numerics import blended, blur, blurred_within, sampled, smoothstep, to_lab
from .skin import FaceParts, face_parts

MOST_DEGREES = 40
"""Heads turned further apart than this are warned about: the far half of the face is then mostly made up."""
_EDGE = 0.006
"""What lies nearer to the photograph's edge is not taken, in crop sides: bicubic reading mixes it with what is beyond."""
_JOIN = 0.02
"""Half the width of a join, in crop sides."""
BLURRED, _FINE = 0.09, 0.006
"""Sharpness below which a profile is warned about, and the sigma of what counts as fine, in crop sides. Of 195 photographs twelve of
those with a blurred or tiny face have less, and no sharp one."""
SMALL_PROFILE = 2.0
"""A profile that is enlarged by more than this, beyond what the style itself is, is warned about: it turns out soft."""


@dataclass(frozen=True)
class MeshSettings:
    """What an artist may choose."""

    skin_tone: float = 0.35
    """0 the person's own skin tone, 1 the style's."""
    light: float = 1.0
    """Share of the style's light: 0 keeps the photograph's."""
    shape: float = 1.0
    """1 the person's shape of the face, 0 the style's."""
    expression: str = EXPRESSIONS[2]
    """Whose eyes and mouth are how far open, and where the eyes look: one of `EXPRESSIONS`. The gaze belongs to the pose: eyes that look
    at the camera from a turned head look past it from another."""

    def __post_init__(self) -> None:
        if self.expression not in EXPRESSIONS:
            raise UserError(f"expression must be one of: {', '.join(EXPRESSIONS)}; {self.expression!r} came")
        for name in ("skin_tone", "light", "shape"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must lie between 0 and 1; {getattr(self, name)} came")


@dataclass(frozen=True, eq=False)
class MeshResult(CropResult):
    """A painted crop with its steps."""

    warped: torch.Tensor | None = None
    """float32 `[1, S, S, 3]`: the profile on the style's pose, in its own light; the style outside the face."""


def crop_mesh(placement: Placement, crop: torch.Tensor, what: str) -> np.ndarray:
    """The dense mesh of a placement's face in its crop: float64 `[468, 3]`, crop pixels.

    A face that came without one (a box, five points) is read in its crop `[1, S, S, 3]`.

    Raises:
        UserError: no mesh can be read, naming `what`.
    """
    points = placement.face.points_3d
    if points is not None and placement.face.layout == "mediapipe":
        places = transform(points[:, :2], placement.matrix)
        return np.column_stack([places, points[:, 2] * placement.scale])[: topology.POINTS]
    corners = transform(np.array([placement.face.box[:2], placement.face.box[2:]]), placement.matrix)
    found = finder.read_in_box(to_bytes(crop[0]), (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()))
    if found is None:
        raise UserError(
            f"the face of the {what} cannot be read as a mesh (a drawing, an animal, or mostly hidden?); nets can still paint it"
        )
    return found.points[: topology.POINTS]


def _irises(placement: Placement) -> np.ndarray | None:
    """The centres of both irises in the crop, `[2, 2]`, the viewer's left first; None for a face that was read without."""
    points = placement.face.points_3d
    if placement.face.layout != "mediapipe" or points is None or len(points) < topology.POINTS_WITH_IRISES:
        return None
    return transform(points[[topology.POINTS, topology.POINTS + 5], :2], placement.matrix)


def mesh_match(
    pair: CropPair, settings: MeshSettings = MeshSettings()
) -> tuple[MeshMatch, FaceParts, np.ndarray, np.ndarray]:
    """The correspondence of a pair, the parts of the profile's face, and the meshes of style and target, each `[468, 3]` in its crop.

    Raises:
        UserError: a face that has no mesh.
    """
    profile = crop_mesh(pair.profile_placement, pair.profile, "profile")
    style = crop_mesh(pair.style_placement, pair.style, "style reference")
    target = settings.shape * posed(profile, style, settings.expression) + (1 - settings.shape) * style
    crop = pair.profile[0].numpy().astype(np.float32)
    parts = face_parts(crop, profile)
    beyond = beyond_canvas(pair.profile_placement).numpy() > 0  # of a face cut by the photograph's edge
    there = 1 - regions.grown(beyond, _EDGE * len(crop))
    parts = replace(parts, clear=parts.clear * there, face=parts.face * there)
    match = from_better_half(match_meshes(profile, target, pair.style.shape[1]), crop, parts.clear, target)
    own, theirs = (_irises(placement) for placement in (pair.profile_placement, pair.style_placement))
    if own is None or not both_open(profile):
        pass
    elif theirs is not None and settings.expression != EXPRESSIONS[0] and both_open(style):
        match = looking_as(match, own, theirs, style, target)
    else:
        match = looking_as(match, own, own, profile, target, only_mirrored=True)
    return match, parts, style, target


@dataclass(frozen=True, eq=False)
class _OnTarget:
    """Both faces on the target's mesh, nose on nose whatever their shapes, `[S, S]` or `[S, S, 3]`."""

    match: MeshMatch
    mesh: np.ndarray
    inside: np.ndarray
    profile: np.ndarray
    """The warped photograph."""
    style: np.ndarray
    own: np.ndarray
    """Where the photograph shows the person's face and not hair, background or shadow without light, 0 .. 1."""
    free: np.ndarray
    """Where the style shows its face and no hair hangs over it, 0 .. 1."""
    profile_skin: np.ndarray
    style_skin: np.ndarray
    """Bare skin, without features and beard."""
    halves: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """The photograph read as it is and mirrored, each with its bare skin: `profile` is joined of both."""
    plain: np.ndarray
    """The style's bare skin without glasses' rims, strands and deep wrinkles, 0 .. 1."""


def _on_target(
    match: MeshMatch,
    target: np.ndarray,
    profile: FaceParts,
    style: FaceParts,
) -> _OnTarget:
    import cv2

    inside = match.drawn.inside.astype(np.float32)
    style_places = match.drawn.interpolated(style.mesh[:, :2])
    style_face = sampled(style.crop, style_places).clip(0, 1)
    bare = ((profile.clear > 0.5) & (regions.grown(profile.glasses, 0.008 * len(inside)) < 0.5)).astype(np.float32)
    lower = regions.hull(target, regions.LOWER_FACE, len(inside))  # no light can be read where a beard grows
    pictures, bares = ([sampled(x, places) for places in (match.places, match.mirrored)] for x in (profile.crop, bare))
    shaven, styles_shaven = (inside * (1 - parts.beard * lower) for parts in (profile, style))
    own, mirrored = (
        (half, light.bare_skin(half, (skin > 0.5) * (match.seen[..., side] > 0.3) * shaven, target))
        for side, (half, skin) in enumerate(zip((x.clip(0, 1) for x in pictures), bares, strict=True))
    )
    warped = match.joined(*pictures).clip(0, 1)
    bare_profile = (match.joined(*bares) > 0.5) * (match.visible > 0.3) * shaven
    bare_style = (sampled(style.skin, style_places) > 0.5) * styles_shaven
    # Nostrils and the line between lips look away from every camera: small, and no far side.
    holes = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(0.03 * len(inside)) + 1,) * 2)
    visible = cv2.morphologyEx(match.visible, cv2.MORPH_CLOSE, holes)
    shown = match.warped(profile.clear) * inside * smoothstep(visible, 0.3, 0.8) * light.exposed(warped, inside)
    bare_style = light.bare_skin(style_face, bare_style, target)
    plain = bare_style * light.calm(style_face)
    return _OnTarget(
        match,
        target,
        inside,
        warped,
        style_face,
        shown,
        sampled(style.face, style_places) * inside,
        light.bare_skin(warped, bare_profile, target),
        bare_style,
        (own, mirrored),
        plain,
    )


def _at_eyes(target: np.ndarray, size: int) -> np.ndarray:
    return blur(regions.hull(target, regions.EYE_LEVEL, size), 0.02 * size)


def _joins(faces: _OnTarget) -> np.ndarray:
    """Where two halves meet, or what the photograph shows of the face ends, `[S, S]` in 0 .. 1: hair and hard shadows end there."""
    size = len(faces.inside)

    def ends(mask: np.ndarray) -> np.ndarray:
        share = blurred_within(mask[..., None], faces.inside, _JOIN * size)[..., 0]
        return smoothstep(share * (1 - share), 0.03, 0.15)

    return np.maximum(ends(faces.match.near), ends(faces.own)) * faces.inside


def _relit(faces: _OnTarget, shift: np.ndarray, share: float, beard: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The warped photograph in the style's light, `[S, S, 3]`, and where that is not skin as it should be, `[S, S]`."""
    skins, size = (faces.profile_skin, faces.style_skin), len(faces.inside)
    # Each half has light of its own.
    gains = [
        light.light_gain(half, faces.style, skin, faces.style_skin, faces.match.normals) for half, skin in faces.halves
    ]
    relit = faces.match.joined(
        *(
            light.relit(half, faces.style, gain, faces.mesh, beard)
            for (half, _), gain in zip(faces.halves, gains, strict=True)
        )
    )
    brightened = faces.match.joined(*(light.brightened(gain) for gain in gains))
    strange = light.strange(relit, faces.style, skins, faces.mesh)
    relit = light.evened(relit, faces.style, brightened, skins, _joins(faces) * blur(faces.plain, 0.006 * size))
    relit = light.coloured(relit, faces.style, faces.profile, skins, faces.mesh)
    relit = light.in_tone(relit, shift, skins[0])
    features = faces.inside * regions.features(faces.mesh, size)
    relit = grain.as_soft(relit, faces.style, features * faces.own * faces.free)
    relit = grain.with_texture(relit, faces.style, faces.inside - features, faces.plain)
    return faces.profile + share * (relit - faces.profile), strange


def _filling(faces: _OnTarget, relit: np.ndarray, both: np.ndarray, share: float) -> np.ndarray:
    """The style's skin in the person's tone, `[S, S, 3]`, without its eyeliner, lashes and folds of a smile, and with its
    eyes, brows and lips only where the photograph shows none.

    Args:
        both: where both faces show skin that can be compared, `[S, S]`.
        share: of the person's tone.
    """
    size = len(both)
    filling = light.harmonised(faces.style, relit, both, share * faces.inside)
    kept = np.zeros_like(both)
    for part in (*regions.EYES, *regions.BROWS, topology.LIPS_OUTER):
        shape = regions.hull(faces.mesh, part, size)
        if (shape * faces.own).sum() < 0.7 * shape.sum():
            kept = np.maximum(kept, shape)
    lines = faces.inside * (1 - faces.plain) * (1 - blur(kept, 0.002 * size))
    for sigma in (0.06 * size, 0.02 * size):  # where plain skin is far, as under a whole brow, from afar
        known = lines * smoothstep(blur(faces.plain, sigma), 0.05, 0.2)
        filling = filling + known[..., None] * (blurred_within(filling, faces.plain, sigma) - filling)
    return filling


def _mask(faces: _OnTarget) -> np.ndarray:
    """Where the painted face goes over the style's picture, `[S, S]` in 0 .. 1."""
    size = len(faces.inside)
    # Mouth corners and nostrils look away, too, and are no far side.
    centre = blur(regions.hull(faces.mesh, regions.CENTRE, size), 0.005 * size)
    mask = faces.inside * np.maximum(smoothstep(faces.match.facing, 0, 0.15), centre)
    mask = mask * smoothstep(blur(faces.free, 0.006 * size), 0.35, 0.8)
    narrower = regions.shrunk(mask, 0.015 * size)
    # At the eyes' height up to the rim, for the ends of the style's glasses.
    return blur(narrower + _at_eyes(faces.mesh, size) * (mask - narrower), 0.01 * size)


def paint_by_mesh(pair: CropPair, settings: MeshSettings = MeshSettings()) -> MeshResult:
    """The profile in the style's pose and light, on the style's crop. A `Painter` once the settings are given.

    Raises:
        UserError: a face that has no mesh.
    """
    match, profile_parts, style_mesh, target = mesh_match(pair, settings)
    size = pair.style.shape[1]
    style = pair.style[0].numpy().astype(np.float32)
    style_parts = face_parts(style, style_mesh)
    faces = _on_target(match, target, profile_parts, style_parts)
    shift = light.tone_shift(faces.profile, faces.style, faces.profile_skin, faces.style_skin, settings.skin_tone)
    relit, strange = _relit(faces, shift, settings.light, profile_parts.beard)
    # A beard differs from the style's skin, too.
    beard = profile_parts.beard * regions.hull(target, regions.BEARDS, size)
    faces = replace(faces, own=faces.own * (1 - strange * (1 - beard)))
    # Where the photograph shows no skin (hair, the far side) but the style does, the style's own skin in the person's tone.
    both = faces.own * faces.profile_skin * faces.style_skin
    filling = _filling(faces, relit, both, settings.light)
    # Neither ends where it is used, or a pyramid's coarse levels would mix hair and the void beyond the face into its rim.
    relit = filling + smoothstep(faces.own, 0.4, 0.8)[..., None] * (relit - filling)
    nearest = tuple(ndimage.distance_transform_edt(faces.inside == 0, return_distances=False, return_indices=True))
    relit, filling = relit[nearest], filling[nearest]
    content = blended(relit, filling, smoothstep(blur(faces.own, 0.008 * size), 0.2, 0.9), levels=4)

    # Beside the face the style's picture, its outline moved to the person's and its skin to the person's tone.
    oval = regions.oval(target, size)
    around = moved_outline(style, style_mesh, target, oval)
    skin_around = blur(style_parts.skin, 0.004 * size) * outskirts(oval, 0.12, 0.3)
    # Under the mask's soft rim the style's lips and chin lie where the person's do.
    around = np.where(faces.inside[..., None] > 0, faces.style, around)
    harmonised = light.harmonised(around, content, both, settings.light * skin_around)
    around = np.where(skin_around[..., None] > 0, harmonised, around)

    mask = _mask(faces)
    image = blended(content, around, mask).clip(0, 1)
    if profile_parts.beard > 0:
        image = with_beard(image, relit, faces.profile, match, profile_parts, style_parts, target)
    # Without the style's beard the photograph is shown up to its rim, which elsewhere may be the style's own.
    shown = smoothstep(faces.inside * blur(faces.own, 0.008 * size), 0.6, 0.95)
    bare = content + shown[..., None] * (relit - content)
    image = shaved(
        image, bare, np.maximum(regions.shrunk(oval, 0.08 * size), shown), profile_parts, style_parts, target
    )
    image, _ = light.toned(image, style)
    if not profile_parts.wears_glasses:
        image = image + smoothstep(style_parts.glasses, 0.05, 0.6)[..., None] * (style - image)

    changed = np.maximum(np.abs(around - style), np.abs(image - around)).max(axis=-1) > 1 / 512
    reach = smoothstep(blur(np.maximum(mask > 0, changed), 0.012 * size), 0.02, 0.5).astype(np.float32)
    return MeshResult(
        _tensor(style + reach[..., None] * (image - style)),
        flow=as_flow(match),
        mask=torch.from_numpy(reach)[None],
        warped=_tensor(np.where(faces.inside[..., None] > 0, faces.profile, style)),
        notes=notes_about(pair, profile_parts.mesh, style_mesh) + _about_photograph(profile_parts),
    )


def notes_about(pair: CropPair, profile: np.ndarray, style: np.ndarray) -> tuple[str, ...]:
    """Sentences about what this pair makes hard; `profile` and `style` are meshes `[468, 3]`."""
    notes = []
    apart = degrees_between(profile, style)
    if apart > MOST_DEGREES:
        yaws = [yaw_pitch_roll(mesh)[0] for mesh in (profile, style)]
        notes.append(
            f"The heads are turned {apart:.0f} degrees apart (yaw {yaws[0]:.0f} and {yaws[1]:.0f}): above {MOST_DEGREES} the far half is "
            "mostly made up. Use a photograph turned more like the style reference."
        )
    if pair.profile_placement.scale > SMALL_PROFILE * max(1.0, pair.style_placement.scale):
        width = pair.profile.shape[1] / pair.profile_placement.scale
        notes.append(
            f"The profile's face is small (its crop has {width:.0f} pixels, enlarged {pair.profile_placement.scale:.1f} times), so it turns "
            "out soft: use a larger photograph."
        )
    return tuple(notes)


def _about_photograph(profile: FaceParts) -> tuple[str, ...]:
    notes = []
    if sharpness(profile.crop, profile.mesh) < BLURRED:
        notes.append("The profile's face is blurred, and so the portrait's will be: use a sharper photograph.")
    if profile.wears_glasses:
        notes.append(
            "The profile wears glasses: they come along, without their arms. A photograph without glasses is better."
        )
    return tuple(notes)


def sharpness(crop: np.ndarray, mesh: np.ndarray) -> float:
    """How much of the contrast at eyes and brows is fine detail, in 0 .. 1.

    Args:
        crop: `[S, S, 3]`, sRGB.
        mesh: `[468, 3]`, its pixels.
    """
    size, lightness = len(crop), to_lab(crop)[..., 0]
    eyes = regions.around_eyes(mesh, size) > 0.5
    if not eyes.any():
        return 1.0
    low, high = np.percentile(lightness[eyes], (2, 98))
    fine = np.percentile(abs(lightness - blur(lightness, _FINE * size))[eyes], 95)
    return float(fine / max(high - low, 1.0))


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32))[None]
