"""SD1.5's noise schedule and the per-sample random draws of training.

Every draw is keyed by (seed, step, index in the global batch). So a run resumed at a step draws what the uninterrupted
run would have drawn, and two processes draw what one process with the same global batch draws.
"""

import hashlib

import torch

NUM_TIMESTEPS = 1000
LATENT_SCALE = 0.18215  # SD1.5's latent format: model scale = VAE scale * this


def alphas_cumprod() -> torch.Tensor:
    """Cumulative signal power `[1000]` of SD1.5's "scaled linear" schedule, beta from 0.00085 to 0.012."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NUM_TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


_ALPHAS = alphas_cumprod()


def add_noise(latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """z_t = sqrt(a_t) z + sqrt(1 - a_t) eps, for latents `[B, ...]` in model scale and timesteps `[B]`."""
    alpha = _ALPHAS.to(latents.device)[timesteps].view(-1, *[1] * (latents.ndim - 1))
    return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise


def noise_for(noisy: torch.Tensor, latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The eps that leads from `noisy` to `latents` at these timesteps; the inverse of `add_noise` in eps."""
    alpha = _ALPHAS.to(latents.device)[timesteps].view(-1, *[1] * (latents.ndim - 1))
    return (noisy - alpha.sqrt() * latents) / (1 - alpha).sqrt()


def min_snr_weights(timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
    """Loss weights `[B]` of Min-SNR (Hang et al. 2023, arXiv 2303.09556) for eps prediction: min(SNR, gamma) / SNR.

    The nearly clean timesteps, where predicting the noise is hard and teaches little, count less. gamma = 0 switches it
    off (all ones); their choice is 5.
    """
    if not gamma:
        return torch.ones(timesteps.shape, device=timesteps.device)
    alpha = _ALPHAS.to(timesteps.device)[timesteps]
    snr = alpha / (1 - alpha)
    return snr.clamp(max=gamma) / snr


def denoised(noisy: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """The latents that `noisy` and a predicted eps imply."""
    alpha = _ALPHAS.to(noisy.device)[timesteps].view(-1, *[1] * (noisy.ndim - 1))
    return (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()


def keyed_generator(*key: int | str) -> torch.Generator:
    """A CPU generator decided by a key alone, e.g. `(seed, step, index)`."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """One number drawn uniformly from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator).item()
