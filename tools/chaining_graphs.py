"""Graphs for `chaining.py` of other people's nodes that want a file of their own, and the files: random weights that fit the demo base."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import comfy.cldm.cldm
import comfy.ops
import torch
from safetensors.torch import save_file

from ..models.nets.bundle import FOLDER, read_base
from .workflow_api import usual_widgets

SIZE = 128
"""Width and height of the pictures."""
FILE = "fits_demo_base.safetensors"
PROMPT = {"positive": ["encoded", 2], "negative": ["encoded", 3]}
SAMPLING = {"seed": 5, "sampler_name": "euler", "scheduler": "normal", "steps": 3, "cfg": 3.0}


@dataclass(frozen=True)
class Graph:
    """Other people's nodes in the graph of one picture."""

    nodes: dict[str, tuple[str, dict]]
    """{node id: (its class, its inputs)}; the first is of the pack that is measured. `["applied", 0]` is *Apply Portrait*'s MODEL."""
    wires: dict[str, list]
    """What takes the place of the `model` that *Apply Portrait* gets, of `positive` or `negative`, or of the `image` shown."""

    def fits(self, object_info: dict) -> bool:
        """Whether the server has all of the nodes."""
        return all(kind in object_info for kind, _ in self.nodes.values())

    def filled(self, object_info: dict) -> Graph:
        """The same with the widgets not given here at their default values, the optional ones too, as the editor sends them."""
        values = {kind: usual_widgets(object_info[kind], optional=True) for kind, _ in self.nodes.values()}
        return Graph({key: (kind, values[kind] | given) for key, (kind, given) in self.nodes.items()}, self.wires)


def write_files(base: Path) -> None:
    """Write what the graphs want into a server's base directory: a ControlNet, an IP-Adapter and a face detector with a fixed box."""
    tensors, metadata = read_base(FOLDER / "base.safetensors")
    for kind, weights in (("controlnet", controlnet(tensors, metadata["config"])), ("ipadapter", ip_adapter(tensors))):
        folder = base / "models" / kind
        folder.mkdir(parents=True, exist_ok=True)
        save_file(weights, folder / FILE)
    shutil.copy(Path(__file__).with_name("chaining_box.py"), base / "custom_nodes")


def _random(shape: tuple[int, ...], generator: torch.Generator, gain: float = 1.0) -> torch.Tensor:
    """A weight that keeps the size of what goes through it, times `gain`; a bias of zeros."""
    if len(shape) == 1:
        return torch.zeros(shape)
    return torch.randn(shape, generator=generator) * gain / math.prod(shape[1:]) ** 0.5


def controlnet(base: dict, config: dict, seed: int = 1) -> dict:
    """A ControlNet in ComfyUI's own layout: its encoder is the base's, the rest random, no zero convolution zero."""
    generator = torch.Generator().manual_seed(seed)
    encoder = {k: v for k, v in config.items() if k not in ("out_channels", "transformer_depth_output")}
    made = comfy.cldm.cldm.ControlNet(
        hint_channels=3, dtype=torch.float32, operations=comfy.ops.disable_weight_init, **encoder
    )
    weights = {}
    for name, tensor in made.state_dict().items():
        # Residuals as large as the maps would drown picture and portrait alike.
        gain = 0.5 if name.startswith(("zero_convs", "middle_block_out")) else 1.0
        weights[name] = base[name].float() if name in base else _random(tensor.shape, generator, gain)
    return weights


def ip_adapter(base: dict, seed: int = 3) -> dict:
    """An IP-Adapter of SD1.5's sixteen cross-attentions; a base with fewer uses those of the blocks it has."""
    generator = torch.Generator().manual_seed(seed)
    width, context = next(v.shape for k, v in base.items() if k.endswith("attn2.to_k.weight"))
    tokens, image = 4, 768
    weights = {
        "image_proj.proj.weight": _random((tokens * context, image), generator),
        "image_proj.proj.bias": torch.zeros(tokens * context),
        "image_proj.norm.weight": torch.ones(context),
        "image_proj.norm.bias": torch.zeros(context),
    }
    for number in range(1, 32, 2):
        for side in "kv":
            weights[f"ip_adapter.{number}.to_{side}_ip.weight"] = _random((width, context), generator)
    return weights


def _left_half(width: int) -> dict:
    """A mask of this width, white on its left half."""
    black = ("SolidMask", {"value": 0.0, "width": width, "height": SIZE})
    white = ("SolidMask", {"value": 1.0, "width": width // 2, "height": SIZE})
    put = ("MaskComposite", {"destination": ["black", 0], "source": ["white", 0], "operation": "add"})
    return {"mask": put, "black": black, "white": white}


def _control(net: tuple[str, dict], nodes: dict | None = None, image: str = "style", **inputs) -> Graph:
    """Advanced-ControlNet's Apply on the prompt, as a stock ControlNet's."""
    given = {**PROMPT, "control_net": ["net", 0], "image": [image, 0], **inputs}
    nodes = {"controlled": ("ACN_AdvancedControlNetApply_v2", given), "net": net, **(nodes or {})}
    return Graph(nodes, {"positive": ["controlled", 0], "negative": ["controlled", 1]})


def _reference(kind: str) -> Graph:
    """Advanced-ControlNet's Reference, which works without a file."""
    wires = {"image": ["style", 0], "vae": ["bundle", 1], "latent_size": ["latent", 0]}
    net = ("ACN_ReferenceControlNet", {"reference_type": kind})
    return _control(net, {"reference": ("ACN_ReferencePreprocessor", wires)}, "reference")


def _adapter(kind: str, nodes: dict | None = None, **inputs) -> Graph:
    """A node of IPAdapter_plus on the MODEL before *Apply Portrait*."""
    loader = ("IPAdapterModelLoader", {"ipadapter_file": FILE})
    given = {"model": ["bundle", 0], "ipadapter": ["adapter", 0], "clip_vision": ["bundle", 2], **inputs}
    return Graph({"other": (kind, given), "adapter": loader, **(nodes or {})}, {"model": ["other", 0]})


def _detailer(**inputs) -> Graph:
    """Impact-Pack's FaceDetailer on the style crop with *Apply Portrait*'s MODEL."""
    wires = {"image": ["style", 0], "model": ["applied", 0], "clip": ["box", 1], "vae": ["bundle", 1], **PROMPT}
    box = ("ChainingFixedBox", {"left": SIZE // 4, "top": SIZE // 4, "right": SIZE * 3 // 4, "bottom": SIZE * 3 // 4})
    given = {**wires, "bbox_detector": ["box", 0], **SAMPLING, "denoise": 0.5, **inputs}
    return Graph({"detailer": ("FaceDetailer", given), "box": box}, {"image": ["detailer", 0]})


def _basic_pipe() -> Graph:
    """Impact-Pack's KSampler in place of the stock one."""
    pipe = {"model": ["applied", 0], "clip": ["box", 1], "vae": ["bundle", 1], **PROMPT}
    sampling = {"basic_pipe": ["pipe", 0], "latent_image": ["latent", 0], **SAMPLING, "denoise": 0.8}
    nodes = {
        "sampled by pipe": ("ImpactKSamplerBasicPipe", sampling),
        "pipe": ("ToBasicPipe", pipe),
        "box": ("ChainingFixedBox", {}),
        "shown by pipe": ("VAEDecode", {"samples": ["sampled by pipe", 1], "vae": ["bundle", 1]}),
    }
    return Graph(nodes, {"image": ["shown by pipe", 0]})


_NET = ("ACN_ControlNetLoaderAdvanced", {"cnet": FILE})
_KEYFRAMES = {
    "first": ("TimestepKeyframe", {"strength": 0.5}),
    "last": ("TimestepKeyframe", {"start_percent": 0.5, "strength": 0.0, "prev_timestep_kf": ["first", 0]}),
}
_EMBEDS = ("IPAdapterEncoder", {"ipadapter": ["adapter", 0], "image": ["person", 0], "clip_vision": ["bundle", 2]})
_FITTING = {"bbox_crop_factor": 1.0, "guide_size": float(SIZE), "max_size": float(SIZE)}
GRAPHS: dict[str, Graph] = {
    "ControlNet": _control(_NET),
    "ControlNet with a mask": _control(_NET, _left_half(SIZE), mask_optional=["mask", 0]),
    "ControlNet with soft weights": _control(
        _NET, {"soft": ("ACN_ScaledSoftControlNetWeights", {})}, weights_override=["soft", 0]
    ),
    "ControlNet with timestep keyframes": _control(_NET, _KEYFRAMES, timestep_kf=["last", 0]),
    "Reference, attn": _reference("reference_attn"),
    "Reference, adain": _reference("reference_adain"),
    "IPAdapter Advanced": _adapter("IPAdapterAdvanced", image=["person", 0]),
    # As wide as the pair: white on the target, black on the profile.
    "IPAdapter Advanced with a mask": _adapter(
        "IPAdapterAdvanced", _left_half(2 * SIZE), image=["person", 0], attn_mask=["mask", 0]
    ),
    "IPAdapter Embeds": _adapter(
        "IPAdapterEmbeds", {"embeds": _EMBEDS}, pos_embed=["embeds", 0], neg_embed=["embeds", 1]
    ),
    "FaceDetailer, crops of the profile's size": _detailer(noise_mask_feather=0, **_FITTING),
    "FaceDetailer, default guide size": _detailer(noise_mask_feather=0, steps=1),
    "FaceDetailer, defaults": _detailer(steps=1),
    "KSampler (pipe)": _basic_pipe(),
}
