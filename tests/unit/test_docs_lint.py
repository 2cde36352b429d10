"""The documentation's lint sees stale numbers, broken links and pictures that no page shows."""

import pytest

from icportrait.tools import docs_lint

LIST = """
<!-- numbers
x.json
  12.3 px = a/b 1/1 .1f
  7 of [8] = n d
  50% = a/b 1/1 over c .0%
-->
"""
PAGE = "It is **12.3\npx**, for 7 of 8: 50%, and 112.3 px stays.\n" + LIST


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "x.json").write_text('{"a": {"b 1": [1.0, 12.34]}, "c": 24.68, "n": 8, "text": "no"}')
    return tmp_path


def problems(page, folder):
    return list(docs_lint.number_problems(page, folder))


def test_current_numbers_pass(folder):
    assert problems(PAGE, folder) == [] and docs_lint.refreshed(PAGE, folder) == PAGE
    assert problems("No number at all.\n", folder) == []


def test_a_changed_measurement_is_noticed_and_written(folder):
    (folder / "x.json").write_text('{"a": {"b 1": [1.0, 20]}, "c": 25, "n": 9}')
    assert len(problems(PAGE, folder)) == 3
    new = docs_lint.refreshed(PAGE, folder)
    assert problems(new, folder) == []
    assert new.startswith("It is **20.0\npx**, for 7 of 9: 80%, and 112.3 px stays.\n")


def test_a_number_changed_in_the_text_only_is_noticed(folder):
    assert problems(PAGE.replace("**12.3", "**12.4"), folder) == ["'12.3 px' is listed but not on the page"]


@pytest.mark.parametrize(
    "line,wrong",
    [
        ("1.0 = b .1f", "nothing at 'b'"),
        ("1.0 = text .1f", "is not a number"),
        ("1 2 = n d", "into [brackets]"),
        ("about = n d", "no number"),
        ("1.0 n d", "not of the form"),
    ],
)
def test_a_line_without_meaning_is_a_problem(folder, line, wrong):
    assert wrong in problems(f"1.0\n\n<!-- numbers\nx.json\n  {line}\n-->\n", folder)[0]


def test_links_and_pictures(tmp_path):
    for name in ("docs/pictures", "web/docs/pictures", "workflows"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "docs/pictures/a.jpg").touch()
    (tmp_path / "docs/pictures/b.jpg").touch()
    (tmp_path / "workflows/w.json").touch()
    page = tmp_path / "README.md"
    page.write_text("![a](docs/pictures/a.jpg) [b](docs/none.md) [c](https://example.org) [d](docs#part) [e](#part)")
    assert list(docs_lint.link_problems(page)) == ["docs/none.md does not exist"]
    assert [problem.split(" ")[0] for problem in docs_lint.left_over(tmp_path)] == [
        "docs/pictures/b.jpg",
        "workflows/w.jpg,",
        "README.md's",
    ]
