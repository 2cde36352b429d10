"""The whole method for one pair of crops: sample pixels, encode, match, apply, denoise, decode, bring fine detail over."""

from dataclasses import dataclass

import torch

from .method import encoding
from .method.correspondence import METHODS
from .method.detail import transfer_detail
from .method.injection import SPEEDS, Settings, apply_portrait
from .method.matching import FLOW_TIMESTEP, estimate_flow
from .method.pixel_sampling import PATTERNS, sample_pixels
from .method.progressive import LEAST_NOISE, progressive_rounds
from .painting import CropResult
from .types import PortraitNets, Profile
from .values import check_number, check_option, check_whole


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
    style_crop = encoding.check_picture(style_crop, "style crop")
    # Encoders first, samplers last: on small GPUs each change of model costs a reload.
    profile = encoding.encode_profile(profile_crop, vae, clip_vision)
    style_latent = encoding.encode_picture(vae, style_crop, "style crop")
    generator = torch.Generator().manual_seed(int(settings.seed))
    sampled, _ = sample_pixels(style_crop, settings.share, generator, settings.pattern)
    flow = estimate_flow(
        model, nets, profile, style_latent, sampled, settings.flow_timestep, settings.flow_method, settings.seed
    )
    apply = Settings(
        strength=settings.strength,
        alpha=settings.alpha,
        beta=settings.beta,
        seed=settings.seed,
        pair_every=settings.pair_every,
    )
    patched = apply_portrait(model, nets, profile, sampled, apply, flow)
    image = vae.decode(sample_crop(patched, profile, style_latent, settings, callback, prompt))
    if settings.detail:
        image, _ = transfer_detail(image, profile.image, flow, settings.detail)
    return CropResult(image, sampled, flow, profile)


def sample_crop(
    patched,
    profile: Profile,
    style_latent: torch.Tensor,
    settings: CropSettings,
    callback=None,
    prompt: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Noise and denoise a style crop's latent `[1, 4, h, w]` (VAE scale) by a MODEL of `apply_portrait`; a latent of its size.

    The other arguments are `paint_crop`'s.
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
    )
