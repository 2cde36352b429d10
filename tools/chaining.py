"""How *Apply Portrait* gets on with every node that patches a MODEL: measured in a real server, node by node.

Every node that takes one MODEL and gives one, and else needs widgets and what the graph has (a picture, a latent, a VAE, ...), is put before
*Apply Portrait* with its default values. Packs of other people are measured the same way from a folder they lie in.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from ..models.writing import replacing
from ..run import link_folder
from .comfy_server import PACK, ComfyServer, WorkflowError, prepare_base
from .demo import copy_samples
from .workflow_api import inputs_of, is_widget, usual_widgets

FIGURES = PACK / "docs" / "measurements" / "chaining.json"
SIZE = 128
WIRES = {
    "MODEL": ["bundle", 0],
    "VAE": ["bundle", 1],
    "CLIP_VISION": ["bundle", 2],
    "IMAGE": ["person", 0],
    "LATENT": ["latent", 0],
    "CONDITIONING": ["encoded", 2],
}
"""What a measured node can be given, by type."""


def measure_chaining(packs: Path | None = None, out: Path = FIGURES) -> dict:
    """Measure, write and return {node id: its entry}.

    An entry's `verdict` is `acts` (node and portrait both change the picture), `neutral` (the node changes nothing at its default
    values), `refused` (one sentence, in `says`), `lost` (the portrait changes nothing) or `other models` (the node fails without the
    portrait, too). `zero_is_plain`: with strength 0 the picture is the one of the node alone.

    Args:
        packs: a folder of other custom nodes, of which the nodes are measured then; None measures ComfyUI's own.
    """
    with tempfile.TemporaryDirectory(prefix="icportrait-chaining-") as folder:
        base = Path(folder)
        prepare_base(base)
        for pack in sorted(packs.iterdir()) if packs else ():
            link_folder(base / "custom_nodes" / pack.name, pack)
        copy_samples(base)
        with ComfyServer(base, cpu=True) as server:
            found = {
                name: info
                for name, info in sorted(server.object_info.items())
                if _patches_a_model(name, info) and info["python_module"].startswith("custom_nodes.") == bool(packs)
            }
            plain = _picture(server, None, None)
            portrait = _picture(server, None, 1.0)
            figures: dict = {"nodes": 0, "by_node": {}}
            for name, info in found.items():
                figures["by_node"][name] = _measured(server, name, info, plain, portrait)
                figures = _counted(figures["by_node"])
                with replacing(out) as temporary:  # after each node: all of them take a while
                    temporary.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return figures


def _counted(entries: dict) -> dict:
    return {
        "nodes": len(entries),
        **dict(Counter(entry["verdict"] for entry in entries.values())),
        "strength_0_is_the_node_alone": sum(entry.get("zero_is_plain", False) for entry in entries.values()),
        "by_node": entries,
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


def _measured(server: ComfyServer, name: str, info: dict, plain: np.ndarray, portrait: np.ndarray) -> dict:
    entry = {"from": info["python_module"], "name": info["display_name"] or name}
    node = {"class_type": name, "inputs": _defaults(info)}
    try:
        alone = _picture(server, node, None)
    except (WorkflowError, TimeoutError) as error:
        return {**entry, "verdict": "other models", "says": str(error).splitlines()[0][:200]}
    try:
        together = _picture(server, node, 1.0)
        off = _picture(server, node, 0.0)
    except (WorkflowError, TimeoutError) as error:
        said = str(error).strip().splitlines()
        ours = "IC-Portrait" in str(error)
        verdict = "refused" if ours else "fails"
        return {
            **entry,
            "verdict": verdict,
            "says": next((line for line in said if "IC-Portrait" in line), said[0])[:300],
        }
    same = np.array_equal
    verdict = "lost" if same(together, alone) else "neutral" if same(together, portrait) else "acts"
    if verdict == "acts" and same(alone, plain):
        verdict = "acts on the pair only"
    return {**entry, "verdict": verdict, "zero_is_plain": same(off, alone)}


def _picture(server: ComfyServer, node: dict | None, strength: float | None) -> np.ndarray:
    """Pixels of one picture: with the other node or without, with the portrait at this strength or without (None)."""
    person, style = ["person", 0], ["style", 0]
    model = ["bundle", 0] if node is None else ["other", 0]
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
                **{
                    "model": model,
                    "positive": ["encoded", 2],
                    "negative": ["encoded", 3],
                    "latent_image": ["latent", 0],
                },
                **{"seed": 5, "steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.8},
            },
        },
        "decoded": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["bundle", 1]}},
        "shown": {"class_type": "PreviewImage", "inputs": {"images": ["decoded", 0]}},
    }
    if node is not None:
        prompt["other"] = node
    if strength is not None:
        sampled = {"style_image": style, "share": 0.2, "seed": 1, "pattern": "random"}
        prompt["sampled"] = {"class_type": "ICPortrait_SamplePixels", "inputs": sampled}
        wires = {"model": model, "nets": ["bundle", 3], "profile": ["encoded", 0], "sampled_image": ["sampled", 0]}
        usual = usual_widgets(server.object_info["ICPortrait_Apply"])
        applied = (
            usual | wires | {"style_latent": ["latent", 0], "strength": strength, "flow_method": "window", "seed": 1}
        )
        prompt["applied"] = {"class_type": "ICPortrait_Apply", "inputs": applied}
        prompt["sampler"]["inputs"]["model"] = ["applied", 0]
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
    """A line a node."""
    for name, entry in figures["by_node"].items():
        zero = {True: "", False: "  STRENGTH 0 DIFFERS"}.get(entry.get("zero_is_plain"), "")
        print(f"{name:40s} {entry['verdict']:22s}{zero} {entry.get('says', '')[:120]}")
