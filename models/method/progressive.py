"""Progressive inference: start from the style crop noised to a chosen strength, for one or more rounds (paper, 3.3).

`noise_strength` is the share of the schedule that is run, exactly a KSampler's `denoise`: low keeps more of the
style crop's light, high leaves more room for the profile's identity.
"""

import inspect
from collections.abc import Sequence

import comfy.k_diffusion.sampling
import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import numpy
import torch

from ..errors import UserError
from ..values import check_number, check_option, check_whole

MOST_INDICES = 65536
LEAST_NOISE = 0.01

BATCHED = frozenset(
    "ddim ddpm deis dpm_2 dpm_2_ancestral dpm_fast dpmpp_2m dpmpp_2m_cfg_pp dpmpp_2s_ancestral dpmpp_2s_ancestral_cfg_pp er_sde euler "
    "euler_ancestral euler_ancestral_cfg_pp euler_cfg_pp gradient_estimation gradient_estimation_cfg_pp heun heunpp2 ipndm ipndm_v lcm "
    "lms res_multistep res_multistep_ancestral res_multistep_ancestral_cfg_pp res_multistep_cfg_pp sa_solver sa_solver_pece seeds_2 "
    "seeds_3 uni_pc uni_pc_bh2".split()
)
"""Samplers that give each picture of a batch, with seeds of their own, what they give it alone. Not among them: those with a Brownian
tree, which draws for the whole batch, `dpm_adaptive`, whose steps go by the whole batch, and whatever other packs bring."""


def seeded_noise(samples: torch.Tensor, seed: int, batch_index: list[int] | None = None) -> torch.Tensor:
    """The noise a stock KSampler draws for this seed, `[B, 4, h, w]`, without touching the global generator.

    Raises:
        UserError: a `batch_index` that is not one whole number below `MOST_INDICES` for each picture; every number up to it is drawn.
    """
    generator = torch.Generator().manual_seed(int(seed))
    if batch_index is None:
        return torch.randn(samples.shape, dtype=samples.dtype, generator=generator)
    if not isinstance(batch_index, list | tuple) or len(batch_index) != len(samples):
        raise UserError(f"The latent's batch_index must be a list of {len(samples)} numbers, one for each picture.")
    for index in batch_index:
        check_whole("batch_index", index, 0, MOST_INDICES - 1)
    wanted, inverse = numpy.unique(batch_index, return_inverse=True)
    draws = [
        torch.randn((1, *samples.shape[1:]), dtype=samples.dtype, generator=generator) for _ in range(wanted[-1] + 1)
    ]
    return torch.cat([draws[wanted[index]] for index in inverse])


def progressive_sigmas(
    model, steps: int, scheduler: str, noise_strength: float, sampler: str = "euler"
) -> torch.Tensor:
    """The last `steps` steps of a schedule that starts at the chosen strength: float32 `[steps + 1]`, ending at 0.

    Raises:
        UserError: strength outside 0.01 .. 1, steps outside 1 .. 10,000, or an unknown scheduler or sampler.
    """
    check_number("noise_strength", noise_strength, LEAST_NOISE, 1)
    check_option("scheduler", scheduler, comfy.samplers.KSampler.SCHEDULERS)
    check_option("sampler_name", sampler, comfy.samplers.KSampler.SAMPLERS)
    check_whole("steps", steps, 1, 10_000)
    return comfy.samplers.KSampler(
        model, steps=steps, device=torch.device("cpu"), sampler=sampler, scheduler=scheduler, denoise=noise_strength
    ).sigmas


def noised_start(
    model, samples: torch.Tensor, sigmas: torch.Tensor, seed: int, batch_index: list[int] | None = None
) -> torch.Tensor:
    """The style crop's latent at the first noise level, for samplers that add no noise of their own.

    Args:
        samples: `[B, 4, h, w]`, VAE scale; not modified.

    Returns:
        `[B, 4, h, w]`, VAE scale.
    """
    sampling = model.get_model_object("model_sampling")
    noise = seeded_noise(samples, seed, batch_index)
    # At the very top of the schedule samplers start from sqrt(1 + sigma^2) * noise: what they do, we do.
    at_top = bool(sigmas[0] >= sampling.sigma_max) or bool(
        torch.isclose(sigmas[0], sampling.sigma_max.cpu(), rtol=1e-5)
    )
    noisy = sampling.noise_scaling(sigmas[0], noise, model.model.process_latent_in(samples), at_top)
    return model.model.process_latent_out(noisy)


def _sampler(name: str, seeds: Sequence[int]):
    """ComfyUI's sampler; with several seeds each row of its batch gets the noise it would draw alone."""
    sampler = comfy.samplers.sampler_object(name)
    function = sampler.sampler_function
    if len(seeds) == 1 or "noise_sampler" not in inspect.signature(function).parameters:
        return sampler

    def sample(model, x, *args, **kwargs):
        draws = [
            comfy.k_diffusion.sampling.default_noise_sampler(row, seed=seed)
            for row, seed in zip(x.split(1), seeds, strict=True)
        ]
        return function(
            model, x, *args, noise_sampler=lambda *sigmas: torch.cat([draw(*sigmas) for draw in draws]), **kwargs
        )

    sampler.sampler_function = sample
    return sampler


def progressive_rounds(
    model,
    positive: list,
    negative: list,
    latent: dict,
    seed: int,
    steps: int,
    cfg: float,
    sampler: str,
    scheduler: str,
    noise_strength: float,
    rounds: int = 1,
    callback=None,
    seeds: Sequence[int] | None = None,
) -> torch.Tensor:
    """Noise and denoise a latent, once a round; each round starts from the result of the one before.

    One round equals a stock KSampler with `denoise` = `noise_strength`. Round r draws its noise from `seed + r`.

    Args:
        latent: ComfyUI LATENT (`samples` `[B, 4, h, w]`, optional `noise_mask`, `batch_index`); not modified.
        callback: `(step, x0, x, total_steps)` over all rounds together, or None.
        seeds: one for each latent, instead of `seed` and `batch_index`: each becomes what it would alone with its seed.

    Returns:
        `[B, 4, h, w]`, VAE scale.

    Raises:
        UserError: see `progressive_sigmas` and `seeded_noise`; several seeds with a sampler outside `BATCHED`; NaN in the result.
        InterruptProcessingException: Cancel was pressed.
    """
    if seeds is not None and len(seeds) > 1 and sampler not in BATCHED:
        raise UserError(f"The sampler {sampler} gives latents with seeds of their own something else as a batch.")
    sigmas = progressive_sigmas(model, steps, scheduler, noise_strength, sampler)
    samples = latent["samples"].float()
    total = steps * rounds
    for number in range(rounds):
        offset = number * steps

        def report(step, x0, x, _, offset=offset):
            if callback is not None:
                callback(offset + step, x0, x, total)
            comfy.model_management.throw_exception_if_processing_interrupted()

        round_seeds = [(int(one) + number) % 2**64 for one in ([seed] if seeds is None else seeds)]
        if seeds is None:
            noise = seeded_noise(samples, round_seeds[0], latent.get("batch_index"))
        else:
            parts = zip(samples.split(1), round_seeds, strict=True)
            noise = torch.cat([seeded_noise(sample, one) for sample, one in parts])
        samples = comfy.sample.sample_custom(
            model,
            noise,
            cfg,
            _sampler(sampler, round_seeds),
            sigmas,
            positive,
            negative,
            samples,
            noise_mask=latent.get("noise_mask"),
            callback=report,
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=round_seeds[0],
        )
        if not torch.isfinite(samples).all():
            raise UserError(
                "The sampler's result holds NaN values: the MODEL, or a patch on it, made them; run the model in full precision, or load "
                "its file anew."
            )
    return samples
