"""The patched MODEL among ComfyUI's own nodes, run by ComfyUI's executor with the demo bundle.

LoRA, ControlNets, noise masks and the refusal of SDXL and inpainting models are in tests/unit/test_injection.py. What artists
have to know of all this is in docs/chaining.md.
"""

import pytest
import torch

from icportrait.nodes.apply import Apply
from icportrait.tools.workflow_api import usual_widgets

SIZE = 128
STEPS = {"steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}


class Keep:
    """An output node that keeps what reaches it."""

    kept: dict = {}
    RETURN_TYPES = ()
    FUNCTION = "keep"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"optional": {"latent": ("LATENT",), "image": ("IMAGE",)}}

    @classmethod
    def IS_CHANGED(cls, **inputs):
        return float("nan")  # run again, also when nothing before it changed

    def keep(self, latent=None, image=None):
        Keep.kept = {"latent": None if latent is None else latent["samples"], "image": image}
        return {}


@pytest.fixture
def run(comfy):
    """Runs a graph whose node "keep" gets a latent or an image; returns that."""
    comfy.node_classes["TestKeep"] = Keep

    def result(prompt: dict) -> torch.Tensor:
        Keep.kept = {}
        nodes = {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in prompt.items()}
        comfy.run(nodes)
        (value,) = [one for one in Keep.kept.values() if one is not None]
        assert bool(torch.isfinite(value).all())
        return value

    return result


def graph(**changes) -> dict:
    """{name: (node, inputs)}: a patched MODEL in a stock KSampler. `changes` add or replace nodes."""
    applied = usual_widgets({"input": Apply.INPUT_TYPES()}) | {
        "model": ["bundle", 0],
        "nets": ["bundle", 3],
        "profile": ["encoded", 0],
        "sampled_image": ["sampled", 0],
        "style_latent": ["latent", 0],
        "flow_method": "window",
        "seed": 1,
    }
    nodes = {
        "bundle": ("ICPortrait_LoadDemoBundle", {}),
        "person": ("EmptyImage", {"width": SIZE, "height": SIZE, "batch_size": 1, "color": 0xC08060}),
        "style": ("EmptyImage", {"width": SIZE, "height": SIZE, "batch_size": 1, "color": 0x4060A0}),
        "encoded": (
            "ICPortrait_EncodeProfile",
            {"profile_image": ["person", 0], "vae": ["bundle", 1], "clip_vision": ["bundle", 2]},
        ),
        "sampled": (
            "ICPortrait_SamplePixels",
            {"style_image": ["style", 0], "share": 0.2, "seed": 1, "pattern": "random"},
        ),
        "latent": ("VAEEncode", {"pixels": ["style", 0], "vae": ["bundle", 1]}),
        "applied": ("ICPortrait_Apply", applied),
        "sampler": ("KSampler", sampler_inputs()),
        "keep": ("TestKeep", {"latent": ["sampler", 0]}),
    }
    return nodes | changes


def sampler_inputs(**changes) -> dict:
    """Inputs of the KSampler."""
    wires = {"positive": ["encoded", 2], "negative": ["encoded", 3], "latent_image": ["latent", 0]}
    return {"model": ["applied", 0], "seed": 5, "denoise": 0.7, **STEPS, **wires, **changes}


def without_nets(**changes) -> dict:
    """The graph whose Apply has no nets, but a flow that its attention follows. `changes` add or replace nodes."""
    estimate = {"model": ["bundle", 0], "nets": ["bundle", 3], "profile": ["encoded", 0], "style_image": ["style", 0]}
    estimate |= {"vae": ["bundle", 1], "timestep": 100, "method": "window", "seed": 1, "sampled_image": ["sampled", 0]}
    kind, inputs = graph()["applied"]
    inputs = {name: value for name, value in inputs.items() if name not in ("nets", "sampled_image", "style_latent")}
    applied = (kind, inputs | {"flow": ["flow", 0], "attention": 1.0})
    return graph(**{"flow": ("ICPortrait_EstimateFlow", estimate), "applied": applied} | changes)


@pytest.mark.parametrize(
    "patch",
    [
        ("FreeU", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
        ("FreeU_V2", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
        ("HyperTile", {"tile_size": 64, "swap_size": 2, "max_depth": 0, "scale_depth": False}),
    ],
    ids=lambda patch: patch[0],
)
@pytest.mark.parametrize("made", [graph, without_nets])
def test_patches_of_the_model_work_under_apply(run, patch, made):
    plain = run(made())
    name, inputs = patch
    kind, applied = made()["applied"]
    applied = (kind, applied | {"model": ["patch", 0]})
    other = run(made(patch=(name, inputs | {"model": ["bundle", 0]}), applied=applied))
    assert other.shape == plain.shape
    if name != "HyperTile":  # its tiles may be as large as this small picture's maps
        assert not torch.equal(other, plain)


def test_sampler_custom_advanced_gives_what_ksampler_gives(run):
    advanced = graph(
        noise=("RandomNoise", {"noise_seed": 5}),
        guider=(
            "CFGGuider",
            {"model": ["applied", 0], "positive": ["encoded", 2], "negative": ["encoded", 3], "cfg": 3.0},
        ),
        chosen=("KSamplerSelect", {"sampler_name": "euler"}),
        sigmas=("BasicScheduler", {"model": ["applied", 0], "scheduler": "normal", "steps": 2, "denoise": 0.7}),
        sampler=(
            "SamplerCustomAdvanced",
            {
                "noise": ["noise", 0],
                "guider": ["guider", 0],
                "sampler": ["chosen", 0],
                "sigmas": ["sigmas", 0],
                "latent_image": ["latent", 0],
            },
        ),
    )
    assert torch.equal(run(advanced), run(graph()))


def test_tiled_vae_decodes_what_comes_out(run):
    plain = run(
        graph(
            decoded=("VAEDecode", {"samples": ["sampler", 0], "vae": ["bundle", 1]}),
            keep=("TestKeep", {"image": ["decoded", 0]}),
        )
    )
    tiles = {"tile_size": 64, "overlap": 32, "temporal_size": 64, "temporal_overlap": 8}
    decoded = ("VAEDecodeTiled", {"samples": ["sampler", 0], "vae": ["bundle", 1], **tiles})
    tiled = run(graph(decoded=decoded, keep=("TestKeep", {"image": ["decoded", 0]})))
    assert tiled.shape == plain.shape == (1, SIZE, SIZE, 3)
    assert (tiled - plain).abs().mean() < 0.1


class TestLatentUpscale:
    LARGER = ("LatentUpscaleBy", {"samples": ["sampler", 0], "upscale_method": "bilinear", "scale_by": 2.0})

    def second(self, model):
        sampler = sampler_inputs(latent_image=["larger", 0], model=model, denoise=0.3)
        return graph(larger=self.LARGER, second=("KSampler", sampler), keep=("TestKeep", {"latent": ["second", 0]}))

    def test_the_plain_model_refines_a_larger_latent(self, run):
        assert run(self.second(["bundle", 0])).shape[-2:] == (SIZE // 4, SIZE // 4)

    def test_the_patched_model_says_that_sizes_differ(self, run):
        with pytest.raises(RuntimeError, match="the sampler works on 256 x 256 pixels, but the profile is 128 x 128"):
            run(self.second(["applied", 0]))


class TestRegions:
    @pytest.mark.parametrize("made", [graph, without_nets])
    def test_a_conditioning_mask_is_followed(self, run, made):
        masked = made(
            region=("SolidMask", {"value": 1.0, "width": SIZE // 2, "height": SIZE}),
            whole=("SolidMask", {"value": 0.0, "width": SIZE, "height": SIZE}),
            half=(
                "MaskComposite",
                {"destination": ["whole", 0], "source": ["region", 0], "x": 0, "y": 0, "operation": "add"},
            ),
            regional=(
                "ConditioningSetMask",
                {"conditioning": ["encoded", 2], "mask": ["half", 0], "strength": 1.0, "set_cond_area": "default"},
            ),
            both=("ConditioningCombine", {"conditioning_1": ["regional", 0], "conditioning_2": ["encoded", 3]}),
            sampler=("KSampler", sampler_inputs(positive=["both", 0])),
        )
        assert not torch.equal(run(masked), run(made()))

    def test_area_conditioning_is_refused(self, run):
        area = {"width": 64, "height": SIZE, "x": 0, "y": 0, "strength": 1.0}
        regional = graph(
            area=("ConditioningSetArea", {"conditioning": ["encoded", 2], **area}),
            sampler=("KSampler", sampler_inputs(positive=["area", 0])),
        )
        with pytest.raises(RuntimeError, match="area conditioning and tiled sampling cannot be combined"):
            run(regional)


@pytest.mark.parametrize("made", [graph, without_nets])
def test_a_batch_of_seeds_gives_as_many_pictures(run, made):
    batch = made(
        several=("RepeatLatentBatch", {"samples": ["latent", 0], "amount": 2}),
        sampler=("KSampler", sampler_inputs(latent_image=["several", 0])),
    )
    result = run(batch)
    assert result.shape[0] == 2 and not torch.equal(result[0], result[1])


def test_the_model_is_as_before_when_apply_is_bypassed(run):
    plain = sampler_inputs(model=["bundle", 0])
    before = run(graph(sampler=("KSampler", plain)))
    run(graph())
    assert torch.equal(run(graph(sampler=("KSampler", plain))), before)
