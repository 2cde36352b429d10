"""Progressive inference against ComfyUI's own KSampler."""

import comfy.model_management
import comfy.sample
import comfy.samplers
import pytest
import torch
from tiny_models import portrait_setup, sample

from icportrait.models.method import progressive


@pytest.fixture
def setup():
    return portrait_setup()


def rounds(setup, **changes):
    arguments = {
        "latent": {"samples": setup.style_latent},
        "seed": 7,
        "steps": 2,
        "cfg": 3.0,
        "sampler": "euler",
        "scheduler": "normal",
        "noise_strength": 0.7,
    } | changes
    with torch.inference_mode():
        return progressive.progressive_rounds(setup.model, setup.positive, setup.negative, **arguments)


class TestNoise:
    @pytest.mark.parametrize("batch_index", [None, [0, 1], [3, 1], [2, 2]])
    def test_is_what_a_stock_sampler_draws(self, batch_index):
        samples = torch.zeros(2, 4, 8, 8)
        state = torch.get_rng_state()
        ours = progressive.seeded_noise(samples, 123, batch_index)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(ours, comfy.sample.prepare_noise(samples, 123, batch_index))

    @pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
    def test_a_noised_start_without_added_noise_equals_a_clean_one_with_it(self, setup, strength):
        sigmas = progressive.progressive_sigmas(setup.model, 3, "karras", strength)
        start = progressive.noised_start(setup.model, setup.style_latent, sigmas, 5)

        def run(noise, latent):
            sampler = comfy.samplers.sampler_object("euler")
            with torch.inference_mode():
                return comfy.sample.sample_custom(
                    setup.model,
                    noise,
                    3.0,
                    sampler,
                    sigmas,
                    setup.positive,
                    setup.negative,
                    latent,
                    disable_pbar=True,
                    seed=5,
                )

        expected = run(progressive.seeded_noise(setup.style_latent, 5), setup.style_latent)
        torch.testing.assert_close(run(torch.zeros(1, 4, 8, 8), start), expected, rtol=1e-3, atol=1e-3)


class TestSigmas:
    @pytest.mark.parametrize("strength, sampler", [(1.0, "euler"), (0.5, "euler"), (0.5, "dpm_2")])
    def test_are_a_ksamplers(self, setup, strength, sampler):
        stock = comfy.samplers.KSampler(setup.model, 4, torch.device("cpu"), sampler, "karras", strength)
        sigmas = progressive.progressive_sigmas(setup.model, 4, "karras", strength, sampler)
        assert torch.equal(sigmas, stock.sigmas)
        assert len(sigmas) == 5 and sigmas[-1] == 0

    def test_more_strength_starts_noisier(self, setup):
        starts = [float(progressive.progressive_sigmas(setup.model, 4, "normal", s)[0]) for s in (0.2, 0.5, 0.8, 1.0)]
        assert starts == sorted(starts) and len(set(starts)) == 4

    @pytest.mark.parametrize(
        "wrong", [{"noise_strength": 0.0}, {"noise_strength": 1.5}, {"scheduler": "x"}, {"sampler": "x"}]
    )
    def test_out_of_range(self, setup, wrong):
        with pytest.raises(ValueError):
            progressive.progressive_sigmas(
                setup.model, **({"steps": 4, "scheduler": "normal", "noise_strength": 0.5} | wrong)
            )


class TestRounds:
    @pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2"])
    def test_one_round_equals_a_ksampler(self, setup, sampler):
        assert torch.equal(rounds(setup, sampler=sampler), sample(setup.model, setup, sampler=sampler))

    def test_the_second_round_starts_from_the_first(self, setup):
        first = rounds(setup)
        assert torch.equal(rounds(setup, rounds=2), rounds(setup, latent={"samples": first}, seed=8))

    def test_a_noise_mask_is_kept_in_every_round(self, setup):
        mask = torch.nn.functional.pad(torch.ones(1, 64, 32), (0, 32))
        latent = {"samples": setup.style_latent, "noise_mask": mask}
        result = rounds(setup, latent=latent, rounds=2)
        torch.testing.assert_close(result[..., 5:], setup.style_latent[..., 5:], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(result[..., :3], setup.style_latent[..., :3], atol=1e-2)

    def test_progress_runs_through_all_rounds(self, setup):
        seen = []
        rounds(setup, rounds=3, callback=lambda step, x0, x, total: seen.append((step, total)))
        assert seen == [(step, 6) for step in range(6)]

    def test_inputs_and_global_generator_stay(self, setup):
        copied, state = setup.style_latent.clone(), torch.get_rng_state()
        rounds(setup, rounds=2)
        assert torch.equal(setup.style_latent, copied)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("step", [0, 1, 2])
    def test_cancel_works_within_one_step_also_between_rounds(self, setup, step):
        seen = []

        def cancel(number, *_):
            seen.append(number)
            if number == step:
                comfy.model_management.interrupt_current_processing(True)

        with pytest.raises(comfy.model_management.InterruptProcessingException):
            rounds(setup, rounds=3, callback=cancel)
        comfy.model_management.interrupt_current_processing(False)
        assert seen == list(range(step + 1))
