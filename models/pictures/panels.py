"""Pictures side by side under their titles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..errors import UserError
from .drawing import font, from_pil


def before_after(
    profile: torch.Tensor, before: torch.Tensor, after: torch.Tensor, similarity_before: float, similarity_after: float
) -> torch.Tensor:
    """Profile, style reference and result in a row, the identity similarity to the profile under the last two.

    Args:
        profile, before, after: pictures `[1, H, W, 3]`.
        similarity_before, similarity_after: 1 is the same picture; NaN where a face could not be read.

    Returns:
        float32 `[1, H', W', 3]`.
    """

    def words(value: float) -> str:
        return "no face could be read" if math.isnan(value) else f"similarity {value:.2f}"

    titles = "profile", f"before: {words(similarity_before)}", f"after: {words(similarity_after)}"
    return labelled_panel(
        list(zip(titles, (profile, before, after), strict=True)), height=max(192, min(512, after.shape[1]))
    )


def labelled_panel(
    items: Sequence[tuple[str, torch.Tensor]],
    height: int = 256,
    columns: int | None = None,
    title_size: int | None = None,
) -> torch.Tensor:
    """Pictures side by side, each under its title.

    Args:
        items: (title, picture `[H, W, 3]`, `[1, H, W, 3]` or a mask `[H, W]`); of a batch the first is shown.
        height: each picture is scaled to this height in pixels, its proportions kept.
        columns: pictures in a row; None puts all in one row.
        title_size: of the titles' letters in pixels, smaller where a title would not fit; None takes a sixteenth of the height.

    Returns:
        float32 `[1, H', W', 3]`.
    """
    if not items:
        raise UserError("a panel needs at least one picture")
    size = title_size or max(11, height // 16)
    columns = columns or len(items)
    tiles = []
    for title, picture in items:
        picture = picture.detach().cpu().to(torch.float32)
        if picture.ndim == 2:
            picture = picture[..., None].expand(-1, -1, 3)
        picture = picture[0] if picture.ndim == 4 else picture
        width = max(1, round(height * picture.shape[1] / picture.shape[0]))
        # Nearest keeps the cells of a small flow picture visible; everything else is scaled smoothly.
        mode = (
            {"mode": "nearest"}
            if picture.shape[0] * 3 <= height
            else {"mode": "bilinear", "antialias": True, "align_corners": False}
        )
        picture = (
            F.interpolate(picture.permute(2, 0, 1)[None], size=(height, width), **mode)[0].permute(1, 2, 0).clamp(0, 1)
        )
        tiles.append(_titled(picture, title, size))
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    gap = 4
    joined = [torch.cat([F.pad(tile, (0, 0, 0, gap)) for tile in row], dim=1) for row in rows]
    widest = max(row.shape[1] for row in joined)
    return torch.cat([F.pad(row, (0, 0, 0, widest - row.shape[1], 0, gap)) for row in joined], dim=0)[None]


def _titled(picture: torch.Tensor, title: str, size: int) -> torch.Tensor:
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", (picture.shape[1], size + 8), (24, 24, 24))
    draw = ImageDraw.Draw(strip)
    while size > 8 and draw.textlength(title, font=font(size)) > strip.width - 6:
        size -= 1
    draw.text((3, 2), title, fill=(240, 240, 240), font=font(size))
    return torch.cat([from_pil(strip), picture], dim=0)
