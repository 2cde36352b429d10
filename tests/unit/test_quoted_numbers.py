"""Numbers in the documentation equal the JSON they name; node defaults equal the recommended ones."""

import dataclasses
import json
import re

import pytest

import icportrait.nodes
from icportrait.models.method.detail import STRENGTH as DETAIL
from icportrait.models.method.injection import Settings
from icportrait.models.portrait import CropSettings
from icportrait.tools import quoted_numbers as quoted
from icportrait.tools.comfy_server import PACK

DOCUMENTS = [PACK / "README.md", *sorted((PACK / "docs").glob("*.md")), *sorted((PACK / "web" / "docs").glob("*.md"))]
# Fractions of these are results of measuring, seldom anything else: each needs a quote.
MEASURED_UNITS = re.compile(r"\d\.\d+ (dB|s|seconds|GB|MiB|MB|TFLOP|M parameters|eye distances)\b")
# Sections whose tables hold measured figures in the second column: there every decimal must be quoted.
MEASURED_TABLES = {"docs/model_card.md": "What it reaches"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_quoted_numbers_equal_their_json(path):
    problems = quoted.problems(path.read_text("utf-8"))
    assert not problems, (
        "\n".join(problems) + f"\nRun: python -m icportrait.tools.quoted_numbers {path.relative_to(PACK)}"
    )


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_fractions_of_measured_units_are_quoted(path):
    for line in quoted.QUOTE.sub("", path.read_text("utf-8")).splitlines():
        assert not MEASURED_UNITS.search(line), f"a number without its source: {line}"


@pytest.mark.parametrize("name,heading", MEASURED_TABLES.items())
def test_measured_tables_quote_every_number(name, heading):
    text = (PACK / name).read_text("utf-8")
    section = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"{name} has lost its section {heading!r}"
    rows = [line for line in section[1].splitlines() if line.startswith("|")][2:]
    assert len(quoted.quotes(section[1])) >= len(rows) > 0
    for row in rows:
        figure = quoted.QUOTE.sub("", row.split("|")[2])
        assert not re.search(r"\d+\.\d+", figure), f"a number without its source: {row}"


def test_a_changed_number_is_noticed_and_refreshed(tmp_path):
    (tmp_path / "x.json").write_text('{"a": {"b 1": [1.0, 12.34]}, "c": 24.68}')
    text = "**12.3<!-- x.json a/b 1/1 .1f --> px**, 0.50<!-- x.json a/b 1/1 over c .2f -->, 50%<!-- x.json a/b 1/1 over c .0% -->"
    assert quoted.problems(text, tmp_path) == []
    stale = text.replace("12.3<", "12.4<").replace("50%", "51%")
    assert len(quoted.problems(stale, tmp_path)) == 2
    assert quoted.refreshed(stale, tmp_path) == text


@pytest.mark.parametrize(
    "text,wrong",
    [
        ("1.0<!-- none.json a .1f -->", "does not exist"),
        ("1.0<!-- x.json b .1f -->", "nothing at 'b'"),
        ("1.0<!-- x.json a .1f -->", "is not a number"),
    ],
)
def test_a_quote_of_nothing_is_a_problem(tmp_path, text, wrong):
    (tmp_path / "x.json").write_text('{"a": "text"}')
    assert wrong in quoted.problems(text, tmp_path)[0]


def test_a_comment_of_another_form_is_refused():
    with pytest.raises(ValueError, match="not of the form"):
        quoted.quotes("about 12 <!-- bundle.json flow .1f -->")


# Recommended setting -> names of node inputs that must have it as their default.
INPUT_NAMES = {
    "flow_method": {"flow_method", "ICPortrait_EstimateFlow.method"},
    "flow_timestep": {"flow_timestep", "ICPortrait_EstimateFlow.timestep"},
    "sampler": {"sampler_name"},
}


def recommended() -> dict:
    path = PACK / "docs" / "measurements" / "defaults.json"
    return {name: entry["value"] for name, entry in json.loads(path.read_text("utf-8"))["settings"].items()}


@pytest.mark.parametrize("name,value", recommended().items())
def test_node_defaults_are_the_recommended_ones(name, value):
    found = 0
    for node in icportrait.nodes.NODES:
        schema = node.GET_SCHEMA()
        for entry in schema.inputs:
            if {entry.id, f"{schema.node_id}.{entry.id}"} & INPUT_NAMES.get(name, {name}):
                assert entry.default == value, f"{schema.node_id}.{entry.id}"
                found += 1
    assert found, f"no node has an input for {name}"


def test_the_functions_behind_the_nodes_have_the_same_defaults():
    values = recommended()
    assert values.pop("detail") == DETAIL and CropSettings().detail == 0, "there the paper's method is the default"
    for settings in (CropSettings(), Settings()):
        names = {field.name for field in dataclasses.fields(settings)} & values.keys()
        assert names
        assert {name: getattr(settings, name) for name in names} == {name: values[name] for name in names}


def test_every_recommendation_says_what_decided_it():
    entries = json.loads((PACK / "docs" / "measurements" / "defaults.json").read_text("utf-8"))["settings"]
    for name, entry in entries.items():
        assert entry["reason"], name
        if entry["decided_by"] is not None:
            assert (PACK / "docs" / "measurements" / entry["decided_by"]).is_file(), name
