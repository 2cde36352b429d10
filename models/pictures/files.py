"""Picture files, read with a limit: a file of a few kilobytes can decode to gigabytes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import UserError

MOST_PIXELS = 128 * 1024 * 1024
"""Above any camera's picture that comes from one exposure; 400 MB in 8 bits, 1.6 GB as IMAGE."""


def check_picture_size(path: str | Path) -> None:
    """Raises UserError for a picture of more than `MOST_PIXELS`, by its header alone; formats Pillow does not know pass."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise UserError(f"{path} has more than {MOST_PIXELS // 2**20} million pixels; scale it down first.") from None
    except (OSError, SyntaxError, ValueError):  # what cannot be read is said by whoever decodes it
        return
    if width * height > MOST_PIXELS:
        raise UserError(
            f"{path} has {width} x {height} pixels, more than the {MOST_PIXELS // 2**20} million that are read; scale it down first."
        )


def read_picture(path: str | Path) -> np.ndarray:
    """A picture file as uint8 `[H, W, 3]`, sRGB: turned as its EXIF says, 16 bits scaled to 8, alpha over white.

    Raises:
        UserError: not a readable picture, or one of more than `MOST_PIXELS`.
    """
    check_picture_size(path)
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise UserError(f"{path} cannot be read as a picture: {error}") from error
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip 16 bits at 255
        values = np.asarray(image, dtype=np.float64)
        values = values * (255 / (65535 if values.max() > 255 else 255))
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))
