"""Flow in colors, confidence in colors, and lines from places to their matches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torchvision.utils import flow_to_image

from ..errors import UserError
from ..method.correspondence import resize_flow, warp
from ..types import Flow
from .drawing import draw_text, font, from_pil, to_pil


def flow_pictures(flow: Flow, profile_image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A flow at the crops' size, to look at.

    Args:
        profile_image: `[1, H, W, 3]` in [0, 1], the crop the flow leads to.

    Returns:
        Confidence `[1, H, W]`, the profile warped by the flow `[1, H, W, 3]`, the flow in color with legend `[1, H, W, 3]`; float32
        in [0, 1].
    """
    size = (flow.height, flow.width)
    confidence = F.interpolate(flow.confidence, size=size, mode="bilinear", align_corners=False)[:, 0]
    warped = warp(profile_image.movedim(-1, 1), flow.offsets).movedim(1, -1)
    return confidence, warped, flow_to_color(resize_flow(flow.offsets, *size), legend=True)


def flow_to_color(
    flow: torch.Tensor, size: tuple[int, int] | None = None, *, max_flow: float | None = None, legend: bool = False
) -> torch.Tensor:
    """Flow in the Middlebury colors, by torchvision: hue is the direction, white is no motion, full color is `max_flow`.

    Right (dx > 0) is red, down yellow, left cyan, up violet. Longer vectors than `max_flow` are darkened; vectors with NaN are black.

    Args:
        flow: `[B, 2, h, w]`, channel 0 = dx, 1 = dy (any unit).
        size: (height, width) in pixels to draw the cells at, without smoothing between them; None draws a pixel a cell.
        max_flow: length drawn in full color, in the flow's unit; None takes the longest vector of the batch.
        legend: draw the wheel with its radius into the lower right corner (pictures of at least 48 px).

    Returns:
        float32 `[B, height, width, 3]` in [0, 1], steps of 1/255.

    Raises:
        UserError: another shape.
    """
    if flow.ndim != 4 or flow.shape[1] != 2:
        raise UserError(f"a flow must have shape [batch, 2, height, width], {list(flow.shape)} came")
    flow = flow.detach().to(device="cpu", dtype=torch.float32)
    known = torch.isfinite(flow).all(dim=1, keepdim=True)
    flow = torch.where(known, flow, 0)
    length = flow.norm(dim=1, keepdim=True)
    if max_flow is None:
        max_flow = float(length.max())
    max_flow = max(max_flow, 1e-6)
    too_long = length > max_flow
    flow = torch.where(too_long, flow * (max_flow / length), flow)
    # torchvision scales by the longest vector it sees: a row below, cut off again, holds it. It is a little longer than `max_flow`,
    # because at full length torchvision's rounding can fall below 0 and wrap round to white.
    flow = F.pad(flow, (0, 0, 0, 1), value=1.00001 * max_flow / 2**0.5)
    picture = flow_to_image(flow)[..., :-1, :].float() / 255
    picture = torch.where(too_long, 0.75 * picture, picture) * known
    if size is not None:
        picture = F.interpolate(picture, size=tuple(size), mode="nearest")
    picture = picture.permute(0, 2, 3, 1)
    if legend and min(picture.shape[1:3]) >= 48:
        picture = torch.stack([_with_legend(one, max_flow) for one in picture])
    return picture


def _with_legend(picture: torch.Tensor, max_flow: float) -> torch.Tensor:
    from PIL import ImageDraw

    size = max(33, min(picture.shape[:2]) // 5) | 1
    axis = torch.linspace(-1.08, 1.08, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    disc = flow_to_color(torch.stack([x, y])[None], max_flow=1.0)[0]
    within = ((x**2 + y**2) <= 1)[..., None]
    picture = picture.clone()
    corner = picture[-size:, -size:]
    picture[-size:, -size:] = torch.where(within, disc, corner)
    image = to_pil(picture)
    text = f"{max_flow:.3g}"
    draw = ImageDraw.Draw(image)
    width = draw.textlength(text, font=font(max(9, size // 5)))
    draw_text(draw, (image.width - width - 2, image.height - size - max(9, size // 5) - 3), text, max(9, size // 5))
    return from_pil(image)


# From unsure to sure: dark blue, teal, yellow; also told apart by brightness alone.
CONFIDENCE_COLORS = ((0.07, 0.09, 0.35), (0.13, 0.57, 0.55), (0.99, 0.91, 0.15))


def confidence_to_color(
    confidence: torch.Tensor, size: tuple[int, int] | None = None, *, legend: bool = False
) -> torch.Tensor:
    """Confidence as colors: dark blue is 0 (unsure), teal 0.5, yellow 1 (sure).

    Args:
        confidence: `[B, h, w]` or `[B, 1, h, w]` in [0, 1].
        size: (height, width) in pixels to draw the cells at, without smoothing between them; None draws a pixel a cell.
        legend: draw a bar with both ends named along the lower edge (pictures of at least 96 px).

    Returns:
        float32 `[B, height, width, 3]`.
    """
    confidence = confidence.detach().to(device="cpu", dtype=torch.float32).reshape(-1, *confidence.shape[-2:])
    stops = torch.tensor(CONFIDENCE_COLORS)
    position = confidence.clamp(0, 1) * (len(stops) - 1)
    low = position.floor().long().clamp(0, len(stops) - 2)
    part = (position - low)[..., None]
    picture = stops[low] * (1 - part) + stops[low + 1] * part
    if size is not None:
        picture = F.interpolate(picture.permute(0, 3, 1, 2), size=tuple(size), mode="nearest").permute(0, 2, 3, 1)
    if legend and min(picture.shape[1:3]) >= 96:
        picture = torch.stack([_with_bar(one) for one in picture])
    return picture


def _with_bar(picture: torch.Tensor) -> torch.Tensor:
    from PIL import ImageDraw

    height, width = picture.shape[:2]
    bar, margin = max(6, height // 40), max(4, width // 32)
    size = max(10, height // 20)
    picture = picture.clone()
    ramp = torch.linspace(0, 1, width - 2 * margin).expand(1, bar, -1)
    picture[height - margin - bar : height - margin, margin : width - margin] = confidence_to_color(ramp)[0]
    image = to_pil(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((margin - 1, height - margin - bar - 1, width - margin, height - margin), outline=(255, 255, 255))
    line = height - margin - bar - size - 5
    draw_text(draw, (margin, line), "0 unsure", size)
    draw_text(draw, (width - margin - draw.textlength("sure 1", font=font(size)), line), "sure 1", size)
    return from_pil(image)


def match_lines(
    style_image: torch.Tensor,
    profile_image: torch.Tensor,
    offsets: torch.Tensor,
    confidence: torch.Tensor,
    *,
    points: int = 5,
) -> torch.Tensor:
    """Style crop and profile side by side, with lines from places in the one to their matches in the other.

    Each line's color depends on where it starts; a thin grey line is a match the net is unsure of (below 0.5), and
    a match outside the profile ends at its edge.

    Args:
        style_image, profile_image: `[B or 1, H, W, 3]` of one size.
        offsets: `[B, 2, h, w]` as in `types.Flow`.
        confidence: `[B, 1, h, w]` in [0, 1].
        points: lines along each side; they start on a grid over the crop's inner three quarters, slanted so that lines do not cover each other.

    Returns:
        float32 `[B, H, 2W + gap, 3]`.
    """
    if style_image.shape[1:] != profile_image.shape[1:]:
        raise UserError(
            f"style crop and profile must have one size, {list(style_image.shape[1:])} and {list(profile_image.shape[1:])} came"
        )
    count, _, rows, columns = offsets.shape
    height, width = style_image.shape[1:3]
    offsets, confidence = offsets.detach().cpu().float(), confidence.detach().cpu().float()
    gap = max(4, width // 32)
    drawn = []
    for index in range(count):
        left, right = (
            one[min(index, len(one) - 1)].detach().cpu().float()[..., :3] for one in (style_image, profile_image)
        )
        image = to_pil(torch.cat([left, torch.ones(height, gap, 3), right], dim=1))
        lattice = [(x, y + (x - (points - 1) / 2) / points) for y in range(points) for x in range(points)]
        starts = [(0.125 + 0.75 * (x + 0.5) / points, 0.125 + 0.75 * (y + 0.5) / points) for x, y in lattice]
        for share_x, share_y in starts:
            column, row = min(columns - 1, int(share_x * columns)), min(rows - 1, int(share_y * rows))
            start = (column + 0.5) * width / columns, (row + 0.5) * height / rows
            dx, dy = offsets[index, :, row, column].tolist()
            end = start[0] + dx * width / columns, start[1] + dy * height / rows
            sure = float(confidence[index, 0, row, column]) >= 0.5
            _draw_match(
                image,
                start,
                (min(max(end[0], 0), width - 1) + width + gap, min(max(end[1], 0), height - 1)),
                sure,
                share_x,
                share_y,
            )
        drawn.append(from_pil(image))
    return torch.stack(drawn)


def _draw_match(image, start, end, sure: bool, share_x: float, share_y: float) -> None:
    import colorsys

    from PIL import ImageDraw

    draw = ImageDraw.Draw(image)
    color = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(share_x * 0.85, 0.55 + 0.4 * share_y, 1.0))
    line = max(1, image.height // 256)
    draw.line((*start, *end), fill=color if sure else (140, 140, 140), width=line if sure else 1)
    dot = line + 1
    for x, y in (start, end):
        draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=color if sure else (140, 140, 140), outline=(0, 0, 0))
