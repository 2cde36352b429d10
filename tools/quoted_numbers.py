"""Numbers in the documentation that come from a committed JSON: found, checked, and refreshed.

A quoted number is followed by a comment that says where it comes from and how it is written:

    12.0<!-- bundle.json flow_epe_px/trained .1f -->
    0.33<!-- bundle.json flow_epe_px/trained over flow_epe_px/step0 .2f -->

The file lies in docs/measurements; keys are separated by `/`, list places are numbers; `over` divides; the last word is
Python's format. `python -m icportrait.tools.quoted_numbers FILE...` writes the current values into files.
"""

import json
import re
import sys
from pathlib import Path

MEASUREMENTS = Path(__file__).resolve().parents[1] / "docs" / "measurements"
QUOTE = re.compile(r"(?P<number>[-+−]?\d[\d.,]*%?)<!-- (?P<file>\S+\.json) (?P<path>.+?) (?P<format>\S+) -->")


def value_at(figures, path: str) -> float:
    """The number at a `/`-separated path.

    Raises:
        ValueError: no number there.
    """
    value = figures
    for key in path.split("/"):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise ValueError(f"nothing at {path!r} (no {key!r})") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{path!r} is not a number")
    return value


def wanted_text(quote: re.Match, folder: Path = MEASUREMENTS) -> str:
    """How the number must read now.

    Raises:
        ValueError: the file or the number is not there, or the format is wrong.
    """
    path = Path(folder) / quote["file"]
    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    figures = json.loads(path.read_text("utf-8"))
    top, _, bottom = quote["path"].partition(" over ")
    value = value_at(figures, top)
    if bottom:
        value /= value_at(figures, bottom)
    return format(value, quote["format"])


def quotes(text: str) -> list[re.Match]:
    """All quoted numbers of a text.

    Raises:
        ValueError: a comment that names a JSON but is not of the form above.
    """
    found = list(QUOTE.finditer(text))
    comments = re.findall(r"<!--[^>]*?\.json[^>]*?-->", text)
    if len(comments) != len(found):
        bad = set(comments) - {match[0][match[0].index("<!--") :] for match in found}
        raise ValueError(
            f"not of the form NUMBER<!-- FILE.json PATH FORMAT -->: {', '.join(sorted(bad)) or 'no number before it'}"
        )
    return found


def problems(text: str, folder: Path = MEASUREMENTS) -> list[str]:
    """One sentence for every quoted number that differs from its JSON."""
    out = []
    for quote in quotes(text):
        try:
            wanted = wanted_text(quote, folder)
        except ValueError as error:
            out.append(f"{quote[0]}: {error}")
            continue
        if quote["number"] != wanted:
            out.append(f"{quote[0]}: the JSON says {wanted}")
    return out


def refreshed(text: str, folder: Path = MEASUREMENTS) -> str:
    """The text with every quoted number as its JSON says now."""

    def current(quote: re.Match) -> str:
        return wanted_text(quote, folder) + quote[0][len(quote["number"]) :]

    return QUOTE.sub(current, text)


def main(paths: list[str]) -> int:
    """Refresh files in place, naming what changed."""
    for path in map(Path, paths):
        before = path.read_text("utf-8")
        after = refreshed(before)
        if after != before:
            path.write_text(after, "utf-8")
            print(f"{path}: {len(problems(before))} numbers brought up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
