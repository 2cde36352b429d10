"""Bad input through a real server: one value or link of one node of the pack spoiled, as another client would send it."""

from __future__ import annotations

import atexit
import functools
import math
import random
import tempfile
from pathlib import Path

from ...models.errors import UserError
from ..comfy_server import ComfyServer
from ..demo import copy_samples
from ..workflow_api import choices, inputs_of, is_widget, usual_widgets
from . import long_use

SOURCES = {
    **{name: ["bundle", slot] for slot, name in enumerate(("model", "vae", "clip_vision", "nets"))},
    "image": ["style", 0], "canvas": ["style", 0], "profile_image": ["profile_crop", 0], "style_image": ["crop", 0],
    "faces": ["faces", 0], "crop": ["crop", 0], "stitch": ["crop", 1], "profile": ["encoded", 0], "images": ["profile", 0],
    "mask": ["mask", 0],
}  # fmt: skip
FAST = {"steps": 1, "rounds": 1, "crop_size": 128, "effort": "fast", "backend": "mediapipe", "method": "mesh"}


PLANTED = False
"""Whether every node of the pack is to fail with a mistake of ours."""
PLANT = (
    "import sys\n"
    "def broken(*_):\n"
    "    raise TypeError('planted')\n"
    "for name, module in list(sys.modules.items()):\n"
    "    if name.endswith('.nodes.common') and hasattr(module, 'check_widgets'):\n"
    "        module.check_widgets = broken\n"
    "NODE_CLASS_MAPPINGS = {}\n"
)


def _server() -> ComfyServer:
    return _started(PLANTED)


@functools.cache
def _started(planted: bool) -> ComfyServer:
    """One server for all cases of this process; stopped with it."""
    base = tempfile.TemporaryDirectory(prefix="icportrait-campaign-")
    copy_samples(Path(base.name))
    if planted:
        folder = Path(base.name) / "custom_nodes" / "planted"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(PLANT)
    server = ComfyServer(Path(base.name), cpu=True)
    server.start()
    atexit.register(lambda: (server.stop(), base.cleanup()))
    return server


def _node(name: str) -> dict:
    """A node with which a run works."""
    description = _server().object_info[name]
    specs = inputs_of(description)
    values = usual_widgets(description, optional=True) | {key: SOURCES[key] for key in specs if key in SOURCES}
    for key, wanted in FAST.items():
        if key in values and wanted in (choices(specs[key]) or [wanted]):
            values[key] = wanted
    return {"class_type": name, "inputs": values}


@functools.cache
def _makers() -> dict:
    """What makes good values for every wire of `SOURCES`."""
    pictures = {
        name: {"class_type": "LoadImage", "inputs": {"image": f"icportrait_{name}.png"}}
        for name in ("profile", "style")
    }
    made = {
        "bundle": _node("ICPortrait_LoadDemoBundle"),
        "faces": _node("ICPortrait_DetectFaces"),
        "crop": _node("ICPortrait_AlignFace"),
        "found": _node("ICPortrait_DetectFaces"),
        "profile_crop": _node("ICPortrait_AlignFace"),
        "encoded": _node("ICPortrait_EncodeProfile"),
        "mask": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 512, "height": 512}},
    }
    made["found"]["inputs"]["image"] = made["profile_crop"]["inputs"]["image"] = ["profile", 0]
    made["profile_crop"]["inputs"]["faces"] = ["found", 0]
    for name in ("faces", "found"):  # what is optional has no good value here
        made[name]["inputs"].pop("mask", None)
    return pictures | made


@functools.cache
def _names() -> list[str]:
    """Nodes of the pack whose required wires `SOURCES` has."""
    info = _server().object_info
    return sorted(
        name
        for name, node in info.items()
        if name.startswith("ICPortrait_")
        and all(is_widget(spec) or key in SOURCES for key, spec in node["input"].get("required", {}).items())
        and node["output"]
    )


def spoiled(rng: random.Random) -> tuple[str, dict, bool]:
    """(what is wrong, the prompt, whether it must be refused)."""
    name = rng.choice(_names())
    description, node = _server().object_info[name], _node(name)
    specs = inputs_of(description)
    if not specs:
        return spoiled(rng)
    key = rng.choice(sorted(specs))
    (kind, options), required = specs[key], key in description["input"].get("required", {})
    must = True
    if is_widget(specs[key]) and kind in ("INT", "FLOAT"):
        low, high = options["min"], options["max"]
        value = rng.choice([low - rng.randint(1, 9), high + rng.randint(1, 9), math.nan, math.inf, "x", None, [], {}])
    elif is_widget(specs[key]) and choices(specs[key]) is not None:
        value = rng.choice(["zzz", "../../etc/passwd", 3, None, ""])
    elif is_widget(specs[key]):
        value, must = rng.choice([7, "x" * 5000, "\x00", "../../etc/passwd"]), False
    else:
        value = rng.choice([["gone", 0], ["bundle", 99], ["encoded", 2], 7, "x", None])
    must = must and (required or value is not None)
    node["inputs"][key] = value
    if rng.random() < 0.1 and required:
        del node["inputs"][key]
        value, must = "missing", True
    prompt = _makers() | {"spoiled": node}
    prompt["shown"] = {"class_type": "PreviewAny", "inputs": {"source": ["spoiled", 0]}}
    return f"{name}.{key} = {str(value)[:60]!r}", prompt, must


def run(prompt: dict) -> None:
    """Queue it and wait. Raises UserError where it is refused or fails in the pack's own words, RuntimeError for any other failure."""
    status = long_use.finished(_server(), _server().queue(prompt))
    if status is None:
        raise RuntimeError("the run does not end")
    for kind, data in status["messages"]:
        if kind == "execution_error":
            shown = _server().object_info[data["node_type"]]["display_name"]
            if data["exception_message"].startswith(shown):
                raise UserError(data["exception_message"])
            raise RuntimeError(f"{data['node_type']}: {data['exception_type']}: {data['exception_message']}")
