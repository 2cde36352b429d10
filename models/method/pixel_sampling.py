"""Pixel sampling F(z, n), eq. 1 of the paper: keep n % of the pixels so that light leaks through and identity does not."""

import torch

from ..errors import UserError

PATTERNS = ("random", "checkerboard")


def sampled_positions(
    height: int,
    width: int,
    share: float | torch.Tensor,
    generator: torch.Generator | None,
    pattern: str = "random",
    batch: int = 1,
) -> torch.Tensor:
    """Which pixels are kept.

    Args:
        share: kept share in [0, 1], one number or a tensor `[B]`.
        generator: decides the draw; required for `random`, unused for `checkerboard`.
        pattern: `random` draws every pixel independently (the paper's choice); `checkerboard` keeps a regular
            grid with about the same share (the paper's ablation, overly smooth results).

    Returns:
        float32 `[B, H, W]`, 1 = kept. For one seed a larger share keeps a superset of the pixels of a smaller one.

    Raises:
        UserError: share outside [0, 1], or an unknown pattern.
    """
    share = torch.as_tensor(share, dtype=torch.float32).reshape(-1)
    if share.min() < 0 or share.max() > 1:
        raise UserError(f"The share of kept pixels must lie in [0, 1]; got {share.tolist()}.")
    share = share.expand(batch)[:, None, None]
    if pattern == "random":
        # rand lies in [0, 1): share 1 keeps all, share 0 keeps none.
        return (torch.rand(batch, height, width, generator=generator) < share).float()
    if pattern == "checkerboard":
        period = share.clamp_min(1e-6).rsqrt().round().long().clamp_min(1)  # one pixel in period x period
        rows = torch.arange(height)[None, :, None] % period == 0
        columns = torch.arange(width)[None, None, :] % period == 0
        return (rows & columns & (share > 0)).float()
    raise UserError(f"Unknown sampling pattern {pattern!r}; choose one of {', '.join(PATTERNS)}.")


def sample_pixels(
    images: torch.Tensor,
    share: float | torch.Tensor,
    generator: torch.Generator | None,
    pattern: str = "random",
    region: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """F(z, n) of eq. 1: the picture with all but a share of its pixels set to black.

    Args:
        images: float `[B, H, W, 3]`, sRGB in [0, 1]; not modified.
        region: optional `[B, H, W]` or `[H, W]`; where it is 0 no pixel is kept.

    Returns:
        (sampled pictures `[B, H, W, 3]`, kept positions `[B, H, W]` in {0, 1}).
    """
    batch, height, width, _ = images.shape
    kept = sampled_positions(height, width, share, generator, pattern, batch).to(images.device)
    if region is not None:
        kept = kept * (region.to(images.device) > 0.5).float()
    return images * kept[..., None].to(images.dtype), kept
