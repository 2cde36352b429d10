"""From the format that ComfyUI's editor saves to the one its server runs, for plain graphs (no subgraphs).

The editor stores a node's widget values by position; `/object_info` gives their names and order.
"""

MUTED, BYPASSED = 2, 4
ONLY_IN_EDITOR = ("Note", "MarkdownNote", "Reroute", "PrimitiveNode")
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize")


class ConversionError(ValueError):
    """A workflow that cannot be run; the message names the node."""


def inputs_of(description: dict) -> dict[str, tuple]:
    """{input name: (type or list of choices, options)} of a node, in order: required, then optional."""
    result = {}
    for group in ("required", "optional"):
        for name, spec in description["input"].get(group, {}).items():
            result[name] = (spec[0], spec[1] if len(spec) > 1 else {})
    return result


def choices(spec: tuple) -> list | None:
    """The values a combo input may take; None for any other input."""
    kind, options = spec
    if isinstance(kind, list):
        return kind
    return options.get("options", []) if kind == "COMBO" else None


def is_widget(spec: tuple) -> bool:
    """Whether the editor draws this input as a widget and so stores a value for it."""
    kind, options = spec
    return (isinstance(kind, list) or kind in WIDGET_TYPES) and not options.get("forceInput")


def usual_widgets(description: dict, optional: bool = False) -> dict:
    """{name: default} of a node's required widgets, and of the optional ones if asked for."""
    values = {}
    for name, spec in inputs_of(description).items():
        if is_widget(spec) and (optional or name in description["input"].get("required", {})):
            allowed = choices(spec)
            values[name] = spec[1].get("default", allowed[0] if allowed else "")
    return values


def to_api(workflow: dict, object_info: dict) -> dict:
    """Convert a saved workflow to API format.

    Raises:
        ConversionError: an unknown node, widget values that do not fit it, or a broken link.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    api = {}
    for node in workflow["nodes"]:
        if node["type"] in ONLY_IN_EDITOR or node.get("mode", 0) in (MUTED, BYPASSED):
            continue
        if node["type"] not in object_info:
            raise ConversionError(f"{_name(node)}: ComfyUI has no node of that type")
        inputs = _widget_values(node, inputs_of(object_info[node["type"]]))
        for entry in node.get("inputs", []):
            if entry.get("link") is None:
                continue
            source = _source(entry["link"], links, nodes)
            if isinstance(source, _Value):
                inputs[entry["name"]] = source.value
            elif source is None:
                inputs.pop(entry["name"], None)
            else:
                inputs[entry["name"]] = source
        title = {"title": node["title"]} if node.get("title") else {}
        api[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": title}
    return api


class _Value:
    """A constant that reaches an input through a primitive node."""

    def __init__(self, value):
        self.value = value


def _name(node: dict) -> str:
    return f"node {node['id']} ({node.get('title') or node['type']})"


def _widget_values(node: dict, specs: dict[str, tuple]) -> dict:
    stored = list(node.get("widgets_values") or [])
    values = {}
    for name, spec in specs.items():
        if not is_widget(spec):
            continue
        options = spec[1]
        if stored:
            values[name] = stored.pop(0)
        elif "default" in options:
            values[name] = options["default"]
        if stored and stored[0] in AFTER_GENERATE and (options.get("control_after_generate") or "seed" in name):
            stored.pop(0)  # the editor's own widget below a seed
        if stored and stored[0] == "image" and options.get("image_upload"):
            stored.pop(0)  # its upload button
    if stored:
        raise ConversionError(f"{_name(node)}: {len(stored)} widget values too many: {stored}")
    return values


def _source(link: int, links: dict, nodes: dict):
    """Where a link really comes from: [node id, slot], a constant, or None when it is cut off by a muted node."""
    if link not in links:
        raise ConversionError(f"link {link} leads nowhere")
    origin, slot = links[link]
    node = nodes.get(origin)
    if node is None:
        raise ConversionError(f"link {link} comes from node {origin}, which does not exist")
    if node["type"] == "PrimitiveNode":
        return _Value(node["widgets_values"][0])
    if node.get("mode", 0) == MUTED:
        return None
    if node["type"] == "Reroute" or node.get("mode", 0) == BYPASSED:
        wanted = node["outputs"][slot]["type"]
        entries = node.get("inputs", [])
        # Like the editor: the input beside the output first, so that positive and negative are not mixed up.
        for entry in [*entries[slot : slot + 1], *entries]:
            fits = node["type"] == "Reroute" or entry["type"] == wanted
            if fits and entry.get("link") is not None:
                return _source(entry["link"], links, nodes)
        return None
    return [str(origin), slot]


def problems(api: dict, object_info: dict) -> list[str]:
    """What ComfyUI would, or before version 0.9 would not, complain about: one sentence each."""
    found = []
    for node_id, node in api.items():
        kind = node["class_type"]
        if kind not in object_info:
            found.append(f"node {node_id}: ComfyUI has no node of type {kind}")
            continue
        specs = inputs_of(object_info[kind])
        found += [f"node {node_id} ({kind}): no input {name!r}" for name in node["inputs"] if name not in specs]
        for name in object_info[kind]["input"].get("required", {}):
            if name not in node["inputs"]:
                found.append(f"node {node_id} ({kind}): required input {name!r} is missing")
        for name, value in node["inputs"].items():
            if name not in specs:
                continue
            allowed = choices(specs[name])
            if isinstance(value, list):
                source = api.get(value[0])
                if source is None:
                    found.append(f"node {node_id} ({kind}): input {name!r} comes from missing node {value[0]}")
                elif source["class_type"] in object_info:
                    outputs = object_info[source["class_type"]]["output"]
                    given = outputs[value[1]] if value[1] < len(outputs) else "nothing"
                    wanted = specs[name][0]
                    if isinstance(wanted, str) and given not in wanted.split(",") and "*" not in (wanted, given):
                        found.append(f"node {node_id} ({kind}): input {name!r} wants {wanted}, gets {given}")
            elif allowed is not None and value not in allowed:
                found.append(f"node {node_id} ({kind}): {name!r} cannot be {value!r}, only {allowed}")
    return found
