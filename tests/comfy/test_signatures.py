"""Saved workflows name nodes, inputs and outputs, and hold widget values by position: those are promises.

`signatures.json` is what has been promised. A change that would break somebody's workflow fails here for good; a change
that only adds fails until the file is renewed:

    ICPORTRAIT_RENEW=1 python run.py test tests/comfy/test_signatures.py
"""

import copy
import json
import os
from pathlib import Path

import pytest

import icportrait.nodes

FILE = Path(__file__).with_name("signatures.json")
HOW = "If nobody has released the old form yet, or something was only added: ICPORTRAIT_RENEW=1 python run.py test tests/comfy/test_signatures.py"
# Their choices are ComfyUI's own, or the user's files.
FOREIGN_CHOICES = {"sampler_name", "scheduler", "matching_file", "appearance_file"}


def input_signature(entry) -> dict:
    """What a saved workflow depends on."""
    signature = {"id": entry.id, "type": entry.io_type, "optional": bool(entry.optional)}
    for name in ("default", "min", "max"):
        if getattr(entry, name, None) is not None:
            signature[name] = getattr(entry, name)
    if entry.io_type == "COMBO" and entry.id not in FOREIGN_CHOICES:
        signature["choices"] = list(entry.options)
    return signature


def signatures() -> dict:
    """{node id: its signature} of the pack as it is."""
    found = {}
    for node in icportrait.nodes.NODES:
        schema = node.GET_SCHEMA()
        found[schema.node_id] = {
            "inputs": [input_signature(entry) for entry in schema.inputs],
            "outputs": [{"id": entry.id, "type": entry.io_type} for entry in schema.outputs],
            "takes_lists": bool(schema.is_input_list),
        }
    return found


def breaks(promised: dict, now: dict) -> list[str]:
    """One sentence for each thing that a workflow saved with `promised` would trip over."""
    found = []
    for node_id, old in promised.items():
        new = now.get(node_id)
        if new is None:
            found.append(
                f"{node_id} is gone; register its replacement in nodes/renames.py and keep the old one for a release"
            )
            continue
        if old["takes_lists"] != new["takes_lists"]:
            found.append(f"{node_id}: lists are handled in another way")
        for kind in ("inputs", "outputs"):
            ids = [entry["id"] for entry in new[kind]]
            if ids[: len(old[kind])] != [entry["id"] for entry in old[kind]]:
                found.append(f"{node_id}: {kind} were renamed, moved or removed; new ones belong at the end")
                continue
            for before, after in zip(old[kind], new[kind]):
                found += [f"{node_id}.{before['id']}: {text}" for text in entry_breaks(before, after)]
        added = new["inputs"][len(old["inputs"]) :]
        found += [f"{node_id}.{entry['id']}: a new input must be optional" for entry in added if not entry["optional"]]
    return found


def entry_breaks(before: dict, after: dict) -> list[str]:
    """What changed for the worse in one input or output."""
    found = []
    if before["type"] != after["type"]:
        found.append(f"its type was {before['type']} and is {after['type']}")
    if before.get("optional") and not after.get("optional"):
        found.append("it was optional and is required")
    if before.get("default") != after.get("default"):
        found.append(f"its default was {before.get('default')!r} and is {after.get('default')!r}")
    gone = [choice for choice in before.get("choices", []) if choice not in after.get("choices", [])]
    if gone:
        found.append(f"its choices lost {', '.join(gone)}")
    if "min" in before and after.get("min", before["min"]) > before["min"]:
        found.append(f"its minimum was {before['min']} and is {after['min']}")
    if "max" in before and after.get("max", before["max"]) < before["max"]:
        found.append(f"its maximum was {before['max']} and is {after['max']}")
    return found


def test_saved_workflows_keep_working():
    now = signatures()
    if os.environ.get("ICPORTRAIT_RENEW"):
        FILE.write_text(json.dumps(now, indent=1) + "\n", "utf-8")
    found = breaks(json.loads(FILE.read_text("utf-8")), now)
    assert found == [], "\n".join([*found, HOW])


def test_the_snapshot_holds_all_there_is():
    assert json.loads(FILE.read_text("utf-8")) == signatures(), HOW


def entry_of(node: dict, name: str) -> dict:
    """The input of that id."""
    return next(entry for entry in node["inputs"] if entry["id"] == name)


class TestChecker:
    """Each kind of break is noticed, and an addition is none."""

    @pytest.fixture
    def now(self):
        return copy.deepcopy(signatures())

    def test_an_addition_breaks_nothing(self, now):
        promised = copy.deepcopy(now)
        now["ICPortrait_Portrait"]["inputs"].append({"id": "more", "type": "INT", "optional": True, "default": 1})
        now["ICPortrait_Portrait"]["outputs"].append({"id": "more_image", "type": "IMAGE"})
        now["ICPortrait_New"] = {"inputs": [], "outputs": [], "takes_lists": False}
        assert breaks(promised, now) == []

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda node: node["inputs"].pop(2), "renamed, moved or removed"),
            (lambda node: node["inputs"].insert(0, node["inputs"].pop()), "renamed, moved or removed"),
            (lambda node: node["outputs"].pop(0), "renamed, moved or removed"),
            (lambda node: node["inputs"][0].update(type="CLIP"), "type was MODEL and is CLIP"),
            (lambda node: node["inputs"][-1].update(optional=False), "was optional and is required"),
            (lambda node: node["inputs"][7].update(default=99), "default was 6 and is 99"),
            (lambda node: entry_of(node, "color_match").update(choices=["off"]), "choices lost"),
            (lambda node: node["inputs"][7].update(min=5), "minimum was 1 and is 5"),
            (lambda node: node["inputs"][7].update(max=9), "maximum was 10000 and is 9"),
            (lambda node: node["inputs"].append({"id": "x", "type": "INT", "optional": False}), "must be optional"),
            (lambda node: node.update(takes_lists=True), "lists"),
        ],
    )
    def test_a_break_is_named(self, now, change, words):
        promised = copy.deepcopy(now)
        change(now["ICPortrait_Portrait"])
        (sentence,) = breaks(promised, now)
        assert words in sentence and "ICPortrait_Portrait" in sentence

    def test_a_vanished_node_is_named(self, now):
        promised = copy.deepcopy(now)
        del now["ICPortrait_Portrait"]
        assert breaks(promised, now)[0].startswith("ICPortrait_Portrait is gone")
