"""Node defaults, and those of the functions behind the nodes, are the recommended ones of docs/measurements/defaults.json."""

import dataclasses
import json

import pytest

import icportrait.nodes
from icportrait.models.method.detail import STRENGTH as DETAIL
from icportrait.models.method.injection import Settings
from icportrait.models.portrait import CropSettings
from icportrait.tools.docs_lint import MEASUREMENTS

# Recommended setting -> names of node inputs that must have it as their default.
INPUT_NAMES = {
    "flow_method": {"flow_method", "ICPortrait_EstimateFlow.method"},
    "flow_timestep": {"flow_timestep", "ICPortrait_EstimateFlow.timestep"},
    "sampler": {"sampler_name"},
}


def recommended() -> dict:
    settings = json.loads((MEASUREMENTS / "defaults.json").read_text("utf-8"))["settings"]
    return {name: entry["value"] for name, entry in settings.items()}


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
