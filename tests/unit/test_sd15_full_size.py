"""Any SD1.5 checkpoint is a base: one of SD1.5's exact key names and shapes, with random weights, through ComfyUI's
own checkpoint loader, with full-size nets, for two steps at 256 px.

About 3.6 GB on disk and 9 GB of memory while it runs.
"""

import gc
import itertools
import shutil

import comfy.model_management
import comfy.ops
import comfy.sample
import comfy.sd
import pytest
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from tiny_models import picture, randomise

from icportrait.models.method import encoding, injection, matching
from icportrait.models.method.attention import FlowAttention, with_flow_attention
from icportrait.models.method.pixel_sampling import sample_pixels
from icportrait.models.nets import files as net_files
from icportrait.models.nets import loading
from icportrait.models.nets import portrait_net as nets
from icportrait.models.types import Flow, Profile
from icportrait.training import cli
from icportrait.training.data.photographs import read_picture
from icportrait.training.evaluation.measure.dryrun import RandomWeights, checkpoint_shapes, write_checkpoint

# The published checkpoint's own figures: tensors and parameters of each part.
PARTS = {
    "model.diffusion_model.": (686, 859_520_964),
    "first_stage_model.": (248, 83_653_863),
    "cond_stage_model.transformer.text_model.": (196, 123_060_480),
}


def write_net(path, role: str, seed: int) -> None:
    """A full-size net of random weights."""
    config = nets.net_config(role, nets.SD15_UNET)
    weights = RandomWeights(seed)
    shapes = {name: tensor.shape for name, tensor in nets.build_net(config, device="meta").state_dict().items()}
    tensors = {name: weights(name, shape) for name, shape in shapes.items()}
    net_files.save_net(path, tensors, config, {"steps": 0, "license": "CC0-1.0"})


def test_the_checkpoint_has_sd15s_own_names_and_sizes():
    shapes = checkpoint_shapes()
    for prefix, (tensors, parameters) in PARTS.items():
        part = [shape for name, shape in shapes.items() if name.startswith(prefix)]
        assert (len(part), sum(shape.numel() for shape in part)) == (tensors, parameters)
    assert shapes["model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"] == (320, 768)
    assert shapes["model.diffusion_model.output_blocks.11.1.proj_out.weight"] == (320, 320, 1, 1)
    assert shapes["first_stage_model.decoder.up.3.upsample.conv.weight"] == (512, 512, 3, 3)
    assert shapes["cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc1.weight"] == (3072, 768)


def peak_bytes(work) -> int:
    """The most that `work()` holds at one time beyond what was there before."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True, activities=activities) as profile:
        work()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(sizes))


@pytest.mark.slow
def test_attention_along_the_flow_needs_no_square_of_the_tokens():
    """SD1.5's finest attention (320 channels, 8 heads) for cond and uncond rows of a pair of 512 px crops: a map of 64 x 128."""
    rows = 2
    block = randomise(BasicTransformerBlock(320, 8, 40, context_dim=768, operations=comfy.ops.disable_weight_init), 7)
    generator = torch.Generator().manual_seed(8)
    tokens, context = torch.randn(rows, 64 * 128, 320, generator=generator), torch.zeros(rows, 1, 768)
    plain = {"original_shape": [rows, 4, 64, 128]}
    offsets, confidence = torch.zeros(rows, 2, 512, 512), torch.ones(rows, 1, 512, 512)
    attending = with_flow_attention(plain, FlowAttention(offsets, confidence, 1.0, (64, 128)))
    results = {}
    peaks = [
        peak_bytes(lambda name=name, options=options: results.update({name: block(tokens.clone(), context, options)}))
        for name, options in (("plain", plain), ("attending", attending))
    ]
    assert results["attending"].shape == tokens.shape and results["attending"].isfinite().all()
    assert (results["attending"] - results["plain"]).abs().mean() > 1e-3
    assert peaks[1] <= 1.25 * peaks[0]
    assert peaks[1] - peaks[0] < (64 * 128) ** 2 * 4 / 4  # a bias on the logits alone would be four times as much


@pytest.mark.slow
def test_runs_with_full_size_nets(tmp_path):
    checkpoint = tmp_path / "sd15.safetensors"
    write_checkpoint(checkpoint)
    for seed, role in enumerate(nets.ROLES, 2):
        write_net(tmp_path / f"{role}.safetensors", role, seed)
    gc.collect()
    try:
        with torch.inference_mode():
            model, clip, vae = comfy.sd.load_checkpoint_guess_config(str(checkpoint))[:3]
            assert type(model.model.model_config).__name__ == "SD15" and clip is not None
            portrait_nets = loading.load_portrait_nets(*(tmp_path / f"{role}.safetensors" for role in nets.ROLES))
            assert len(portrait_nets.matching.module.input_blocks) == 12
            assert portrait_nets.matching.module.input_blocks[1][1].transformer_blocks[0].attn1.heads == 8

            style, image = picture(1, 256, 256), picture(2, 256, 256)
            embedding = torch.randn(1, 1, 768, generator=torch.Generator().manual_seed(3))
            profile = Profile(image, encoding.encode_picture(vae, image, "profile picture"), embedding)
            style_latent = encoding.encode_picture(vae, style, "style crop")
            sampled, _ = sample_pixels(style, 0.2, torch.Generator().manual_seed(4))
            flow = matching.estimate_flow(model, portrait_nets, profile, style_latent, sampled, 100, "window", 0)
            assert flow.offsets.shape == (1, 2, 16, 16)

            patched = injection.apply_portrait(model, portrait_nets, profile, sampled, injection.Settings(), flow)
            fine = Flow(torch.full((1, 2, 256, 256), 9.0), torch.ones(1, 1, 256, 256), 256, 256)  # as from a mesh
            alone, off, attending = (
                injection.apply_portrait(model, None, profile, None, injection.Settings(**changes), fine)
                for changes in ({}, {"strength": 0.0, "attention": 1.0}, {"attention": 1.0})
            )
            noise = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(5))
            positive, negative = encoding.conditionings(profile)
            results = [
                comfy.sample.sample(
                    one, noise, 2, 1.0, "euler", "normal", positive, negative, style_latent, denoise=0.7, seed=5
                )
                for one in (patched, model, off, alone, attending)
            ]
        assert all(result.shape == (1, 4, 32, 32) and result.isfinite().all() for result in results)
        with_nets, plain, switched_off, pair, with_attention = results
        assert torch.equal(switched_off, plain)
        for one, other in ((with_nets, plain), (with_nets, pair), (pair, plain), (with_attention, pair)):
            assert (one - other).abs().mean() > 1e-3
    finally:
        comfy.model_management.unload_all_models()
        gc.collect()
        shutil.rmtree(tmp_path)  # pytest would keep the last three of these


@pytest.mark.slow
def test_portraits_are_painted_from_words(tmp_path, capsys):
    """`data views --checkpoint`: text encoder, sampler and autoencoder are ComfyUI's; random weights paint no face, which is said."""
    checkpoint, prompts, out = tmp_path / "sd15.safetensors", tmp_path / "prompts.txt", tmp_path / "out"
    write_checkpoint(checkpoint)
    prompts.write_text("an old man\n\na young woman with long hair\n", encoding="utf-8")
    words = f"data views --checkpoint {checkpoint} --prompts {prompts} --out {out} --workers 1"
    words += " --steps 2 --side 128 --pairs 2 --size 64"
    try:
        assert cli.main(words.split()) == 2
        assert "none of the 2 pictures" in capsys.readouterr().err
        paths = sorted((out / "portraits").iterdir())
        assert [path.name for path in paths] == ["painted-0-00000.png", "painted-0-00001.png"]
        first, second = (read_picture(path)[0] for path in paths)
        assert first.shape == second.shape == (128, 128, 3)
        assert min(first.std(), second.std(), (first - second).abs().mean()) > 0.01
        paths[1].unlink()  # only what is missing is painted, and it comes out the same
        before = paths[0].stat().st_mtime_ns
        cli.main(words.split())
        assert paths[0].stat().st_mtime_ns == before and torch.equal(read_picture(paths[1])[0], second)
        prompts.write_text("an old man\na wooden chair\n", encoding="utf-8")
        paths[1].unlink()
        cli.main(words.split())
        assert (read_picture(paths[1])[0] - second).abs().mean() > 1e-3  # same noise: the words matter
    finally:
        comfy.model_management.unload_all_models()
        gc.collect()
        shutil.rmtree(tmp_path)
