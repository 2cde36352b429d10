"""Running the nets on a pair, and estimating the flow with the matching net (paper, section 3.3).

A pair is target left, profile right. "x" is what a sampler holds: model scale, noise not yet scaled by
`calculate_input`; `sigma` is its noise level.
"""

import comfy.model_management
import torch

from ..errors import UserError
from ..nets.portrait_net import taps
from ..types import Flow, LoadedNet, PortraitNets, Profile
from .correspondence import match
from .pairs import side_by_side, target_and_profile

# A matching net works best on lightly noised latents: the error grows with t and at t >= 600 the flow is useless.
# Source: our measurement on small models; the paper computes it at the sampler's own t.
FLOW_TIMESTEP = 100


# A sampler with the same seed draws its first numbers from the same stream. Equal noise in both halves is nothing the
# nets have seen in training, so ours comes from another stream.
NOISE_STREAM = 0x1C90_4412_A117_5EED


def pair_noise(latent: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(profile's noise, style crop's noise), each like `latent` `[1, 4, h, w]`; the global generator is not touched."""
    generator = torch.Generator().manual_seed(int(seed) ^ NOISE_STREAM)
    shape = (1, *latent.shape[1:])
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def hint_pair(sampled: torch.Tensor, profile_image: torch.Tensor) -> torch.Tensor:
    """The condition c_f = F(z) ⊙ z' (eq. 1) as the nets take it.

    Args:
        sampled: style crops after pixel sampling, `[B, H, W, 3]`, in [0, 1].
        profile_image: `[B, H, W, 3]`, in [0, 1].

    Returns:
        `[B, 3, H, 2W]`: sampled pixels left, profile right.

    Raises:
        UserError: the two pictures differ in size.
    """
    if sampled.shape != profile_image.shape:
        raise UserError(
            f"The sampled style crop is {sampled.shape[2]} x {sampled.shape[1]} pixels but the profile "
            f"{profile_image.shape[2]} x {profile_image.shape[1]}; both crops must have one size."
        )
    return torch.cat((sampled, profile_image), dim=2).movedim(-1, 1)


def noised(model_sampling, latent: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """A latent at the noise level of each row of `sigma` `[B]`, as a sampler would hold it: `z + sigma * noise`.

    Args:
        latent, noise: `[1 or B, 4, h, w]`, model scale.
    """
    return model_sampling.noise_scaling(sigma.reshape(-1, 1, 1, 1), noise, latent)


def net_inputs(net: LoadedNet, model_sampling, x: torch.Tensor, sigma: torch.Tensor, context: torch.Tensor) -> tuple:
    """(x, timesteps, context) as a net takes them, from the sampler's `x` and `sigma` (as ComfyUI's own ControlNet does)."""
    scaled = model_sampling.calculate_input(sigma, x).to(net.dtype)
    return scaled, model_sampling.timestep(sigma).float(), context.to(device=x.device, dtype=net.dtype)


def pair_features(
    net: LoadedNet,
    model_sampling,
    x: torch.Tensor,
    sigma: torch.Tensor,
    embedding: torch.Tensor,
    hint_features: torch.Tensor,
    profile_side: str = "right",
) -> tuple[torch.Tensor, torch.Tensor]:
    """(target, profile) features `[B, C, fh, fw]` at the net's tap; no block after the tap is run.

    Args:
        x: noisy pair, `[B, 4, h, 2w]`, the profile on `profile_side`.
        sigma: `[B]`.
        embedding: the profile's, `[1, 1, 768]`.
        hint_features: of `encode_hint`, laid out like `x`.
    """
    context = embedding.expand(x.shape[0], -1, -1)
    inputs = net_inputs(net, model_sampling, x, sigma, context)
    return target_and_profile(net.module.features(*inputs, hint_features, *taps(net.config)), profile_side)


def matching_flow(
    net: LoadedNet,
    model_sampling,
    x: torch.Tensor,
    sigma: torch.Tensor,
    embedding: torch.Tensor,
    hint_features: torch.Tensor,
    method: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow from a noisy pair, the profile right; arguments as for `pair_features`.

    Args:
        method: one of `correspondence.METHODS`.

    Returns:
        (offsets `[B, 2, fh, fw]` in cells, confidence `[B, 1, fh, fw]`) on the tap's grid.
    """
    target, profile = pair_features(net, model_sampling, x, sigma, embedding, hint_features)
    return match(target, profile, method)


def flow_at_timestep(
    base,
    net: LoadedNet,
    profile: Profile,
    style_latent: torch.Tensor,
    hint_features: torch.Tensor,
    timestep: int,
    method: str,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow from the style crop and the profile, both noised to one timestep. The net must be on its device already.

    Args:
        base: ComfyUI's BaseModel of the UNet (for its noise schedule and latent scale); its weights are not used.
        style_latent: `[1, 4, h, w]`, VAE scale.
        timestep: 0 .. 999.
    """
    pair, sigma = noisy_pair(base, profile, style_latent, timestep, seed, hint_features.device)
    return matching_flow(net, base.model_sampling, pair, sigma, profile.embedding, hint_features, method)


def noisy_pair(
    base, profile: Profile, style_latent: torch.Tensor, timestep: int, seed: int, device, profile_side: str = "right"
) -> tuple[torch.Tensor, torch.Tensor]:
    """(style crop and profile side by side `[1, 4, h, 2w]`, sigma `[1]`), both noised to one timestep."""
    noise_profile, noise_style = pair_noise(profile.latent, seed)
    sigma = base.model_sampling.sigma(torch.tensor([float(timestep)])).to(device)
    halves = [
        noised(base.model_sampling, base.process_latent_in(latent.float()).to(device), noise.to(device), sigma)
        for latent, noise in ((style_latent, noise_style), (profile.latent, noise_profile))
    ]
    return side_by_side(*halves, profile_side), sigma


def check_style_latent(style_latent: torch.Tensor, profile: Profile) -> torch.Tensor:
    """The style crop's latent when it fits the profile.

    Raises:
        UserError: another shape than the profile's latent.
    """
    if style_latent.shape != profile.latent.shape:
        raise UserError(
            f"The style crop's latent must be {list(profile.latent.shape)} like the profile's; got {list(style_latent.shape)}. "
            "Encode one style crop of the profile crop's size."
        )
    return style_latent


def estimate_flow(
    model,
    nets: PortraitNets,
    profile: Profile,
    style_latent: torch.Tensor,
    sampled: torch.Tensor,
    timestep: int,
    method: str,
    seed: int,
) -> Flow:
    """Estimate the flow style crop <- profile outside a sampler.

    Args:
        model: ComfyUI MODEL (ModelPatcher); only its schedule and latent scale are used.
        style_latent: `[1, 4, h, w]`, VAE scale.
        sampled: style crop after pixel sampling, `[1, H, W, 3]`.
        timestep: noise level of both halves, 0 .. 999; low is better (`FLOW_TIMESTEP`).
        method: one of `correspondence.METHODS`.

    Raises:
        UserError: sizes that do not fit, or NaN.
    """
    net = nets.matching
    check_style_latent(style_latent, profile)
    hint = hint_pair(sampled, profile.image)
    _, channels, height, width = style_latent.shape
    comfy.model_management.load_models_gpu(
        [net.patcher], memory_required=model.model.memory_required([1, channels, height, 2 * width])
    )
    hint_features = net.module.encode_hint(hint.to(device=net.patcher.load_device, dtype=net.dtype))
    offsets, confidence = flow_at_timestep(
        model.model, net, profile, style_latent, hint_features, timestep, method, seed
    )
    if not (torch.isfinite(offsets).all() and torch.isfinite(confidence).all()):
        raise UserError("The matching net made NaN values; run it in full precision, or load its file anew.")
    return Flow(offsets.cpu(), confidence.cpu(), *profile.image.shape[1:3])
