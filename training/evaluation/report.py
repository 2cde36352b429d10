"""One self-contained HTML page: settings, tables, charts and picture grids. It loads nothing from anywhere."""

import html
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from .charts import data_uri
from .result_cache import write_atomically

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em; color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 0.6em 0 1.4em; }
th, td { border: 1px solid #ccc; padding: 3px 9px; text-align: right; }
th:first-child, td:first-child { text-align: left; }
th { background: #f2f2f2; } .best { font-weight: bold; } img { max-width: 100%; } code { overflow-wrap: anywhere; }
"""


def number(value) -> str:
    """A table's cell: three decimals, whole numbers as they are, a dash for what could not be measured."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value)


class Page:
    """A page in the making."""

    def __init__(self, title: str):
        self._parts = [f"<h1>{html.escape(title)}</h1>"]
        self._title = title

    def heading(self, text: str) -> None:
        """A section's title."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{html.escape(text)}</p>")

    def facts(self, facts: dict) -> None:
        """Names and values in two columns."""
        rows = "".join(
            f"<tr><td>{html.escape(str(k))}</td><td><code>{html.escape(str(v))}</code></td></tr>"
            for k, v in facts.items()
        )
        self._parts.append(f"<table>{rows}</table>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence], better: Sequence[int] | None = None) -> None:
        """A table; `better` says for each column whether more (+1) or less (-1) is better, and its best cell is bold."""
        best = {}
        for column, way in enumerate(better or ()):
            known = [row[column] for row in rows if isinstance(row[column], int | float)]
            if way and known:
                best[column] = max(known) if way > 0 else min(known)
        out = ["<table><tr>", *(f"<th>{html.escape(name)}</th>" for name in head), "</tr>"]
        for row in rows:
            cells = (
                f'<td class="best">{html.escape(number(cell))}</td>'
                if column in best and cell == best[column]
                else f"<td>{html.escape(number(cell))}</td>"
                for column, cell in enumerate(row)
            )
            out += ["<tr>", *cells, "</tr>"]
        self._parts.append("".join([*out, "</table>"]))

    def picture(self, image: Image.Image, alt: str) -> None:
        """A picture inside the page."""
        self._parts.append(f'<p><img src="{data_uri(image)}" alt="{html.escape(alt)}"></p>')

    def write(self, path: Path) -> None:
        """Write the page."""
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(self._title)}</title>'
            f"<style>{_STYLE}</style><body>{''.join(self._parts)}</body></html>\n"
        )
        write_atomically(path, page.encode())
