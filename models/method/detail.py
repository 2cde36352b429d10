"""Fine detail of the profile's photo, brought over by the flow. Beyond the paper, which leaves detail to the UNet.

An autoencoder with cells of 8 px and a few denoising steps lose eyelids, single hairs, the rims of glasses; the profile has them, and the
flow knows where they belong. Frequency separation, as in retouching (and in the node DetailTransfer of ComfyUI-IC-Light): what is
finer than `radius` comes from the warped profile, everything coarser, light above all, stays the painted picture's.
"""

import math

import torch
import torch.nn.functional as functional

from ..errors import UserError
from ..types import Flow
from .correspondence import warp

STRENGTH = 1.0
"""The nodes' default."""
RADIUS = 0.01
"""Sigma of the Gaussian between fine and coarse, in crop widths: 2.6 px of 256, 5 of 512."""
TOLERANCE = 0.15
"""Contrast, in brightness 0 .. 1, by which the next coarser band of the two may differ before detail fades out."""


def transfer_detail(
    picture: torch.Tensor,
    profile: torch.Tensor,
    flow: Flow,
    strength: float = STRENGTH,
    radius: float = RADIUS,
    tolerance: float = TOLERANCE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace a painted crop's fine detail by the warped profile's, where the flow is sure and the two agree.

    They agree where the next coarser band has the same contrast: an eye lies on an eye. The outline of the profile's head, or an
    edge of its hair, lies on nothing in the painted picture, and would be embossed on it.

    Args:
        picture: painted crops, float32 `[B, H, W, 3]` in [0, 1].
        profile: the crop the flow was estimated from, float32 `[1, H, W, 3]` in [0, 1].
        flow: target <- profile, of that size.
        strength: 0 .. 1; 0 gives `picture` back, bit for bit.
        radius: in crop widths, above 0, at most 0.05.
        tolerance: see `TOLERANCE`; infinity brings detail over wherever the flow is sure.

    Returns:
        (pictures `[B, H, W, 3]` in [0, 1], share of the profile's detail `[B, H, W]` in [0, 1]).

    Raises:
        UserError: sizes that do not fit, or a strength or radius out of range.
    """
    height, width = picture.shape[1:3]
    for what, size in (("profile crop", tuple(profile.shape[1:3])), ("flow", (flow.height, flow.width))):
        if size != (height, width):
            raise UserError(
                f"The {what} is {size[1]} x {size[0]} pixels, but the painted crop {width} x {height}. Detail is brought over before "
                "anything is scaled."
            )
    if not 0 <= strength <= 1:
        raise UserError(f"The strength of detail must lie in 0 .. 1; got {strength}.")
    if not 0 < radius <= 0.05:
        raise UserError(f"The radius must lie above 0 and not above 0.05 of the crop's width; got {radius}.")
    if strength == 0:
        return picture, torch.zeros(picture.shape[:3])
    sigma = radius * width
    painted, moved = picture.movedim(-1, 1), warp(profile.movedim(-1, 1), flow.offsets.to(profile))
    painted_coarse, moved_coarse = _coarse(painted, sigma), _coarse(moved, sigma)
    sure = functional.interpolate(
        flow.confidence.to(picture), size=(height, width), mode="bilinear", align_corners=False
    )
    share = strength * sure.clamp(0, 1) * _agreement(painted_coarse, moved_coarse, sigma, tolerance)
    result = painted + share * ((moved - moved_coarse) - (painted - painted_coarse))
    return result.clamp(0, 1).movedim(1, -1).contiguous(), share[:, 0]


def _coarse(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """What is coarser than a Gaussian of this sigma in pixels."""
    reach = min(max(1, round(3 * sigma)), min(x.shape[-2:]) - 1)  # mirrored borders cannot be wider than the picture
    from kornia.filters import gaussian_blur2d  # torchvision's is one square kernel: minutes for a wide one

    return gaussian_blur2d(x, (2 * reach + 1,) * 2, (sigma,) * 2)


def _agreement(painted: torch.Tensor, moved: torch.Tensor, sigma: float, tolerance: float) -> torch.Tensor:
    """1 where the band between sigma and 4 sigma has the same contrast in both, `[B, 1, H, W]`."""
    bands = [grey - _coarse(grey, 4 * sigma) for grey in (x.mean(dim=1, keepdim=True) for x in (painted, moved))]
    reach = math.ceil(sigma)  # over the middle of an edge, where bands cross 0
    difference = functional.max_pool2d((bands[0] - bands[1]).abs(), 2 * reach + 1, stride=1, padding=reach)
    return _coarse(torch.exp(-((difference / tolerance) ** 2)), sigma)
