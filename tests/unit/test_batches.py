"""Several crops with one run of the sampler: each must become what it becomes alone."""

from dataclasses import replace
from types import SimpleNamespace

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from tiny_models import picture, portrait_setup, text_encoder

from icportrait.models.method import encoding, matching, progressive
from icportrait.models.method.injection import Settings, apply_portrait
from icportrait.models.method.pixel_sampling import sample_pixels
from icportrait.models.portrait import CropSettings, crops_at_once, paint_crop, paint_crops, sample_crop
from icportrait.models.types import Flow, Profile

SEEDS = [3, 8, 3]


@pytest.fixture
def setup():
    return portrait_setup()


def crops(count: int = 3) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Profile crops and style crops, all different."""
    return [picture(20 + k) for k in range(count)], [picture(40 + k) for k in range(count)]


@pytest.fixture(scope="module")
def ready() -> SimpleNamespace:
    """Three profiles with latents of unit size, their flows, hints and style latents."""
    setup, generator = portrait_setup(), torch.Generator().manual_seed(5)
    profiles, styles, sampled, flows = [], [], [], []
    with torch.inference_mode():
        for profile_crop, style_crop in zip(*crops(), strict=True):
            latents = torch.randn(2, 4, 8, 8, generator=generator) / 0.18215
            embedding = encoding.embed_picture(setup.clip_vision, profile_crop)
            profiles.append(Profile(profile_crop, latents[:1], embedding))
            styles.append(latents[1:])
            sampled.append(sample_pixels(style_crop, 0.2, generator)[0])
            views = profiles[-1], styles[-1], sampled[-1]
            flows.append(matching.estimate_flow(setup.model, setup.nets, *views, 100, "window", 0))
    return SimpleNamespace(profiles=profiles, styles=styles, sampled=sampled, flows=flows)


def latents_of(setup, ready, places: list[int], settings: CropSettings, prompt=None) -> torch.Tensor:
    """The sampler's result `[B, 4, 8, 8]` for these of `ready`'s pairs as one batch."""
    pick = [[getattr(ready, name)[k] for k in places] for name in ("profiles", "styles", "sampled", "flows")]
    profiles, styles, sampled, flows = pick
    profile = Profile(*(torch.cat([getattr(p, name) for p in profiles]) for name in ("image", "latent", "embedding")))
    flow = Flow(torch.cat([f.offsets for f in flows]), torch.cat([f.confidence for f in flows]), 64, 64)
    seeds = [SEEDS[k] for k in places]
    applied = Settings(pair_every=settings.pair_every)
    with torch.inference_mode():
        patched = apply_portrait(setup.model, setup.nets, profile, torch.cat(sampled), applied, flow, seeds=seeds)
        return sample_crop(patched, profile, torch.cat(styles), settings, None, prompt, seeds)


def assert_alone_is_equal(setup, ready, settings: CropSettings, prompt=None) -> None:
    """In model scale, and far more alike than two of them are."""
    together = latents_of(setup, ready, [0, 1, 2], settings, prompt) * 0.18215
    for place in range(3):
        alone = latents_of(setup, ready, [place], settings, prompt) * 0.18215
        torch.testing.assert_close(together[place : place + 1], alone, rtol=0, atol=1e-4)
        assert (together[place - 1] - alone[0]).abs().max() > 0.1


class TestLatents:
    @pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
    def test_every_sampler_or_none(self, setup, ready, sampler):
        settings = CropSettings(sampler=sampler, steps=3)
        if sampler in progressive.BATCHED:
            assert_alone_is_equal(setup, ready, settings)
        else:
            assert "sde" in sampler or sampler == "dpm_adaptive", "batched as it is, or a reason"
            with pytest.raises(ValueError, match=f"The sampler {sampler} gives latents with seeds"):
                latents_of(setup, ready, [0, 1], settings)

    def test_a_list_of_samplers_that_are_there(self):
        assert progressive.BATCHED < set(comfy.samplers.KSampler.SAMPLERS)

    @pytest.mark.parametrize("words", [False, True])
    @pytest.mark.parametrize("pair_every", [1, 3])
    @pytest.mark.parametrize("cfg", [1.0, 3.0])
    def test_guidance_speed_and_words(self, setup, ready, cfg, pair_every, words):
        prompt = encoding.encode_prompt(text_encoder(), "oil painting") if words else None
        assert_alone_is_equal(setup, ready, CropSettings(steps=4, cfg=cfg, pair_every=pair_every), prompt)

    def test_rounds(self, setup, ready):
        assert_alone_is_equal(setup, ready, CropSettings(steps=2, rounds=2))

    @pytest.mark.parametrize("pair_every", [1, 3])
    def test_guidance_in_two_calls(self, setup, ready, monkeypatch, pair_every):
        """As ComfyUI makes them where memory is short."""
        rows, model = [], setup.model.clone()

        def count(executor, x, *args, **kwargs):
            rows.append(len(x))
            return executor(x, *args, **kwargs)

        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", count)
        settings = CropSettings(steps=4, cfg=3.0, pair_every=pair_every)
        at_once = latents_of(setup, ready, [0, 1, 2], settings)
        monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda *_, **__: 0)
        in_two = latents_of(SimpleNamespace(model=model, nets=setup.nets), ready, [0, 1, 2], settings)
        assert rows == [3] * 8
        torch.testing.assert_close(in_two * 0.18215, at_once * 0.18215, rtol=0, atol=1e-4)


class TestPictures:
    @pytest.mark.parametrize("words", [False, True])
    @pytest.mark.parametrize("pair_every", [1, 3])
    @pytest.mark.parametrize("cfg", [1.0, 3.0])
    def test_equal_batched_and_alone(self, setup, cfg, pair_every, words):
        settings = CropSettings(steps=4, cfg=cfg, pair_every=pair_every, detail=1.0)
        models = setup.model, setup.vae, setup.clip_vision, setup.nets
        with torch.inference_mode():
            prompt = encoding.encode_prompt(text_encoder(), "oil painting") if words else None
            together = paint_crops(*models, *crops(), settings, SEEDS, prompt=prompt)
            alone = [
                paint_crop(*models, *pair, replace(settings, seed=seed), prompt=prompt)
                for *pair, seed in zip(*crops(), SEEDS, strict=True)
            ]
        for one, other in zip(together, alone, strict=True):
            assert (one.image - other.image).abs().max() <= 2 / 255
            assert torch.equal(one.sampled, other.sampled) and torch.equal(one.flow.offsets, other.flow.offsets)
            assert torch.equal(one.profile.latent, other.profile.latent)
        assert (alone[0].image - alone[1].image).abs().max() > 0.1

    def test_one_run_of_the_sampler_with_all_its_steps(self, setup):
        steps = []
        with torch.inference_mode():
            paint_crops(
                *(setup.model, setup.vae, setup.clip_vision, setup.nets),
                *crops(),
                CropSettings(steps=2),
                SEEDS,
                lambda step, x0, x, total: steps.append((step, len(x0), total)),
            )
        assert steps == [(0, 3, 2), (1, 3, 2)]


class TestAtOnce:
    """How many crops `crops_at_once` lets into a batch."""

    def count(self, monkeypatch, free: float, size: int = 64, loaded: bool = True, **settings) -> int:
        """On a card with so much free memory, a row of a pair of 64 px taking 1."""
        model = SimpleNamespace(
            model=SimpleNamespace(memory_required=lambda shape: shape[0] * shape[2] * shape[3] / (8 * 16)),
            model_options={"transformer_options": {}},
            wrappers={},
            object_patches={},
            load_device=torch.device("cuda"),
            model_size=lambda: 10,
            loaded_size=lambda: 10 if loaded else 0,
        )
        for name, value in settings.pop("other", {}).items():
            setattr(model, name, value)
        net = SimpleNamespace(patcher=SimpleNamespace(model_size=lambda: 3, loaded_size=lambda: 3))
        monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: free)
        return crops_at_once(model, SimpleNamespace(matching=net, appearance=net), size, CropSettings(**settings))

    def test_memory(self, monkeypatch):
        assert [self.count(monkeypatch, free) for free in (0, 2.9, 3, 7.4, 7.5, 12, 1e9)] == [1, 1, 2, 4, 5, 8, 8]
        assert self.count(monkeypatch, 12, cfg=3.0) == 4
        assert self.count(monkeypatch, 12, size=128) == 2
        assert self.count(monkeypatch, 12, pair_every=3) == 6
        assert self.count(monkeypatch, 12, loaded=False) == 1 and self.count(monkeypatch, 22, loaded=False) == 8

    def test_one_where_pictures_could_differ(self, monkeypatch):
        assert self.count(monkeypatch, 1e9, sampler="dpmpp_sde") == 1
        for other in (
            {"model_options": {"transformer_options": {"patches": {"attn1_patch": [print]}}}},
            {"model_options": {"transformer_options": {}, "sampler_cfg_function": print}},
            {"wrappers": {"apply_model": {"cache": [print]}}},
            {"object_patches": {"diffusion_model": print}},
        ):
            assert self.count(monkeypatch, 1e9, other=other) == 1
        assert self.count(monkeypatch, 1e9, other={"object_patches": {"model_sampling": print}}) == 8

    def test_one_on_a_cpu(self, setup):
        assert crops_at_once(setup.model, setup.nets, 64, CropSettings()) == 1

    def test_a_plain_model_of_comfyui(self, setup, monkeypatch):
        monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda device: False)
        monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device: 1e12)
        assert crops_at_once(setup.model, setup.nets, 64, CropSettings()) == 8
