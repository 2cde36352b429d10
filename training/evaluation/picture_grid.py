"""Grids of result pictures with titles, for reports and figures."""

from pathlib import Path

import torch
from PIL import Image

from ...models.faces.pixels import to_bytes
from ...models.pictures.panels import labelled_panel
from .charts import stacked


def strip(row: list[tuple[str, torch.Tensor]], height: int, title_size: int | None = None) -> Image.Image:
    """Pictures `[1, H, W, 3]` beside each other, each under its title and scaled to a height in px; see `labelled_panel`."""
    return Image.fromarray(to_bytes(labelled_panel(row, height, title_size=title_size)[0]))


def grid(rows: list[list[tuple[str, torch.Tensor]]], height: int = 160) -> Image.Image:
    """One row of (title, picture `[1, H, W, 3]`) below the other, all of one height in px; rows may differ in length."""
    return stacked([strip(row, height) for row in rows], gap=0)


def save_grid(rows: list[list[tuple[str, torch.Tensor]]], path: Path) -> None:
    """Write a grid at the first picture's own height; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(rows, rows[0][0][1].shape[1]).save(path)
