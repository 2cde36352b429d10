"""The stage nodes, called as ComfyUI calls them, and what they say about bad inputs."""

import folder_paths
import numpy as np
import pytest
import torch
from tiny_models import picture, portrait_setup, sample, write_bundle, write_nets

from icportrait.models.method.correspondence import warp
from icportrait.models.nets import bundle
from icportrait.nodes import apply, conditioning, loaders, matching, sampling
from icportrait.tools.workflow_api import usual_widgets


@pytest.fixture
def setup():
    return portrait_setup()


def run(node, *args, **kwargs):
    """The node's outputs as a tuple."""
    with torch.inference_mode():
        return node.execute(*args, **kwargs).args


def sentence(node, *args, **kwargs) -> str:
    """The error sentence, which must name the node."""
    with pytest.raises(ValueError) as caught:
        run(node, *args, **kwargs)
    name = node.define_schema().display_name
    assert str(caught.value).startswith(f"{name}: ")
    return str(caught.value)


class TestLoaders:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        """models/icportrait in a folder of its own, with nets under free names."""
        monkeypatch.setitem(folder_paths.folder_names_and_paths, loaders.FOLDER, ([str(tmp_path)], {".safetensors"}))
        folder_paths.filename_list_cache.pop(loaders.FOLDER, None)
        matching_path, appearance_path = write_nets(tmp_path)
        matching_path.rename(tmp_path / "one.safetensors")
        appearance_path.rename(tmp_path / "two.safetensors")
        (tmp_path / "notes.ckpt").write_text("no net")
        yield tmp_path
        folder_paths.filename_list_cache.pop(loaders.FOLDER, None)

    def test_nets_are_recognised_by_their_metadata(self, folder):
        (nets,) = run(loaders.LoadNets, "one.safetensors", "two.safetensors")
        assert (nets.matching.config["role"], nets.appearance.config["role"]) == ("matching", "appearance")

    def test_only_safetensors_are_offered(self, folder):
        files = next(entry for entry in loaders.LoadNets.define_schema().inputs if entry.id == "matching_file").options
        assert sorted(files) == ["one.safetensors", "two.safetensors"]

    def test_the_folder_is_registered_with_its_extension(self):
        loaders.register_folder()
        paths, extensions = folder_paths.folder_names_and_paths["icportrait"]
        assert extensions == {".safetensors"}
        assert paths[-1].endswith("icportrait")

    def test_swapped_files(self, folder):
        assert "swap the two files" in sentence(loaders.LoadNets, "two.safetensors", "one.safetensors")

    def test_a_truncated_file(self, folder):
        path = folder / "one.safetensors"
        path.write_bytes(path.read_bytes()[:5000])
        assert "one.safetensors" in sentence(loaders.LoadNets, "one.safetensors", "two.safetensors")

    @pytest.mark.parametrize("name", ["notes.ckpt", "../secret.safetensors", "missing.safetensors"])
    def test_a_name_that_is_not_offered(self, folder, name):
        assert "matching_file must be one of" in sentence(loaders.LoadNets, name, "two.safetensors")

    def test_an_empty_folder(self, tmp_path, monkeypatch):
        empty = tmp_path / "empty"
        empty.mkdir()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, loaders.FOLDER, ([str(empty)], {".safetensors"}))
        folder_paths.filename_list_cache.pop(loaders.FOLDER, None)
        assert str(empty) in sentence(loaders.LoadNets, "", "")
        folder_paths.filename_list_cache.pop(loaders.FOLDER, None)

    def test_a_changed_file_is_loaded_again(self, folder):
        before = loaders.LoadNets.fingerprint_inputs("one.safetensors", "two.safetensors")
        assert before == loaders.LoadNets.fingerprint_inputs("one.safetensors", "two.safetensors")
        (folder / "one.safetensors").write_bytes(b"changed")
        assert before != loaders.LoadNets.fingerprint_inputs("one.safetensors", "two.safetensors")

    def test_the_bundle(self, setup, monkeypatch, tmp_path):
        monkeypatch.setattr(bundle, "FOLDER", setup.folder)
        model, vae, clip_vision, nets = run(loaders.LoadDemoBundle)
        assert torch.equal(sample(model, setup), sample(setup.model, setup))
        assert loaders.LoadDemoBundle.fingerprint_inputs()
        monkeypatch.setattr(bundle, "FOLDER", tmp_path)
        assert "lacks base.safetensors" in sentence(loaders.LoadDemoBundle)


class TestSamplePixels:
    def test_keeps_the_share_and_the_region(self):
        image = picture(1, 128, 128) * 0.9 + 0.05
        region = torch.zeros(1, 128, 128)
        region[:, :, :64] = 1
        sampled, kept = run(conditioning.SamplePixels, image, 0.25, 3, "random", region)
        assert torch.equal(sampled, image * kept[..., None])
        assert kept[:, :, 64:].sum() == 0
        assert abs(float(kept[:, :, :64].mean()) - 0.25) < 0.03

    def test_a_seed_of_numpy_is_a_seed(self):
        ours, theirs = (run(conditioning.SamplePixels, picture(1), 0.2, seed, "random") for seed in (3, np.int64(3)))
        assert torch.equal(ours[1], theirs[1])

    def test_the_seed_decides_and_the_global_generator_stays(self):
        state = torch.get_rng_state()
        first = run(conditioning.SamplePixels, picture(1), 0.2, 3, "random")
        assert torch.equal(first[1], run(conditioning.SamplePixels, picture(1), 0.2, 3, "random")[1])
        assert not torch.equal(first[1], run(conditioning.SamplePixels, picture(1), 0.2, 4, "random")[1])
        assert torch.equal(torch.get_rng_state(), state)

    def test_bad_inputs(self):
        image = picture(1)
        faint = sentence(conditioning.SamplePixels, image, 0.2, 0, "random", torch.full((1, 64, 64), 0.3))
        assert "region is nowhere above half" in faint
        wrong = sentence(conditioning.SamplePixels, image, 0.2, 0, "random", torch.ones(1, 32, 64))
        assert "64x32" in wrong
        bytes_ = (image * 255).to(torch.uint8)
        assert "divide it by 255" in sentence(conditioning.SamplePixels, bytes_, 0.2, 0, "random")
        for strange in (image.to("meta"), image.to_sparse(), image.to(torch.complex64)):
            assert "dense tensor of real numbers" in sentence(conditioning.SamplePixels, strange, 0.2, 0, "random")
        greys = torch.full((1, 64, 64), 128, dtype=torch.uint8)
        assert "divide it by 255" in sentence(conditioning.SamplePixels, image, 0.2, 0, "random", greys)
        assert "NaN or infinite pixels" in sentence(conditioning.SamplePixels, image / 0, 0.2, 0, "random")
        assert "pattern must be one of" in sentence(conditioning.SamplePixels, image, 0.2, 0, "spiral")
        assert "between 0 and 1" in sentence(conditioning.SamplePixels, image, 1.2, 0, "random")


class TestEncodeProfile:
    def test_gives_every_form(self, setup):
        image = picture(1)
        profile, latent, positive, negative = run(conditioning.EncodeProfile, image, setup.vae, setup.clip_vision)
        assert torch.equal(profile.image, image)
        assert torch.equal(latent["samples"], profile.latent)
        assert latent["samples"].data_ptr() != profile.latent.data_ptr()
        assert torch.equal(positive[0][0], profile.embedding)
        assert negative[0][0].shape == (1, 1, 768) and not negative[0][0].any()

    def test_an_alpha_channel_is_ignored(self, setup):
        image = picture(1)
        with_alpha = torch.cat((image, torch.rand(1, 64, 64, 1)), dim=-1)
        profiles = [run(conditioning.EncodeProfile, i, setup.vae, setup.clip_vision)[0] for i in (image, with_alpha)]
        assert torch.equal(profiles[0].latent, profiles[1].latent)

    def test_bad_inputs(self, setup, tmp_path):
        batch = sentence(conditioning.EncodeProfile, picture(1).repeat(2, 1, 1, 1), setup.vae, setup.clip_vision)
        assert "one picture" in batch and "2" in batch
        size = sentence(conditioning.EncodeProfile, picture(1, 64, 100), setup.vae, setup.clip_vision)
        assert "multiples of 64" in size and "100 x 64" in size
        narrow = bundle.load_vision(write_bundle(tmp_path / "narrow", vision_width=1024) / "vision.safetensors")
        width = sentence(conditioning.EncodeProfile, picture(1), setup.vae, narrow)
        assert "768" in width and "1024" in width


class TestEstimateFlow:
    def estimate(self, setup, **changes):
        arguments = {
            "model": setup.model,
            "nets": setup.nets,
            "profile": setup.profile,
            "style_image": setup.style_image,
            "vae": setup.vae,
            "timestep": 100,
            "method": "window",
            "seed": 0,
        } | changes
        return arguments

    def test_gives_flow_and_pictures(self, setup):
        flow, confidence, warped, colors, matches, sure = run(matching.EstimateFlow, **self.estimate(setup))
        height, width = setup.style_image.shape[1:3]
        assert matches.shape[1] == height and matches.shape[2] > 2 * width and sure.shape == (1, height, width, 3)
        assert (flow.height, flow.width) == (64, 64) and flow.offsets.shape == (1, 2, 4, 4)
        assert confidence.shape == (1, 64, 64) and 0 <= confidence.min() <= confidence.max() <= 1
        assert warped.shape == colors.shape == (1, 64, 64, 3)
        assert torch.equal(warped, warp(setup.profile.image.movedim(-1, 1), flow.offsets).movedim(1, -1))

    def test_method_seed_and_sampled_pixels_matter(self, setup):
        first = run(matching.EstimateFlow, **self.estimate(setup))[0].offsets
        assert torch.equal(first, run(matching.EstimateFlow, **self.estimate(setup))[0].offsets)
        for change in (
            {"method": "paper"},
            {"seed": 1},
            {"timestep": 700},
            {"sampled_image": torch.ones(1, 64, 64, 3)},
        ):
            assert not torch.equal(first, run(matching.EstimateFlow, **self.estimate(setup, **change))[0].offsets)

    def test_bad_inputs(self, setup):
        assert "method must be" in sentence(matching.EstimateFlow, **self.estimate(setup, method="x"))
        assert "nets must come from" in sentence(matching.EstimateFlow, **self.estimate(setup, nets=3))
        size = sentence(matching.EstimateFlow, **self.estimate(setup, style_image=picture(2, 128, 128)))
        assert "like the profile's" in size


class TestApply:
    def apply(self, setup, **changes):
        wires = {"model": setup.model, "nets": setup.nets, "profile": setup.profile, "sampled_image": setup.sampled}
        return (
            usual_widgets({"input": apply.Apply.INPUT_TYPES()})
            | wires
            | {"flow": setup.flow, "flow_method": "window"}
            | changes
        )

    def result(self, setup, **changes):
        (model,) = run(apply.Apply, **self.apply(setup, **changes))
        return sample(model, setup)

    def test_minus_one_means_as_trained(self, setup):
        trained = setup.nets.appearance.config
        explicit = self.result(setup, alpha=trained["alpha"], beta=trained["beta"])
        assert torch.equal(self.result(setup), explicit)
        assert not torch.equal(self.result(setup, alpha=0.0), explicit)
        assert not torch.equal(self.result(setup, beta=0.0), explicit)

    @pytest.mark.parametrize("name", ["alpha", "beta"])
    @pytest.mark.parametrize("value", [-0.5, -0.01])
    def test_other_negative_weights_are_refused(self, setup, name, value):
        assert f"{name} must be 0 or more, or -1" in sentence(apply.Apply, **self.apply(setup, **{name: value}))

    def test_strength_zero_is_the_plain_model(self, setup):
        assert torch.equal(self.result(setup, strength=0.0), sample(setup.model, setup))

    def test_flow_and_style_latent_agree(self, setup):
        from_latent = self.result(setup, flow=None, style_latent={"samples": setup.style_latent})
        assert torch.equal(self.result(setup), from_latent)

    def test_without_nets(self, setup):
        bare = {"nets": None, "sampled_image": None}
        pair = self.result(setup, **bare, flow=None)
        assert not torch.equal(pair, sample(setup.model, setup))
        assert torch.equal(self.result(setup, **bare), pair)
        assert torch.equal(self.result(setup, **bare, strength=0.0, attention=1.0), sample(setup.model, setup))
        assert not torch.equal(self.result(setup, **bare, attention=1.0), pair)
        assert "needs a flow" in sentence(apply.Apply, **self.apply(setup, **bare, flow=None, attention=1.0))

    def test_nothing_moves_with_the_new_inputs_at_their_defaults(self, setup):
        off = {"attention": 0.0, "attention_start_percent": 0.2, "attention_end_percent": 0.8}
        assert torch.equal(self.result(setup, **off), self.result(setup))

    def test_bad_inputs(self, setup):
        assert "flow_mode" in sentence(apply.Apply, **self.apply(setup, flow_mode="x"))
        assert "connect `flow`" in sentence(apply.Apply, **self.apply(setup, flow=None))
        assert "one picture" in sentence(apply.Apply, **self.apply(setup, sampled_image=torch.zeros(2, 64, 64, 3)))
        assert "one size" in sentence(apply.Apply, **self.apply(setup, sampled_image=torch.zeros(1, 64, 128, 3)))
        other = {"samples": torch.zeros(1, 4, 16, 16)}
        assert "latent must be [1, 4, 8, 8]" in sentence(
            apply.Apply, **self.apply(setup, flow=None, style_latent=other)
        )
        video = {"samples": torch.zeros(1, 16, 1, 8, 8)}
        assert "SD1.5's [B, 4, h, w]" in sentence(apply.Apply, **self.apply(setup, flow=None, style_latent=video))
        assert "profile must come from" in sentence(apply.Apply, **self.apply(setup, profile=None))
        assert "nets must come from" in sentence(apply.Apply, **self.apply(setup, nets="x"))
        assert "connect `sampled_image`" in sentence(apply.Apply, **self.apply(setup, sampled_image=None))
        assert "attention must be a number between 0 and 1" in sentence(apply.Apply, **self.apply(setup, attention=2.0))


class TestSampling:
    def test_one_round_is_a_ksampler(self, setup):
        latent = {"samples": setup.style_latent, "batch_index": [0], "other": 1}
        (out,) = run(
            sampling.ProgressiveSampler,
            *(setup.model, setup.positive, setup.negative, latent, 7, 2, 3.0, "euler", "normal", 0.7, 1),
        )
        assert torch.equal(out["samples"], sample(setup.model, setup))
        assert out["other"] == 1 and latent["samples"] is setup.style_latent

    def sampler(self, setup, latent, model=None):
        model = model or setup.model
        return model, setup.positive, setup.negative, latent, 7, 2, 3.0, "euler", "normal", 0.7, 1

    def test_a_seed_of_numpy_is_a_seed(self, setup):
        ours, theirs = (list(self.sampler(setup, {"samples": setup.style_latent})) for _ in range(2))
        theirs[4] = np.int64(theirs[4])
        outs = [run(sampling.ProgressiveSampler, *values)[0]["samples"] for values in (ours, theirs)]
        assert torch.equal(*outs)

    def test_a_latent_in_half_precision_gives_numbers(self, setup):
        half = {"samples": setup.style_latent.half()}
        (out,) = run(sampling.ProgressiveSampler, *self.sampler(setup, half))
        (full,) = run(sampling.ProgressiveSampler, *self.sampler(setup, {"samples": half["samples"].float()}))
        assert out["samples"].dtype == torch.float32 and torch.equal(out["samples"], full["samples"])
        assert torch.isfinite(out["samples"]).all()
        noisy, _ = run(sampling.ProgressiveNoise, setup.model, half, 4, "normal", 0.5, 1, True)
        assert torch.isfinite(noisy["samples"]).all()

    @pytest.mark.parametrize(
        "latent, words",
        [
            (None, "LATENT"),
            ({}, "LATENT"),
            ({"samples": None}, "LATENT"),
            ({"samples": torch.zeros(1, 4, 8)}, "SD1.5's"),
            ({"samples": torch.zeros(0, 4, 8, 8)}, "SD1.5's"),
            ({"samples": torch.full((1, 4, 8, 8), float("nan"))}, "NaN"),
            ({"samples": torch.zeros(1, 4, 8, 8), "batch_index": [10_000_000]}, "batch_index"),
            ({"samples": torch.zeros(1, 4, 8, 8), "batch_index": [-1]}, "batch_index"),
            ({"samples": torch.zeros(1, 4, 8, 8), "batch_index": "x"}, "batch_index"),
            ({"samples": torch.zeros(1, 4, 8, 8), "batch_index": [0, 1]}, "batch_index"),
            ({"samples": torch.zeros(1, 4, 8, 8).byte()}, "float numbers"),
            ({"samples": torch.zeros(1, 4, 8, 8, device="meta")}, "dense tensor"),
            ({"samples": torch.zeros(1, 4, 8, 8), "noise_mask": "x"}, "noise_mask"),
            ({"samples": torch.zeros(1, 4, 8, 8), "noise_mask": torch.zeros(1, 1, 0, 0)}, "noise_mask"),
            ({"samples": torch.zeros(1, 4, 8, 8), "noise_mask": torch.full((1, 1, 8, 8), float("nan"))}, "noise_mask"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_latents_that_are_none(self, setup, latent, words):
        assert words in sentence(sampling.ProgressiveSampler, *self.sampler(setup, latent))
        assert words in sentence(sampling.ProgressiveNoise, setup.model, latent, 4, "normal", 0.5, 1, True)

    @pytest.mark.parametrize("came", [None, 7, [], "text", [[1, {}]], [torch.zeros(1)], object()])
    def test_what_is_no_conditioning_is_one_sentence(self, setup, came):
        model, _, *rest = self.sampler(setup, {"samples": setup.style_latent})
        assert "positive must be a CONDITIONING" in sentence(sampling.ProgressiveSampler, model, came, *rest)

    def test_a_model_that_makes_nan_is_no_picture(self, setup):
        model = setup.model.clone()
        model.set_model_sampler_post_cfg_function(lambda arguments: arguments["denoised"] * float("nan"))
        assert "NaN" in sentence(
            sampling.ProgressiveSampler, *self.sampler(setup, {"samples": setup.style_latent}, model)
        )

    def test_noise_node_hands_a_clean_latent_on_when_asked(self, setup):
        latent = {"samples": setup.style_latent}
        start, sigmas = run(sampling.ProgressiveNoise, setup.model, latent, 4, "normal", 0.5, 1, False)
        assert torch.equal(start["samples"], setup.style_latent) and len(sigmas) == 5
        noisy, _ = run(sampling.ProgressiveNoise, setup.model, latent, 4, "normal", 0.5, 1, True)
        assert not torch.equal(noisy["samples"], setup.style_latent)

    def test_bad_inputs(self, setup):
        latent = {"samples": setup.style_latent}
        assert "scheduler" in sentence(sampling.ProgressiveNoise, setup.model, latent, 4, "x", 0.5, 1, True)
        flat = {"samples": torch.zeros(1, 16, 8, 8)}
        assert "SD1.5's" in sentence(sampling.ProgressiveNoise, setup.model, flat, 4, "normal", 0.5, 1, True)
        arguments = (setup.model, setup.positive, setup.negative, latent, 7, 2, 3.0, "magic", "normal", 0.7, 1)
        assert "sampler_name" in sentence(sampling.ProgressiveSampler, *arguments)


class TestEncodersThatMakeNan:
    """A VAE or image encoder in half precision may; nothing after it would say so."""

    def test_each_is_named(self, setup):
        class Broken:
            def __init__(self, real):
                self.real = real

            def encode(self, image):
                return self.real.encode(image) * float("nan")

            def decode(self, latent):
                return self.real.decode(latent)

            def encode_image(self, image, crop):
                return {"image_embeds": self.real.encode_image(image, crop=crop)["image_embeds"] * float("nan")}

        image, good = picture(1), (setup.vae, setup.clip_vision)
        assert "The VAE made NaN" in sentence(conditioning.EncodeProfile, image, Broken(good[0]), good[1])
        assert "The CLIP vision made NaN" in sentence(conditioning.EncodeProfile, image, good[0], Broken(good[1]))
