"""Baselines and the method itself, all on the same inputs: each is a function (models, case, settings) -> picture.

Pictures are float32 `[1, H, W, 3]` in [0, 1].
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from ...models.errors import UserError
from ...models.faces import alignment
from ...models.faces.landmarks import named_points
from ...models.faces.resampling import resample
from ...models.faces.stitching import StitchSettings, crop_mask, match_colors
from ...models.faces.types import Face, Placement
from ...models.method.correspondence import warp
from ...models.method.encoding import encode_picture, encode_profile
from ...models.method.matching import estimate_flow
from ...models.method.pixel_sampling import sample_pixels
from ...models.portrait import CropSettings, paint_crop
from .cases import Case
from .models_used import Models

_FIVE = ("eye_left", "eye_right", "nose_tip", "mouth_left", "mouth_right")


def five_points(face: Face) -> np.ndarray:
    """Eyes, nose tip and mouth corners `[5, 2]`; what the layout lacks comes from the fitted average head."""
    points, head = named_points(face), alignment.head_of(face)
    if head is None:
        raise UserError("A paste by landmarks needs a face with landmarks; this one is only a box.")
    return np.stack([points[name] if name in points else head.point(name) for name in _FIVE])


def paste_mask(case: Case) -> torch.Tensor:
    """The style face's feathered paste mask in its crop, float32 `[H, W]`: the one 'Stitch Face' uses."""
    height, width = case.style.picture.shape[1:3]
    placement = Placement(height, width, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), width, case.style.face)
    return crop_mask(placement, StitchSettings())


def _pasted(case: Case, moved: torch.Tensor, colour_match: str) -> torch.Tensor:
    """A moved profile `[3, H, W]` over the style crop, inside the face's mask."""
    style = case.style.picture[0].movedim(-1, 0)
    mask = paste_mask(case)
    moved = match_colors(moved.clamp(0, 1), style, mask, colour_match).clamp(0, 1)
    return (style + mask * (moved - style)).movedim(0, -1)[None]


def style_unchanged(models: Models, case: Case, settings: CropSettings) -> torch.Tensor:
    """The style reference as it is: what any method must beat in likeness, and can hardly beat in light."""
    return case.style.picture


def paste_by_landmarks(models: Models, case: Case, settings: CropSettings) -> torch.Tensor:
    """The profile turned, scaled and shifted so that five landmarks meet the style's, pasted in the face's mask; no net."""
    matrix = alignment.similarity(five_points(case.profile.face), five_points(case.style.face))
    height, width = case.style.picture.shape[1:3]
    moved = resample(case.profile.picture.movedim(-1, 1), matrix, height, width)[0]
    return _pasted(case, moved, "off")


def paste_by_flow(models: Models, case: Case, settings: CropSettings) -> torch.Tensor:
    """The profile warped by the matching net's flow, its colours matched to the style's, pasted in the face's mask."""
    profile = encode_profile(case.profile.picture, models.vae, models.vision)
    latent = encode_picture(models.vae, case.style.picture, "style crop")
    generator = torch.Generator().manual_seed(settings.seed)
    sampled, _ = sample_pixels(case.style.picture, settings.share, generator, settings.pattern)
    flow = estimate_flow(
        models.model,
        models.nets,
        profile,
        latent,
        sampled,
        settings.flow_timestep,
        settings.flow_method,
        settings.seed,
    )
    return _pasted(case, warp(case.profile.picture.movedim(-1, 1), flow.offsets)[0], "mean_std")


def embedding_only(models: Models, case: Case, settings: CropSettings) -> torch.Tensor:
    """The base model from the noised style crop with the profile's image embedding, both nets off."""
    return icportrait(models, case, dataclasses.replace(settings, strength=0.0))


def icportrait(models: Models, case: Case, settings: CropSettings) -> torch.Tensor:
    """The method, run as the Portrait node runs it."""
    crops = (case.profile.picture, case.style.picture)
    return paint_crop(models.model, models.vae, models.vision, models.nets, *crops, settings).image


METHODS = {
    "style unchanged": style_unchanged,
    "paste by landmarks": paste_by_landmarks,
    "paste by flow": paste_by_flow,
    "embedding only": embedding_only,
    "ic-portrait": icportrait,
}
