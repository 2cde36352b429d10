"""`fast`: the target half alone, beside what an evaluation of the pair left of the profile."""

import comfy.ldm.modules.attention
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras import nodes_pag
from tiny_models import portrait_setup, sample, stock_controlnet, with_control

from icportrait.models.method import injection, reuse
from icportrait.models.method.injection import Settings, apply_portrait
from icportrait.models.nets.portrait_net import SD15_UNET, build_net, net_config


@pytest.fixture
def setup():
    return portrait_setup()


def patch(setup, pair_every: int, nets: bool = True, model=None, **settings):
    nets = setup.nets if nets else None
    settings = Settings(pair_every=pair_every, **settings)
    return apply_portrait(model or setup.model, nets, setup.profile, setup.sampled, settings, setup.flow)


def with_spy(model):
    """A clone whose evaluations' widths, as they reach the UNet, are recorded."""
    widths = []

    def record(executor, x, *args, **kwargs):
        widths.append(x.shape[-1])
        return executor(x, *args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", record)
    return model, widths


def evaluations(model, setup, xs, sigmas, control=None):
    """`apply_model` of one run, on both kinds of rows."""
    wrapper = model.get_wrappers(WrappersMP.APPLY_MODEL, injection.KEY)[0]
    embedding = setup.profile.embedding
    context = torch.cat([embedding * 0, embedding])
    found = []
    for x, sigma in zip(xs, sigmas, strict=True):
        options = {"cond_or_uncond": [1, 0], "wrappers": {WrappersMP.APPLY_MODEL: {"k": [wrapper]}}}
        residuals = None if control is None else {name: list(entries) for name, entries in control.items()}
        with torch.inference_mode():
            found.append(
                model.model.apply_model(
                    x, torch.full((2,), sigma), c_crossattn=context, control=residuals, transformer_options=options
                )
            )
    return found


def latents(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2


class TestBesideTheSameEvaluation:
    """With what the same evaluation left, the target half alone must come out as in the pair."""

    @pytest.mark.parametrize("nets", [True, False])
    def test_it_is_the_pairs(self, setup, nets):
        pair, alone = evaluations(patch(setup, 2, nets), setup, [latents(3)] * 2, [2.0] * 2)
        torch.testing.assert_close(alone, pair, rtol=1e-4, atol=1e-4)
        plain = evaluations(patch(setup, 1, nets), setup, [latents(3)], [2.0])[0]
        assert torch.equal(pair, plain), "keeping must not change a bit"

    @pytest.mark.parametrize("part", ["_Tokens", "_Norm", "_Seam"])
    def test_each_part_is_needed(self, setup, part, monkeypatch):
        monkeypatch.setattr(getattr(reuse, part), "beside", lambda self, forward, x: forward(x))
        pair, alone = evaluations(patch(setup, 2), setup, [latents(3)] * 2, [2.0] * 2)
        assert (alone - pair).abs().max() > 0.01

    def test_another_controlnet_acts_on_the_target_as_in_the_pair(self, setup):
        generator = torch.Generator().manual_seed(5)
        shapes = injection.level_shapes(setup.model.model.model_config.unet_config, 8, 8)
        control = {"output": [torch.randn(2, *shape, generator=generator) for shape in shapes[:-1]], "middle": []}
        pair, alone = evaluations(patch(setup, 2), setup, [latents(3)] * 2, [2.0] * 2, control)
        torch.testing.assert_close(alone, pair, rtol=1e-4, atol=1e-4)
        assert (evaluations(patch(setup, 2), setup, [latents(3)], [2.0])[0] - pair).abs().max() > 0.1

    def test_it_follows_the_samplers_latent(self, setup):
        """Near in noise and latent, the target alone is nearer to its own pair than to the one it is beside."""
        first, second = latents(3), latents(3) + 0.3 * latents(4)
        wanted = evaluations(patch(setup, 1), setup, [first, second], [2.0, 1.9])
        found = evaluations(patch(setup, 2), setup, [first, second], [2.0, 1.9])
        assert (found[1] - wanted[1]).norm() < 0.5 * (wanted[0] - wanted[1]).norm()


class TestWhen:
    """Which evaluations see the pair."""

    @pytest.mark.parametrize("every,expected", [(1, "WWWWWW"), (2, "WTWTWT"), (3, "WTTWTT")])
    def test_one_in_so_many(self, setup, every, expected):
        model, widths = with_spy(patch(setup, every))
        result = sample(model, setup, steps=6, cfg=1.0)
        assert "".join("W" if width == 16 else "T" for width in widths) == expected
        assert torch.isfinite(result).all()

    def test_every_run_begins_with_the_pair(self, setup):
        model, widths = with_spy(patch(setup, 3))
        results = [sample(model, setup, steps=2) for _ in range(2)]
        assert widths == [16, 8] * 2 and torch.equal(*results)

    def test_rows_that_run_apart_keep_their_own(self, setup, monkeypatch):
        """With too little memory ComfyUI runs positive and negative one after the other; the picture stays the same."""
        together = sample(patch(setup, 2), setup, steps=3)
        monkeypatch.setattr(setup.model.model, "memory_required", lambda *args, **kwargs: 1e30)
        model, widths = with_spy(patch(setup, 2))
        apart = sample(model, setup, steps=3)
        assert widths == [16, 16, 8, 8, 16, 16]
        torch.testing.assert_close(apart, together, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "lcm", "dpmpp_sde"])
    def test_samplers_run(self, setup, sampler):
        assert torch.isfinite(sample(patch(setup, 3), setup, steps=4, sampler=sampler)).all()

    def test_a_stock_controlnet_acts(self, setup):
        controlled = with_control(
            setup.positive, stock_controlnet().set_cond_hint(setup.style_image.movedim(-1, 1), 1.0)
        )
        model, widths = with_spy(patch(setup, 3))
        result = sample(model, setup, steps=3, cfg=1.0, positive=controlled)
        assert widths == [16, 8, 8]
        assert (result - sample(patch(setup, 3), setup, steps=3, cfg=1.0)).abs().mean() > 0.05

    @pytest.mark.parametrize("name", ["attn1_patch", "attn1_output_patch", "input_block_patch", "output_block_patch"])
    def test_nodes_that_see_the_unets_maps_see_one_size(self, setup, name):
        other = setup.model.clone()
        if name == "attn1_patch":
            other.set_model_attn1_patch(lambda query, key, value, options: (query, key, value))
        elif name == "output_block_patch":
            other.set_model_output_block_patch(lambda h, skip, options: (h, skip))
        else:
            other.set_model_patch(lambda h, options: h, name)
        model, widths = with_spy(patch(setup, 3, model=other))
        result = sample(model, setup, steps=3)
        assert widths == [16] * 3
        assert torch.equal(result, sample(patch(setup, 1), setup, steps=3))

    @pytest.mark.parametrize("name", ["attn2_patch", "attn2_output_patch", "attn2_replace"])
    def test_nodes_that_may_lay_a_mask_on_cross_attention_see_one_size(self, setup, name):
        seen, other = set(), setup.model.clone()

        def attend(query, key, value, options):
            seen.add(tuple(options["original_shape"][-2:]))
            return comfy.ldm.modules.attention.optimized_attention(query, key, value, options["n_heads"])

        if name == "attn2_replace":
            for place in (("input", 1), ("middle", 0), ("output", 5)):
                other.set_model_attn2_replace(attend, *place)
        elif name == "attn2_patch":
            other.set_model_attn2_patch(
                lambda q, k, v, options: seen.add(tuple(options["original_shape"][-2:])) or (q, k, v)
            )
        else:
            other.set_model_attn2_output_patch(lambda h, options: seen.add(tuple(options["original_shape"][-2:])) or h)
        result = sample(patch(setup, 3, model=other), setup, steps=3)
        assert len(seen) == 1
        assert torch.equal(result, sample(patch(setup, 1, model=other), setup, steps=3))

    @pytest.mark.parametrize("cfg", [1.0, 3.0])
    def test_a_guidance_that_compares_two_evaluations_compares_exact_ones(self, setup, cfg):
        other = nodes_pag.PerturbedAttentionGuidance().execute(setup.model, 3.0)[0]
        model, _ = with_spy(patch(setup, 3, model=other))
        expected = sample(patch(setup, 1, model=other), setup, steps=3, cfg=cfg)
        assert torch.equal(sample(model, setup, steps=3, cfg=cfg), expected)

    def test_where_attention_acts_all_do(self, setup):
        model, widths = with_spy(patch(setup, 3, attention=0.7, attention_end_percent=0.6))
        sample(model, setup, steps=6, denoise=1.0)
        end = setup.model.get_model_object("model_sampling").percent_to_sigma(0.6)
        sigmas = comfy.samplers.KSampler(setup.model, 6, torch.device("cpu"), "euler", "normal", 1.0).sigmas
        attended = sum(float(sigma) >= end for sigma in sigmas[:-1])
        assert 0 < attended < 5 and widths[: attended + 1] == [16] * (attended + 1) and widths[attended + 1] == 8


class TestNothingStays:
    def test_on_the_model_after_a_run_or_an_error(self, setup):
        before = sample(setup.model, setup)

        def fail(executor, x, *args, **kwargs):
            executor(x, *args, **kwargs)
            raise RuntimeError("on purpose")

        for width in (16, 8):
            model = patch(setup, 2)
            model.add_wrapper_with_key(
                WrappersMP.APPLY_MODEL,
                "fail",
                lambda executor, x, *args, width=width, **kwargs: (
                    fail if x.shape[-1] == width else lambda run, *given, **named: run(*given, **named)
                )(executor, x, *args, **kwargs),
            )
            with pytest.raises(RuntimeError, match="on purpose"):
                sample(model, setup)
            assert not any("forward" in module.__dict__ for module in setup.model.model.diffusion_model.modules())
        assert torch.equal(sample(setup.model, setup), before)

    def test_forwards_of_others_are_put_back(self):
        module = torch.nn.GroupNorm(1, 2)
        own = module.forward = lambda x: x + 1
        with reuse._replaced([module], lambda module, forward, x: 2 * forward(x)):
            assert module(torch.ones(1)).item() == 4
        assert module.forward is own


def test_each_kind_of_module_of_sd15_is_known():
    """All that lets a cell see others: 3 x 3 convolutions, group norms, self-attention. A new kind would be missed in silence."""
    with torch.device("meta"):
        net = build_net(net_config("appearance", SD15_UNET))
    kinds = {type(module).__name__ for module in net.modules() if not list(module.children())}
    assert kinds <= {"Conv2d", "GroupNorm", "LayerNorm", "Linear", "SiLU", "Dropout", "Identity"}
