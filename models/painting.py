"""One face painted onto one canvas: align, crop, paint, stitch; and the identity similarity before and after.

What paints is a `Painter`. The method of the paper is one (`portrait.paint_crop`); anything that makes a crop from a pair of crops
can take its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from .errors import UserError
from .faces import detection, identity
from .faces.alignment import AlignmentSettings, crop, placement_of
from .faces.stitching import StitchSettings, stitch
from .faces.types import Face, Placement
from .types import Flow, Profile

FEW, ENOUGH = 64, 200
"""Width of a face in pixels below which a portrait comes with a warning, and what the warning asks for."""


@dataclass(frozen=True, eq=False)
class CropPair:
    """A painter's input: two aligned crops of one size, each with its place in its picture."""

    profile: torch.Tensor
    """float32 `[1, S, S, 3]` in [0, 1], cut from the person's photograph."""
    style: torch.Tensor
    """float32 `[1, S, S, 3]` in [0, 1], cut from the canvas: pose, light and style come from it."""
    profile_placement: Placement
    """Its `landmarks` are the profile's, in crop pixels."""
    style_placement: Placement
    """Its `landmarks` are the style face's, in crop pixels."""


@dataclass(frozen=True, eq=False)
class CropResult:
    """A painter's output. Only `image` is needed; the rest is for looking at, None where a painter has no such thing."""

    image: torch.Tensor
    """`[1, S, S, 3]` in [0, 1], framed as the style crop."""
    sampled: torch.Tensor | None = None
    """float32 `[1, S, S, 3]` in [0, 1]: the style pixels the nets see."""
    flow: Flow | None = None
    profile: Profile | None = None
    mask: torch.Tensor | None = None
    """float32 `[1, S, S]` in 0 .. 1: where `image` differs from the style crop, for painters that know; it is stitched with this mask
    as it is. None: the face's own shape, feathered."""
    notes: tuple[str, ...] = ()
    """Sentences for the report."""


class Painter(Protocol):
    """Paints the profile's person into the style crop.

    Neither crop may be written to. ValueError and RuntimeError mean that this face failed (a group can skip it); any other
    exception, ComfyUI's InterruptProcessingException among them, ends the run.
    """

    def __call__(self, pair: CropPair) -> CropResult: ...


@dataclass(frozen=True, eq=False)
class PaintedFace:
    """A canvas with one face painted, and how it came about."""

    canvas: torch.Tensor
    """float32 `[1, H, W, 3]` in [0, 1]."""
    mask: torch.Tensor
    """float32 `[1, H, W]`: where the face was pasted; where 0, no bit differs from the canvas before."""
    pair: CropPair
    crop: CropResult
    """`image` is float32 on the CPU."""

    @property
    def stitched_crop(self) -> torch.Tensor:
        """The face after stitching, cut from the canvas again: float32 `[1, S, S, 3]` in [0, 1]."""
        return _cut(self.canvas, self.pair.style_placement)


def cut_pair(
    canvas: torch.Tensor,
    target_face: Face,
    profile_image: torch.Tensor,
    profile_face: Face,
    alignment: AlignmentSettings = AlignmentSettings(),
) -> CropPair:
    """Align and cut both faces; arguments as for `paint_face`. Raises UserError for a face too small to align."""
    profile_placement = placement_of(profile_face, *profile_image.shape[1:3], alignment)
    style_placement = placement_of(target_face, *canvas.shape[1:3], alignment)
    return CropPair(
        _cut(profile_image, profile_placement), _cut(canvas, style_placement), profile_placement, style_placement
    )


def paint_face(
    canvas: torch.Tensor,
    target_face: Face,
    profile_image: torch.Tensor,
    profile_face: Face,
    paint: Painter,
    alignment: AlignmentSettings = AlignmentSettings(),
    stitching: StitchSettings = StitchSettings(),
    occlusion: torch.Tensor | None = None,
) -> PaintedFace:
    """Replace one face of a canvas by the person of a photograph.

    Args:
        canvas: `[1, H, W, 3]` in [0, 1]; not modified.
        target_face: the face on the canvas.
        profile_image: `[1, H', W', 3]` in [0, 1], the photograph.
        profile_face: the person's face on it.
        occlusion: `[H, W]`, 1 = in front of the face, never painted.

    Raises:
        UserError: a face too small to align, a crop with NaN pixels or of another size, an occlusion of another size.
        Exception: whatever `paint` raises.
    """
    pair = cut_pair(canvas, target_face, profile_image, profile_face, alignment)
    result = paint(pair)
    notes = (*small_face_notes(pair), *result.notes)
    result = replace(result, image=result.image.float().cpu(), notes=notes)
    if not torch.isfinite(result.image).all():
        raise UserError("the painted crop holds NaN pixels; run the model or VAE in full precision")
    own_mask = None if result.mask is None else result.mask[0]
    if own_mask is not None:
        stitching = replace(stitching, feather=0)  # it is soft already
    stitched, mask = stitch(
        canvas[0].movedim(-1, 0),
        result.image[0].movedim(-1, 0),
        pair.style_placement,
        stitching,
        mask=own_mask,
        occlusion=occlusion,
    )
    return PaintedFace(stitched.movedim(0, -1)[None], mask[None], pair, result)


def small_face_notes(pair: CropPair) -> tuple[str, ...]:
    """A sentence for each face of which the picture shows too little for a good portrait."""
    return tuple(
        f"The face of the {what} is only {placement.face.side:.0f} pixels wide; {ENOUGH} or more are better."
        for what, placement in (("profile", pair.profile_placement), ("style reference", pair.style_placement))
        if placement.face.side < FEW
    )


def _cut(image: torch.Tensor, placement: Placement) -> torch.Tensor:
    return crop(image.movedim(-1, 1), placement).movedim(1, -1)


@dataclass(frozen=True)
class IdentityChange:
    """Identity similarity to the profile; 1 is the same picture, NaN where a face could not be read."""

    before: float
    """Of the face on the canvas as it was."""
    after: float
    """Of the painted face."""

    def text(self) -> str:
        """A sentence for the report."""
        before, after = (
            "unknown (no face could be read)" if math.isnan(value) else f"{value:.3f}"
            for value in (self.before, self.after)
        )
        return f"Identity similarity to the profile: {before} in the style reference, {after} in the result."


def identity_change(painted: PaintedFace, canvas: torch.Tensor, profile_image: torch.Tensor) -> IdentityChange:
    """How alike canvas and result are to the profile; costs a search for the face in the stitched crop.

    Args:
        canvas: `[1, H, W, 3]`, as it was before painting.
        profile_image: `[1, H', W', 3]`, the photograph given to `paint_face`.

    Raises:
        UserError: dlib is missing, or a face is too small to align.
    """
    known = identity.embedding(profile_image[0], painted.pair.profile_placement.face)
    before = identity.embedding(canvas[0], painted.pair.style_placement.face)
    stitched = painted.stitched_crop
    # The result's own landmarks, not the style's: the face may have moved.
    found = detection.find_faces(stitched, detection.DetectionSettings(order="large-small", effort="fast")).frames[0]
    after = identity.embedding(stitched[0], found[0]) if found else None
    return IdentityChange(*(_or_nan(identity.similarity(known, other)) for other in (before, after)))


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
