"""Annealed feature aggregation, eq. 7: warped profile features are blended into the target half, level by level."""

import torch

from .correspondence import warp
from .pairs import side_by_side, target_and_profile


def annealed_weights(num_encoder_blocks: int, alpha: float, beta: float) -> list[float]:
    """W_l = (1 - l / L) * alpha + beta (eq. 7) for the encoder blocks l = 0 .. L - 1 and the middle block l = L.

    L is the number of encoder blocks (12 for SD1.5); l = 0 is nearest the input and weighs most (for alpha > 0),
    the middle block weighs exactly beta.
    """
    return [(1 - level / num_encoder_blocks) * alpha + beta for level in range(num_encoder_blocks + 1)]


def aggregate_residuals(
    residuals: list[torch.Tensor],
    flow: torch.Tensor,
    alpha: float,
    beta: float,
    confidence: torch.Tensor | None = None,
    profile_side: str = "right",
) -> list[torch.Tensor]:
    """Blend each level's warped profile half into its target half (the paper's section 3.3 with eq. 7).

    Args:
        residuals: ControlNet residuals of a pair, `[B, C, h, 2w]` each, encoder order, the middle block last.
        flow: `[B, 2, fh, fw]` in cells of its own grid, target <- profile.
        confidence: optional `[B, 1, fh, fw]` in [0, 1] that scales the warped features.
        profile_side: `right` (inference) or `left` (half of the training draws).

    Returns:
        New tensors of the same shapes: target half `h_target + W_l * warp(h_profile)`, profile half unchanged.
    """
    weights = annealed_weights(len(residuals) - 1, alpha, beta)
    aggregated = []
    for weight, residual in zip(weights, residuals, strict=True):
        target, profile = target_and_profile(residual, profile_side)
        warped = warp(profile, flow)
        if confidence is not None:
            gate = torch.nn.functional.interpolate(
                confidence, size=warped.shape[-2:], mode="bilinear", align_corners=False
            )
            warped = warped * gate.to(warped.dtype)
        target = target + weight * warped
        aggregated.append(side_by_side(target, profile, profile_side))
    return aggregated
