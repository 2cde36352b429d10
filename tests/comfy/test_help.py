"""Help pages: every node has one, and what it says of inputs, outputs, ranges and defaults is what the schema says.

A page's lists of inputs and outputs are written in one form, which these tests read:

    - **name** (kind, 0 to 1, optional, default 0.2): what it does.

ComfyUI's frontend asks for docs/<node id>/<language>.md and then for docs/<node id>.md, which is the page of all languages.
A picture's relative path starts from docs/ in both.
"""

import re
import urllib.request

import pytest
import torch
from PIL import Image

import icportrait.nodes
from icportrait.tools import comfy_server, help_pictures, workflow_api

FOLDER = comfy_server.PACK / "web" / "docs"
NODES = {node.GET_SCHEMA().node_id: node for node in icportrait.nodes.NODES}
KINDS = {"INT": "whole number", "FLOAT": "number", "STRING": "text", "BOOLEAN": "on or off", "COMBO": "choice"}
# Their choices are ComfyUI's own, or the user's files.
FOREIGN_CHOICES = {"sampler_name", "scheduler", "matching_file", "appearance_file"}
SECTIONS = ["When to use it", "Inputs", "Outputs", "Common mistakes", "In the paper"]

each_node = pytest.mark.parametrize("node_id", NODES)


def page_text(node_id):
    return (FOLDER / f"{node_id}.md").read_text(encoding="utf-8")


def sections(text):
    """{heading: its text}, what stands before the first heading under ''."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2]))}


def entries(text):
    """(name, facts, words) of each item of a list of inputs or outputs, the words with their indented sub-items."""
    items = re.split(r"^- ", text, flags=re.MULTILINE)[1:]
    found = [re.match(r"\*\*(.+?)\*\* \((.*?)\): (.+)", item, flags=re.DOTALL) for item in items]
    assert all(found), f"not of the form '- **name** (facts): words': {items}"
    return [match.groups() for match in found]


def input_facts(entry):
    """What must stand in brackets after an input's name."""
    facts = [KINDS.get(entry.io_type, entry.io_type)]
    if entry.io_type in ("INT", "FLOAT") and entry.max < 2**63:  # of a seed any number will do
        facts.append(f"{entry.min:g} to {entry.max:g}")
    if entry.optional:
        facts.append("optional")
    default = getattr(entry, "default", None)
    if isinstance(default, bool):
        facts.append(f"default {'on' if default else 'off'}")
    elif isinstance(default, (int, float)) and entry.max < 2**63:
        facts.append(f"default {default:g}")
    elif isinstance(default, str):
        facts.append(f"default {default or 'empty'}")
    return ", ".join(facts)


@each_node
def test_page_has_its_title_and_sections(node_id):
    parts = sections(page_text(node_id))
    assert parts[""].startswith(f"# {NODES[node_id].GET_SCHEMA().display_name}\n")
    assert [name for name in parts if name in SECTIONS] == SECTIONS
    assert set(parts) <= {"", "Licences", *SECTIONS}
    assert all(part.strip() for part in parts.values())


@each_node
def test_inputs_are_those_of_the_schema(node_id):
    told = [(name, facts) for name, facts, _ in entries(sections(page_text(node_id))["Inputs"])]
    inputs = NODES[node_id].GET_SCHEMA().inputs
    assert told == [(entry.display_name or entry.id, input_facts(entry)) for entry in inputs]


@each_node
def test_outputs_are_those_of_the_schema(node_id):
    told = [(name, facts) for name, facts, _ in entries(sections(page_text(node_id))["Outputs"])]
    outputs = NODES[node_id].GET_SCHEMA().outputs
    assert told == [(entry.display_name or entry.id, KINDS.get(entry.io_type, entry.io_type)) for entry in outputs]


@each_node
def test_each_choice_is_explained(node_id):
    words = {name: words for name, _, words in entries(sections(page_text(node_id))["Inputs"])}
    for entry in NODES[node_id].GET_SCHEMA().inputs:
        if entry.io_type == "COMBO" and entry.id not in FOREIGN_CHOICES:
            told = set(re.findall(r"`(.+?)`", words[entry.display_name or entry.id]))
            assert set(entry.options) <= told, f"{entry.id}: {set(entry.options) - told}"


@each_node
def test_other_nodes_are_called_by_their_names(node_id, comfy):
    """Words in *italics* are display names, ours or ComfyUI's, so a renamed node is noticed."""
    import nodes

    known = {node.GET_SCHEMA().display_name for node in NODES.values()} | set(nodes.NODE_DISPLAY_NAME_MAPPINGS.values())
    known |= set(nodes.NODE_CLASS_MAPPINGS)
    told = set(re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", page_text(node_id)))
    assert told - known == set()


def test_no_page_without_a_node():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(NODES)


@each_node
def test_page_shows_its_picture(node_id):
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", sections(page_text(node_id))[""])
    assert [path for _, path in pictures] == [f"pictures/{node_id}.jpg"]
    assert '"' not in pictures[0][0], 'the frontend puts the words into alt="..." as they are'


class TestMakingPictures:
    def test_every_node_is_run_and_has_its_page(self, server):
        album = help_pictures.draw_album(server.object_info)
        prompt = workflow_api.to_api(album.drawing.workflow(), server.object_info)
        refused = workflow_api.problems(prompt, server.object_info)
        assert [
            sentence for sentence in refused if "safetensors" not in sentence
        ] == []  # its nets are not in this server
        assert set(NODES) <= {node["class_type"] for node in prompt.values()}
        assert set(album.pages) == {*NODES, *help_pictures.README_NAMES}

    @pytest.mark.slow
    def test_the_command_writes_them_all(self, tmp_path):
        paths = help_pictures.write_help_pictures(tmp_path / "help", tmp_path / "readme", steps=1, cpu=True)
        assert {path.stem for path in paths} == {*NODES, *help_pictures.README_NAMES}
        assert len(list((tmp_path / "readme").iterdir())) == len(help_pictures.README_NAMES)

    def test_rows_are_as_wide_as_the_page(self):
        rows = [
            [("one", torch.rand(1, 40, 50, 3))],
            [("two", torch.rand(1, 40, 30, 3)), ("three", torch.rand(1, 9, 9, 3))],
        ]
        picture = help_pictures.page_picture([[(words, image * 0.1) for words, image in row] for row in rows])
        assert picture.width == help_pictures.WIDTH

    def test_a_picture_that_cannot_be_small_is_an_error(self, tmp_path):
        noise = Image.effect_noise((1200, 1200), 200)
        with pytest.raises(ValueError, match="x.jpg takes .* bytes at the lowest quality"):
            help_pictures.write_small(noise, tmp_path / "x.jpg")
        assert not (tmp_path / "x.jpg").exists()


def test_pages_are_served_where_the_frontend_asks(server):
    for node_id in NODES:
        address = f"{server.url}/extensions/ComfyUI-IC-Portrait/docs/{node_id}.md"
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.read().decode("utf-8") == page_text(node_id)
        with urllib.request.urlopen(
            f"{server.url}/extensions/ComfyUI-IC-Portrait/docs/pictures/{node_id}.jpg"
        ) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"


class TestReadingOfPages:
    """The reader above must see faults."""

    def test_entry(self):
        text = "Words.\n- **a_b** (number, 0 to 1, default 0.2): one.\n  - `x`: two\n- **c** (MASK): three\n"
        (name, facts, words), second = entries(text)
        assert (name, facts) == ("a_b", "number, 0 to 1, default 0.2")
        assert "`x`: two" in words
        assert second[:2] == ("c", "MASK")

    def test_entry_of_another_form(self):
        with pytest.raises(AssertionError, match="not of the form"):
            entries("- `a` (number): one\n")

    def test_no_entries(self):
        assert entries("None.\n") == []
