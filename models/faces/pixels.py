"""What is accepted as a picture, and how it becomes bytes for a detector."""

from __future__ import annotations

import numpy as np
import torch

from ..errors import UserError


def checked_image(image: torch.Tensor, what: str = "image") -> torch.Tensor:
    """Any IMAGE as float32 `[B, H, W, 3]` on the CPU, never the same memory being written to.

    Accepts `[B, H, W, C]` or one picture `[H, W, C]`; grey (C = 1) is repeated, of grey + alpha and RGBA (C = 2, 4) the alpha is
    dropped. Values are not clipped here.

    Raises:
        UserError: not such a tensor, empty, bytes, or NaN / infinite pixels; `what` names it in the sentence.
    """
    _check_values(image, what, "IMAGE")
    if image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or image.shape[-1] not in (1, 2, 3, 4):
        raise UserError(
            f"{what} must have shape [batch, height, width, channels] with 1 to 4 channels, {list(image.shape)} came"
        )
    if image.numel() == 0:
        raise UserError(f"{what} is empty: its shape is {list(image.shape)}")
    image = image.detach().to(device="cpu", dtype=torch.float32)
    channels = image.shape[-1]
    image = image[..., :1].expand(-1, -1, -1, 3) if channels <= 2 else image[..., :3]
    if not torch.isfinite(image).all():
        bad = int((~torch.isfinite(image)).any(dim=-1).sum())
        raise UserError(
            f"{what} has {bad} NaN or infinite pixels of {image.shape[0] * image.shape[1] * image.shape[2]}; the node before it made them "
            "(often a VAE in half precision), so mend it there"
        )
    return image


def _check_values(tensor, what: str, kind: str) -> None:
    """Raises UserError for what is no dense tensor of real numbers, and for bytes or other whole numbers above 1."""
    name = "an IMAGE" if kind == "IMAGE" else "a MASK"
    if not isinstance(tensor, torch.Tensor):
        raise UserError(f"{what} must be {name} tensor, a {type(tensor).__name__} came")
    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_complex():
        raise UserError(
            f"{what} must be {name}, a dense tensor of real numbers; {str(tensor.dtype)[6:]} on {tensor.device}, {tensor.layout} came"
        )
    if not tensor.is_floating_point() and tensor.numel() and tensor.max() > 1:
        raise UserError(
            f"{what} holds whole numbers up to {int(tensor.max())} ({str(tensor.dtype)[6:]}), {name} holds 0 to 1: divide it by "
            "255 in the node that made it"
        )


def checked_mask(mask: torch.Tensor, what: str = "mask") -> torch.Tensor:
    """Any MASK as float32 `[B, H, W]` in [0, 1] on the CPU. Accepts `[H, W]`. Raises UserError as `checked_image` does."""
    _check_values(mask, what, "MASK")
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.ndim != 3 or mask.numel() == 0:
        raise UserError(f"{what} must have shape [batch, height, width] and not be empty, {list(mask.shape)} came")
    mask = mask.detach().to(device="cpu", dtype=torch.float32)
    if not torch.isfinite(mask).all():
        raise UserError(f"{what} has NaN or infinite values")
    return mask.clamp(0, 1)


def optional_mask(mask: torch.Tensor | None, height: int, width: int, what: str) -> torch.Tensor | None:
    """An optional MASK of a picture's size, float32 `[B, height, width]` in [0, 1]; None where there is none.

    One that is 0 everywhere is none, whatever its size: ComfyUI's Load Image gives 64 x 64 zeros for a picture without alpha. Another
    size with the picture's proportions is scaled.

    Raises:
        UserError: see `checked_mask`; or other proportions, naming both sizes.
    """
    if mask is None:
        return None
    mask = checked_mask(mask, what)
    if not mask.any():
        return None
    found_height, found_width = mask.shape[1:]
    if (found_height, found_width) == (height, width):
        return mask
    if 2 * abs(found_width * height - found_height * width) > height + width:  # more than rounding a side makes
        raise UserError(
            f"{what} is {found_width}x{found_height}, its picture {width}x{height}: other proportions, so draw the mask on this picture"
        )
    size = {"size": (height, width), "mode": "bilinear", "antialias": True, "align_corners": False}
    return torch.nn.functional.interpolate(mask[:, None], **size)[:, 0].clamp(0, 1)


def to_bytes(frame: torch.Tensor) -> np.ndarray:
    """One frame `[H, W, 3]` in [0, 1] (clipped) as a contiguous uint8 array, rounded to nearest."""
    return np.ascontiguousarray((frame.clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy())
