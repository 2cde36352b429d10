"""Resampling a picture through a similarity transform: antialiased both ways, sub-pixel exact.

Shrinking needs a low-pass first or thin lines break up and a paste looks jagged; magnifying needs a smooth kernel. Both directions
of align -> stitch go through the one function here.

Own code, because no library's warp has both: OpenCV's `warpAffine` rounds source positions to 1/32 pixel before version 5, and it, kornia's
`warp_affine` and torchvision's `affine` shrink without a low-pass.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import UserError


def invert(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a 2x3 affine matrix, float64 `[2, 3]`."""
    square = np.vstack([matrix, [0.0, 0.0, 1.0]])
    return np.linalg.inv(square)[:2]


def transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a 2x3 matrix to points `[N, 2]`."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def resample(
    image_bchw: torch.Tensor, dst_from_src: np.ndarray, height: int, width: int, kernel: str = "bicubic"
) -> torch.Tensor:
    """Draw `image` into a new picture of `height` x `width`.

    Args:
        image_bchw: float `[B, C, H, W]`, or bytes, which are returned as float in the same range.
        dst_from_src: 2x3 similarity in continuous pixels: dst_xy = A @ src_xy + b.
        kernel: "bicubic" for pictures (may overshoot by a little: clip after), "bilinear" for masks (never leaves the range).

    Returns:
        float `[B, C, height, width]`. Outside the source the nearest edge pixel is repeated.
    """
    matrix = np.asarray(dst_from_src, dtype=np.float64)
    scale = abs(np.linalg.det(matrix[:, :2])) ** 0.5 if np.isfinite(matrix).all() else float("nan")
    if not 1e-6 < scale < 1e6:
        raise UserError(f"cannot resample by a factor of {scale:g}")
    image_bchw, left, top = _needed_part(image_bchw, invert(matrix), height, width, margin=4 + math.ceil(2 / scale))
    if not image_bchw.is_floating_point():  # bytes become float here, after the large picture has been cut down
        image_bchw = image_bchw.to(torch.float32)
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (left, top)

    # Whole-number shrink first, by exact block means; what is left is between 1/2 and 1.
    block = int(1 / scale)
    if block >= 2:
        pad_x, pad_y = -image_bchw.shape[-1] % block, -image_bchw.shape[-2] % block
        image_bchw = F.avg_pool2d(F.pad(image_bchw, (0, pad_x, 0, pad_y), mode="replicate"), block)
        matrix[:, :2] *= block
        scale *= block
    # The rest of a shrink: sample twice as densely and average.
    dense = 2 if scale < 0.99 else 1
    src_from_dst = invert(np.vstack([matrix[0] * dense, matrix[1] * dense]))
    drawn = _sample(image_bchw, src_from_dst, height * dense, width * dense, kernel)
    return F.avg_pool2d(drawn, dense) if dense > 1 else drawn


def _needed_part(
    image: torch.Tensor, src_from_dst: np.ndarray, height: int, width: int, margin: int
) -> tuple[torch.Tensor, int, int]:
    """The part of the source a destination of this size reads, with its left and top. Keeps 8k pictures cheap."""
    corners = transform(np.array([[0, 0], [width, 0], [0, height], [width, height]]), src_from_dst)
    source_height, source_width = image.shape[-2:]
    left, top = np.floor(corners.min(axis=0)).astype(int) - margin
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + margin
    # At least one pixel: a crop wholly outside repeats the nearest edge.
    left, top = int(np.clip(left, 0, source_width - 1)), int(np.clip(top, 0, source_height - 1))
    right, bottom = int(np.clip(right, left + 1, source_width)), int(np.clip(bottom, top + 1, source_height))
    return image[..., top:bottom, left:right], left, top


def _sample(image: torch.Tensor, src_from_dst: np.ndarray, height: int, width: int, kernel: str) -> torch.Tensor:
    """Read the source at the centres of the destination's pixels."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5, torch.arange(width, dtype=torch.float64) + 0.5, indexing="ij"
    )
    m = src_from_dst
    source_x, source_y = m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]
    # grid_sample with align_corners=False: -1 and 1 are the picture's outer edges, as in our continuous pixels.
    grid = torch.stack([2 * source_x / image.shape[-1] - 1, 2 * source_y / image.shape[-2] - 1], dim=-1).to(image.dtype)
    grid = grid[None].expand(image.shape[0], -1, -1, -1).to(image.device)
    return F.grid_sample(image, grid, mode=kernel, padding_mode="border", align_corners=False)
