"""One face painted without nets: match the meshes, warp, relight, and blend into the style's crop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from ..errors import UserError
from ..faces.mediapipe import finder, topology
from ..faces.pixels import to_bytes
from ..faces.types import Placement
from ..painting import CropPair, CropResult
from ..types import Flow
from . import light, regions
from .beard import shaved
from .correspondence import MeshMatch, as_flow, match_meshes, moved_outline, outskirts
from .geometry import EXPRESSIONS, degrees_between, posed, yaw_pitch_roll
from .numerics import blended, blur, blurred_within, sampled, smoothstep
from .skin import face_mask, skin_mask

MOST_DEGREES = 40
"""Heads turned further apart than this are warned about: the far half of the face is then mostly made up."""
SMALL_PROFILE = 0.5
"""A profile with fewer pixels across than this share of the style's is warned about: it turns out soft."""


@dataclass(frozen=True)
class MeshSettings:
    """What an artist may choose."""

    skin_tone: float = 0.35
    """0 the person's own skin tone, 1 the style's."""
    light: float = 1.0
    """Share of the style's light: 0 keeps the photograph's."""
    shape: float = 1.0
    """1 the person's shape of the face, 0 the style's."""
    expression: str = EXPRESSIONS[0]
    """Whose eyes and mouth are how far open: one of `EXPRESSIONS`."""

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
    notes: tuple[str, ...] = ()
    """Sentences for the report."""


def crop_mesh(placement: Placement, crop: torch.Tensor, what: str) -> np.ndarray:
    """The dense mesh of a placement's face in its crop: float64 `[468, 3]`, crop pixels.

    A face that came without one (a box, five points) is read in its crop `[1, S, S, 3]`.

    Raises:
        UserError: no mesh can be read, naming `what`.
    """
    points = placement.face.points_3d
    if points is not None and placement.face.layout == "mediapipe":
        matrix = placement.matrix
        points = np.column_stack([points[:, :2] @ matrix[:, :2].T + matrix[:, 2], points[:, 2] * placement.scale])
        return points[: topology.POINTS]
    corners = (
        np.array([placement.face.box[:2], placement.face.box[2:]]) @ placement.matrix[:, :2].T + placement.matrix[:, 2]
    )
    found = finder.read_in_box(to_bytes(crop[0]), (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()))
    if found is None:
        raise UserError(
            f"the face of the {what} cannot be read as a mesh (a drawing, an animal, or mostly hidden?); nets can still paint it"
        )
    return found.points[: topology.POINTS]


def mesh_match(
    pair: CropPair, settings: MeshSettings = MeshSettings()
) -> tuple[MeshMatch, np.ndarray, np.ndarray, np.ndarray]:
    """The correspondence of a pair, and the meshes of profile, style and target, each `[468, 3]` in its crop.

    Raises:
        UserError: a face that has no mesh.
    """
    profile = crop_mesh(pair.profile_placement, pair.profile, "profile")
    style = crop_mesh(pair.style_placement, pair.style, "style reference")
    target = settings.shape * posed(profile, style, settings.expression) + (1 - settings.shape) * style
    return match_meshes(profile, target, pair.style.shape[1]), profile, style, target


def mesh_flow(pair: CropPair, settings: MeshSettings = MeshSettings()) -> Flow:
    """The flow target <- profile of a pair, visibility as confidence.

    Raises:
        UserError: a face that has no mesh.
    """
    return as_flow(mesh_match(pair, settings)[0])


def paint_by_mesh(pair: CropPair, settings: MeshSettings = MeshSettings()) -> MeshResult:
    """The profile in the style's pose and light, on the style's crop. A `Painter` once the settings are given.

    Raises:
        UserError: a face that has no mesh.
    """
    match, profile_mesh, style_mesh, target = mesh_match(pair, settings)
    size = pair.style.shape[1]
    profile, style = (crop[0].numpy().astype(np.float32) for crop in (pair.profile, pair.style))
    inside = match.drawn.inside.astype(np.float32)
    warped = match.warped(profile).clip(0, 1)

    # The style's face on the target's mesh: nose on nose, whatever the shapes.
    style_places = match.drawn.interpolated(style_mesh[:, :2])
    style_face = sampled(style, style_places).clip(0, 1)
    profile_skin, style_skin = skin_mask(profile, profile_mesh), skin_mask(style, style_mesh)
    own = match.warped(face_mask(profile_skin, profile_mesh)) * inside * smoothstep(match.visible, 0.3, 0.8)
    free = sampled(face_mask(style_skin, style_mesh), style_places) * inside

    own = own * light.exposed(warped, inside)
    bare_profile = light.bare_skin(warped, (match.warped(profile_skin) > 0.5) * (match.visible > 0.3) * inside, target)
    bare_style = light.bare_skin(style_face, (sampled(style_skin, style_places) > 0.5) * inside, target)
    gain = light.light_gain(warped, style_face, bare_profile, bare_style, match.normals)
    shift = light.tone_shift(warped, style_face, bare_profile, bare_style, settings.skin_tone)
    relit = light.coloured(light.relit(warped, gain, target), style_face, warped, bare_profile)
    relit = light.shifted(relit, shift)
    calm = bare_style * light.calm(style_face)
    relit = _with_texture(relit, style_face, inside * (1 - regions.features(target, size)), calm)
    relit = warped + settings.light * (relit - warped)

    # Beside the face the style's picture, its outline moved to the person's and its skin to the person's tone.
    face = regions.oval(target, size)
    around = moved_outline(style, style_mesh, target, face)
    skin_around = blur(style_skin, 0.01 * size) * outskirts(face, 0.12, 0.3)
    around = np.where(skin_around[..., None] > 0, light.shifted(around, settings.light * shift, skin_around), around)
    # At the eyes' height up to the rim, and no filling, or the ends of the style's glasses stay.
    at_eyes = blur(regions.hull(target, regions.EYE_LEVEL, size), 0.02 * size)
    plain = match.warped(face_mask(profile_skin, profile_mesh))
    own = 1 - (1 - own) * (1 - at_eyes * plain * (1 - smoothstep(blur(calm, 0.01 * size), 0.3, 0.7)))
    # Where the profile shows no skin (hair, the far side) but the style does, its own skin in the person's tone.
    filling = light.shifted(style_face, settings.light * shift)
    # Under the mask's soft rim the style's lips and chin lie where the person's do.
    around = np.where(inside[..., None] > 0, np.where(skin_around[..., None] > 0, filling, style_face), around)
    content = blended(relit, filling, smoothstep(blur(own, 0.008 * size), 0.2, 0.9), levels=4)

    # Mouth corners and nostrils look away, too, and are no far side.
    facing = np.maximum(
        smoothstep(match.facing, 0, 0.15), blur(regions.hull(target, regions.CENTRE, size), 0.005 * size)
    )
    mask = inside * facing * smoothstep(blur(free, 0.006 * size), 0.35, 0.8)
    narrower = 1 - regions.grown((1 - mask).astype(np.float32), 0.015 * size)
    mask = blur(narrower + at_eyes * (mask - narrower), 0.01 * size)
    nearest = ndimage.distance_transform_edt(inside == 0, return_distances=False, return_indices=True)
    image = blended(content[tuple(nearest)], around, mask).clip(0, 1)
    image = shaved(image, warped, style_face, style_skin, target)
    image, _ = light.toned(image, style)

    changed = np.maximum(np.abs(around - style), np.abs(image - around)).max(axis=-1) > 1 / 512
    reach = blur(np.maximum((mask > 0).astype(np.float32), changed), 0.012 * size).clip(0, 1)
    reach = smoothstep(reach, 0.02, 0.5).astype(np.float32)
    on_style = np.where(inside[..., None] > 0, warped, style)
    return MeshResult(
        _tensor(style + reach[..., None] * (image - style)),
        flow=as_flow(match),
        mask=torch.from_numpy(reach)[None],
        warped=_tensor(on_style),
        notes=_notes(pair, profile_mesh, style_mesh),
    )


def _with_texture(picture: np.ndarray, style: np.ndarray, where: np.ndarray, style_skin: np.ndarray) -> np.ndarray:
    """The style's finest grain where the warped photograph is softer: a small profile does not look waxy."""
    size = len(where)
    own, grain = ((x.mean(axis=-1) - blur(x.mean(axis=-1), 0.004 * size)) for x in (picture, style))
    energies = [
        np.sqrt(blurred_within((x**2)[..., None], w, 0.04 * size)[..., 0])
        for x, w in ((own, where), (grain, style_skin))
    ]
    share = (1 - energies[0] / np.maximum(energies[1], 1e-4)).clip(0, 0.6) * where * blur(style_skin, 0.01 * size)
    return (picture + (share * grain.clip(-0.025, 0.025))[..., None]).clip(0, 1)


def _notes(pair: CropPair, profile: np.ndarray, style: np.ndarray) -> tuple[str, ...]:
    notes = []
    apart = degrees_between(profile, style)
    if apart > MOST_DEGREES:
        yaws = [yaw_pitch_roll(mesh)[0] for mesh in (profile, style)]
        notes.append(
            f"The heads are turned {apart:.0f} degrees apart (yaw {yaws[0]:.0f} and {yaws[1]:.0f}): above {MOST_DEGREES} the far half is "
            "mostly made up. Use a photograph turned more like the style reference."
        )
    ratio = pair.style_placement.scale / pair.profile_placement.scale
    if ratio < SMALL_PROFILE:
        notes.append(
            f"The profile's face has {ratio:.0%} of the style face's pixels across, so it turns out soft: use a larger photograph."
        )
    return tuple(notes)


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32))[None]
