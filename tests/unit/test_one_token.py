"""Cross-attention to one token: the same features for one query as for all."""

import pytest
import torch
from tiny_models import UNET, portrait_setup, random_unet, sample

from icportrait.models.method.injection import Settings, apply_portrait
from icportrait.models.nets.one_token import one_query, with_one_query


@pytest.fixture(scope="module")
def unet():
    return random_unet(UNET, 1)


def queries(unet) -> list[int]:
    """How many queries the first cross-attention was asked, run by run."""
    asked = []
    first = next(module for name, module in unet.named_modules() if name.endswith("attn2.to_q"))
    first.register_forward_pre_hook(lambda module, args: asked.append(args[0].shape[1]))
    return asked


def run(unet, context, options):
    x = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return unet(x, torch.tensor([300.0, 300.0]), context=context, transformer_options=options)


def test_one_query_stands_for_all(unet):
    asked = queries(unet)
    context = torch.randn(2, 1, 768, generator=torch.Generator().manual_seed(4))
    all_, one = run(unet, context, {}), run(unet, context, with_one_query({}))
    torch.testing.assert_close(one, all_, rtol=1e-5, atol=1e-5)
    assert asked[0] > 1 and asked[1] == 1


def test_several_tokens_are_asked_by_all(unet):
    context = torch.randn(2, 77, 768, generator=torch.Generator().manual_seed(4))
    assert torch.equal(run(unet, context, with_one_query({})), run(unet, context, {}))


@pytest.mark.parametrize("patches", [{"attn2_patch": [print]}, {"attn2_output_patch": [print]}])
def test_nodes_that_patch_cross_attention_find_all_queries(patches):
    options = {"patches": patches}
    assert with_one_query(options) is options
    options = {"patches_replace": {"attn2": {("middle", 0): print}}}
    assert with_one_query(options) is options


def test_the_callers_options_stay_as_they_were():
    options = {"patches": {"attn1_patch": [print]}}
    assert with_one_query(options)["patches"] == {"attn1_patch": [print], "attn2_patch": [one_query]}
    assert options == {"patches": {"attn1_patch": [print]}}


@pytest.mark.parametrize("nets", [True, False])
def test_the_portrait_asks_once(nets):
    setup = portrait_setup()
    model = apply_portrait(
        setup.model, setup.nets if nets else None, setup.profile, setup.sampled, Settings(), setup.flow
    )
    net = setup.nets.appearance.module if nets else setup.model.model.diffusion_model
    first = next(module for name, module in net.named_modules() if name.endswith("attn2.to_q"))
    asked = []
    hook = first.register_forward_pre_hook(lambda module, args: asked.append(args[0].shape[1]))
    try:
        sample(model, setup)
    finally:
        hook.remove()
    assert asked and set(asked) == {1}
