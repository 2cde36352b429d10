"""Pictures for people: flow and confidence in colors, match lines, numbered faces, mask overlays, labelled panels.

All take and give IMAGE tensors, float32 `[B, H, W, 3]` in [0, 1], and never draw into their inputs. Text is PIL's built-in font.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from .faces.types import Face, Faces, number_of

# Distinct on skin and on each other; face k has colour k modulo 8.
FACE_COLORS = (
    (255, 80, 80),
    (80, 200, 255),
    (120, 230, 90),
    (255, 190, 60),
    (220, 110, 255),
    (60, 230, 200),
    (255, 120, 190),
    (200, 200, 90),
)


def color_wheel() -> torch.Tensor:
    """The Middlebury flow wheel, float32 `[55, 3]` in [0, 1]: red, yellow, green, cyan, blue, magenta, back to red.

    Source: S. Baker et al., A Database and Evaluation Methodology for Optical Flow, 2011 (segments of 15, 6, 4, 11, 13, 6 steps).
    """
    rows = []
    for start, end, steps in (
        ((1, 0, 0), (1, 1, 0), 15),
        ((1, 1, 0), (0, 1, 0), 6),
        ((0, 1, 0), (0, 1, 1), 4),
        ((0, 1, 1), (0, 0, 1), 11),
        ((0, 0, 1), (1, 0, 1), 13),
        ((1, 0, 1), (1, 0, 0), 6),
    ):
        part = torch.arange(steps, dtype=torch.float32)[:, None] / steps
        rows.append(
            torch.tensor(start, dtype=torch.float32) * (1 - part) + torch.tensor(end, dtype=torch.float32) * part
        )
    return torch.cat(rows)


def flow_to_color(
    flow: torch.Tensor, size: tuple[int, int] | None = None, *, max_flow: float | None = None, legend: bool = False
) -> torch.Tensor:
    """Flow as the Middlebury colours: hue is the direction, white is no motion, full colour is `max_flow`.

    Right (dx > 0) is red, down yellow, left cyan, up violet. Longer vectors than `max_flow` are darkened; vectors with NaN are black.

    Args:
        flow: `[B, 2, h, w]`, channel 0 = dx, 1 = dy (any unit).
        size: (height, width) in pixels to draw the cells at, without smoothing between them; None draws a pixel a cell.
        max_flow: length drawn in full colour, in the flow's unit; None takes the longest vector of the batch.
        legend: draw the wheel with its radius into the lower right corner (pictures of at least 48 px).

    Returns:
        float32 `[B, height, width, 3]`.
    """
    if flow.ndim != 4 or flow.shape[1] != 2:
        raise ValueError(f"a flow must have shape [batch, 2, height, width], {list(flow.shape)} came")
    flow = flow.detach().to(device="cpu", dtype=torch.float32)
    known = torch.isfinite(flow).all(dim=1)
    flow = torch.where(known[:, None], flow, torch.zeros_like(flow))
    length = flow.norm(dim=1)
    if max_flow is None:
        max_flow = float(length.max())
    max_flow = max(max_flow, 1e-6)
    radius = length / max_flow
    wheel = color_wheel()
    # The published code measures the angle of (-dx, -dy), from -pi to pi, so that "right" is red.
    turn = torch.atan2(-flow[:, 1], -flow[:, 0]) / math.pi
    position = (turn + 1) / 2 * (len(wheel) - 1)
    low = position.floor().long().clamp(0, len(wheel) - 1)
    part = (position - low)[..., None]
    color = wheel[low] * (1 - part) + wheel[(low + 1) % len(wheel)] * part
    inside = (radius <= 1)[..., None]
    picture = torch.where(inside, 1 - radius[..., None] * (1 - color), color * 0.75) * known[..., None]
    if size is not None:
        picture = F.interpolate(picture.permute(0, 3, 1, 2), size=tuple(size), mode="nearest").permute(0, 2, 3, 1)
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
    image = _to_pil(picture)
    text = f"{max_flow:.3g}"
    draw = ImageDraw.Draw(image)
    width = draw.textlength(text, font=_font(max(9, size // 5)))
    _text(draw, (image.width - width - 2, image.height - size - max(9, size // 5) - 3), text, max(9, size // 5))
    return _from_pil(image)


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
    image = _to_pil(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((margin - 1, height - margin - bar - 1, width - margin, height - margin), outline=(255, 255, 255))
    line = height - margin - bar - size - 5
    _text(draw, (margin, line), "0 unsure", size)
    _text(draw, (width - margin - draw.textlength("sure 1", font=_font(size)), line), "sure 1", size)
    return _from_pil(image)


def match_lines(
    style_image: torch.Tensor,
    profile_image: torch.Tensor,
    offsets: torch.Tensor,
    confidence: torch.Tensor,
    *,
    points: int = 5,
) -> torch.Tensor:
    """Style crop and profile side by side, with lines from places in the one to their matches in the other.

    A line's color tells lines apart by where they start; a thin grey line is a match the net is unsure of (below 0.5), and
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
        raise ValueError(
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
        image = _to_pil(torch.cat([left, torch.ones(height, gap, 3), right], dim=1))
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
        drawn.append(_from_pil(image))
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


def before_after(
    profile: torch.Tensor, before: torch.Tensor, after: torch.Tensor, similarity_before: float, similarity_after: float
) -> torch.Tensor:
    """Profile, style reference and result in a row, the identity similarity to the profile under the last two.

    Args:
        profile, before, after: pictures `[1, H, W, 3]`.
        similarity_before, similarity_after: 1 is the same picture; NaN says that a face could not be read.

    Returns:
        float32 `[1, H', W', 3]`.
    """

    def words(value: float) -> str:
        return "no face could be read" if math.isnan(value) else f"similarity {value:.2f}"

    titles = "profile", f"before: {words(similarity_before)}", f"after: {words(similarity_after)}"
    return labelled_panel(
        list(zip(titles, (profile, before, after), strict=True)), height=max(192, min(512, after.shape[1]))
    )


def draw_faces(image: torch.Tensor, faces: Faces, texts: dict[tuple[int, int], str] | None = None) -> torch.Tensor:
    """Boxes, landmarks and numbers on copies of the frames.

    Args:
        image: `[B, H, W, 3]`, the frames the faces were found in.
        texts: more words beside a number, by (frame, place in the frame), for example a similarity.

    Returns:
        float32 `[B, H, W, 3]`. The number drawn is the one to type into any node.
    """
    drawn = []
    for index, frame in enumerate(image):
        picture = _to_pil(frame)
        for place, face in enumerate(faces.frames[index] if index < len(faces.frames) else ()):
            _draw_face(picture, face, number_of(face, place), (texts or {}).get((index, place), ""))
        drawn.append(_from_pil(picture))
    return torch.stack(drawn)


def _draw_face(picture, face: Face, number: int, text: str) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    color = FACE_COLORS[number % len(FACE_COLORS)]
    line = max(1, round(max(picture.size) / 350))
    x0, y0, x1, y1 = face.box
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(0, 0, 0), width=line + 2)
    draw.rectangle((x0, y0, x1, y1), outline=color, width=line)
    dot = line * (1.5 if len(face.landmarks) <= 5 else 0.7)
    for x, y in face.landmarks:
        draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=color, outline=(0, 0, 0) if dot > 2 else None)
    size = int(np.clip(face.side / 4, 12, max(14, max(picture.size) / 25)))
    label = f"{number} {text}".strip()
    width = draw.textlength(label, font=_font(size))
    # The label stays inside the picture, also for a face at its edge.
    x = float(np.clip(face.box[0], 0, max(0, picture.width - width - 6)))
    y = float(np.clip(face.box[1] - size - 6, 0, max(0, picture.height - size - 6)))
    draw.rectangle((x, y, x + width + 6, y + size + 5), fill=color)
    draw.text((x + 3, y + 1), label, fill=(0, 0, 0), font=_font(size))


def overlay_mask(
    image: torch.Tensor, mask: torch.Tensor, color: tuple[float, float, float] = (1.0, 0.2, 0.2), opacity: float = 0.5
) -> torch.Tensor:
    """Tint the masked part: `mask` `[B or 1, H, W]`, 1 = full tint. A mask of another size is scaled to the picture's."""
    mask = mask.detach().to(device="cpu", dtype=torch.float32)
    if mask.shape[-2:] != image.shape[1:3]:
        mask = F.interpolate(mask[:, None], size=tuple(image.shape[1:3]), mode="bilinear", align_corners=False)[:, 0]
    amount = opacity * mask.clamp(0, 1)[..., None]
    return image.detach().cpu() * (1 - amount) + torch.tensor(color) * amount


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
        raise ValueError("a panel needs at least one picture")
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
    while size > 8 and draw.textlength(title, font=_font(size)) > strip.width - 6:
        size -= 1
    draw.text((3, 2), title, fill=(240, 240, 240), font=_font(size))
    return torch.cat([_from_pil(strip), picture], dim=0)


def _text(draw, position: tuple[float, float], text: str, size: int) -> None:
    draw.text(position, text, fill=(255, 255, 255), font=_font(size), stroke_width=1, stroke_fill=(0, 0, 0))


def _font(size: int):
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _to_pil(frame: torch.Tensor):
    from PIL import Image

    return Image.fromarray((frame.detach().cpu().clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy())


def _from_pil(image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
