"""Cases and light truth of held-out heads, on a small group rendered here."""

import dataclasses

import numpy as np
import pytest
import torch

pytest.importorskip("anny")
pytest.importorskip("numba")

from icportrait.models.method.correspondence import cost_volume
from icportrait.training.data.heads.generate import generate_group
from icportrait.training.data.heads.lights import random_light
from icportrait.training.data.shards import write_shard
from icportrait.training.evaluation import baselines, scoring
from icportrait.training.evaluation.cases import heads_cases
from icportrait.training.evaluation.match_bench import dis_flow, pixel_features, truth_of
from icportrait.training.evaluation.measure import matching as measure_matching
from icportrait.training.evaluation.metrics.light import dominant_direction, sh_light_distance
from icportrait.training.evaluation.render_truth import person_and_scene, relit, target_truth
from icportrait.training.evaluation.render_truth import truth_of as render_truth

SIZE = 128


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    path = tmp_path_factory.mktemp("heads") / "heads.tar"
    write_shard(path, generate_group(1_000_777, identities=2, scenes=3, size=SIZE))
    return path


@pytest.fixture(scope="module")
def cases(shard):
    return heads_cases([shard], identities=2, styles=2)


@pytest.fixture(scope="module")
def truth(cases):
    return target_truth(cases[0].record["meta"], cases[0].truth.picture[0].numpy())


class TestCases:
    def test_identities_times_styles_in_different_scenes(self, cases):
        assert len(cases) == 4 and len({case.key for case in cases}) == 4
        for person in {case.identity for case in cases}:
            scenes = [case.record["meta"]["scene"]["target"] for case in cases if case.identity == person]
            assert len(set(scenes)) == 2

    def test_photos_are_the_persons_without_the_ground_truth(self, cases):
        for case in cases:
            assert len(case.photos) == 2 and case.profile in case.photos
            assert not any(torch.equal(shot.picture, case.truth.picture) for shot in case.photos)

    def test_style_is_somebody_else_in_the_same_place(self, cases):
        for case in cases:
            meta = case.record["meta"]
            assert meta["identity"]["style"] != case.identity and meta["scene"]["style"] == meta["scene"]["target"]

    def test_too_few_people_are_said(self, shard):
        with pytest.raises(ValueError, match="hold 2 identities"):
            heads_cases([shard], identities=3)
        with pytest.raises(ValueError, match="only 3 style references"):
            heads_cases([shard], styles=4)


class TestLightTruth:
    def test_normals_are_unit_and_face_the_camera(self, truth, cases):
        _, scene = person_and_scene(cases[0].record["meta"])
        normals = truth.normals[truth.skin]
        assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-3)
        towards = -scene.camera.rotation[:, 2]
        assert ((normals @ towards) > 0).mean() > 0.97

    def test_the_true_picture_has_no_light_error_and_the_wrong_light_has(self, truth, cases):
        person, scene = person_and_scene(cases[0].record["meta"])
        right = truth.picture.astype(np.float64)
        assert scoring.light_figures(truth, right, right) == {
            "shading_error": pytest.approx(0, abs=1e-9),
            "sh_light_distance": pytest.approx(0, abs=1e-9),
            "light_angle_error": pytest.approx(0, abs=1e-4),
        }
        other = random_light(np.random.default_rng(3), 3, scene.camera.yaw, "hard")
        wrong = render_truth(person, relit(scene, other), SIZE).picture.astype(np.float64)
        figures = scoring.light_figures(truth, wrong, right)
        assert figures["shading_error"] > 0.1 and figures["sh_light_distance"] > 0.1

    def test_a_fit_tells_left_from_right(self, truth, cases):
        """The same head lit from its left and from its right: the fits' dominant sides are opposite."""
        person, scene = person_and_scene(cases[0].record["meta"])
        fits = []
        for side in (1.0, -1.0):
            light = random_light(np.random.default_rng(1), 1, 0.0, "side")
            directions = np.abs(light.key_directions) * [side, 1, 1]
            light = type(light)(**{**vars(light), "key_directions": directions.astype(np.float32)})
            view = render_truth(person, relit(scene, light), SIZE)
            fits.append(view.light(view.picture.astype(np.float64)))
        assert dominant_direction(fits[0])[0] > 0.2 and dominant_direction(fits[1])[0] < -0.2
        assert sh_light_distance(*fits) > 0.3

    def test_another_picture_is_noticed(self, cases):
        with pytest.raises(ValueError, match="differs from the stored picture"):
            target_truth(cases[0].record["meta"], 1 - cases[0].truth.picture[0].numpy())

    def test_another_generator_is_refused(self, cases):
        meta = cases[0].record["meta"] | {"generator_version": 0}
        with pytest.raises(ValueError, match="of version 0"):
            person_and_scene(meta)


class TestBaselines:
    def test_paste_by_landmarks_keeps_the_style_outside_the_mask(self, cases):
        case = cases[0]
        pasted = baselines.paste_by_landmarks(None, case, None)
        mask = baselines.paste_mask(case)
        assert pasted.shape == case.style.picture.shape
        outside = mask == 0
        assert outside.any() and torch.equal(pasted[0][outside], case.style.picture[0][outside])
        assert (pasted[0][mask > 0.99] - case.style.picture[0][mask > 0.99]).abs().mean() > 0.01

    def test_a_paste_of_the_style_itself_changes_next_to_nothing(self, cases):
        case = dataclasses.replace(cases[0], profile=cases[0].style)
        pasted = baselines.paste_by_landmarks(None, case, None)
        assert (pasted - case.style.picture).abs().mean() < 1e-3


class TestMatchingMeasure:
    def test_flow_baselines_follow_a_shifted_picture(self, cases):
        """The target half is the profile shifted by 8 px: truth dx = 8 everywhere but at the border."""
        case = cases[0]
        rolled = torch.roll(case.profile.picture, -8, dims=2)
        case = dataclasses.replace(case, truth=dataclasses.replace(case.truth, picture=rolled))
        inner = np.s_[:, 24:-24, 24:-24]
        assert np.median(dis_flow(case)[inner][0]) == pytest.approx(8, abs=0.5)
        target, profile = pixel_features(case)
        flow, _ = measure_matching.read_out(cost_volume(target, profile), tuple(target.shape[-2:]), "paper")
        assert flow[0, 0, 4:-4, 4:-4].median() == 1.0  # one cell of 8 px

    def test_errors_gather_only_scored_pixels(self, cases):
        errors = measure_matching.Errors(SIZE)
        exact, scored = truth_of(cases[0])
        assert 0 < scored.sum() < scored.size
        assert not errors.add("exact", exact, cases[0]).any()
        assert len(errors.add("none", 0 * exact, cases[0])) == scored.sum()
        table = errors.table()
        assert table["exact"]["epe_px"] == 0 and table["exact"]["motion_correlation"] == pytest.approx(1)
        assert table["none"]["motion_correlation"] is None and table["none"]["epe_px"] > 0

    def test_the_ranking_says_which_confidence_is_right(self):
        ranking, errors = measure_matching.Confidences(), np.arange(50.0)
        ranking.add("right", errors, -errors)
        ranking.add("wrong", errors, errors)
        table = ranking.table()
        assert table["right"]["falls"] and table["right"]["rank_correlation"] == pytest.approx(-1)
        assert not table["wrong"]["falls"]
        assert table["right"]["epe_surer_half"] < table["wrong"]["epe_surer_half"]

    def test_best_of_takes_the_smallest_of_its_kind(self):
        table = {"base a": {"epe_px": 3.0}, "base b": {"epe_px": 2.0}, "base b, read like default": {"epe_px": 1.0}}
        assert measure_matching.best_of(table, "base")["which"] == "base b"
        assert measure_matching.best_of(table, "base", "read like default")["epe_px"] == 1.0
