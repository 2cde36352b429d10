"""`icportrait measure flops`: what a training step of full size costs, counted on the real modules without running them.

SD1.5's UNet, both nets, CLIP ViT-L/14 and the autoencoder are built on torch's `meta` device, which does the shapes and no
arithmetic; torch's own counter counts the multiplications of forward and backward pass. Hours are this count divided by a
card's peak and an assumed share of it: an estimate, not a measurement. Bytes are those of the tensors autograd keeps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from ....models.method.aggregation import aggregate_residuals
from ....models.method.correspondence import match
from ....models.nets.portrait_net import SD15_UNET, build_net, net_config
from ...core.acceleration import blocks_of, use_checkpointing
from ...core.checks import picture_sides
from ...core.modules import build_unet, build_vision, embed_images
from ...tasks.matching import as_control
from .settings import Measure

CLIP_VIT_L14 = {
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "quick_gelu",
    "hidden_size": 1024,
    "image_size": 224,
    "intermediate_size": 4096,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 16,
    "num_channels": 3,
    "num_hidden_layers": 24,
    "patch_size": 14,
    "projection_dim": 768,
    "torch_dtype": "float32",
}

SD15_VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}

# Dense fp16 tensor-core peak with fp32 accumulation in TFLOP/s, and memory in GB: NVIDIA's data sheets (A40, A100, L40S, H100 SXM) and
# architecture white papers (GA102 for the RTX 3090, Ada for the RTX 4090).
CARDS = {
    "RTX 3090": (71.2, 24),
    "RTX 4090": (165.2, 24),
    "A40": (149.7, 48),
    "L40S": (362.0, 48),
    "A100": (312.0, 40),
    "H100": (989.0, 80),
}
# A card's memory in GB -> samples at a time, gradient checkpointing: what docs/training.md tells people to give.
RECIPES = {12: (1, True), 24: (2, False), 48: (8, False)}
PAPER = {"matching": (200, 16), "appearance": (20_000, 16)}  # steps, batch


class FullSize:
    """The full-size models on the meta device, and one sample's inputs."""

    def __init__(self, size: int):
        with torch.device("meta"):
            self.unet = build_unet(SD15_UNET)
            self.vision = build_vision(CLIP_VIT_L14)
            self.matching = build_net(net_config("matching", SD15_UNET))
            self.appearance = build_net(net_config("appearance", SD15_UNET))
        for module in (self.unet, self.vision, self.matching, self.appearance):
            module.to("meta")
        self.size, self.cells = size, size // 8

    def inputs(self, wide: bool = True) -> dict[str, torch.Tensor]:
        """One sample: a pair side by side, or a single view."""
        width = 2 if wide else 1
        shapes = {
            "noisy": (1, 4, self.cells, width * self.cells),
            "timesteps": (1,),
            "context": (1, 1, 768),
            "hint": (1, 3, self.size, width * self.size),
        }
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}

    def train_only(self, *modules: torch.nn.Module) -> None:
        """What learns in the next step."""
        for module in (self.unet, self.vision, self.matching, self.appearance):
            module.requires_grad_(any(module is chosen for chosen in modules))

    def control_step(self, net: torch.nn.Module, wide: bool = True, flow=None) -> torch.Tensor:
        """Loss of a net under the frozen UNet (eq. 3), blended along `flow` when given (eq. 7)."""
        x = self.inputs(wide)
        hint = net.encode_hint(x["hint"])
        residuals = net.residuals(x["noisy"], x["timesteps"], x["context"], hint)
        if flow is not None:
            residuals = aggregate_residuals(residuals, flow, 1.0, 0.0)
        return self.unet(x["noisy"], x["timesteps"], x["context"], control=as_control(residuals)).square().mean()

    def matching_paper(self) -> torch.Tensor:
        """Matching net by eq. 3."""
        self.train_only(self.matching)
        return self.control_step(self.matching)

    def features(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Both halves' features at the tap."""
        x, net = self.inputs(), self.matching
        hint, tap = net.encode_hint(x["hint"]), net_config("matching", SD15_UNET)["tap"]
        return net.features(x["noisy"], x["timesteps"], x["context"], hint, tap).chunk(2, dim=-1)

    def matching_flow(self) -> torch.Tensor:
        """Matching net under exact flow; every cell counts as valid."""
        self.train_only(self.matching)
        target, profile = self.features()
        # The loss picks valid cells, which shapes alone cannot: its cost volume is counted by hand.
        return target.flatten(2).transpose(1, 2).matmul(profile.flatten(2)).square().mean()

    def appearance_step(self) -> torch.Tensor:
        """Appearance net, guided by the frozen matching net."""
        self.train_only(self.appearance)
        with torch.no_grad():
            flow, _ = match(*self.features())
        return self.control_step(self.appearance, flow=flow)

    def controlnet_step(self) -> torch.Tensor:
        """A plain ControlNet on single views: the published throughput to compare with."""
        self.train_only(self.appearance)
        return self.control_step(self.appearance, wide=False)

    def customise(self, wide: bool) -> torch.Tensor:
        """The whole UNet."""
        self.train_only(self.unet)
        x = self.inputs(wide)
        return self.unet(x["noisy"], x["timesteps"], x["context"]).square().mean()


def count(step: Callable[[], torch.Tensor], backward: bool = True) -> int:
    """FLOP of a step (a multiplication and an addition are two)."""
    counter = FlopCounterMode(display=False)
    with counter, torch.set_grad_enabled(backward):
        loss = step()
        if backward:
            loss.backward()
    return counter.get_total_flops()


def bytes_kept(step: Callable[[], torch.Tensor], attention_tokens: set[int]) -> int:
    """Bytes autograd keeps of one sample's activations in float32, weights left out.

    Attention matrices (square in a number of tokens) are left out too: fused kernels, which run on GPUs, never store them.
    """
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        matrix = tensor.ndim >= 3 and tensor.shape[-1] == tensor.shape[-2] and tensor.shape[-1] in attention_tokens
        if not isinstance(tensor, torch.nn.Parameter) and not matrix:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        step()
    return sum(kept.values())


def bytes_kept_with_checkpointing(models: FullSize, step: Callable[[], torch.Tensor], tokens: set[int]) -> int:
    """The same with gradient checkpointing: what lies between blocks, and each block's inputs."""
    inputs: dict[int, int] = {}

    def note(block, arguments):
        tensors = [value for value in arguments if isinstance(value, torch.Tensor)]
        learns = any(value.requires_grad for value in (*tensors, *block.parameters()))
        if learns and torch.is_grad_enabled():  # else nothing is computed again
            for value in tensors:
                inputs[value.untyped_storage()._cdata] = value.untyped_storage().nbytes()

    modules = [models.unet, models.matching, models.appearance]
    use_checkpointing(modules)
    hooks = [block.register_forward_pre_hook(note) for block in blocks_of(modules)]
    try:
        return bytes_kept(step, tokens) + sum(inputs.values())
    finally:
        for hook in hooks:
            hook.remove()


def encoder_flops(size: int) -> dict[str, int]:
    """FLOP of encoding one picture, once a run: autoencoder and vision encoder."""
    from comfy.ldm.modules.diffusionmodules.model import Encoder

    with torch.device("meta"):
        encoder = Encoder(**SD15_VAE)
    models = FullSize(64)
    picture = torch.empty(1, 3, size, size, device="meta")
    return {
        "autoencoder": count(lambda: encoder.to("meta")(picture), backward=False),
        "vision": count(lambda: embed_images(models.vision, picture), backward=False),
    }


def parameters(module: torch.nn.Module) -> int:
    """How many."""
    return sum(parameter.numel() for parameter in module.parameters())


def hours(flop: float, tflops: float, share: float) -> float:
    """Time of so many FLOP on a card at a share of its peak."""
    return flop / (tflops * 1e12 * share) / 3600


@dataclass(frozen=True, kw_only=True)
class FlopsMeasure(Measure):
    """Cost of full-size SD1.5 training steps, counted without running them."""

    size: int = 512
    """Side of one view in pixels."""
    share: float = 0.3
    """Share of a card's peak that is assumed to be reached."""

    def __post_init__(self):
        picture_sides(size=self.size)


def measure_flops(options: FlopsMeasure) -> dict:
    """All figures; see `icportrait measure flops --help`."""
    size = options.size
    models = FullSize(size)
    tokens = {2 * (size // 8 // 2**level) ** 2 for level in range(4)} | {
        (size // 8 // 2**level) ** 2 for level in range(4)
    }
    steps = {
        "matching_paper": models.matching_paper,
        "matching_flow": models.matching_flow,
        "appearance": models.appearance_step,
        "controlnet_single_view": models.controlnet_step,
        "whole_unet_single_view": lambda: models.customise(False),
        "whole_unet_pair": lambda: models.customise(True),
    }
    flop = {name: count(step) for name, step in steps.items()}
    kept = {name: bytes_kept(step, tokens) for name, step in steps.items()}
    checked = {name: bytes_kept_with_checkpointing(models, step, tokens) for name, step in steps.items()}
    sizes = {name: parameters(getattr(models, name)) for name in ("unet", "matching", "appearance", "vision")}
    weights = {
        "matching": 4 * (sizes["unet"] + sizes["vision"]) + 16 * sizes["matching"],
        "appearance": 4 * (sizes["unet"] + sizes["vision"] + sizes["matching"]) + 16 * sizes["appearance"],
        "customise": 4 * sizes["vision"] + 16 * sizes["unet"],
    }
    # Mixed precision: frozen parts in 2 bytes, CLIP gone once everything is embedded; of the trained net weights, gradients and
    # two moments in 4 bytes each, and the copy in 2 that autocast makes.
    mixed = {
        "matching": 2 * sizes["unet"] + 18 * sizes["matching"],
        "appearance": 2 * (sizes["unet"] + sizes["matching"]) + 18 * sizes["appearance"],
    }
    cards = {
        str(memory): {
            name: (mixed[name] + samples * (checked if less else kept)[step]) / 1e9
            for name, step in (("matching", "matching_paper"), ("appearance", "appearance"))
        }
        for memory, (samples, less) in RECIPES.items()
    }
    totals = {
        "matching": flop["matching_paper"] * math.prod(PAPER["matching"]),
        "appearance": flop["appearance"] * math.prod(PAPER["appearance"]),
    }
    return {
        "size_px": size,
        "parameters": sizes,
        "tflop_per_sample": {name: value / 1e12 for name, value in flop.items()},
        "tflop_per_picture_once": {name: value / 1e12 for name, value in encoder_flops(size).items()},
        "paper_run_tflop": {name: value / 1e12 for name, value in totals.items()},
        "assumed_share_of_peak": options.share,
        "paper_run_hours_on_one_card": {
            card: {name: hours(value, peak, options.share) for name, value in totals.items()}
            for card, (peak, _) in CARDS.items()
        },
        "activation_gb_per_sample_fp32": {name: value / 1e9 for name, value in kept.items()},
        "activation_gb_per_sample_fp32_checkpointing": {name: value / 1e9 for name, value in checked.items()},
        "weights_gradients_adamw_gb_fp32": {name: value / 1e9 for name, value in weights.items()},
        "weights_gradients_adamw_gb_mixed": {name: value / 1e9 for name, value in mixed.items()},
        "gb_at_most_by_card": cards,
        "cards": {card: {"peak_fp16_tflops": peak, "memory_gb": memory} for card, (peak, memory) in CARDS.items()},
    }


def print_figures(figures: dict) -> None:
    """The figures for people."""
    print(
        f"SD1.5, pairs of {figures['size_px']} px\n\nTFLOP a sample, forward and backward; GB kept (float32), with checkpointing"
    )
    for name, value in figures["tflop_per_sample"].items():
        kept = figures["activation_gb_per_sample_fp32"][name]
        checked = figures["activation_gb_per_sample_fp32_checkpointing"][name]
        print(f"  {name:26s} {value:8.2f} {kept:8.2f} {checked:8.2f}")
    print("\nonce a picture, TFLOP: " + ", ".join(f"{k} {v:.2f}" for k, v in figures["tflop_per_picture_once"].items()))
    print(
        "weights, gradients and AdamW, GB: "
        + ", ".join(f"{k} {v:.1f}" for k, v in figures["weights_gradients_adamw_gb_fp32"].items())
    )
    print(
        "in mixed precision, GB: "
        + ", ".join(f"{k} {v:.1f}" for k, v in figures["weights_gradients_adamw_gb_mixed"].items())
    )
    for memory, values in figures["gb_at_most_by_card"].items():
        samples, less = RECIPES[int(memory)]
        told = f"--micro-batch {samples}{' --checkpointing' if less else ''}"
        print(f"  {memory} GB card, {told}: at most " + ", ".join(f"{k} {v:.1f} GB" for k, v in values.items()))
    print(
        f"\nhours of the paper's run on one card, if {100 * figures['assumed_share_of_peak']:.0f} % of its fp16 peak is reached"
    )
    for card, values in figures["paper_run_hours_on_one_card"].items():
        print(f"  {card:10s} " + ", ".join(f"{name} {value:.2f}" for name, value in values.items()))
