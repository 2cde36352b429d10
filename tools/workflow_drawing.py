"""Workflows as the editor saves them, drawn from code: nodes by their inputs' names, stages as titled groups side by side.

Names, order and defaults come from ComfyUI's own description of the nodes (`/object_info`), so a drawing cannot shift a
widget's value or miss an input without an error.
"""

import uuid

from .workflow_api import AFTER_GENERATE, BYPASSED, choices, inputs_of, is_widget

COLORS = ("#3f789e", "#88AA88", "#b58b2a", "#a1309b", "#b06634")
WIDTH, GAP, MARGIN, TITLE = 300, 50, 20, 80
OUTER_INPUT, OUTER_OUTPUT = -10, -20  # the editor's ids for a subgraph's two ends
PICTURE = 260  # pixels a node needs to show a picture
SHOWS_PICTURE = ("LoadImage", "PreviewImage", "SaveImage", "SaveAnimatedWEBP", "ICPortrait_DetectFaces",
                 "ICPortrait_IdentitySimilarity", "ICPortrait_AddProfile", "ICPortrait_AssignProfiles",
                 # samplers show previews while they work
                 "KSampler", "ICPortrait_ProgressiveSampler", "ICPortrait_Portrait", "ICPortrait_GroupPortrait")  # fmt: skip
SHOWS_TEXT = ("PreviewAny", "ICPortrait_GroupPortrait")


PACK_VERSION = "0.1.0"
CORE_VERSION = "0.3.64"  # the oldest this pack works with


def origin(kind: str) -> dict[str, str]:
    """Where the editor finds a node it does not know, so that an artist without the pack is told its name."""
    if kind.startswith("ICPortrait_"):
        return {"cnr_id": "ic-portrait", "ver": PACK_VERSION}
    return {"cnr_id": "comfy-core", "ver": CORE_VERSION}


# Where ComfyUI's own templates and OpenAI publish these files.
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
CHECKPOINT_URL = f"https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}"
CLIP_VISION = "clip-vit-large-patch14.safetensors"
CLIP_VISION_URL = "https://huggingface.co/openai/clip-vit-large-patch14/resolve/main/model.safetensors"
MODEL_FILES = {CHECKPOINT: (CHECKPOINT_URL, "checkpoints"), CLIP_VISION: (CLIP_VISION_URL, "clip_vision")}


def models_of(widgets: list) -> dict[str, list[dict[str, str]]]:
    """The published files that a node's widgets name, as the editor offers them for download; empty without any."""
    named = [value for value in widgets if isinstance(value, str) and value in MODEL_FILES]
    found = [{"name": name, "url": MODEL_FILES[name][0], "directory": MODEL_FILES[name][1]} for name in named]
    return {"models": found} if found else {}


class Node:
    """One node of a drawing; `node["name"]` is that output, to hand to another node's input."""

    def __init__(self, saved: dict, outputs: list[str]):
        self.saved = saved
        self.outputs = outputs

    def __getitem__(self, name: str) -> "tuple[Node, int]":
        """Raises ValueError for a name that is not exactly one of the outputs."""
        if self.outputs.count(name) != 1:
            raise ValueError(f"{self.saved['type']} has the outputs {self.outputs}, so not one {name!r}")
        return self, self.outputs.index(name)


class Drawing:
    """One workflow. Call `stage` before the nodes that lie in it, and `column` for another column in it."""

    def __init__(self, name: str, object_info: dict, description: str = "", aliases: tuple[str, ...] = ()):
        """
        Args:
            name: decides the workflow's id, so that drawing it again gives the same file.
            object_info: as ComfyUI's /object_info gives it.
            description, aliases: of a blueprint, for the node search; aliases are words artists type.
        """
        self.name, self.object_info, self.description, self.aliases = name, object_info, description, aliases
        self.nodes: list[dict] = []
        self.links: list[list] = []
        self.groups: list[dict] = []
        self.taken: Node | None = None
        self.given: list[dict] = []
        self.extra: dict = {"ds": {"scale": 0.6, "offset": [120, 200]}}  # clear of the editor's bars
        self._x = self._y = 0

    def stage(self, title: str) -> None:
        """Begin a group to the right of the last."""
        left = self.groups[-1]["bounding"][0] + self.groups[-1]["bounding"][2] + MARGIN if self.groups else 0
        color = COLORS[len(self.groups) % len(COLORS)]
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [left, 0, WIDTH + 2 * MARGIN, TITLE],
                "color": color,
                "font_size": 24,
                "flags": {},
            }
        )
        self._x, self._y = left + MARGIN, TITLE

    def column(self) -> None:
        """Go on at the top of a new column of the same stage."""
        self._x, self._y = self._x + WIDTH + GAP, TITLE
        self.groups[-1]["bounding"][2] += WIDTH + GAP

    def add(self, kind: str, title: str = "", bypassed: bool = False, **inputs) -> Node:
        """A node below the last one.

        Args:
            kind: node id.
            title: as shown; empty takes the display name.
            bypassed: whether it is switched off and hands its input on.
            inputs: values of widgets, and `node["output"]` for links. Widgets left out have their default.

        Raises:
            ValueError: an input the node has not, or a required one that is missing.
        """
        described = self.object_info[kind]
        specs = inputs_of(described)
        if unknown := set(inputs) - set(specs):
            raise ValueError(f"{kind} has no inputs {sorted(unknown)}")
        saved = {
            "id": len(self.nodes) + 1,
            "type": kind,
            "pos": [],
            "size": [],
            "flags": {},
            "order": len(self.nodes),
            "mode": BYPASSED if bypassed else 0,
            "inputs": [],
            "outputs": [
                {"name": name, "type": kind_, "links": []}
                for name, kind_ in zip(described["output_name"], described["output"], strict=True)
            ],
            "title": title or described["display_name"],
            "properties": {"Node name for S&R": kind, **origin(kind)},
            "widgets_values": [],
        }
        for name, spec in specs.items():
            self._input(saved, name, spec, inputs.get(name), name in described["input"].get("required", {}))
        if not bypassed:  # the editor would ask for files that nobody needs yet
            saved["properties"] |= models_of(saved["widgets_values"])
        rows = max(sum("widget" not in entry for entry in saved["inputs"]), len(saved["outputs"]))
        height = 40 + 20 * rows + 24 * len(saved["widgets_values"])
        height += 70 * sum(spec[1].get("multiline", False) for spec in specs.values())
        height += PICTURE if kind in SHOWS_PICTURE else 60 if kind in SHOWS_TEXT else 0
        self._place(saved, height)
        return Node(saved, [entry["name"] for entry in saved["outputs"]])

    def note(self, title: str, text: str, height: int = 300) -> None:
        """A yellow note with markdown below the last node."""
        saved = {
            "id": len(self.nodes) + 1,
            "type": "MarkdownNote",
            "pos": [],
            "size": [],
            "flags": {},
            "order": len(self.nodes),
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "title": title,
            "properties": {},
            "widgets_values": [text],
            "color": "#432",
            "bgcolor": "#653",
        }
        self._place(saved, height)

    def app(self, inputs: list[tuple[Node, str]], output: Node) -> None:
        """What the editor's app mode shows: widgets as (node, name), and the node whose pictures are the result."""
        for node, name in inputs:
            if name not in inputs_of(self.object_info[node.saved["type"]]):
                raise ValueError(f"{node.saved['type']} has no input {name}")
        self.extra["linearData"] = {
            "inputs": [[node.saved["id"], name] for node, name in inputs],
            "outputs": [output.saved["id"]],
        }

    def workflow(self) -> dict:
        """The drawing in the form the editor saves."""
        height = max(group["bounding"][3] for group in self.groups)
        for group in self.groups:
            group["bounding"][3] = height
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"icportrait/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": self.extra,
            "version": 0.4,
        }

    def take(self, **types: str) -> Node:
        """For a blueprint: its inputs, {name: type}. Their wires come from outside."""
        ends = [{"name": name, "type": kind, "links": []} for name, kind in types.items()]
        self.taken = Node({"id": OUTER_INPUT, "type": "inputs", "outputs": ends}, list(types))
        return self.taken

    def give(self, **sources: tuple[Node, int]) -> None:
        """For a blueprint: its outputs, {name: output of a node inside}."""
        for slot, (name, source) in enumerate(sources.items()):
            number = self._link(source, OUTER_OUTPUT, slot)
            self.given.append({"name": name, "type": self.links[-1][5], "links": [number]})

    def blueprint(self) -> dict:
        """The drawing as a subgraph in a workflow of one node: what ComfyUI's node search offers as a blueprint."""
        inner = self.workflow()
        right = self.groups[-1]["bounding"][0] + self.groups[-1]["bounding"][2]

        def ends(entries: list[dict], kind: str) -> list[dict]:
            named = [
                (entry, uuid.uuid5(uuid.NAMESPACE_URL, f"{self.name}/{kind}/{entry['name']}")) for entry in entries
            ]
            return [
                {"id": str(own), "name": entry["name"], "type": entry["type"], "linkIds": entry["links"]}
                for entry, own in named
            ]

        subgraph = {
            "id": inner["id"],
            "version": 1,
            "state": {
                "lastGroupId": len(self.groups),
                "lastNodeId": len(self.nodes),
                "lastLinkId": len(self.links),
                "lastRerouteId": 0,
            },
            "revision": 0,
            "config": {},
            "name": self.name,
            "description": self.description,
            "category": "IC-Portrait",
            "inputNode": {"id": OUTER_INPUT, "bounding": [-200, 100, 128, 200]},
            "outputNode": {"id": OUTER_OUTPUT, "bounding": [right + 80, 100, 128, 120]},
            "inputs": ends(self.taken.saved["outputs"], "input"),
            "outputs": ends(self.given, "output"),
            "widgets": [],
            "nodes": inner["nodes"],
            "groups": inner["groups"],
            "links": [
                dict(zip(("id", "origin_id", "origin_slot", "target_id", "target_slot", "type"), link))
                for link in self.links
            ],
            "extra": {},
        }
        node = {
            "id": 1,
            "type": subgraph["id"],
            "pos": [100, 100],
            "size": [WIDTH, 60 + 20 * len(subgraph["inputs"])],
            "flags": {},
            "order": 0,
            "mode": 0,
            "inputs": [{"name": one["name"], "type": one["type"], "link": None} for one in subgraph["inputs"]],
            "outputs": [{"name": one["name"], "type": one["type"], "links": None} for one in subgraph["outputs"]],
            "title": self.name,
            "properties": {},
            "widgets_values": [],
        }
        return inner | {
            "extra": self.extra | {"BlueprintSearchAliases": list(self.aliases)},
            "last_node_id": 1,
            "last_link_id": 0,
            "nodes": [node],
            "links": [],
            "groups": [],
            "definitions": {"subgraphs": [subgraph]},
        }

    def _place(self, saved: dict, height: int) -> None:
        saved["pos"], saved["size"] = [self._x, self._y], [WIDTH, height]
        self._y += height + GAP
        bounding = self.groups[-1]["bounding"]
        bounding[3] = max(bounding[3], self._y)
        self.nodes.append(saved)

    def _input(self, saved: dict, name: str, spec: tuple, value, required: bool) -> None:
        kind, options = spec
        linked = isinstance(value, tuple)
        if not is_widget(spec) or linked:
            if required and not linked:
                raise ValueError(f"{saved['type']}: {name} needs a link")
            entry = {"name": name, "type": "COMBO" if isinstance(kind, list) else kind, "link": None}
            if not required:
                entry["shape"] = 7  # an optional input's round dot
            if is_widget(spec):
                entry["widget"] = {"name": name}
            if linked:
                entry["link"] = self._link(value, saved["id"], len(saved["inputs"]))
            saved["inputs"].append(entry)
        if is_widget(spec):
            allowed = choices(spec)
            fallback = options.get("default", allowed[0] if allowed else "")
            saved["widgets_values"].append(fallback if linked or value is None else value)
            if options.get("control_after_generate"):
                saved["widgets_values"].append(AFTER_GENERATE[0])
            if options.get("image_upload"):
                saved["widgets_values"].append("image")

    def _link(self, source: tuple[Node, int], target: int, entry: int) -> int:
        node, slot = source
        number = len(self.links) + 1
        output = node.saved["outputs"][slot]
        output["links"].append(number)
        self.links.append([number, node.saved["id"], slot, target, entry, output["type"]])
        return number


def with_current_outputs(workflow: dict, object_info: dict) -> dict:
    """A workflow drawn in the editor with its nodes' outputs named, and completed, as ComfyUI describes them now."""
    for node in workflow["nodes"]:
        if node["type"] not in object_info:
            continue
        described = object_info[node["type"]]
        pairs = list(zip(described["output_name"], described["output"], strict=True))
        links = [entry.get("links") or [] for entry in node["outputs"]] + [[]] * (len(pairs) - len(node["outputs"]))
        node["outputs"] = [
            {"name": name, "type": kind, "links": list(own)} for (name, kind), own in zip(pairs, links, strict=True)
        ]
    return workflow
