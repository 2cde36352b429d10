"""Pasting a crop back onto the running canvas.

What an artist judges: no square seam (the mask is the face's shape, feathered), no colour step (optional colour match), no blurred
or jagged patch (antialiased resampling), no painted-over hand or glasses (occlusion mask), and nothing else touched: where the
mask is 0, the canvas is returned bit for bit.

A paste that passed through a resampled crop loses the canvas's finest detail even where nothing was generated. So the detail the
crop could not carry (canvas minus canvas-through-the-crop) is added back *where the crop was left as it was*, and nowhere else:
an untouched crop then gives the canvas back, and a new face does not get the old one's eyelashes. Measured in `docs/faces.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import UserError
from ..values import check_number, check_option
from .alignment import crop as cut_crop
from .alignment import head_of
from .resampling import invert, resample, transform
from .types import Face, Placement

COLOR_MATCHES = ("off", "mean_std", "reinhard")
HAIR = ("as masked", "keep the picture's", "bring the crop's")

# Mask values below this are set to 0: they would change nothing visible, yet break the promise of untouched pixels.
_FAINT = 1 / 512
# The canvas's own detail comes back where the crop changed by less than about this (mean over channels, sRGB): above the error of a
# VAE on an unchanged face (0.01 to 0.03), below the difference of two faces.
_UNCHANGED = 0.04
# Colour match never stretches a channel's spread by more than this: a flat crop must not become noise.
_GAIN_LIMIT = 2.0


@dataclass(frozen=True)
class StitchSettings:
    """How a crop is pasted; every field has the node's default."""

    feather: float = 0.08
    """Width of the soft edge as a fraction of the crop's side; 0 is a hard, still antialiased, edge."""
    color_match: str = "off"
    """"off"; "mean_std": mean and spread of each channel in CIE Lab; "reinhard": the same in the decorrelated l-alpha-beta space."""
    color_strength: float = 1.0
    """0 leaves the crop's colours, 1 matches them fully."""
    opacity: float = 1.0
    keep_detail: bool = True
    """Give back the canvas's finest detail where the crop was left unchanged."""
    hair: str = "as masked"

    def __post_init__(self) -> None:
        check_option("color_match", self.color_match, COLOR_MATCHES)
        check_option("hair", self.hair, HAIR)
        for name, high in (("feather", 0.5), ("color_strength", 1.0), ("opacity", 1.0)):
            check_number(name, getattr(self, name), 0, high)


def face_outline(face: Face) -> np.ndarray:
    """Points whose convex hull is the face: forehead to chin, without hair and neck; float64 `[N, 2]`, canvas pixels."""
    if face.layout == "mediapipe":
        return face.points  # its mesh reaches the hairline itself
    head = head_of(face)
    if head is None:  # only a box: an oval in it
        angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        half = np.array([0.42 * (face.box[2] - face.box[0]), 0.52 * (face.box[3] - face.box[1])])
        return np.array(face.centre) + half * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outline = head.outline()
    if face.layout == "ibug_68":  # jaw and brows are known, the forehead is not
        down = head.point("chin") - np.asarray(head.shift)
        return np.concatenate([face.points, outline[(outline - head.shift) @ down < 0]])
    return outline


def face_mask(placement: Placement) -> torch.Tensor:
    """The face's shape in its crop: float32 `[S, S]`, 1 inside, antialiased edge about a pixel wide.

    Raises:
        UserError: the landmarks lie on one line.
    """
    from scipy.spatial import ConvexHull, QhullError

    size = placement.crop_size
    points = transform(face_outline(placement.face), placement.matrix)
    # Each facet of a convex hull is a half-plane n.x + d <= 0; the distance to the hull's rim from inside is the least of them.
    try:
        facets = torch.from_numpy(ConvexHull(points).equations).to(torch.float32)
    except QhullError as error:
        raise UserError(
            "the face's landmarks lie on one line and enclose nothing: give other landmarks, a box instead, or a face mask"
        ) from error
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    inside = torch.full((size, size), float("inf"))
    for normal_x, normal_y, offset in facets:
        inside = torch.minimum(inside, -(normal_x * x + normal_y * y + offset))
    return (inside + 0.5).clamp(0, 1)


def feathered(mask: torch.Tensor, feather_px: float) -> torch.Tensor:
    """Soften a mask `[S, S]`: a smooth ramp of this width centred on its edge, and down to 0 at the crop's border.

    Without the fade at the border a mask that touches it would show the crop's square on the canvas.
    """
    from scipy import ndimage

    if feather_px > 1:
        solid = mask.numpy() > 0.5
        # Distance to the mask's edge in pixels, positive inside. An all-white or all-black mask has no edge.
        inside = ndimage.distance_transform_edt(solid) if not solid.all() else np.full(solid.shape, np.inf)
        outside = ndimage.distance_transform_edt(~solid) if solid.any() else np.full(solid.shape, np.inf)
        signed = torch.from_numpy(np.where(solid, inside - 0.5, 0.5 - outside)).to(torch.float32)
        mask = _smooth(signed / feather_px + 0.5)
    height, width = mask.shape
    along_y, along_x = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    border = torch.minimum(
        torch.minimum(along_y, along_y.flip(0))[:, None], torch.minimum(along_x, along_x.flip(0))[None]
    )
    return mask * _smooth(border / max(1.0, feather_px))


def crop_mask(
    placement: Placement,
    settings: StitchSettings,
    mask: torch.Tensor | None = None,
    hair_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The paste mask in the crop, float32 `[S, S]`.

    Args:
        mask: what to paste, `[S, S]`; the face's own shape if None.
        hair_mask: hair in the crop, `[S, S]`; used by the hair switch: "keep the picture's" takes it out of the paste,
            "bring the crop's" adds it, "as masked" ignores it.
    """
    size = placement.crop_size
    mask = face_mask(placement) if mask is None else _fits(mask, size, "face mask")
    if hair_mask is not None:
        hair_mask = _fits(hair_mask, size, "hair mask")
        if settings.hair == "keep the picture's":
            mask = mask * (1 - hair_mask)
        elif settings.hair == "bring the crop's":
            mask = torch.maximum(mask, hair_mask)
    elif settings.hair != "as masked":
        raise UserError(f'hair "{settings.hair}" needs a hair mask of the crop; connect one or choose "as masked"')
    return feathered(mask, settings.feather * size)


def stitch(
    canvas: torch.Tensor,
    crop: torch.Tensor,
    placement: Placement,
    settings: StitchSettings = StitchSettings(),
    *,
    mask: torch.Tensor | None = None,
    hair_mask: torch.Tensor | None = None,
    occlusion: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste one crop onto a canvas.

    Args:
        canvas: the *running* canvas, float `[3, H, W]` in [0, 1]: what earlier faces already changed stays. Not modified.
        crop: the generated crop, float `[3, S, S]`.
        mask, hair_mask: see `crop_mask`.
        occlusion: `[H, W]` on the canvas, 1 = something in front of the face; taken out of the paste.

    Returns:
        The new canvas `[3, H, W]`, and the mask it was pasted with `[H, W]` on the canvas. Where the mask is 0 the canvas is
        bit-identical.

    Raises:
        UserError: sizes that do not fit.
    """
    height, width = placement.canvas_height, placement.canvas_width
    size = placement.crop_size
    if tuple(crop.shape[-2:]) != (size, size):
        raise UserError(
            f"the crop is {crop.shape[-1]}x{crop.shape[-2]}, the placement says {size}x{size}: scale the crop back to that size"
        )
    if occlusion is not None and tuple(occlusion.shape) != (height, width):
        raise UserError(
            f"the occlusion mask is {occlusion.shape[-1]}x{occlusion.shape[-2]}, it must have the picture's size {width}x{height}"
        )
    before = cut_crop(canvas[None], placement)[0]  # also checks the canvas's size
    weight = crop_mask(placement, settings, mask, hair_mask)
    crop = match_colors(crop, before, weight, settings.color_match, settings.color_strength).clamp(0, 1)

    canvas_mask = torch.zeros(height, width)
    window = _window(placement)
    if window is None:  # the crop lies wholly outside
        return canvas.clone(), canvas_mask
    top, bottom, left, right = window
    window_from_crop = invert(placement.matrix)
    window_from_crop[:, 2] -= (left, top)
    shape = (bottom - top, right - left)
    pasted = settings.opacity * resample(weight[None, None], window_from_crop, *shape, kernel="bilinear")[0, 0]
    if occlusion is not None:
        pasted = pasted * (1 - occlusion[top:bottom, left:right])
    pasted = torch.where(pasted < _FAINT, torch.zeros_like(pasted), pasted)

    old = canvas[:, top:bottom, left:right]
    new = resample(crop[None], window_from_crop, *shape)[0]
    if settings.keep_detail:
        detail = old - resample(before[None], window_from_crop, *shape)[0]
        same = resample(_unchanged(crop, before)[None, None], window_from_crop, *shape, kernel="bilinear")[0]
        new = new + detail * same
    mixed = old + pasted * (new.clamp(0, 1) - old)
    result = canvas.clone()
    result[:, top:bottom, left:right] = torch.where(pasted > 0, mixed, old)
    canvas_mask[top:bottom, left:right] = pasted
    return result, canvas_mask


def match_colors(
    crop: torch.Tensor, reference: torch.Tensor, weight: torch.Tensor, method: str, strength: float = 1.0
) -> torch.Tensor:
    """Give the crop the reference's colours, measured only inside the mask.

    Mean and standard deviation of each channel are matched, in CIE Lab ("mean_std") or in the decorrelated l-alpha-beta space of
    Reinhard et al. 2001, "Color Transfer between Images" ("reinhard"). It undoes the colour drift of a VAE; a person whose skin
    differs from the picture's is pulled towards the picture's, so it is off by default.

    Args:
        crop, reference: float `[3, S, S]`, sRGB in [0, 1].
        weight: `[S, S]`; an (almost) empty mask changes nothing.
        strength: 0 to 1.

    Returns:
        float `[3, S, S]`; may leave [0, 1] slightly.
    """
    if method == "off" or strength == 0 or float(weight.sum()) < 1:
        return crop
    to_space, from_space = {"mean_std": (_to_lab, _from_lab), "reinhard": (_to_lalphabeta, _from_lalphabeta)}[method]
    source, target = to_space(crop.clamp(0, 1)), to_space(reference.clamp(0, 1))
    share = weight / weight.sum()

    def statistics(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = (picture * share).sum(dim=(1, 2), keepdim=True)
        return mean, ((picture - mean) ** 2 * share).sum(dim=(1, 2), keepdim=True).sqrt()

    source_mean, source_spread = statistics(source)
    target_mean, target_spread = statistics(target)
    gain = ((target_spread + 1e-4) / (source_spread + 1e-4)).clamp(1 / _GAIN_LIMIT, _GAIN_LIMIT)
    matched = from_space((source - source_mean) * gain + target_mean)
    return crop + strength * (matched - crop)


def _to_lab(rgb: torch.Tensor) -> torch.Tensor:
    from kornia.color import rgb_to_lab

    return rgb_to_lab(rgb[None])[0]


def _from_lab(lab: torch.Tensor) -> torch.Tensor:
    from kornia.color import lab_to_rgb

    return lab_to_rgb(lab[None])[0]


# Reinhard et al. 2001, equations 4 to 9: linear RGB to cone responses, logarithm, decorrelation.
_LMS_FROM_RGB = torch.tensor(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]], dtype=torch.float64
)
_LALPHABETA_FROM_LOG_LMS = torch.diag(torch.tensor([3**-0.5, 6**-0.5, 2**-0.5], dtype=torch.float64)) @ torch.tensor(
    [[1.0, 1, 1], [1, 1, -2], [1, -1, 0]], dtype=torch.float64
)
# Black has no logarithm; this is about a fifth of an 8-bit step in linear light.
_DARKEST = 1e-4


def _to_lalphabeta(rgb: torch.Tensor) -> torch.Tensor:
    from kornia.color import rgb_to_linear_rgb

    lms = torch.einsum("ij,jhw->ihw", _LMS_FROM_RGB.to(rgb.dtype), rgb_to_linear_rgb(rgb[None])[0])
    return torch.einsum("ij,jhw->ihw", _LALPHABETA_FROM_LOG_LMS.to(rgb.dtype), (lms + _DARKEST).log10())


def _from_lalphabeta(picture: torch.Tensor) -> torch.Tensor:
    from kornia.color import linear_rgb_to_rgb

    log_lms = torch.einsum("ij,jhw->ihw", torch.linalg.inv(_LALPHABETA_FROM_LOG_LMS).to(picture.dtype), picture)
    linear = torch.einsum("ij,jhw->ihw", torch.linalg.inv(_LMS_FROM_RGB).to(picture.dtype), 10**log_lms - _DARKEST)
    return linear_rgb_to_rgb(linear.clamp(0, 1)[None])[0]


def _unchanged(crop: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """1 where the crop is what it was, 0 where it changed; `[S, S]`, smooth."""
    change = (crop - before).abs().mean(dim=0)[None, None]
    radius = max(1, crop.shape[-1] // 64)
    change = F.avg_pool2d(F.pad(change, (radius,) * 4, mode="replicate"), 2 * radius + 1, stride=1)[0, 0]
    return torch.exp(-((change / _UNCHANGED) ** 2))


def _window(placement: Placement) -> tuple[int, int, int, int] | None:
    """Rows and columns of the canvas the crop covers: top, bottom, left, right; None when it covers none."""
    size = placement.crop_size
    corners = transform(np.array([[0, 0], [size, 0], [0, size], [size, size]]), invert(placement.matrix))
    low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    left, top = max(0, int(low[0])), max(0, int(low[1]))
    right, bottom = min(placement.canvas_width, int(high[0])), min(placement.canvas_height, int(high[1]))
    return (top, bottom, left, right) if right > left and bottom > top else None


def _fits(mask: torch.Tensor, size: int, what: str) -> torch.Tensor:
    if tuple(mask.shape) != (size, size):
        raise UserError(f"the {what} is {mask.shape[-1]}x{mask.shape[-2]}, it must have the crop's size {size}x{size}")
    return mask.to(torch.float32).clamp(0, 1)


def _smooth(x: torch.Tensor) -> torch.Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)
