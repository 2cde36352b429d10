"""Noise schedule and random draws of training, against ComfyUI's own schedule, which decides at inference."""

import statistics

import comfy.model_sampling
import comfy.supported_models
import pytest
import torch

from icportrait.training.core import diffusion
from icportrait.training.data.samples import batch_indices


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class EpsSampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """What ComfyUI builds for SD1.5."""


@pytest.fixture(scope="module")
def sampling():
    return EpsSampling()


class TestSchedule:
    def test_is_comfyuis(self, sampling):
        alphas = diffusion.alphas_cumprod().double()
        assert alphas.shape == (1000,)
        sigmas = ((1 - alphas) / alphas).sqrt()
        assert torch.allclose(sigmas, sampling.sigmas.double(), rtol=2e-5)

    def test_equals_the_formula(self):
        """beta_t rises as the square of a line from sqrt(0.00085) to sqrt(0.012)."""
        product, alphas = 1.0, diffusion.alphas_cumprod()
        for t in range(1000):
            root = 0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * t / 999
            product *= 1 - root**2
            assert alphas[t].item() == pytest.approx(product, rel=1e-5)

    def test_latent_scale_is_sd15s(self):
        assert comfy.supported_models.SD15.latent_format().scale_factor == diffusion.LATENT_SCALE


class TestNoise:
    timesteps = torch.tensor([0, 37, 500, 999])

    def test_is_what_the_unet_sees_in_comfyui(self, sampling):
        """ComfyUI holds z + sigma * eps and scales it by 1 / sqrt(sigma^2 + 1) for the UNet."""
        latents, noise = random(1, 4, 4, 6, 10), random(2, 4, 4, 6, 10)
        sigma = sampling.sigma(self.timesteps)
        held = sampling.noise_scaling(sigma, noise, latents)
        assert torch.equal(sampling.timestep(sigma), self.timesteps)
        wanted = sampling.calculate_input(sigma, held)
        assert torch.allclose(diffusion.add_noise(latents, noise, self.timesteps), wanted, rtol=1e-4, atol=2e-5)

    def test_noise_for_inverts_add_noise(self):
        latents, noise = random(1, 4, 4, 6, 10).double(), random(2, 4, 4, 6, 10).double()
        noisy = diffusion.add_noise(latents, noise, self.timesteps)
        assert torch.allclose(diffusion.noise_for(noisy, latents, self.timesteps), noise, atol=1e-5)

    def test_noise_for_leads_to_other_latents_too(self):
        """What bridged samples use: the eps by which this noisy picture is that picture, noised."""
        noisy, other = random(3, 4, 4, 6, 10).double(), random(4, 4, 4, 6, 10).double()
        noise = diffusion.noise_for(noisy, other, self.timesteps)
        assert torch.allclose(diffusion.add_noise(other, noise, self.timesteps), noisy, atol=1e-5)

    def test_denoised_inverts_add_noise(self):
        latents, noise = random(1, 4, 4, 6, 10).double(), random(2, 4, 4, 6, 10).double()
        noisy = diffusion.add_noise(latents, noise, self.timesteps)
        assert torch.allclose(diffusion.denoised(noisy, noise, self.timesteps), latents, atol=1e-5)


class TestDraws:
    def test_the_key_alone_decides(self):
        torch.manual_seed(5)
        state = torch.get_rng_state()
        first = torch.rand(4, generator=diffusion.keyed_generator(1, 2, "side"))
        assert torch.equal(first, torch.rand(4, generator=diffusion.keyed_generator(1, 2, "side")))
        assert torch.equal(torch.get_rng_state(), state)

    def test_keys_do_not_run_into_each_other(self):
        keys = [(a, b) for a in range(12) for b in range(12)] + [(a,) for a in range(12)] + [("1", "1/1")]
        first = {torch.rand((), generator=diffusion.keyed_generator(*key)).item() for key in keys}
        assert len(first) == len(keys)

    def test_uniform_covers_its_range(self):
        generator = diffusion.keyed_generator(0)
        values = [diffusion.uniform(generator, -1.0, 3.0) for _ in range(4000)]
        assert min(values) >= -1 and max(values) < 3
        assert statistics.mean(values) == pytest.approx(1.0, abs=0.08)
        assert statistics.stdev(values) == pytest.approx(4 / 12**0.5, abs=0.05)


class TestEpochs:
    def test_every_sample_once_an_epoch(self):
        drawn = [index for step in range(10) for index in batch_indices(20, 6, step, seed=3)]
        for epoch in range(3):
            assert sorted(drawn[20 * epoch : 20 * epoch + 20]) == list(range(20))
        assert drawn[:20] != drawn[20:40] != list(range(20))

    def test_a_batch_may_be_larger_than_the_data(self):
        drawn = batch_indices(3, 8, 0, seed=1)
        assert sorted(drawn[:3]) == sorted(drawn[3:6]) == [0, 1, 2]

    def test_does_not_depend_on_how_steps_are_reached(self):
        assert batch_indices(20, 6, 7, seed=3) == batch_indices(20, 6, 7, seed=3) != batch_indices(20, 6, 7, seed=4)
