"""The convenience node on real photographs, with tiny random models: the plumbing, not the likeness."""

import math

import pytest
import torch
from tiny_models import portrait_setup

from icportrait.models import portrait as whole
from icportrait.models.faces import detection
from icportrait.nodes import portrait


def run(profile_image, style_image, **changes):
    setup = portrait_setup()
    arguments = {
        "seed": 3,
        "steps": 1,
        "cfg": 3.0,
        "noise_strength": 0.5,
        "strength": 1.0,
        "share": 0.2,
        "crop_size": 128,
    } | changes
    with torch.inference_mode():
        output = portrait.Portrait.execute(
            setup.model,
            setup.vae,
            setup.clip_vision,
            setup.nets,
            profile_image=profile_image,
            style_image=style_image,
            **arguments,
        )
    names = [entry.id for entry in portrait.Portrait.define_schema().outputs]
    return dict(zip(names, output.args, strict=True))


@pytest.fixture(scope="module")
def blank():
    """A picture without a face."""
    return torch.full((1, 96, 96, 3), 0.5)


class TestPhotographs:
    @pytest.fixture
    def person(self, group_photo):
        """The middle of the group picture, so that the detector has less to look at."""
        return group_photo[:, 60:460, 440:840]

    def test_runs_and_leaves_the_rest_of_the_picture_alone(self, astronaut, person):
        copies = astronaut.clone(), person.clone()
        state = torch.get_rng_state()
        result = run(person, astronaut)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(astronaut, copies[0]) and torch.equal(person, copies[1])
        assert result["image"].shape == astronaut.shape
        outside = result["stitch_mask"] == 0
        assert 0.5 < float(outside.float().mean()) < 1
        assert torch.equal(result["image"][outside], astronaut[outside])
        assert (result["image"][~outside] - astronaut[~outside]).abs().mean() > 0.01
        for name in ("portrait_crop", "profile_crop", "style_crop", "sampled_image", "flow_picture", "warped_profile"):
            assert result[name].shape == (1, 128, 128, 3), name
            assert 0 <= float(result[name].min()) and float(result[name].max()) <= 1, name
        assert -1 < result["style_similarity"] < 0.6
        assert "Identity similarity" in result["report"]
        assert result["panel"].shape[1] > 128 and result["panel"].shape[2] > 3 * 128

    def test_fast_reuses_and_exact_is_the_default(self, astronaut, person):
        plain, exact, fast = (
            run(person, astronaut, steps=3, cfg=1.0, **speed)["portrait_crop"]
            for speed in ({}, {"speed": "exact"}, {"speed": "fast"})
        )
        assert torch.equal(plain, exact)
        assert not torch.equal(fast, exact)

    def test_no_face_in_the_profile(self, astronaut, blank):
        with pytest.raises(ValueError, match=r"^Portrait: In the profile, no face was found"):
            run(blank, astronaut)


class TestNoFace:
    def test_error(self, blank):
        with pytest.raises(ValueError, match=r"^Portrait: In the profile, no face was found"):
            run(blank, blank)

    def test_effort_reaches_the_search_of_both_pictures(self, blank, monkeypatch):
        efforts, real = [], detection.find_faces

        def watched(image, settings, **options):
            efforts.append((settings.effort, settings.enlarge))
            return real(image, settings, **options)

        monkeypatch.setattr(detection, "find_faces", watched)
        with pytest.raises(ValueError, match="effort small faces|no face"):
            run(blank, blank, effort="fast")
        assert efforts == [("fast", False)]

    def test_pass_through(self, blank):
        result = run(blank, blank, no_face="pass through")
        assert torch.equal(result["image"], blank)
        assert not result["stitch_mask"].any()
        assert math.isnan(result["similarity"]) and math.isnan(result["style_similarity"])
        assert result["report"].startswith("Passed through.")


class TestBadInput:
    @pytest.mark.parametrize(
        "changes, part",
        [
            ({"no_face": "x"}, "no_face must be one of"),
            ({"color_match": "x"}, "color_match must be one of"),
            ({"flow_method": "x"}, "flow_method must be one of"),
            ({"crop_size": 200}, "multiple of 64"),
        ],
    )
    def test_choices(self, blank, changes, part):
        with pytest.raises(ValueError, match=part):
            run(blank, blank, **changes)

    def test_a_batch(self, blank):
        with pytest.raises(ValueError, match="style reference must be one picture"):
            run(blank, blank.repeat(2, 1, 1, 1))


def test_the_crop_alone_is_what_the_stage_nodes_make():
    """`paint_crop` against the stage functions called one by one."""
    from icportrait.nodes import apply, conditioning, matching, sampling

    setup = portrait_setup()
    profile_crop, style_crop = setup.profile.image, setup.style_image
    settings = whole.CropSettings(seed=5, steps=2, cfg=2.0, noise_strength=0.6, rounds=2)
    with torch.inference_mode():
        result = whole.paint_crop(
            setup.model, setup.vae, setup.clip_vision, setup.nets, profile_crop, style_crop, settings
        )
        encoded = conditioning.EncodeProfile.execute(profile_crop, setup.vae, setup.clip_vision).args
        profile, _, positive, negative = encoded
        sampled, _ = conditioning.SamplePixels.execute(style_crop, 0.2, 5, "random").args
        flow = matching.EstimateFlow.execute(
            setup.model, setup.nets, profile, style_crop, setup.vae, 100, settings.flow_method, 5, sampled
        ).args[0]
        (patched,) = apply.Apply.execute(
            model=setup.model,
            nets=setup.nets,
            profile=profile,
            sampled_image=sampled,
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
            alpha=-1.0,
            beta=-1.0,
            flow_mode="once",
            flow_timestep=100,
            flow_method=settings.flow_method,
            seed=5,
            flow=flow,
        ).args
        latent = {"samples": setup.vae.encode(style_crop)}
        (out,) = sampling.ProgressiveSampler.execute(
            patched, positive, negative, latent, 5, 2, 2.0, settings.sampler, "normal", 0.6, 2
        ).args
        expected = setup.vae.decode(out["samples"])
    assert torch.equal(result.sampled, sampled)
    assert torch.equal(result.image, expected)
