"""The matching and appearance net: a stock ControlNet with a tap, started from the UNet."""

import comfy.cldm.cldm
import comfy.ops
import pytest
import torch
from tiny_models import UNET, random_net, random_unet

from icportrait.models.nets import portrait_net as nets

BLOCKS = 12
TAP = 5


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def inputs() -> dict:
    """A pair of 64-px views: 8 x 16 cells."""
    return {
        "x": random(1, 2, 4, 8, 16),
        "hint": random(2, 2, 3, 64, 128).sigmoid(),
        "timesteps": torch.tensor([3, 871]),
        "context": random(3, 2, 1, 768),
    }


@pytest.fixture(scope="module")
def net() -> nets.PortraitNet:
    return random_net(nets.net_config("matching", UNET), 5)


@pytest.fixture(scope="module")
def fresh() -> tuple[torch.nn.Module, nets.PortraitNet]:
    """(UNet, net as training starts it)."""
    unet = random_unet(UNET, 8)
    net = nets.build_net(nets.net_config("matching", UNET))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(float("nan"))  # nothing may be left as it was
    nets.initialise_from_unet(net, unet, torch.Generator().manual_seed(0))
    return unet, net


def unet_encoder_features(unet: torch.nn.Module, x, timesteps, context) -> list[torch.Tensor]:
    """What the UNet itself computes after each encoder block and the middle block.

    ComfyUI calls a block's layers, not the block, so the last layer of each is listened to.
    """
    features, hooks = [], []
    for block in (*unet.input_blocks, unet.middle_block):
        hooks.append(block[-1].register_forward_hook(lambda _, __, out: features.append(out.clone())))
    with torch.no_grad():
        unet(x, timesteps, context)
    for hook in hooks:
        hook.remove()
    assert len(features) == BLOCKS + 1
    return features


class TestResiduals:
    @torch.no_grad()
    def test_equal_the_stock_controlnets(self, net, inputs):
        config = nets.net_config("appearance", UNET)
        stock = comfy.cldm.cldm.ControlNet(
            hint_channels=3, dtype=torch.float32, operations=comfy.ops.disable_weight_init, **config["unet"]
        )
        stock.load_state_dict(net.state_dict())
        wanted = stock(**inputs)
        hint = net.encode_hint(inputs["hint"])
        ours = net.residuals(inputs["x"], inputs["timesteps"], inputs["context"], hint)
        assert len(ours) == len(wanted["output"]) + 1 == BLOCKS + 1
        for a, b in zip(ours, wanted["output"] + wanted["middle"], strict=True):
            assert a.abs().mean() > 0.01
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * b.abs().max().item())

    @torch.no_grad()
    def test_the_hint_matters_and_is_not_changed(self, net, inputs):
        hint = net.encode_hint(inputs["hint"])
        before = hint.clone()
        rest = inputs["x"], inputs["timesteps"], inputs["context"]
        with_hint, without = net.residuals(*rest, hint), net.residuals(*rest, torch.zeros_like(hint))
        assert all((a - b).abs().mean() > 0.01 for a, b in zip(with_hint, without, strict=True))
        assert torch.equal(hint, before)

    def test_have_the_shapes_the_unet_expects(self, net, inputs):
        with torch.no_grad():
            hint = net.encode_hint(inputs["hint"])
            out = net.residuals(inputs["x"], inputs["timesteps"], inputs["context"], hint)
        sizes = [tuple(residual.shape[1:]) for residual in out]
        widths = [32] * 3 + [32] + [64] * 2 + [64] + [96] * 2 + [96] + [96] * 2 + [96]
        heights = [8] * 3 + [4] * 3 + [2] * 3 + [1] * 4
        assert sizes == [(width, height, 2 * height) for width, height in zip(widths, heights, strict=True)]


class TestTap:
    def test_no_block_after_it_is_run(self, net, inputs):
        calls = []
        watched = [*net.input_blocks, net.middle_block, *net.zero_convs, net.middle_block_out]
        hooks = [block.register_forward_hook(lambda module, *_: calls.append(module)) for block in watched]
        with torch.no_grad():
            hint = net.encode_hint(inputs["hint"])
            net.features(inputs["x"], inputs["timesteps"], inputs["context"], hint, TAP)
        for hook in hooks:
            hook.remove()
        assert calls == list(net.input_blocks[: TAP + 1])

    @torch.no_grad()
    def test_is_what_the_residuals_are_made_of(self, net, inputs):
        hint = net.encode_hint(inputs["hint"])
        rest = inputs["x"], inputs["timesteps"], inputs["context"], hint
        residuals = net.residuals(*rest)
        for tap in (0, TAP, BLOCKS - 1):
            assert torch.equal(net.zero_convs[tap](net.features(*rest, tap), None, None), residuals[tap])

    @torch.no_grad()
    def test_several_in_one_pass_are_those_of_each(self, net, inputs):
        rest = inputs["x"], inputs["timesteps"], inputs["context"], net.encode_hint(inputs["hint"])
        found = net.block_features(*rest, (TAP, 1))
        assert list(found) == [1, TAP]
        assert all(torch.equal(features, net.features(*rest, tap)) for tap, features in found.items())

    def test_one_that_does_not_exist_is_refused(self, net, inputs):
        with torch.no_grad(), pytest.raises(ValueError, match="Tap 12 does not exist.*0 to 11"):
            hint = net.encode_hint(inputs["hint"])
            net.features(inputs["x"], inputs["timesteps"], inputs["context"], hint, 12)

    @torch.no_grad()
    def test_a_fine_tap_makes_the_cosine_the_mean_of_both_blocks(self, net, inputs):
        """Plain loops: bilinear features of the coarse block a half, cosine of each, their mean."""
        hint = net.encode_hint(inputs["hint"])
        rest = inputs["x"], inputs["timesteps"], inputs["context"], hint
        both, coarse, fine = (net.features(*rest, *taps) for taps in ((TAP, 2), (TAP,), (2,)))
        assert both.shape[-2:] == fine.shape[-2:]
        assert fine.shape[-1] == 2 * coarse.shape[-1]
        width = fine.shape[-1] // 2

        def coarse_at(x, y):  # cell centres of the fine grid on the coarse one, clamped within the half
            half, column = divmod(x, width)
            part = coarse[0].chunk(2, dim=-1)[half].double()
            cx = min(max((column + 0.5) / 2 - 0.5, 0), part.shape[-1] - 1)
            cy = min(max((y + 0.5) / 2 - 0.5, 0), part.shape[-2] - 1)
            x0, y0 = int(cx), int(cy)
            x1, y1 = min(x0 + 1, part.shape[-1] - 1), min(y0 + 1, part.shape[-2] - 1)
            top = part[:, y0, x0] * (1 - (cx - x0)) + part[:, y0, x1] * (cx - x0)
            low = part[:, y1, x0] * (1 - (cx - x0)) + part[:, y1, x1] * (cx - x0)
            return top * (1 - (cy - y0)) + low * (cy - y0)

        def cosine(a, b):
            return float((a * b).sum() / (a.norm() * b.norm()))

        for (xa, ya), (xb, yb) in [((0, 0), (width, 0)), ((3, 2), (width + 5, 6)), ((width - 1, 7), (width, 7))]:
            got = cosine(both[0, :, ya, xa].double(), both[0, :, yb, xb].double())
            one = cosine(coarse_at(xa, ya), coarse_at(xb, yb))
            two = cosine(fine[0, :, ya, xa].double(), fine[0, :, yb, xb].double())
            assert got == pytest.approx((one + two) / 2, abs=1e-5)

    def test_a_fine_tap_must_lie_before_the_tap(self, net, inputs):
        with torch.no_grad(), pytest.raises(ValueError, match="fine tap .5. must be an encoder block before"):
            hint = net.encode_hint(inputs["hint"])
            net.features(inputs["x"], inputs["timesteps"], inputs["context"], hint, 3, 5)

    def test_files_without_a_fine_tap_still_load(self):
        assert nets.taps({"tap": 5}) == (5, None)
        assert nets.taps(nets.net_config("matching", nets.SD15_UNET)) == (5, None)
        assert nets.taps(nets.net_config("matching", nets.SD15_UNET, fine_tap=2)) == (5, 2)

    def test_default_is_the_last_block_of_the_second_resolution(self):
        assert nets.net_config("matching", nets.SD15_UNET)["tap"] == 5
        assert nets.net_config("matching", UNET | {"num_res_blocks": [1, 3, 2, 2]})["tap"] == 5
        assert nets.net_config("matching", UNET, tap=8)["tap"] == 8


class TestStart:
    """ControlNet's initialisation: at step 0 the net adds nothing and computes what the UNet computes."""

    @torch.no_grad()
    def test_every_weight_is_set_and_shared_ones_are_the_unets(self, fresh):
        unet, net = fresh
        source = unet.state_dict()
        shared = 0
        for name, parameter in net.named_parameters():
            assert torch.isfinite(parameter).all(), name
            if name in source:
                assert torch.equal(parameter, source[name])
                shared += 1
        wanted = [name for name in source if name.split(".")[0] in ("time_embed", "input_blocks", "middle_block")]
        assert shared == len(wanted) > 100

    @torch.no_grad()
    def test_all_residuals_are_zero(self, fresh, inputs):
        _, net = fresh
        hint = net.encode_hint(inputs["hint"])
        assert torch.count_nonzero(hint) == 0
        for residual in net.residuals(inputs["x"], inputs["timesteps"], inputs["context"], hint):
            assert torch.count_nonzero(residual) == 0

    @torch.no_grad()
    def test_features_are_exactly_the_unets(self, fresh, inputs):
        unet, net = fresh
        rest = inputs["x"], inputs["timesteps"], inputs["context"]
        wanted = unet_encoder_features(unet, *rest)
        hint = net.encode_hint(inputs["hint"])
        for tap in range(BLOCKS):
            assert torch.equal(net.features(*rest, hint, tap), wanted[tap]), tap

    def test_the_hint_block_can_learn(self, fresh, inputs):
        """Only its last layer is zero: gradients reach it at once, and everything before it after one step."""
        _, net = fresh
        last = net.input_hint_block[14]
        for name, parameter in net.input_hint_block.named_parameters():
            assert name.startswith("14.") or parameter.ndim == 1 or torch.count_nonzero(parameter) > 0, name
        loss = net.features(inputs["x"], inputs["timesteps"], inputs["context"], net.encode_hint(inputs["hint"]), TAP)
        (gradient,) = torch.autograd.grad(loss.square().mean(), last.weight)
        assert gradient.abs().sum() > 0

    def test_the_generator_decides(self, fresh):
        unet, net = fresh
        again = nets.build_net(nets.net_config("matching", UNET))
        torch.manual_seed(99)
        state = torch.get_rng_state()
        nets.initialise_from_unet(again, unet, torch.Generator().manual_seed(0))
        assert torch.equal(torch.get_rng_state(), state)
        for (name, a), b in zip(net.named_parameters(), again.parameters(), strict=True):
            assert torch.equal(a, b), name


class TestConfig:
    def test_heads_decide_the_result_but_not_the_weights_shapes(self, net, inputs):
        """Why a config must be stored: another head count takes the same weights and computes something else."""
        other = nets.build_net(nets.net_config("matching", UNET | {"num_head_channels": 8}))
        other.load_state_dict(net.state_dict())  # fits
        with torch.no_grad():
            rest = inputs["x"], inputs["timesteps"], inputs["context"], net.encode_hint(inputs["hint"])
            assert not torch.allclose(net.features(*rest, 8), other.features(*rest, 8), atol=1e-3)

    @pytest.mark.parametrize(
        "given,wanted",
        [
            ({"num_heads": 8, "num_head_channels": -1}, (8, -1)),
            ({"num_heads": -1, "num_head_channels": 32}, (-1, 32)),
            ({"num_heads": 4}, (4, -1)),
            ({"num_head_channels": 64}, (-1, 64)),
        ],
    )
    def test_heads_are_kept_however_they_are_given(self, given, wanted):
        config = {key: value for key, value in UNET.items() if not key.startswith("num_head")} | given
        unet = nets.net_config("matching", config)["unet"]
        assert (unet["num_heads"], unet["num_head_channels"]) == wanted

    def test_a_config_without_heads_is_refused(self):
        config = {key: value for key, value in UNET.items() if not key.startswith("num_head")}
        with pytest.raises(ValueError, match="lacks num_heads or num_head_channels"):
            nets.net_config("matching", config)

    def test_a_missing_key_is_named(self):
        config = {key: value for key, value in UNET.items() if key != "transformer_depth"}
        with pytest.raises(ValueError, match="lacks transformer_depth"):
            nets.net_config("matching", config)

    def test_an_unknown_role_is_refused(self):
        with pytest.raises(ValueError, match="'light'; choose one of matching, appearance"):
            nets.net_config("light", UNET)

    def test_ignores_what_does_not_shape_a_net(self):
        config = nets.net_config("appearance", UNET | {"use_temporal_attention": False, "dtype": torch.float16})
        assert set(config["unet"]) == set(nets.UNET_KEYS)
