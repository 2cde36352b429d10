"""Conversion to PIL and back, and text in PIL's built-in font."""

from __future__ import annotations

import numpy as np
import torch


def draw_text(draw, position: tuple[float, float], text: str, size: int) -> None:
    """White letters with a black rim, at (x, y) in pixels; `size` in pixels."""
    draw.text(position, text, fill=(255, 255, 255), font=font(size), stroke_width=1, stroke_fill=(0, 0, 0))


def font(size: int):
    """PIL's built-in font, `size` in pixels."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def to_pil(frame: torch.Tensor):
    """`[H, W, 3]` in [0, 1] as an 8-bit picture."""
    from PIL import Image

    return Image.fromarray((frame.detach().cpu().clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy())


def from_pil(image) -> torch.Tensor:
    """An 8-bit picture as float32 `[H, W, 3]` in [0, 1]."""
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
