"""Small charts as pictures: lines and bars, drawn with PIL so that no plotting package is needed."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

# Wong, 2011: told apart with colour-blind eyes too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c00")
_LEFT, _TOP, _BOTTOM, _RIGHT = 74, 34, 52, 16


def _font(size: int = 13):
    return ImageFont.load_default(size)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`, both inside."""
    if not high > low:
        high = low + 1
    raw = (high - low) / count
    base = 10 ** math.floor(math.log10(raw))
    step = next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 12) for i in range(math.floor(high / step + 1e-9) - first + 1)]


def _axes(title: str, y_label: str, low: float, high: float, size: tuple[int, int], edge: float = _RIGHT):
    """(image, draw, y position of a value); `edge` px on the right stay free."""
    width, height = size
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    span = max(high - low, 1e-12)

    def y(value: float) -> float:
        return height - _BOTTOM - (value - low) / span * (height - _TOP - _BOTTOM)

    draw.text((_LEFT, 8), title, fill="black", font=_font(15))
    for tick in ticks(low, high):
        draw.line((_LEFT, y(tick), width - edge, y(tick)), fill="#dddddd")
        text = f"{tick:g}"
        draw.text(
            (_LEFT - 8 - draw.textlength(text, font=_font(12)), y(tick) - 8), text, fill="#333333", font=_font(12)
        )
    label = Image.new("RGB", (max(1, math.ceil(draw.textlength(y_label, font=_font()))) + 4, 20), "white")
    ImageDraw.Draw(label).text((2, 2), y_label, fill="black", font=_font())
    label = label.rotate(90, expand=True)
    image.paste(label, (4, max(0, (height - _BOTTOM + _TOP - label.height) // 2)))
    draw.line((_LEFT, _TOP, _LEFT, height - _BOTTOM), fill="black")
    draw.line((_LEFT, height - _BOTTOM, width - edge, height - _BOTTOM), fill="black")
    return image, draw, y


def _known(value) -> bool:
    return value is not None and math.isfinite(value)


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float | None]]],
    title: str,
    x_label: str,
    y_label: str,
    size: tuple[int, int] = (640, 380),
) -> Image.Image:
    """One line a series of (x, y); points without a y are left out.

    Raises:
        ValueError: no point at all.
    """
    points = {name: [(x, y) for x, y in line if _known(y)] for name, line in series.items()}
    everything = [p for line in points.values() for p in line]
    if not everything:
        raise ValueError(f"The chart {title!r} has no points.")
    xs, ys = zip(*everything, strict=True)
    low, high = min(ys), max(ys)
    margin = 0.06 * (high - low) or max(abs(high), 1) * 0.1
    names = max(_font(12).getlength(name) for name in points) if len(points) > 1 else 0
    edge = _RIGHT + (names + 8 if names else 0)
    image, draw, y = _axes(title, y_label, low - margin, high + margin, size, edge)
    left, right = min(xs), max(xs)
    span = (right - left) or 1.0

    def x(value: float) -> float:
        return _LEFT + 14 + (value - left) / span * (size[0] - _LEFT - edge - 28)

    for tick in ticks(left, right, 6):
        text = f"{tick:g}"
        draw.text(
            (x(tick) - draw.textlength(text, font=_font(12)) / 2, size[1] - _BOTTOM + 5), text, "#333333", _font(12)
        )
    middle = (_LEFT + size[0] - edge - draw.textlength(x_label, font=_font())) / 2
    draw.text((middle, size[1] - 24), x_label, fill="black", font=_font())
    for number, (name, line) in enumerate(points.items()):
        colour = COLOURS[number % len(COLOURS)]
        where = [(x(a), y(b)) for a, b in sorted(line)]
        if len(where) > 1:
            draw.line(where, fill=colour, width=2)
        for px, py in where:
            draw.ellipse((px - 3, py - 3, px + 3, py + 3), fill=colour)
        if len(points) > 1:
            row = _TOP + 6 + 17 * number
            draw.text((size[0] - edge + 6, row), name, fill=colour, font=_font(12))
    return image


def bar_chart(
    bars: Mapping[str, float | None], title: str, y_label: str, size: tuple[int, int] = (640, 380)
) -> Image.Image:
    """One bar a name, its value written on it; bars without a value are named and left empty."""
    known = [value for value in bars.values() if _known(value)]
    if not known:
        raise ValueError(f"The chart {title!r} has no bars.")
    low, high = min(0.0, *known), max(0.0, *known)
    image, draw, y = _axes(title, y_label, low, high + 0.1 * (high - low or 1), size)
    step = (size[0] - _LEFT - _RIGHT) / len(bars)
    for number, (name, value) in enumerate(bars.items()):
        x0 = _LEFT + step * (number + 0.15)
        x1 = _LEFT + step * (number + 0.85)
        if _known(value):
            draw.rectangle((x0, min(y(value), y(0)), x1, max(y(value), y(0))), fill=COLOURS[number % len(COLOURS)])
            text = f"{value:.3g}"
            draw.text(
                ((x0 + x1 - draw.textlength(text, font=_font(12))) / 2, min(y(value), y(0)) - 16),
                text,
                "black",
                _font(12),
            )
        for row, word in enumerate(_wrapped(name, step, draw)):
            wide = draw.textlength(word, font=_font(11))
            draw.text(((x0 + x1 - wide) / 2, size[1] - _BOTTOM + 4 + 13 * row), word, fill="#333333", font=_font(11))
    return image


def _wrapped(text: str, width: float, draw: ImageDraw.ImageDraw) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and draw.textlength(f"{lines[-1]} {word}", font=_font(11)) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines[:3]


def png_bytes(image: Image.Image) -> bytes:
    """The picture as PNG."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def data_uri(image: Image.Image) -> str:
    """The picture as a data: address, for a page that needs no other file."""
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()


def stacked(images: Sequence[Image.Image], columns: int = 1, gap: int = 8) -> Image.Image:
    """Pictures below and beside each other on white."""
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    widths = [sum(one.width for one in row) + gap * (len(row) - 1) for row in rows]
    heights = [max(one.height for one in row) for row in rows]
    sheet = Image.new("RGB", (max(widths), sum(heights) + gap * (len(rows) - 1)), "white")
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for one in row:
            sheet.paste(one, (left, top))
            left += one.width + gap
        top += height + gap
    return sheet
