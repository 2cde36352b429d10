"""The whole method for pairs of crops: sample pixels, encode, match, apply, denoise, decode, bring fine detail over."""

from collections.abc import Sequence
from dataclasses import dataclass

import comfy.model_management
import torch

from .method import encoding
from .method.correspondence import METHODS
from .method.detail import transfer_detail
from .method.injection import KEPT_MEMORY, SPEEDS, Settings, apply_portrait
from .method.matching import FLOW_TIMESTEP, estimate_flow
from .method.pixel_sampling import PATTERNS, sample_pixels
from .method.progressive import BATCHED, LEAST_NOISE, progressive_rounds
from .painting import CropResult
from .types import Flow, PortraitNets, Profile
from .values import check_number, check_option, check_whole

MOST_AT_ONCE = 8
MEMORY_MARGIN = 1.5
"""Free memory a batch of crops must find, over ComfyUI's estimate of what it takes: beyond it weights would leave the device."""


@dataclass(frozen=True)
class CropSettings:
    """How one crop is painted; the fields are those of the stage nodes."""

    seed: int = 0
    """Of the kept pixels, the profile half's noise and the sampler's noise."""
    share: float = 0.2
    """Share of the style crop's pixels the nets see, 0 .. 1."""
    pattern: str = "random"
    """One of `pixel_sampling.PATTERNS`."""
    strength: float = 1.0
    """Of the nets; 0 switches them off."""
    steps: int = 6
    """Denoising steps a round."""
    cfg: float = 1.0
    """Classifier-free guidance between image embedding and zero embedding; 1 = none, at half the time."""
    sampler: str = "lcm"
    scheduler: str = "normal"
    noise_strength: float = 0.6
    """How far the style crop is noised, in (0, 1]."""
    rounds: int = 1
    flow_timestep: int = FLOW_TIMESTEP
    """0 .. 999."""
    flow_method: str = METHODS[0]
    """One of `correspondence.METHODS`."""
    alpha: float | None = None
    """Slope of eq. 7; None = as the appearance net was trained."""
    beta: float | None = None
    """Base weight of eq. 7; None = as the appearance net was trained."""
    detail: float = 0.0
    """Of the profile's fine detail, 0 .. 1, see `detail.py`. Beyond the paper: 0 here, so that what is measured is the paper's
    method; the nodes' default is `detail.STRENGTH`."""
    pair_every: int = SPEEDS["exact"]
    """One evaluation in so many runs the whole pair, see `injection.Settings`."""

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, 0, 2**64 - 1)
        for name, low, high in (("share", 0, 1), ("strength", 0, 10), ("cfg", 0, 100), ("detail", 0, 1)):
            check_number(name, getattr(self, name), low, high)
        check_number("noise_strength", self.noise_strength, LEAST_NOISE, 1)
        for name, low, high in (
            ("steps", 1, 10_000),
            ("rounds", 1, 16),
            ("flow_timestep", 0, 999),
            ("pair_every", 1, 10_000),
        ):
            check_whole(name, getattr(self, name), low, high)
        check_option("pattern", self.pattern, PATTERNS)
        check_option("flow_method", self.flow_method, METHODS)


def paint_crop(
    model,
    vae,
    clip_vision,
    nets: PortraitNets,
    profile_crop: torch.Tensor,
    style_crop: torch.Tensor,
    settings: CropSettings,
    callback=None,
    prompt: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> CropResult:
    """Paint the profile's person into the style crop.

    Args:
        model, vae, clip_vision: ComfyUI's objects, SD1.5's kind.
        profile_crop, style_crop: aligned crops `[1, H, W, 3]` of one size, sides multiples of 64.
        callback: `(step, x0, x, total_steps)`, or None.
        prompt: from `encoding.encode_prompt`: words beside the profile's embedding, or None.

    Raises:
        UserError: models, sizes or settings that do not fit.
        InterruptProcessingException: Cancel was pressed.
    """
    crops, seeds = ([profile_crop], [style_crop]), [settings.seed]
    return paint_crops(model, vae, clip_vision, nets, *crops, settings, seeds, callback, prompt)[0]


def paint_crops(
    model,
    vae,
    clip_vision,
    nets: PortraitNets,
    profile_crops: Sequence[torch.Tensor],
    style_crops: Sequence[torch.Tensor],
    settings: CropSettings,
    seeds: Sequence[int],
    callback=None,
    prompt: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> list[CropResult]:
    """`paint_crop` for several pairs whose crops all have one size, with one run of the sampler.

    Each result is what its pair gives alone with its seed, but for rounding. How many: `crops_at_once`.

    Args:
        seeds: one for each pair; `settings.seed` is not read.

    Raises:
        UserError: as `paint_crop`; several pairs with a sampler outside `progressive.BATCHED`.
        InterruptProcessingException: Cancel was pressed.
    """
    style_crops = [encoding.check_picture(crop, "style crop") for crop in style_crops]
    # Encoders first, samplers last: on small GPUs each change of model costs a reload.
    profiles = [encoding.encode_profile(crop, vae, clip_vision) for crop in profile_crops]
    style_latents = [encoding.encode_picture(vae, crop, "style crop") for crop in style_crops]
    sampled = [
        sample_pixels(crop, settings.share, torch.Generator().manual_seed(int(seed)), settings.pattern)[0]
        for crop, seed in zip(style_crops, seeds, strict=True)
    ]
    flows = [
        estimate_flow(model, nets, *views, settings.flow_timestep, settings.flow_method, seed)
        for *views, seed in zip(profiles, style_latents, sampled, seeds, strict=True)
    ]
    profile = Profile(
        *(torch.cat([getattr(one, name) for one in profiles]) for name in ("image", "latent", "embedding"))
    )
    flow = Flow(
        torch.cat([one.offsets for one in flows]),
        torch.cat([one.confidence for one in flows]),
        flows[0].height,
        flows[0].width,
    )
    apply = Settings(
        strength=settings.strength,
        alpha=settings.alpha,
        beta=settings.beta,
        pair_every=settings.pair_every,
    )
    patched = apply_portrait(model, nets, profile, torch.cat(sampled), apply, flow, seeds=seeds)
    latents = sample_crop(patched, profile, torch.cat(style_latents), settings, callback, prompt, seeds)
    images = vae.decode(latents).split(1)
    if settings.detail:
        images = [
            transfer_detail(image, one.image, its_flow, settings.detail)[0]
            for image, one, its_flow in zip(images, profiles, flows, strict=True)
        ]
    return [CropResult(*parts) for parts in zip(images, sampled, flows, profiles, strict=True)]


def crops_at_once(model, nets: PortraitNets, crop_size: int, settings: CropSettings) -> int:
    """How many crops `paint_crops` should get: as many as memory allows, 1 .. `MOST_AT_ONCE`.

    1 where a batch is no faster (a CPU), or where it might not give what each crop gives alone: with a sampler outside `BATCHED`, or
    a MODEL in whose sampling other nodes take part (weights and noise schedule aside). They may compare or mix the rows they see.

    Args:
        crop_size: side of the crops in pixels.
    """
    others = (
        set(model.model_options) - {"transformer_options"}
        or any(model.model_options.get("transformer_options", {}).values())
        or any(model.wrappers.values())
        or set(model.object_patches) - {"model_sampling"}
    )
    if others or settings.sampler not in BATCHED or comfy.model_management.is_device_cpu(model.load_device):
        return 1
    patchers = (model, nets.matching.patcher, nets.appearance.patcher)
    to_load = sum(max(0, patcher.model_size() - patcher.loaded_size()) for patcher in patchers)
    free = comfy.model_management.get_free_memory(model.load_device) - to_load
    cells = crop_size // 8
    width = round(2 * cells * (1 + (KEPT_MEMORY if settings.pair_every > 1 else 0)))
    rows = 1 if settings.cfg == 1 else 2
    for count in range(MOST_AT_ONCE, 1, -1):
        if MEMORY_MARGIN * model.model.memory_required([rows * count, 4, cells, width]) <= free:
            return count
    return 1


def sample_crop(
    patched,
    profile: Profile,
    style_latent: torch.Tensor,
    settings: CropSettings,
    callback=None,
    prompt: tuple[torch.Tensor, torch.Tensor] | None = None,
    seeds: Sequence[int] | None = None,
) -> torch.Tensor:
    """Noise and denoise style crops' latents `[B, 4, h, w]` (VAE scale) by a MODEL of `apply_portrait`; latents of their size.

    The other arguments are `paint_crops`'; without `seeds` `settings.seed` is read.
    """
    positive, negative = encoding.conditionings(profile, prompt)
    return progressive_rounds(
        patched,
        positive,
        negative,
        {"samples": style_latent},
        settings.seed,
        settings.steps,
        settings.cfg,
        settings.sampler,
        settings.scheduler,
        settings.noise_strength,
        settings.rounds,
        callback,
        seeds,
    )
