"""The MODEL patch inside ComfyUI's own samplers: what it computes, how often, and what it must leave alone."""

import copy

import comfy.conds
import comfy.lora
import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP
from tiny_models import UNET, portrait_setup, random_unet, sample, stock_controlnet, with_control, write_nets

from icportrait.models.method import injection, matching
from icportrait.models.method.attention import FlowAttention, map_size
from icportrait.models.method.injection import Settings, apply_portrait
from icportrait.models.nets import loading


@pytest.fixture
def setup():
    return portrait_setup()


def patch(setup, settings=None, **inputs):
    """The setup's MODEL with its profile applied; by default with its ready flow."""
    inputs = inputs or {"flow": setup.flow}
    return apply_portrait(setup.model, setup.nets, setup.profile, setup.sampled, settings or Settings(), **inputs)


def spy_on_unet(model):
    """A clone whose APPLY_MODEL calls, as they reach the UNet, are recorded as (x, sigma, control)."""
    calls = []

    def record(executor, x, t, c_concat=None, c_crossattn=None, control=None, *args, **kwargs):
        copied = None if control is None else {name: list(entries) for name, entries in control.items()}
        calls.append((x, t, copied))
        return executor(x, t, c_concat, c_crossattn, control, *args, **kwargs)

    spied = model.clone()
    spied.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", record)
    return spied, calls


class TestOff:
    """Switched off it must leave no trace."""

    @pytest.mark.parametrize(
        "settings",
        [
            Settings(strength=0.0),
            Settings(start_percent=0.0, end_percent=0.0),
            Settings(start_percent=0.4, end_percent=0.4),
            Settings(start_percent=1.0, end_percent=1.0),
            Settings(start_percent=0.8, end_percent=0.2),
        ],
    )
    def test_is_bit_identical_to_the_plain_model(self, setup, settings):
        assert torch.equal(sample(patch(setup, settings), setup), sample(setup.model, setup))

    def test_on_it_changes_the_result(self, setup):
        assert (sample(patch(setup), setup) - sample(setup.model, setup)).abs().mean() > 0.1

    def test_plain_model_is_bit_identical_afterwards(self, setup):
        before = sample(setup.model, setup)
        sample(patch(setup), setup)
        assert torch.equal(sample(setup.model, setup), before)
        assert not setup.model.wrappers.get(WrappersMP.APPLY_MODEL)
        assert not setup.model.additional_models

    def test_outside_the_range_the_unet_sees_the_plain_latent(self, setup):
        model, calls = spy_on_unet(patch(setup, Settings(start_percent=0.5, end_percent=0.9)))
        sample(model, setup, steps=6, denoise=1.0)
        widths = [x.shape[-1] for x, _, _ in calls]
        sampling = setup.model.get_model_object("model_sampling")
        start, end = sampling.percent_to_sigma(0.5), sampling.percent_to_sigma(0.9)
        assert widths == [16 if end <= float(t[0]) <= start else 8 for _, t, _ in calls]
        assert set(widths) == {8, 16}


class TestReference:
    """One UNet evaluation against the method written out plainly."""

    def plain(self, setup, x, sigma, chunks, seed):
        """Expected target half for rows `[uncond | cond]` or any order `chunks` says; no code of models/ but the nets."""
        base, profile = setup.model.model, setup.profile
        noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed ^ 0x1C904412A1175EED))
        right = profile.latent * 0.18215 + sigma * noise
        pair = torch.cat([x, right.repeat(len(x), 1, 1, 1)], dim=3)
        scaled = pair / (sigma**2 + 1) ** 0.5
        sigmas = base.model_sampling.sigmas
        timestep = torch.tensor([float((sigmas.log() - torch.tensor(sigma).log()).abs().argmin())] * len(x))
        batch = len(x) // len(chunks)
        tokens = [profile.embedding if chunk == 0 else profile.embedding * 0 for chunk in chunks for _ in range(batch)]
        context = torch.cat(tokens)
        hint = torch.cat([setup.sampled, profile.image], dim=2).permute(0, 3, 1, 2)
        net = setup.nets.appearance.module
        control = comfy.cldm.cldm.ControlNet.forward(net, scaled, hint, timestep, context)
        levels = control["output"] + control["middle"]
        config = setup.nets.appearance.config
        mixed = []
        for number, level in enumerate(levels):
            weight = (1 - number / 12) * config["alpha"] + config["beta"]
            width = level.shape[3] // 2
            target, right_half = level[..., :width], level[..., width:]
            offsets = torch.nn.functional.interpolate(setup.flow.offsets, (level.shape[2], width), mode="bilinear")
            offsets = offsets * (width / setup.flow.offsets.shape[3])
            gate = torch.nn.functional.interpolate(setup.flow.confidence, size=(level.shape[2], width), mode="bilinear")
            warped = torch.zeros_like(target)
            for y in range(level.shape[2]):
                for column in range(width):
                    px = min(max(column + float(offsets[0, 0, y, column]), 0), width - 1)
                    py = min(max(y + float(offsets[0, 1, y, column]), 0), level.shape[2] - 1)
                    x0, y0 = int(px), int(py)
                    x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, level.shape[2] - 1)
                    fx, fy = px - x0, py - y0
                    top = right_half[:, :, y0, x0] * (1 - fx) + right_half[:, :, y0, x1] * fx
                    bottom = right_half[:, :, y1, x0] * (1 - fx) + right_half[:, :, y1, x1] * fx
                    warped[:, :, y, column] = top * (1 - fy) + bottom * fy
            mixed.append(torch.cat([target + weight * gate * warped, right_half], dim=3))
        control = {"output": mixed[:12], "middle": mixed[12:], "input": []}
        predicted = base.diffusion_model(scaled, timestep, context=context, control=control)
        return (pair - sigma * predicted)[..., :8]

    def patched(self, setup, x, sigma, chunks, seed):
        model = patch(setup, Settings(seed=seed, use_confidence=True))
        wrapper = model.get_wrappers(WrappersMP.APPLY_MODEL, injection.KEY)[0]
        options = {"cond_or_uncond": list(chunks), "wrappers": {WrappersMP.APPLY_MODEL: {"k": [wrapper]}}}
        embedding = setup.profile.embedding
        batch = len(x) // len(chunks)
        context = torch.cat([embedding if chunk == 0 else embedding * 0 for chunk in chunks for _ in range(batch)])
        sigmas = torch.full((len(x),), sigma)
        return model.model.apply_model(x, sigmas, c_crossattn=context, transformer_options=options)

    @pytest.mark.parametrize("chunks", [[1, 0], [0, 1], [0], [1]])
    def test_matches_for_every_row_order(self, setup, chunks):
        x = torch.randn(2 * len(chunks), 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 2
        with torch.inference_mode():
            expected = self.plain(setup, x, 2.0, chunks, seed=4)
            torch.testing.assert_close(self.patched(setup, x, 2.0, chunks, seed=4), expected, rtol=1e-3, atol=1e-3)

    def test_the_reference_tells_row_orders_sides_and_seeds_apart(self, setup):
        x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3)) * 2
        with torch.inference_mode():
            right = self.plain(setup, x, 2.0, [1, 0], seed=4)
            for chunks, seed in (([0, 1], 4), ([1, 0], 5)):
                assert (self.plain(setup, x, 2.0, chunks, seed) - right).abs().max() > 0.05


class TestRowKinds:
    """Which rows the appearance net shows the profile's embedding."""

    @pytest.mark.parametrize(
        "chunk, context, expected",
        [(0, "embedding", True), (1, "zeros", False), (0, "zeros", False), (2, "embedding", True)]
        + [(0, "text", True), (1, "text", False), (0, None, True), (1, None, False)],
    )
    def test_rows_say_themselves_what_they_are(self, setup, chunk, context, expected):
        embedding = setup.profile.embedding
        contexts = {
            "embedding": embedding.repeat(2, 3, 1),
            "zeros": embedding.repeat(2, 1, 1) * 0,
            "text": torch.ones(2, 77, 768),
        }
        assert injection.is_cond(chunk, contexts.get(context), embedding) is expected


class TestPair:
    """What reaches the UNet."""

    def test_target_is_left_and_the_profile_is_noised_to_the_same_sigma(self, setup):
        plain, plain_calls = spy_on_unet(setup.model)
        sample(plain, setup)
        model, calls = spy_on_unet(patch(setup, Settings(seed=9)))
        sample(model, setup)
        assert torch.equal(calls[0][0][..., :8], plain_calls[0][0])  # the sampler's own x, untouched
        noises = [(x[..., 8:] - setup.profile.latent * 0.18215) / float(sigma[0]) for x, sigma, _ in calls]
        for noise in noises:
            torch.testing.assert_close(noise, noises[0][:1].expand(2, -1, -1, -1), rtol=1e-3, atol=1e-3)
        assert abs(float(noises[0].std()) - 1) < 0.2

    def test_the_halves_have_independent_noise_also_for_equal_seeds(self, setup):
        model, calls = spy_on_unet(patch(setup, Settings(seed=7)))
        sample(model, setup, seed=7)
        x, sigma, _ = calls[0]
        style, profile = setup.style_latent * 0.18215, setup.profile.latent * 0.18215
        noises = torch.stack(
            [((x[..., :8] - style) / sigma[0])[0].flatten(), ((x[..., 8:] - profile) / sigma[0])[0].flatten()]
        )
        assert abs(float(torch.corrcoef(noises)[0, 1])) < 0.25  # 256 numbers: 4 standard deviations

    def test_strength_and_weights_scale_what_the_unet_gets(self, setup):
        recorded = []
        for strength in (1.0, 0.5):
            model, calls = spy_on_unet(patch(setup, Settings(strength=strength)))
            sample(model, setup)
            recorded.append(calls[0][2]["output"] + calls[0][2]["middle"])
        assert len(recorded[0]) == 13
        for full, half in zip(*recorded, strict=True):
            torch.testing.assert_close(half, full * 0.5)

    def test_memory_is_estimated_for_twice_the_width(self, setup, monkeypatch):
        shapes = []
        estimate = setup.model.model.memory_required
        monkeypatch.setattr(
            setup.model.model, "memory_required", lambda shape, **k: shapes.append(list(shape)) or estimate(shape, **k)
        )
        sample(setup.model, setup)
        plain = [shape for shape in shapes if shape[-1] != 8]
        shapes.clear()
        sample(patch(setup), setup)
        assert not plain
        assert [2, 4, 8, 16] in shapes

    def test_nets_are_registered_for_loading(self, setup):
        both = patch(setup, style_latent=setup.style_latent).get_additional_models()
        assert [patcher.model for patcher in both] == [setup.nets.matching.module, setup.nets.appearance.module]
        ready = patch(setup).get_additional_models()
        assert [patcher.model for patcher in ready] == [setup.nets.appearance.module]

    def test_batch_of_two_equals_two_batches_of_one(self, setup):
        latents = torch.cat([setup.style_latent, setup.style_latent.flip(-1)])
        noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        for inputs in ({"flow": setup.flow}, {"style_latent": setup.style_latent}, {}):
            settings = Settings() if inputs else Settings(flow_mode="each step")
            model = apply_portrait(setup.model, setup.nets, setup.profile, setup.sampled, settings, **inputs)

            def run(latent, noise, model=model):
                sampler = comfy.samplers.KSampler(model, 2, torch.device("cpu"), "euler", "normal", 0.7)
                with torch.inference_mode():
                    return sampler.sample(noise, setup.positive, setup.negative, 3.0, latent, disable_pbar=True)

            together = run(latents, noise)
            alone = torch.cat([run(latents[i : i + 1], noise[i : i + 1]) for i in range(2)])
            torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


class TestFlow:
    """Where the flow comes from."""

    def test_once_equals_the_estimate_node(self, setup):
        with torch.inference_mode():
            flow = matching.estimate_flow(
                setup.model, setup.nets, setup.profile, setup.style_latent, setup.sampled, 150, "paper", 5
            )
        settings = Settings(flow_timestep=150, flow_method="paper", seed=5)
        assert torch.equal(
            sample(patch(setup, settings, style_latent=setup.style_latent), setup),
            sample(patch(setup, settings, flow=flow), setup),
        )

    def test_each_step_differs_from_once(self, setup):
        each = apply_portrait(setup.model, setup.nets, setup.profile, setup.sampled, Settings(flow_mode="each step"))
        assert not torch.equal(sample(each, setup), sample(patch(setup), setup))

    def test_estimate_sees_the_style_crop_on_the_left(self, setup):
        """Exchanging the roles of the two pictures must change the flow."""
        swapped = type(setup.profile)(setup.sampled, setup.style_latent, setup.profile.embedding)
        with torch.inference_mode():
            other = matching.estimate_flow(
                setup.model, setup.nets, swapped, setup.profile.latent, setup.profile.image, 100, "window", 0
            )
        assert not torch.allclose(other.offsets, setup.flow.offsets, atol=0.1)

    def test_confidence_scales_the_warped_features(self, setup):
        sure = type(setup.flow)(setup.flow.offsets, torch.ones_like(setup.flow.confidence), 64, 64)
        unsure = type(setup.flow)(setup.flow.offsets, torch.zeros_like(setup.flow.confidence), 64, 64)
        plain = sample(patch(setup, Settings(use_confidence=False)), setup)
        assert torch.equal(sample(patch(setup, Settings(use_confidence=True), flow=sure), setup), plain)
        assert torch.equal(sample(patch(setup, flow=unsure), setup), plain)  # trained without the gate
        without = sample(patch(setup, Settings(alpha=0.0, beta=0.0)), setup)
        torch.testing.assert_close(sample(patch(setup, Settings(use_confidence=True), flow=unsure), setup), without)
        assert not torch.allclose(plain, without, atol=1e-2)


def alone(setup, flow=None, **settings):
    """The setup's MODEL with its profile and no nets."""
    return apply_portrait(setup.model, None, setup.profile, None, Settings(**settings), flow)


class TestWithoutNets:
    """The in-context pair alone."""

    def test_the_unet_gets_the_pair_and_no_residuals(self, setup):
        with_nets, expected = spy_on_unet(patch(setup))
        sample(with_nets, setup)
        model, calls = spy_on_unet(alone(setup))
        sample(model, setup)
        assert torch.equal(calls[0][0], expected[0][0])
        assert all(entry is None for _, _, control in calls for entries in control.values() for entry in entries)

    def test_equals_nets_of_strength_next_to_nothing(self, setup):
        faint = sample(patch(setup, Settings(strength=1e-9)), setup)
        # Rounding grows over the steps, differently on each processor: 2e-4 was seen. Nets at a thousandth change 100 times that.
        torch.testing.assert_close(sample(alone(setup), setup), faint, rtol=0, atol=2e-3)

    def test_a_flow_changes_nothing_without_attention(self, setup):
        assert torch.equal(sample(alone(setup, setup.flow), setup), sample(alone(setup), setup))

    def test_strength_zero_is_the_plain_model(self, setup):
        model = alone(setup, setup.flow, strength=0.0, attention=1.0)
        assert torch.equal(sample(model, setup), sample(setup.model, setup))

    def test_no_net_is_loaded(self, setup):
        assert alone(setup, setup.flow, attention=1.0).get_additional_models() == []

    def test_a_batch_equals_single_runs(self, setup):
        latents = torch.cat([setup.style_latent, setup.style_latent.flip(-1)])
        model = alone(setup, setup.flow, attention=0.7)
        noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

        def run(latent, noise):
            sampler = comfy.samplers.KSampler(model, 2, torch.device("cpu"), "euler", "normal", 0.7)
            with torch.inference_mode():
                return sampler.sample(noise, setup.positive, setup.negative, 3.0, latent, disable_pbar=True)

        single = torch.cat([run(latents[i : i + 1], noise[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(run(latents, noise), single, rtol=1e-3, atol=1e-3)

    def test_other_residuals_reach_the_target_half_and_only_it(self, setup):
        stock = stock_controlnet().copy().set_cond_hint(torch.rand(1, 3, 64, 64), 0.8)
        conds = {name: with_control(getattr(setup, name), stock) for name in ("positive", "negative")}
        plain, plain_calls = spy_on_unet(setup.model)
        sample(plain, setup, **conds)
        model, calls = spy_on_unet(alone(setup))
        sample(model, setup, **conds)
        for name in ("output", "middle"):
            for theirs, padded in zip(plain_calls[0][2][name], calls[0][2][name], strict=True):
                width = theirs.shape[-1]
                assert torch.equal(padded[..., :width], theirs) and not padded[..., width:].any()

    def test_lora_works(self, setup):
        adapted = alone(setup, setup.flow, attention=1.0)
        assert adapted.add_patches(lora(setup), 0.5)
        plain = sample(alone(setup, setup.flow, attention=1.0), setup)
        assert not torch.allclose(sample(adapted, setup), plain, atol=1e-3)

    def test_sizes_are_checked_all_the_same(self, setup):
        with pytest.raises(ValueError, match="works on 128 x 64 pixels, but the profile is 64 x 64"):
            sample(alone(setup), setup, latent_image=torch.randn(1, 4, 8, 16))
        with pytest.raises(ValueError, match="area conditioning"):
            sample(alone(setup), setup, positive=[[setup.positive[0][0], {"area": (8, 4, 0, 0)}]])

    def test_what_is_missing_is_named(self, setup):
        with pytest.raises(ValueError, match="Attention along the flow needs a flow"):
            alone(setup, attention=0.5)
        with pytest.raises(ValueError, match="connect `sampled_image`"):
            apply_portrait(setup.model, setup.nets, setup.profile, None, Settings(), setup.flow)


class TestAttention:
    """Self-attention along the flow."""

    def options_seen(self, setup, model, **changes) -> list[dict]:
        """The `transformer_options` of each evaluation of the UNet."""
        seen = []

        def record(executor, x, t, c_concat=None, c_crossattn=None, control=None, options=None, *args, **kwargs):
            seen.append(options)
            return executor(x, t, c_concat, c_crossattn, control, options, *args, **kwargs)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", record)
        sample(model, setup, **changes)
        return seen

    def test_moves_the_values_of_the_target_half_alone(self):
        """Written out for a map of 2 x 4 tokens: flow one cell to the right, sure in the upper row, half sure below."""
        offsets = torch.tensor([1.0, 0.0])[None, :, None, None].expand(1, 2, 2, 2)
        confidence = torch.tensor([[1.0, 1.0], [0.5, 0.5]])[None, None]
        tokens = torch.arange(8.0)[None, :, None].expand(2, 8, 3).contiguous()
        query, key, value = FlowAttention(offsets.repeat(2, 1, 1, 1), confidence.repeat(2, 1, 1, 1), 0.5, (4, 8))(
            tokens, tokens, tokens, {"original_shape": [2, 4, 4, 8]}
        )
        assert query is tokens and key is tokens
        # The border holds the last column: cells 0 and 1 both read column 1 of the profile.
        upper, lower = [0.5 * 0 + 0.5 * 3, 0.5 * 1 + 0.5 * 3], [0.75 * 4 + 0.25 * 7, 0.75 * 5 + 0.25 * 7]
        expected = torch.tensor([*upper, 2, 3, *lower, 6, 7])
        torch.testing.assert_close(value, expected[None, :, None].expand(2, 8, 3))
        assert torch.equal(tokens[0, :, 0], torch.arange(8.0))

    @pytest.mark.parametrize("tokens, size", [(512, (16, 32)), (128, (8, 16)), (8, (2, 4))])
    def test_maps_of_all_levels(self, tokens, size):
        assert map_size(tokens, 16, 32) == size

    def test_tokens_that_are_no_map_are_refused(self):
        with pytest.raises(ValueError, match="cannot tell how 100 tokens lie"):
            map_size(100, 16, 32)

    @pytest.mark.parametrize("nets", [True, False])
    def test_zero_installs_nothing(self, setup, nets):
        model = patch(setup) if nets else alone(setup, setup.flow)
        assert all("attn1_patch" not in options.get("patches", {}) for options in self.options_seen(setup, model))

    @pytest.mark.parametrize("nets", [True, False])
    def test_an_empty_range_is_bit_identical_to_zero(self, setup, nets):
        def model(**changes):
            return patch(setup, Settings(**changes)) if nets else alone(setup, setup.flow, **changes)

        off = sample(model(), setup)
        empty = {"attention_start_percent": 0.5, "attention_end_percent": 0.5}
        assert torch.equal(sample(model(attention=1.0, **empty), setup), off)
        results = [sample(model(attention=strength), setup) for strength in (0.5, 1.0)]
        assert (results[0] - off).abs().mean() > 1e-3 and (results[1] - results[0]).abs().mean() > 1e-3

    def test_it_works_in_its_range_only(self, setup):
        model = alone(setup, setup.flow, attention=1.0, attention_start_percent=0.5, attention_end_percent=0.9)
        seen = self.options_seen(setup, model, steps=6, denoise=1.0)
        sampling = setup.model.get_model_object("model_sampling")
        start, end = sampling.percent_to_sigma(0.5), sampling.percent_to_sigma(0.9)
        installed = ["attn1_patch" in options.get("patches", {}) for options in seen]
        assert installed == [end <= float(options["sigmas"][0]) <= start for options in seen]
        assert set(installed) == {True, False}

    def test_a_flow_without_confidence_does_nothing(self, setup):
        blind = type(setup.flow)(setup.flow.offsets, torch.zeros_like(setup.flow.confidence), 64, 64)
        torch.testing.assert_close(sample(alone(setup, blind, attention=1.0), setup), sample(alone(setup), setup))

    def test_a_flow_of_pixels_is_taken(self, setup):
        right = torch.tensor([1.0, 0.0])[None, :, None, None]
        fine = (8 * right).expand(1, 2, 64, 64), torch.ones(1, 1, 64, 64)
        coarse = right.expand(1, 2, 8, 8), torch.ones(1, 1, 8, 8)
        results = [sample(alone(setup, type(setup.flow)(*one, 64, 64), attention=1.0), setup) for one in (fine, coarse)]
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("mode", ["once", "each step"])
    def test_the_nets_own_flow_is_taken(self, setup, mode):
        inputs = {"style_latent": setup.style_latent} if mode == "once" else {"flow": None}
        latent = setup.style_latent.repeat(2, 1, 1, 1)
        results = [
            sample(patch(setup, Settings(flow_mode=mode, attention=a), **inputs), setup, latent_image=latent)
            for a in (0.0, 1.0)
        ]
        assert results[1].shape == (2, 4, 8, 8) and not torch.allclose(*results, atol=1e-3)

    def test_cond_and_uncond_apart_give_what_they_give_together(self, setup):
        long = [[torch.zeros(1, 77, 768), {}]]  # too long to be padded to the one token of the positive
        model = alone(setup, setup.flow, attention=1.0)
        torch.testing.assert_close(
            sample(model, setup, negative=long), sample(model, setup), rtol=1e-3, atol=1e-3
        )  # tokens of zeros all say the same

    def test_other_patches_are_called_and_see_the_plain_map(self, setup):
        calls = {"patch": [], "replace": [], "output": []}

        def other(query, key, value, extra_options):
            calls["patch"].append((torch.equal(query, key), torch.equal(key, value), query.shape[1]))
            return query, key, value

        def replace(query, key, value, extra_options):
            calls["replace"].append(query.shape[1])
            return optimized_attention(query, key, value, extra_options["n_heads"])

        def output(tokens, extra_options):
            calls["output"].append(tokens.shape[1])
            return tokens

        model = setup.model.clone()
        model.set_model_attn1_patch(other)
        model.set_model_attn1_replace(replace, "middle", 0)
        model.set_model_attn1_output_patch(output)
        patched = apply_portrait(model, None, setup.profile, None, Settings(attention=1.0), setup.flow)
        result = sample(patched, setup, steps=1)
        assert all(count for count in map(len, calls.values()))
        assert all(same_key and not same_value for same_key, same_value, _ in calls["patch"])
        assert {tokens for *_, tokens in calls["patch"]} == set(calls["output"])
        # They change nothing themselves, so neither does their presence.
        torch.testing.assert_close(result, sample(alone(setup, setup.flow, attention=1.0), setup, steps=1))
        assert len(model.model_options["transformer_options"]["patches"]["attn1_patch"]) == 1

    @pytest.mark.parametrize("wrong", [-0.1, 1.1])
    def test_out_of_range(self, wrong):
        with pytest.raises(ValueError, match="attention must be a number between 0 and 1"):
            Settings(attention=wrong)


class TestCounts:
    """How often each part runs."""

    @pytest.fixture
    def counted(self, setup, monkeypatch):
        """Calls by name; each entry is the number of rows."""
        calls = {"hint matching": [], "hint appearance": [], "features": [], "residuals": [], "after tap": []}

        def count(module, method, name):
            original = getattr(module, method)

            def counting(*args, **kwargs):
                calls[name].append(args[0].shape[0])
                return original(*args, **kwargs)

            monkeypatch.setattr(module, method, counting, raising=False)

        for role in ("matching", "appearance"):
            count(getattr(setup.nets, role).module, "encode_hint", f"hint {role}")
        count(setup.nets.matching.module, "features", "features")
        count(setup.nets.appearance.module, "residuals", "residuals")
        net = setup.nets.matching
        later = [*net.module.input_blocks[net.config["tap"] + 1 :], net.module.middle_block, *net.module.zero_convs]
        hooks = [module.register_forward_pre_hook(lambda *_: calls["after tap"].append(1)) for module in later]
        yield calls
        for hook in hooks:
            hook.remove()

    def test_once_a_run(self, setup, counted):
        sample(patch(setup, style_latent=setup.style_latent), setup, steps=4)
        assert counted["hint matching"] == [1] and counted["hint appearance"] == [1]
        assert counted["features"] == [1]
        assert counted["residuals"] == [2] * 4  # cond and uncond in one call a step
        assert counted["after tap"] == []

    def test_again_for_the_next_run(self, setup, counted):
        model = patch(setup, style_latent=setup.style_latent)
        sample(model, setup)
        sample(model, setup)
        assert counted["hint matching"] == [1, 1] and counted["features"] == [1, 1]

    def test_a_ready_flow_needs_no_matching_net(self, setup, counted):
        sample(patch(setup), setup)
        assert counted["features"] == [] and counted["hint matching"] == []

    @pytest.mark.parametrize("sampler, evaluations", [("euler", 3), ("heun", 5)])
    def test_each_step_runs_the_matching_net_on_cond_rows_only(self, setup, counted, sampler, evaluations):
        model = apply_portrait(setup.model, setup.nets, setup.profile, setup.sampled, Settings(flow_mode="each step"))
        latent = setup.style_latent.repeat(2, 1, 1, 1)
        sample(model, setup, steps=3, sampler=sampler, latent_image=latent)
        assert counted["features"] == [2] * evaluations  # batch 2, not 4
        assert counted["residuals"] == [4] * evaluations
        assert counted["after tap"] == []

    def test_each_step_shares_the_flow_when_cond_and_uncond_run_apart(self, setup, counted):
        model = apply_portrait(setup.model, setup.nets, setup.profile, setup.sampled, Settings(flow_mode="each step"))
        long = [[torch.zeros(1, 77, 768), {}]]  # too long to be padded to the one token of the positive
        sample(model, setup, steps=3, negative=long)
        assert counted["features"] == [1] * 3
        assert counted["residuals"] == [1] * 6

    def test_nothing_is_kept_after_a_run(self, setup):
        model = patch(setup)
        sample(model, setup)
        run = model.get_wrappers(WrappersMP.APPLY_MODEL, injection.KEY)[0].__self__.run
        assert run.latent is None and run.flow is None and not run.hints


def lora(setup):
    """A LoRA patch for one attention layer, as ComfyUI's own loader makes it."""
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    generator = torch.Generator().manual_seed(60)
    out, inner = setup.model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2.to_v.weight.shape
    file = {
        "lora.lora_up.weight": torch.randn(out, 4, generator=generator),
        "lora.lora_down.weight": torch.randn(4, inner, generator=generator),
    }
    return comfy.lora.load_lora(file, {"lora": key})


class TestMixtures:
    """Everything else an artist chains must go on working."""

    @pytest.mark.parametrize("control", [False, True])
    @pytest.mark.parametrize("adapter", ["none", "lora first", "lora last"])
    @pytest.mark.parametrize("sampler, batch, masked", [("euler", 1, False), ("heun", 2, True), ("dpmpp_2m", 2, False)])
    def test_runs_and_keeps_shapes(self, setup, control, adapter, sampler, batch, masked):
        model = setup.model
        if adapter == "lora first":
            model = model.clone()
            model.add_patches(lora(setup), 0.5)
        model = apply_portrait(model, setup.nets, setup.profile, setup.sampled, Settings(), setup.flow)
        if adapter == "lora last":
            model = model.clone()
            model.add_patches(lora(setup), 0.5)
        changes = {"latent_image": setup.style_latent.repeat(batch, 1, 1, 1)}
        if masked:
            changes["noise_mask"] = torch.nn.functional.pad(torch.ones(1, 1, 64, 32), (0, 32))
        if control:
            stock = stock_controlnet().copy().set_cond_hint(torch.rand(1, 3, 64, 64), 0.8)
            changes |= {
                "positive": with_control(setup.positive, stock),
                "negative": with_control(setup.negative, stock),
            }
        result = sample(model, setup, sampler=sampler, **changes)
        assert result.shape == (batch, 4, 8, 8)
        assert result.isfinite().all()
        if masked:
            torch.testing.assert_close(result[..., 5:], changes["latent_image"][..., 5:], rtol=1e-4, atol=1e-4)

    def test_lora_and_control_have_an_effect_under_the_patch(self, setup):
        plain = sample(patch(setup), setup)
        with_lora = patch(setup)
        assert with_lora.add_patches(lora(setup), 0.5)
        assert not torch.allclose(sample(with_lora, setup), plain, atol=1e-3)
        stock = stock_controlnet().copy().set_cond_hint(torch.rand(1, 3, 64, 64), 0.8)
        positive, negative = with_control(setup.positive, stock), with_control(setup.negative, stock)
        controlled = sample(patch(setup), setup, positive=positive, negative=negative)
        assert not torch.allclose(controlled, plain, atol=1e-3)

    def test_two_chained_controlnets_in_either_order(self, setup):
        results = []
        for order in ((50, 51), (51, 50)):
            nets = [
                stock_controlnet(seed).copy().set_cond_hint(torch.full((1, 3, 64, 64), seed / 100), 0.5)
                for seed in order
            ]
            nets[1].set_previous_controlnet(nets[0])
            positive, negative = with_control(setup.positive, nets[1]), with_control(setup.negative, nets[1])
            results.append(sample(patch(setup), setup, positive=positive, negative=negative))
        torch.testing.assert_close(results[0], results[1], rtol=1e-3, atol=1e-3)

    def test_stock_residuals_reach_the_target_half_and_only_it(self, setup):
        stock = stock_controlnet().copy().set_cond_hint(torch.rand(1, 3, 64, 64), 0.8)
        positive, negative = with_control(setup.positive, stock), with_control(setup.negative, stock)
        plain, plain_calls = spy_on_unet(setup.model)
        sample(plain, setup, positive=positive, negative=negative)
        alone, alone_calls = spy_on_unet(patch(setup))
        sample(alone, setup)
        both, both_calls = spy_on_unet(patch(setup))
        sample(both, setup, positive=positive, negative=negative)
        for name in ("output", "middle"):
            for theirs, own, mixed in zip(
                *(calls[0][2][name] for calls in (plain_calls, alone_calls, both_calls)), strict=True
            ):
                width = theirs.shape[-1]
                torch.testing.assert_close(mixed[..., :width], own[..., :width] + theirs)
                assert torch.equal(mixed[..., width:], own[..., width:])


class TestRefusals:
    """One clear sentence instead of a silent mistake."""

    def test_a_controlnet_of_another_width(self, setup):
        other = stock_controlnet(unet=UNET | {"model_channels": 64}).copy().set_cond_hint(torch.rand(1, 3, 64, 64), 0.8)
        positive, negative = with_control(setup.positive, other), with_control(setup.negative, other)
        with pytest.raises(ValueError, match="another ControlNet's 'middle' residual .* but the UNet needs"):
            sample(patch(setup), setup, positive=positive, negative=negative)

    def test_an_appearance_net_whose_residuals_do_not_fit(self, setup, monkeypatch):
        model = patch(setup)
        module = setup.nets.appearance.module
        residuals = module.residuals
        monkeypatch.setattr(
            module,
            "residuals",
            lambda *a: [r[:, 1:] if i == 3 else r for i, r in enumerate(residuals(*a))],
            raising=False,
        )
        with pytest.raises(ValueError, match="residual of level 3"):
            sample(model, setup)

    def test_nets_of_another_width(self, setup, tmp_path):
        nets = loading.load_portrait_nets(*write_nets(tmp_path, UNET | {"model_channels": 64}))
        with pytest.raises(
            ValueError,
            match="matching net was made for another UNet: model_channels is 64 in the net and 32 in the MODEL",
        ):
            apply_portrait(setup.model, nets, setup.profile, setup.sampled, Settings(), setup.flow)

    def model_with(self, setup, kind, **changes):
        model = setup.model.clone()
        model.model = copy.copy(setup.model.model)
        plain = setup.model.model.model_config
        config = kind.__new__(kind)  # not copy.copy: ComfyUI's newer configs answer to any name
        vars(config).update(vars(plain), unet_config=plain.unet_config | changes)
        model.model.model_config = config
        return model

    def test_an_sdxl_model(self, setup):
        model = self.model_with(setup, comfy.supported_models.SDXL, context_dim=2048, adm_in_channels=2816)
        with pytest.raises(ValueError, match="must be SD1.5 .* got SDXL"):
            apply_portrait(model, setup.nets, setup.profile, setup.sampled, Settings(), setup.flow)

    def test_an_inpainting_model(self, setup):
        model = self.model_with(setup, comfy.supported_models.SD15, in_channels=9)
        with pytest.raises(ValueError, match="9 input channels.*inpainting"):
            apply_portrait(model, setup.nets, setup.profile, setup.sampled, Settings(), setup.flow)

    def test_a_second_profile_on_one_model(self, setup):
        with pytest.raises(ValueError, match="already"):
            apply_portrait(patch(setup), setup.nets, setup.profile, setup.sampled, Settings(), setup.flow)

    def test_once_without_a_style_crop(self, setup):
        with pytest.raises(ValueError, match="connect `flow`"):
            apply_portrait(setup.model, setup.nets, setup.profile, setup.sampled, Settings())

    def test_a_latent_of_another_size(self, setup):
        with pytest.raises(ValueError, match="works on 128 x 64 pixels, but the profile is 64 x 64"):
            sample(patch(setup), setup, latent_image=torch.randn(1, 4, 8, 16))

    def test_area_conditioning(self, setup):
        area = [[setup.positive[0][0], {"area": (8, 4, 0, 0)}]]
        with pytest.raises(ValueError, match="area conditioning"):
            sample(patch(setup), setup, positive=area)

    def test_a_sampled_crop_of_another_size(self, setup):
        with pytest.raises(ValueError, match="both crops must have one size"):
            apply_portrait(setup.model, setup.nets, setup.profile, torch.zeros(1, 128, 64, 3), Settings(), setup.flow)

    @pytest.mark.parametrize(
        "wrong", [{"flow_mode": "never"}, {"flow_method": "magic"}, {"flow_timestep": 1000}, {"start_percent": -0.1}]
    )
    def test_settings_out_of_range(self, wrong):
        with pytest.raises(ValueError):
            Settings(**wrong)


class TestSideEffects:
    """Seeds decide everything; inputs and global state stay as they were."""

    def test_the_same_seed_gives_the_same_result_and_another_seed_another(self, setup):
        first = sample(patch(setup, Settings(seed=1)), setup)
        assert torch.equal(sample(patch(setup, Settings(seed=1)), setup), first)
        assert not torch.equal(sample(patch(setup, Settings(seed=2)), setup), first)

    def test_the_global_generator_is_not_touched(self, setup):
        before = torch.get_rng_state()
        sample(patch(setup, style_latent=setup.style_latent), setup)
        assert torch.equal(torch.get_rng_state(), before)

    def test_inputs_are_never_changed_in_place(self, setup):
        mask = torch.ones(1, 1, 8, 8)
        tensors = {
            "image": setup.profile.image,
            "latent": setup.profile.latent,
            "embedding": setup.profile.embedding,
            "sampled": setup.sampled,
            "offsets": setup.flow.offsets,
            "confidence": setup.flow.confidence,
            "style latent": setup.style_latent,
            "positive": setup.positive[0][0],
            "negative": setup.negative[0][0],
            "mask": mask,
        }
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        for inputs in ({"flow": setup.flow}, {"style_latent": setup.style_latent}):
            sample(patch(setup, **inputs), setup, noise_mask=mask)
        for name, tensor in tensors.items():
            assert torch.equal(tensor, copies[name]), name

    @pytest.mark.parametrize("step", [0, 2])
    def test_cancel_works_within_one_step(self, setup, step):
        model = patch(setup)
        expected = sample(model, setup, steps=4)
        steps = []

        def cancel(number, *_):
            steps.append(number)
            if number == step:
                comfy.model_management.interrupt_current_processing(True)

        with pytest.raises(comfy.model_management.InterruptProcessingException):
            sample(model, setup, steps=4, callback=cancel)
        comfy.model_management.interrupt_current_processing(False)
        assert steps == list(range(step + 1))
        assert model.get_wrappers(WrappersMP.APPLY_MODEL, injection.KEY)[0].__self__.run.hints == {}
        assert torch.equal(sample(model, setup, steps=4), expected)


class TestMergeControl:
    """Level order and padding against lists written by hand."""

    shapes = [(1, 2, 4), (1, 2, 4), (2, 1, 2)]  # two encoder blocks and a middle one

    def own(self):
        return [torch.full((1, *shape), float(number)) for number, shape in enumerate(self.shapes, 1)]

    def test_alone(self):
        merged = injection.merge_control(self.own(), None, 1, self.shapes)
        assert [float(entry.mean()) for entry in merged["output"]] == [1.0, 2.0]
        assert [float(entry.mean()) for entry in merged["middle"]] == [3.0]
        assert merged["input"] == []

    def test_a_shorter_list_belongs_to_the_end(self):
        """The UNet pops from the end: a list of one is for the last encoder block."""
        merged = injection.merge_control(self.own(), {"output": [torch.full((1, 1, 2, 2), 10.0)]}, 1, self.shapes)
        assert merged["output"][0].tolist() == self.own()[0].tolist()
        assert merged["output"][1].tolist() == [[[[12.0, 12.0, 2.0, 2.0]] * 2]]

    def test_empty_entries_and_input_lists(self):
        control = {"output": [None, None], "middle": [None], "input": [None, torch.full((1, 1, 2, 2), 5.0)]}
        merged = injection.merge_control(self.own(), control, 1, self.shapes)
        assert merged["input"][0] is None
        assert merged["input"][1].tolist() == [[[[5.0, 5.0, 0.0, 0.0]] * 2]]
        assert [float(entry.mean()) for entry in merged["output"] + merged["middle"]] == [1.0, 2.0, 3.0]

    def test_nothing_handed_in_is_changed(self):
        own, theirs = (
            self.own(),
            {"output": [torch.ones(1, 1, 2, 2)] * 2, "middle": [torch.ones(1, 2, 1, 1)], "input": []},
        )
        copies = copy.deepcopy((own, theirs))
        merged = injection.merge_control(own, theirs, 1, self.shapes)
        merged["output"].pop()
        assert str(copies) == str((own, theirs))

    def test_too_many_entries(self):
        with pytest.raises(ValueError, match="another ControlNet"):
            injection.merge_control(self.own(), {"output": [torch.ones(1, 1, 2, 2)] * 3}, 1, self.shapes)

    def test_level_shapes_are_those_of_the_real_encoder(self, setup):
        unet = random_unet(UNET, 1)
        h, seen = torch.randn(1, 4, 8, 16), []
        embedding = torch.zeros(1, 128)
        with torch.inference_mode():
            for block in [*unet.input_blocks, unet.middle_block]:
                h = block(h, embedding, torch.zeros(1, 1, 768))
                seen.append(tuple(h.shape[1:]))
        assert injection.level_shapes(UNET, 8, 16) == seen
