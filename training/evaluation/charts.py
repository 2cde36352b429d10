"""Small charts as pictures: lines and bars by matplotlib, through its objects (pyplot keeps global state)."""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

# Wong, "Points of view: Color blindness", Nature Methods 8 (2011), and an olive of our own: told apart by colour-blind eyes too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c00")
_MARKERS = "osD^vP*X"
_DPI = 100


def _axes(title: str, y_label: str, size: tuple[int, int]) -> Axes:
    """Empty axes of a figure of `size` (width, height) pixels."""
    figure = Figure(figsize=(size[0] / _DPI, size[1] / _DPI), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd")
    axes.set_axisbelow(True)
    return axes


def _picture(axes: Axes) -> Image.Image:
    canvas = axes.figure.canvas
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float | None]]],
    title: str,
    x_label: str,
    y_label: str,
    size: tuple[int, int] = (640, 380),
) -> Image.Image:
    """One line a series of (x, y); points without a finite y are left out. `size` is (width, height) in pixels.

    Raises:
        ValueError: no point at all.
    """
    lines = {name: sorted((x, y) for x, y in points if _known(y)) for name, points in series.items()}
    if not any(lines.values()):
        raise ValueError(f"The chart {title!r} has no points.")
    axes = _axes(title, y_label, size)
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    for number, (name, points) in enumerate(lines.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "marker": _MARKERS[number % len(_MARKERS)], "markersize": 5}
        axes.plot([x for x, _ in points], [y for _, y in points], label=name, **style)
    if len(lines) > 1:
        axes.figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return _picture(axes)


def bar_chart(
    bars: Mapping[str, float | None], title: str, y_label: str, size: tuple[int, int] = (640, 380)
) -> Image.Image:
    """One bar a name with its value on it; a name without a finite value keeps an empty place. `size` as in `line_chart`.

    Raises:
        ValueError: no bar has a value.
    """
    if not any(map(_known, bars.values())):
        raise ValueError(f"The chart {title!r} has no bars.")
    axes = _axes(title, y_label, size)
    values = [value if _known(value) else math.nan for value in bars.values()]
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(bars))]
    drawn = axes.bar(range(len(bars)), values, width=0.7, color=colours)
    axes.bar_label(drawn, ["" if math.isnan(value) else f"{value:.3g}" for value in values], padding=2, fontsize=9)
    room = size[0] // (8 * len(bars))  # letters under a bar
    axes.set_xticks(range(len(bars)), [textwrap.fill(name, room) if room > 9 else name for name in bars], fontsize=8)
    if room <= 9:
        axes.tick_params(axis="x", labelrotation=90)
    axes.set_xlim(-0.6, len(bars) - 0.4)
    axes.margins(y=0.1)
    return _picture(axes)


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
