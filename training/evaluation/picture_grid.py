"""Grids of result pictures with titles, for reports and figures."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...models.pictures import labelled_panel


def grid(rows: list[list[tuple[str, torch.Tensor]]], height: int = 160) -> Image.Image:
    """One row of (title, picture `[1, H, W, 3]`) below the other, all of one height in px; rows may differ in length."""
    strips = [labelled_panel(row, height) for row in rows]
    widest = max(strip.shape[2] for strip in strips)
    padded = [torch.nn.functional.pad(strip, (0, 0, 0, widest - strip.shape[2]), value=1.0) for strip in strips]
    sheet = torch.cat(padded, dim=1)[0].clamp(0, 1)
    return Image.fromarray(np.asarray((sheet * 255 + 0.5).to(torch.uint8)))


def save_grid(rows: list[list[tuple[str, torch.Tensor]]], path: Path) -> None:
    """Write a grid at the first picture's own height; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(rows, rows[0][0][1].shape[1]).save(path)
