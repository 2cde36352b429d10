"""Other nodes on the patched MODEL: the portrait arrives, or one sentence says that it cannot."""

import copy
import json
import logging

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_easycache, nodes_model_downscale, nodes_sag
from tiny_models import picture, portrait_setup, sample, stock_controlnet, with_control

from icportrait.models.method.arrival import Arrival
from icportrait.models.method.injection import Settings, apply_portrait
from icportrait.tools.comfy_server import PACK

DROPPED = "control could not be applied"


@pytest.fixture
def setup():
    return portrait_setup()


def patch(setup, model=None, nets=True, **settings):
    """A MODEL, the setup's by default, with the setup's profile and ready flow applied."""
    nets = setup.nets if nets else None
    return apply_portrait(
        model or setup.model, nets, setup.profile, setup.sampled, Settings(**settings), flow=setup.flow
    )


def runs_the_unet_itself(model):
    """A clone as DeepCache-like packs make it: what is handed in as the model is never called."""
    own = model.clone()

    def apply_model(_, arguments):
        base, x, sigma = own.model, arguments["input"], arguments["timestep"]
        scaled, context = base.model_sampling.calculate_input(sigma, x), arguments["c"]["c_crossattn"]
        predicted = base.diffusion_model(scaled, base.model_sampling.timestep(sigma).float(), context=context)
        return base.model_sampling.calculate_denoised(sigma, predicted, x)

    own.set_model_unet_function_wrapper(apply_model)
    return own


def with_diffusion_wrapper(model, wrapper):
    """A clone whose UNet another node wraps."""
    own = model.clone()
    own.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "other", wrapper)
    return own


def shrunk(model, factor=2.0, after_skip=True):
    """A clone with stock PatchModelAddDownscale over the whole schedule."""
    arguments = (3, factor, 0.0, 1.0, after_skip, "bicubic", "bicubic")
    return nodes_model_downscale.PatchModelAddDownscale.execute(model, *arguments)[0]


class TestFunctionWrappers:
    @pytest.mark.parametrize("nets", [True, False])
    def test_one_that_runs_the_unet_itself_is_refused_and_named(self, setup, nets):
        for made in (
            lambda: patch(setup, runs_the_unet_itself(setup.model), nets),
            lambda: runs_the_unet_itself(patch(setup, nets=nets)),
        ):
            with pytest.raises(
                ValueError, match="runs_the_unet_itself runs the UNet itself and leaves the portrait out"
            ):
                sample(made(), setup)

    def test_it_may_where_the_portrait_is_off(self, setup):
        other = runs_the_unet_itself(setup.model)
        assert torch.equal(sample(patch(setup, other, strength=0.0), setup), sample(other, setup))
        assert torch.equal(sample(patch(setup, other, end_percent=0.0), setup), sample(other, setup))

    def test_it_is_refused_where_the_portrait_sets_in_late(self, setup):
        model = patch(setup, runs_the_unet_itself(setup.model), start_percent=0.6)
        with pytest.raises(ValueError, match="leaves the portrait out"):
            sample(model, setup, steps=6, denoise=1.0)

    def test_one_that_calls_the_model_acts(self, setup):
        calls = []
        model = patch(setup)
        expected = sample(model, setup)
        model.set_model_unet_function_wrapper(
            lambda apply, arguments: (
                calls.append(1) or apply(arguments["input"], arguments["timestep"], **arguments["c"])
            )
        )
        assert torch.equal(sample(model, setup), expected) and calls


class TestMapsOfAnotherSize:
    @pytest.mark.parametrize("after_skip", [True, False])
    @pytest.mark.parametrize("factor", [2.0, 1.5])
    def test_residuals_follow_the_maps(self, setup, caplog, factor, after_skip):
        model = shrunk(setup.model, factor, after_skip)
        with caplog.at_level(logging.WARNING):
            painted = sample(patch(setup, model), setup)
        assert DROPPED not in caplog.text
        assert not torch.allclose(painted, sample(patch(setup, model, nets=False), setup), atol=1e-2)
        assert torch.equal(sample(patch(setup, model, strength=0.0), setup), sample(model, setup))

    def test_all_of_them_arrive_bit_equal_where_nothing_changes_size(self, setup):
        model = shrunk(setup.model, 1.0)
        assert torch.equal(sample(patch(setup, model), setup), sample(patch(setup), setup))

    def test_other_controlnets_follow_too(self, setup, caplog):
        stock = stock_controlnet().copy().set_cond_hint(torch.rand(1, 3, 64, 64), 0.8)
        conds = {name: with_control(getattr(setup, name), stock) for name in ("positive", "negative")}
        with caplog.at_level(logging.WARNING):
            sample(patch(setup, shrunk(setup.model)), setup, **conds)
        assert DROPPED not in caplog.text


class TestUnetRunOnSomethingElseFirst:
    """As Advanced-ControlNet's Reference does, on its reference of the sampler's width."""

    @pytest.mark.parametrize("attention", [0.0, 0.7])
    def test_residuals_and_attention_are_the_pairs(self, setup, attention):
        seen = []

        def looks_first(executor, x, timesteps=None, context=None, y=None, control=None, *args, **kwargs):
            half = x[..., : x.shape[-1] // 2]
            seen.append(executor(half, timesteps, context, y, None, *args, **kwargs))
            return executor(x, timesteps, context, y, control, *args, **kwargs)

        model = with_diffusion_wrapper(setup.model, looks_first)
        assert torch.equal(
            sample(patch(setup, model, attention=attention), setup), sample(patch(setup, attention=attention), setup)
        )
        first = seen[0]
        seen.clear()
        sample(patch(setup, model), setup)
        assert torch.equal(first, seen[0])


class TestUnetRunInPart:
    def test_dropped_residuals_are_refused(self, setup):
        def drops(executor, x, timesteps=None, context=None, y=None, control=None, *args, **kwargs):
            control["output"].pop()
            return executor(x, timesteps, context, y, control, *args, **kwargs)

        def ignores(executor, x, timesteps=None, context=None, y=None, control=None, *args, **kwargs):
            return executor(x, timesteps, context, y, None, *args, **kwargs)

        for wrapper, count in ((drops, 12), (ignores, 0)):
            with pytest.raises(ValueError, match=f"{count} of 13 residuals of the portrait arrived"):
                sample(patch(setup, with_diffusion_wrapper(setup.model, wrapper)), setup)

    def test_an_answer_without_the_unet_needs_an_earlier_run_of_it(self, setup):
        kept = []

        def cached(executor, x, *args, **kwargs):
            if not kept:
                kept.append(executor(x, *args, **kwargs))
            return kept[0]

        sample(patch(setup, with_diffusion_wrapper(setup.model, cached)), setup)
        with pytest.raises(ValueError, match="0 of 13 residuals"):  # it kept a run's before
            sample(patch(setup, with_diffusion_wrapper(setup.model, cached)), setup)

    def test_easy_cache_acts(self, setup):
        (model,) = nodes_easycache.EasyCacheNode.execute(setup.model, 10.0, 0.0, 1.0, False)
        painted = sample(patch(setup, model), setup, steps=6)
        assert not torch.equal(painted, sample(patch(setup), setup, steps=6))  # steps were skipped
        assert not torch.allclose(painted, sample(model, setup, steps=6), atol=1e-2)

    def test_attention_that_nothing_asked_is_refused(self, setup):
        def own_attention(executor, x, timesteps=None, context=None, y=None, control=None, options=None, **kwargs):
            patches = {name: value for name, value in options["patches"].items() if name != "attn1_patch"}
            return executor(x, timesteps, context, y, control, {**options, "patches": patches}, **kwargs)

        model = with_diffusion_wrapper(setup.model, own_attention)
        sample(patch(setup, model, nets=False), setup)
        with pytest.raises(ValueError, match="attention along the flow had no effect"):
            sample(patch(setup, model, nets=False, attention=0.5), setup)

    def test_nothing_to_arrive_needs_nothing(self):
        assert Arrival({"input": [], "middle": [None], "output": [None] * 12}).check(True) is False


class TestSelfAttentionGuidance:
    """It lays the attention map of the middle block over the sampler's latent; below 128 pixels it fails by itself."""

    @pytest.fixture
    def setup(self, setup):
        large, noise = copy.copy(setup), torch.Generator().manual_seed(8)
        latents = [torch.randn(1, 4, 16, 16, generator=noise) / 0.18215 for _ in range(2)]
        large.profile = type(setup.profile)(picture(1, 128, 128), latents[0], setup.profile.embedding)
        large.sampled, large.style_latent = picture(2, 128, 128), latents[1]
        large.flow = type(setup.flow)(setup.flow.offsets, setup.flow.confidence, 128, 128)
        return large

    @pytest.mark.parametrize("nets", [True, False])
    def test_acts_and_leaves_the_plain_model_alone(self, setup, nets):
        (model,) = nodes_sag.SelfAttentionGuidance.execute(setup.model, 0.5, 2.0)
        painted = sample(patch(setup, model, nets), setup)
        assert torch.isfinite(painted).all()
        assert not torch.equal(painted, sample(patch(setup, nets=nets), setup))
        assert torch.equal(sample(patch(setup, model, nets, strength=0.0), setup), sample(model, setup))

    def test_its_map_is_the_target_halfs(self, setup, monkeypatch):
        maps, real = [], nodes_sag.create_blur_map

        def kept(x0, attention, *rest):
            maps.append((x0.shape[-2:], attention))
            return real(x0, attention, *rest)

        monkeypatch.setattr(nodes_sag, "create_blur_map", kept)
        (model,) = nodes_sag.SelfAttentionGuidance.execute(setup.model, 0.5, 2.0)
        sample(patch(setup, model), setup)
        for (height, width), attention in maps:
            tokens = (height // 8) * (width // 8)
            assert attention.shape[1:] == (tokens, tokens)
            torch.testing.assert_close(attention.sum(dim=-1), torch.ones(attention.shape[:2]))


def test_gligen_boxes_are_refused(setup):
    model = patch(setup)
    options = model.model_options.setdefault("transformer_options", {})
    options["patches"] = {
        **options.get("patches", {}),
        "middle_patch": [lambda x, _: x],
    }  # as conditionings with boxes do
    with pytest.raises(ValueError, match="GLIGENTextBoxApply"):
        sample(model, setup)


def test_the_page_says_of_each_measured_node_what_was_found():
    figures = json.loads((PACK / "docs" / "measurements" / "chaining.json").read_text("utf-8"))
    page = (PACK / "docs" / "chaining.md").read_text("utf-8")
    told = {line.split("**")[1]: line for line in page.splitlines() if line.startswith("- **")}
    for name, entry in figures["by_node"].items():
        assert entry["verdict"] not in ("lost", "fails"), name
        assert entry.get("zero_is_plain", True), name
        assert f"`{name}`" in told[entry["verdict"]]
