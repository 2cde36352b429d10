"""How *Apply Portrait* gets on with every node that patches a MODEL: measured in a real server, node by node.

Every node that takes one MODEL and gives one, and else needs widgets and what the graph has (a picture, a latent, a VAE, ...), is put before
*Apply Portrait* with its default values. Packs of other people are measured the same way from a folder they lie in, and those of their
nodes that want a file in the graphs of `chaining_graphs.py`.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..models.writing import replacing
from ..run import link_folder
from .chaining_graphs import GRAPHS, SIZE, Graph, write_files
from .comfy_server import PACK, ComfyServer, WorkflowError, prepare_base
from .demo import copy_samples
from .workflow_api import inputs_of, is_widget, usual_widgets

FIGURES = PACK / "docs" / "measurements" / "chaining.json"
PACK_FIGURES = FIGURES.with_name("chaining_packs.json")
WIRES = {
    "MODEL": ["bundle", 0],
    "VAE": ["bundle", 1],
    "CLIP_VISION": ["bundle", 2],
    "IMAGE": ["person", 0],
    "LATENT": ["latent", 0],
    "CONDITIONING": ["encoded", 2],
}
"""What a measured node can be given, by type."""


def measure_chaining(packs: Path | None = None, out: Path | None = None) -> dict:
    """Measure, write and return {node id: its entry}, beside the counts; of packs also {graph: its entry}.

    An entry's `verdict` is `acts` (node and portrait both change the picture), `neutral` (the node changes nothing at its default
    values), `refused` (one sentence, in `says`), `lost` (the portrait changes nothing) or `other models` (the node fails without the
    portrait, too). `zero_is_plain`: with strength 0 the picture is the one of the node alone.

    Args:
        packs: a folder of other custom nodes, of which the nodes are measured then; None measures ComfyUI's own. What the file holds
            of packs that bring no nodes now stays in it.
        out: the file; None = that of docs/measurements.
    """
    out = out or (PACK_FIGURES if packs else FIGURES)
    with tempfile.TemporaryDirectory(prefix="icportrait-chaining-") as folder:
        base = Path(folder)
        prepare_base(base)
        names = _link(base, packs) if packs else []
        copy_samples(base)
        with ComfyServer(base, cpu=True) as server:
            info = server.object_info
            came = {node["python_module"] for node in info.values()}
            for name in names:
                if f"custom_nodes.{name}" not in came:
                    print(f"{name} brought no nodes{_reason(server.log_text(), name)}", flush=True)
            nodes, graphs = _kept(out, came) if packs else ({}, {})
            plain = _picture(server, None, None)
            portrait = _picture(server, None, 1.0)
            figures: dict = {}
            measured = [(nodes, *one) for one in _nodes(info, bool(packs))]
            measured += [(graphs, *one) for one in _graphs(info)] if packs else []
            for entries, name, entry, graph in measured:
                entries[name] = entry | _measured(server, graph, plain, portrait)
                figures = _counted("node", nodes) | ({"wanting_a_file": _counted("graph", graphs)} if packs else {})
                with replacing(out) as temporary:  # after each: all of them take a while
                    temporary.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return figures


def _link(base: Path, packs: Path) -> list[str]:
    """Put the packs of a folder into the server's, with what the graphs want, and return their names."""
    names = [path.name for path in sorted(packs.iterdir()) if path.is_dir() and not path.name.startswith((".", "__"))]
    for name in names:
        link_folder(base / "custom_nodes" / name, packs / name)
    write_files(base)
    return names


def _reason(log: str, name: str) -> str:
    """What ComfyUI's log says of a pack that it could not import."""
    found = re.search(rf"Cannot import \S*{re.escape(name)} module for custom nodes: (.*)", log)
    return f": {found[1]}" if found else ""


def _kept(out: Path, came: set[str]) -> tuple[dict, dict]:
    """What the file holds of nodes and graphs of packs that are not in the server."""
    figures = json.loads(out.read_text("utf-8")) if out.is_file() else {}
    before = figures.get("by_node", {}), figures.get("wanting_a_file", {}).get("by_graph", {})
    nodes, graphs = ({k: v for k, v in entries.items() if v["from"] not in came} for entries in before)
    return nodes, graphs


def _nodes(object_info: dict, others: bool) -> Iterator[tuple[str, dict, Graph]]:
    """(name, beginning of its entry, its graph) of each node that patches a MODEL: other people's or ComfyUI's own."""
    for name, info in sorted(object_info.items()):
        module = info["python_module"]
        if _patches_a_model(name, info) and module.startswith("custom_nodes.") == others:
            entry = {"from": module, "name": info["display_name"] or name}
            yield name, entry, Graph({"other": (name, _defaults(info))}, {"model": ["other", 0]})


def _graphs(object_info: dict) -> Iterator[tuple[str, dict, Graph]]:
    """The same of each graph of which the server has all nodes."""
    for name, graph in GRAPHS.items():
        if graph.fits(object_info):
            kind, _ = next(iter(graph.nodes.values()))
            yield name, {"from": object_info[kind]["python_module"]}, graph.filled(object_info)


def _counted(what: str, entries: dict) -> dict:
    return {
        f"{what}s": len(entries),
        **dict(Counter(entry["verdict"] for entry in entries.values())),
        "strength_0_is_the_node_alone": sum(entry.get("zero_is_plain", False) for entry in entries.values()),
        f"by_{what}": dict(sorted(entries.items())),
    }


def _patches_a_model(name: str, info: dict) -> bool:
    """Whether the node takes one MODEL, gives one, and else needs widgets and `WIRES` only."""
    specs = inputs_of(info)
    wires = [specs[key][0] for key in info["input"].get("required", {}) if not is_widget(specs[key])]
    # Compiling takes minutes and changes no picture; training patches nothing.
    left_out = name.startswith(("ICPortrait_", "Train")) or "Compile" in name
    return not left_out and info["output"][:1] == ["MODEL"] and wires.count("MODEL") == 1 and set(wires) <= set(WIRES)


def _defaults(info: dict) -> dict:
    """Values of the required widgets and wires."""
    values = {}
    for name, spec in inputs_of(info).items():
        if name not in info["input"].get("required", {}):
            continue
        if not is_widget(spec):
            values[name] = WIRES[spec[0]]
            continue
        options = spec[1] if len(spec) > 1 else {}
        choices = spec[0] if isinstance(spec[0], list) else options.get("options", [])
        empty = {"INT": 0, "FLOAT": 0.0, "BOOLEAN": False, "STRING": ""}.get(str(spec[0]), "")
        values[name] = options.get("default", choices[0] if choices else empty)
    return values


def _measured(server: ComfyServer, graph: Graph, plain: np.ndarray, portrait: np.ndarray) -> dict:
    try:
        alone = _picture(server, graph, None)
    except (WorkflowError, TimeoutError) as error:
        return {"verdict": "other models", "says": str(error).splitlines()[0][:200]}
    try:
        together = _picture(server, graph, 1.0)
        off = _picture(server, graph, 0.0)
    except (WorkflowError, TimeoutError) as error:
        said = str(error).strip().splitlines()
        ours = "IC-Portrait" in str(error)
        verdict = "refused" if ours else "fails"
        return {"verdict": verdict, "says": next((line for line in said if "IC-Portrait" in line), said[0])[:300]}
    same = np.array_equal
    verdict = "lost" if same(together, alone) else "neutral" if same(together, portrait) else "acts"
    if verdict == "acts" and same(alone, plain):
        verdict = "acts on the pair only"
    return {"verdict": verdict, "zero_is_plain": same(off, alone)}


def _picture(server: ComfyServer, graph: Graph | None, strength: float | None) -> np.ndarray:
    """Pixels of one picture: with the other nodes or without, with the portrait at this strength or without (None)."""
    person, style = ["person", 0], ["style", 0]
    wires = {"model": ["bundle", 0], "positive": ["encoded", 2], "negative": ["encoded", 3], "image": ["decoded", 0]}
    wires |= graph.wires if graph else {}
    prompt = {
        "bundle": {"class_type": "ICPortrait_LoadDemoBundle", "inputs": {}},
        **_scaled("person", "icportrait_profile.png"),
        **_scaled("style", "icportrait_style.png"),
        "encoded": {
            "class_type": "ICPortrait_EncodeProfile",
            "inputs": {"profile_image": person, "vae": ["bundle", 1], "clip_vision": ["bundle", 2]},
        },
        "latent": {"class_type": "VAEEncode", "inputs": {"pixels": style, "vae": ["bundle", 1]}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                **{"model": ["applied", 0], "positive": wires["positive"], "negative": wires["negative"]},
                "latent_image": ["latent", 0],
                **{"seed": 5, "steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.8},
            },
        },
        "decoded": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["bundle", 1]}},
        "shown": {"class_type": "PreviewImage", "inputs": {"images": wires["image"]}},
    }
    for key, (kind, inputs) in graph.nodes.items() if graph else ():
        prompt[key] = {"class_type": kind, "inputs": inputs}
    if strength is None:
        for node in prompt.values():
            node["inputs"] = {k: wires["model"] if v == ["applied", 0] else v for k, v in node["inputs"].items()}
    else:
        sampled = {"style_image": style, "share": 0.2, "seed": 1, "pattern": "random"}
        prompt["sampled"] = {"class_type": "ICPortrait_SamplePixels", "inputs": sampled}
        given = {
            **{"model": wires["model"], "nets": ["bundle", 3], "profile": ["encoded", 0]},
            **{"sampled_image": ["sampled", 0], "style_latent": ["latent", 0]},
            **{"strength": strength, "flow_method": "window", "seed": 1},
        }
        usual = usual_widgets(server.object_info["ICPortrait_Apply"])
        prompt["applied"] = {"class_type": "ICPortrait_Apply", "inputs": usual | given}
    run = server.run_workflow(prompt, timeout=300)
    data = server.view(run.outputs["shown"]["images"][0])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _scaled(name: str, file: str) -> dict:
    """A picture of the input folder, made small."""
    inputs = {"image": [f"{name} file", 0], "upscale_method": "area", "width": SIZE, "height": SIZE, "crop": "center"}
    return {
        f"{name} file": {"class_type": "LoadImage", "inputs": {"image": file}},
        name: {"class_type": "ImageScale", "inputs": inputs},
    }


def print_figures(figures: dict) -> None:
    """A line a node, then a line a graph."""
    graphs = figures.get("wanting_a_file", {}).get("by_graph", {})
    for name, entry in [*figures["by_node"].items(), *graphs.items()]:
        zero = {True: "", False: "  STRENGTH 0 DIFFERS"}.get(entry.get("zero_is_plain"), "")
        print(f"{name:40s} {entry['verdict']:22s}{zero} {entry.get('says', '')[:120]}")
