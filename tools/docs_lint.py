"""Check the documentation: links, pictures, and numbers that come from a committed measurement.

A page's numbers are listed in one comment at its end, by the JSON in docs/measurements that holds them:

    <!-- numbers
    bundle.json
      3.1 px = flow_epe_px/trained .1f
      6 of [7] faces = flow_epe_px/trained over flow_epe_px/step0 .0f
    -->

Left stands the number as the page writes it, with as many words beside it as tell it from the page's other numbers; brackets mark it
among several. Right stand its keys, separated by `/` (places in lists are numbers, `over` divides), and Python's format.

`python tools/docs_lint.py` prints what is wrong (standard library only); `--write` also brings the numbers up to date.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
MEASUREMENTS = REPOSITORY / "docs" / "measurements"
BLOCK = re.compile(r"\n<!-- numbers\n(.*?)-->\s*\Z", re.DOTALL)
NUMBER = re.compile(r"[-+−]?\d+(?:[.,]\d+)*%?")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def pages(repository: Path = REPOSITORY) -> list[Path]:
    """README, docs and the nodes' help pages."""
    return [repository / "README.md", *sorted(repository.glob("docs/*.md")), *sorted(repository.glob("web/docs/*.md"))]


# ---------------------------------------------------------------------------------------------- numbers


@dataclass(frozen=True)
class Quote:
    """One line of a page's list of numbers."""

    phrase: str  # as written in the list, brackets included
    file: str
    path: str
    format: str

    @property
    def text(self) -> str:
        """What the page says."""
        return re.sub(r"\[(.*?)\]", r"\1", self.phrase)

    @property
    def number(self) -> re.Match:
        """The number's place in `phrase`.

        Raises:
            ValueError: there is none, or several and none in brackets.
        """
        found = list(re.finditer(rf"(?<=\[){NUMBER.pattern}(?=\])", self.phrase)) or list(NUMBER.finditer(self.phrase))
        if len(found) != 1:
            raise ValueError("put the number into [brackets]" if found else "no number")
        return found[0]

    def with_number(self, number: str) -> "Quote":
        """The same line for another number."""
        start, end = self.number.span()
        return Quote(self.phrase[:start] + number + self.phrase[end:], self.file, self.path, self.format)


def quotes(page: str) -> list[Quote]:
    """The lines of a page's list of numbers.

    Raises:
        ValueError: a line of another form.
    """
    block = BLOCK.search(page)
    found, file = [], None
    for line in block[1].splitlines() if block else ():
        phrase, equals, source = line.strip().rpartition(" = ")
        path, space, form = source.rpartition(" ")
        if line.endswith(".json") and not equals:
            file = line.strip()
        elif file and equals and space:
            found.append(Quote(phrase, file, path, form))
        else:
            raise ValueError(f"not of the form PHRASE = PATH FORMAT below a FILE.json: {line}")
    return found


def value_at(figures, path: str) -> float:
    """The number at a `/`-separated path, or the quotient of the two around ` over `.

    Raises:
        ValueError: no number there.
    """
    top, over, bottom = path.partition(" over ")
    if over:
        return value_at(figures, top) / value_at(figures, bottom)
    value = figures
    for key in path.split("/"):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, ValueError, TypeError):
            raise ValueError(f"nothing at {path!r} (no {key!r})") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{path!r} is not a number")
    return value


def current(quote: Quote, folder: Path) -> str:
    """The number as its JSON has it now.

    Raises:
        ValueError: no such file or number, or a wrong format.
    """
    if not (folder / quote.file).is_file():
        raise ValueError(f"there is no {quote.file}")
    return format(value_at(json.loads((folder / quote.file).read_text("utf-8")), quote.path), quote.format)


def places(text: str, phrase: str) -> list[re.Match]:
    """Where a phrase stands in a text, line breaks counting as spaces, and not as part of a longer number or word."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return list(re.finditer(rf"(?<![\w.,]){words}(?![\w%]|[.,]\d)", text))


def number_problems(page: str, folder: Path) -> Iterator[str]:
    """One sentence for each number that differs from its JSON or is not on the page."""
    try:
        listed = quotes(page)
    except ValueError as error:
        yield str(error)
        return
    text = BLOCK.sub("", page)
    phrases = [quote.phrase for quote in listed]
    for quote in listed:
        try:
            wanted, number = current(quote, folder), quote.number[0]
        except ValueError as error:
            yield f"'{quote.phrase}': {error}"
            continue
        if number != wanted:
            yield f"'{quote.phrase}': {quote.file} says {wanted}"
        if not places(text, quote.text):
            yield f"'{quote.text}' is listed but not on the page"
        if phrases.count(quote.phrase) > 1:
            yield f"'{quote.phrase}' is listed more than once: add words"


def refreshed(page: str, folder: Path) -> str:
    """The page with every listed number as its JSON has it now, in the text and in the list.

    Raises:
        ValueError: a number cannot be read.
    """
    block = BLOCK.search(page)
    if not block:
        return page
    text, tail = page[: block.start()], page[block.start() :]
    changes = []
    for quote in quotes(page):
        new = quote.with_number(current(quote, folder))
        tail = tail.replace(f"  {quote.phrase} = {quote.path} ", f"  {new.phrase} = {new.path} ", 1)
        start = quote.number.start() - quote.phrase[: quote.number.start()].count("[")
        for place in places(text, quote.text) if new != quote else ():
            at = place.start() + place[0].index(quote.number[0], start)
            changes.append((at, at + len(quote.number[0]), new.number[0]))
    for start, end, number in sorted(changes, reverse=True):
        text = text[:start] + number + text[end:]
    return text + tail


# ---------------------------------------------------------------------------------------------- links and pictures


def link_problems(path: Path) -> Iterator[str]:
    """One sentence for each relative link of a page that leads nowhere."""
    for place in LINK.findall(path.read_text("utf-8")):
        if not re.match(r"https?:|#", place) and not (path.parent / place.partition("#")[0]).exists():
            yield f"{place} does not exist"


def left_over(repository: Path = REPOSITORY) -> Iterator[str]:
    """One sentence for each picture no page shows, and each workflow without a picture or a line in the README."""
    shown = {
        (path.parent / place).resolve() for path in pages(repository) for place in LINK.findall(path.read_text("utf-8"))
    }
    for folder in ("docs/pictures", "web/docs/pictures"):
        for picture in sorted((repository / folder).iterdir()):
            if picture.resolve() not in shown:
                yield f"{picture.relative_to(repository)} is shown nowhere"
    readme = (repository / "README.md").read_text("utf-8")
    for workflow in sorted((repository / "workflows").glob("*.json")):
        if not workflow.with_suffix(".jpg").exists():
            yield f"workflows/{workflow.stem}.jpg, its picture in the template browser, is missing"
        if not re.search(rf"^\| {workflow.stem} \|", readme, re.MULTILINE):
            yield f"README.md's table of templates lacks {workflow.stem}"


def main(arguments: list[str] | None = None) -> int:
    """Print every problem, one a line; the exit code is 1 when there is any."""
    parser = argparse.ArgumentParser(prog="docs-lint", description="Check links, pictures and numbers of the docs.")
    parser.add_argument("--write", action="store_true", help="first bring the pages' listed numbers up to date")
    options = parser.parse_args(arguments)
    found = list(left_over())
    for path in pages():
        page = path.read_text("utf-8")
        if options.write and (new := refreshed(page, MEASUREMENTS)) != page:
            path.write_text(new, "utf-8")
            page = new
        name = path.relative_to(REPOSITORY)
        found += [f"{name}: {problem}" for problem in (*link_problems(path), *number_problems(page, MEASUREMENTS))]
    print("\n".join(found) or "The documentation is in order.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
