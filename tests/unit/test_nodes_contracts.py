"""Promises every node keeps, walked over all nodes of the pack."""

import dataclasses
import inspect
from types import SimpleNamespace

import pytest
import torch
from comfy_api.latest import io

import icportrait.nodes
from icportrait.models.errors import UserError
from icportrait.nodes import common

NODES = icportrait.nodes.NODES
EXPECTED = {
    "LoadNets",
    "LoadDemoBundle",
    "DetectFaces",
    "AlignFace",
    "SamplePixels",
    "EncodeProfile",
    "EstimateFlow",
    "MeshFlow",
    "WarpRelight",
    "NovelView",
    "Relight",
    "Apply",
    "ProgressiveNoise",
    "ProgressiveSampler",
    "TransferDetail",
    "StitchFace",
    "IdentitySimilarity",
    "Portrait",
    "SelectFaces",
    "AddProfile",
    "AssignProfiles",
    "GroupPortrait",
}

each_node = pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)


def test_all_nodes_are_there():
    ids = [node.GET_SCHEMA().node_id for node in NODES]
    assert {f"ICPortrait_{name}" for name in EXPECTED} <= set(ids)
    assert len(set(ids)) == len(ids)
    assert all(node_id.startswith("ICPortrait_") for node_id in ids)


@each_node
def test_schema_and_execute_agree(node):
    schema = node.GET_SCHEMA()
    parameters = inspect.signature(node.execute).parameters
    assert [entry.id for entry in schema.inputs] == list(parameters)
    for entry in schema.inputs:
        has_default = parameters[entry.id].default is not inspect.Parameter.empty
        assert has_default == bool(entry.optional), f"{entry.id}: optional exactly when execute has a default"


@each_node
def test_optional_inputs_come_last(node):
    """Of the widgets: saved workflows hold their values by position. Sockets are found by name."""
    flags = [bool(entry.optional) for entry in node.GET_SCHEMA().inputs if isinstance(entry, io.WidgetInput)]
    assert flags == sorted(flags)


@each_node
def test_defaults_of_schema_and_execute_are_equal(node):
    parameters = inspect.signature(node.execute).parameters
    for entry in node.GET_SCHEMA().inputs:
        if entry.optional and getattr(entry, "default", None) is not None:
            assert parameters[entry.id].default == entry.default, entry.id


@each_node
def test_everything_is_explained(node):
    schema = node.GET_SCHEMA()
    assert len(schema.description) > 40
    assert schema.category.startswith("IC-Portrait")
    assert schema.display_name
    for entry in [*schema.inputs, *schema.outputs]:
        assert entry.tooltip and len(entry.tooltip) > 10, entry.id


@each_node
def test_ids_are_unique_and_outputs_are_named(node):
    schema = node.GET_SCHEMA()
    ids = [entry.id for entry in [*schema.inputs, *schema.outputs]]
    assert all(ids) and len(set(ids)) == len(ids)


@each_node
def test_outputs_are_shown_by_their_ids(node):
    """Without a display name the editor shows the type: MODEL, IMAGE, IMAGE."""
    outputs = node.GET_SCHEMA().outputs
    assert [entry.display_name for entry in outputs] == [entry.id for entry in outputs]


@each_node
def test_names_are_spelt_as_in_comfyui(node):
    """Title Case for nodes, and "color": the editor around them speaks American."""
    schema = node.GET_SCHEMA()
    assert all(word[0].isupper() or word == "and" for word in schema.display_name.split())
    shown = [schema.description, *(entry.tooltip for entry in [*schema.inputs, *schema.outputs])]
    assert [text for text in shown if "colour" in text.lower()] == []


@pytest.mark.parametrize(
    "name", ["scheduler", "sampler_name", "crop_size", "steps", "cfg", "share", "noise_strength", "detail"]
)
def test_an_input_has_one_default_in_all_nodes(name):
    entries = [entry for node in NODES for entry in node.GET_SCHEMA().inputs if entry.id == name]
    assert len(entries) >= 2 and len({entry.default for entry in entries}) == 1


def test_crop_size_fits_the_bundle_and_names_the_size_for_sd15():
    for node in NODES:
        for entry in node.GET_SCHEMA().inputs:
            if entry.id == "crop_size":
                assert entry.default == 256 and "512 for SD1.5" in entry.tooltip


@each_node
def test_choices_hold_their_default(node):
    for entry in node.GET_SCHEMA().inputs:
        if isinstance(entry, io.Combo.Input) and entry.default is not None:
            assert entry.default in entry.options


def outside(entry):
    """Values that this widget cannot have; a link, a subgraph or another client may bring them all the same."""
    if isinstance(entry, io.Int.Input):
        return [entry.min - 1, entry.max + 1, 1.5, float("nan"), None, "1", [1], True]
    if isinstance(entry, io.Float.Input):
        return [entry.min - 1, entry.max + 1, float("nan"), float("inf"), None, "1", {}, True]
    if isinstance(entry, io.Combo.Input):
        return ["no such choice", None, 0, ["x"]] if entry.options else []
    if isinstance(entry, io.Boolean.Input):
        return [None, "yes", 2]
    return [None, 7, ["x"]] if isinstance(entry, io.String.Input) else []


@each_node
def test_widgets_refuse_what_lies_outside_their_range(node):
    schema = node.GET_SCHEMA()
    wrap = (lambda value: [value]) if schema.is_input_list else (lambda value: value)
    usual = {
        entry.id: wrap(getattr(entry, "default", None) or (entry.options[:1] or [""])[0])
        if isinstance(entry, io.Combo.Input)
        else wrap(getattr(entry, "default", None))
        for entry in schema.inputs
    }
    for entry in schema.inputs:
        for value in outside(entry):
            if entry.optional and value is None:
                continue
            with pytest.raises(ValueError, match=f"^{schema.display_name}: {entry.id} must be"):
                node.execute(**{**usual, entry.id: wrap(value)})


@each_node
def test_the_search_knows_artists_words_where_it_can(node, monkeypatch):
    @dataclasses.dataclass
    class Newer(io.Schema):
        search_aliases: list = dataclasses.field(default_factory=list)

    monkeypatch.setattr(io, "Schema", Newer)
    aliases = node.define_schema().search_aliases
    assert len(aliases) >= 2 and all(word == word.lower() for word in aliases)


@each_node
def test_an_empty_wire_is_one_sentence(node):
    """A checkpoint without a VAE gives None where a VAE should be."""
    schema = node.GET_SCHEMA()
    wires = {entry.id: None for entry in schema.inputs if not isinstance(entry, io.WidgetInput) and not entry.optional}
    if wires:
        with pytest.raises(ValueError, match=f"^{schema.display_name}: "):
            node.execute(**wires_and_usual_widgets(schema, wires))


@each_node
@pytest.mark.parametrize("name", ["model", "vae", "clip_vision"])
@pytest.mark.parametrize("came", [7, object(), torch.zeros(1)])
def test_what_is_no_model_in_the_place_of_one_is_one_sentence(node, name, came):
    schema = node.GET_SCHEMA()
    if name not in [entry.id for entry in schema.inputs]:
        return
    wires = {entry.id: None for entry in schema.inputs if not isinstance(entry, io.WidgetInput)}
    wires = {key: came if key == name else stand_in(key) for key in wires}
    with pytest.raises(
        ValueError, match=f"^{schema.display_name}: {name} must be connected to a [A-Z_]+; a {type(came).__name__} came"
    ):
        node.execute(**wires_and_usual_widgets(schema, wires))


@each_node
def test_nothing_in_the_place_of_an_optional_widget_is_one_sentence_or_its_default(node):
    schema, parameters = node.GET_SCHEMA(), inspect.signature(node.execute).parameters
    for entry in schema.inputs:
        if isinstance(entry, io.WidgetInput) and entry.optional and parameters[entry.id].default is not None:
            values = wires_and_usual_widgets(schema, {}) | {entry.id: None}
            with pytest.raises(UserError, match=f"^{entry.id} must be "):
                common.check_widgets(node, values)


def stand_in(name: str):
    """What has the parts a MODEL, a VAE or a CLIP_VISION needs."""
    parts = {"model": ["model_options", "clone"], "vae": ["encode", "decode"], "clip_vision": ["encode_image"]}
    return SimpleNamespace(**dict.fromkeys(parts.get(name, [])))


def wires_and_usual_widgets(schema, wires: dict) -> dict:
    widgets = {}
    for entry in schema.inputs:
        if isinstance(entry, io.WidgetInput):
            value = getattr(entry, "default", None)
            widgets[entry.id] = entry.options[0] if value is None and isinstance(entry, io.Combo.Input) else value
    return {name: [value] for name, value in (wires | widgets).items()} if schema.is_input_list else wires | widgets
