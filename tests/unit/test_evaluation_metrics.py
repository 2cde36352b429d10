"""Every metric of the evaluation on cases whose result can be worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from icportrait.models.faces.types import Face
from icportrait.training.evaluation.metrics import flow as flow_metrics
from icportrait.training.evaluation.metrics import landmarks as landmark_metrics
from icportrait.training.evaluation.metrics import light as light_metrics
from icportrait.training.evaluation.metrics import likeness as likeness_metrics
from icportrait.training.evaluation.metrics import pictures as picture_metrics
from icportrait.training.evaluation.statistics import summary


def at_angle(degrees):
    """A unit vector in the plane."""
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


class TestSummary:
    def test_the_papers_four_numbers(self):
        figures = summary([1.0, 2.0, 6.0, 3.0])
        assert (figures["min"], figures["max"], figures["median"], figures["mean"]) == (1.0, 6.0, 2.5, 3.0)
        assert (figures["count"], figures["missing"]) == (4, 0)

    def test_what_could_not_be_measured_is_counted_not_guessed(self):
        assert summary([None, 2.0, float("nan")]) == {
            "min": 2.0,
            "max": 2.0,
            "median": 2.0,
            "mean": 2.0,
            "count": 1,
            "missing": 2,
        }
        assert summary([])["mean"] is None


class TestLikeness:
    def test_cosine_of_sixty_degrees_is_a_half_at_any_length(self):
        assert likeness_metrics.cosine(3 * at_angle(0), 0.1 * at_angle(60)) == pytest.approx(0.5)

    def test_one_minus_distance(self):
        assert likeness_metrics.one_minus_distance([0, 0], [0.3, 0.4]) == pytest.approx(0.5)

    def test_sim_ref_and_sim_gt_use_the_given_unit(self):
        for function in (likeness_metrics.sim_ref, likeness_metrics.sim_gt):
            assert function(likeness_metrics.cosine, at_angle(0), at_angle(60)) == pytest.approx(0.5)
            assert function(likeness_metrics.one_minus_distance, np.zeros(2), np.array([0.6, 0])) == pytest.approx(0.4)

    @pytest.mark.parametrize("result,wanted", [(0, 1.0), (40, -1.0), (20, 0.0), (10, 0.5)])
    def test_copy_paste_between_the_reference_and_the_held_out_picture(self, result, wanted):
        """Reference at 0 degrees, held-out picture at 40: the result's place between them decides."""
        value = likeness_metrics.copy_paste(at_angle(result), held_out=at_angle(40), reference=at_angle(0))
        assert value == pytest.approx(wanted)

    def test_copy_paste_means_nothing_for_equal_pictures(self):
        assert likeness_metrics.copy_paste(at_angle(5), at_angle(0), at_angle(0)) is None


def sixty_eight(mouth_open=0.0, brow=0.0, smile=0.0, lid=0.1):
    """A schematic face in the 68-point mark-up, eyes at (-1, 0) and (1, 0)."""
    p = np.zeros((68, 2))
    for first, x in ((36, -1.0), (42, 1.0)):
        p[first], p[first + 3] = (x - 0.25, 0), (x + 0.25, 0)
        p[first + 1], p[first + 2] = (x - 0.1, -lid), (x + 0.1, -lid)
        p[first + 5], p[first + 4] = (x - 0.1, lid), (x + 0.1, lid)
    p[17:22], p[22:27] = (-1, -0.5 - brow), (1, -0.5 - brow)
    p[48], p[54] = (-0.6, 2 - smile), (0.6, 2 - smile)
    p[62], p[66] = (0, 2 - mouth_open / 2), (0, 2 + mouth_open / 2)
    return p


class TestLandmarks:
    def test_expression_numbers_of_a_schematic_face(self):
        numbers = landmark_metrics.expression(sixty_eight(mouth_open=0.4, brow=0.1, smile=0.2))
        # eye aspect ratio 2 * 0.2 / (2 * 0.5); brows 0.6 over eyes 2 apart; mouth 1.2 wide, 0.4 open, corners 0.2 up
        assert numbers == pytest.approx([0.4, 0.4, 0.3, 0.3, 0.6, 0.2, -0.1])

    def test_place_size_and_tilt_do_not_count(self):
        face = sixty_eight(0.3, 0.1, 0.1)
        turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
        assert landmark_metrics.expression_error(face @ turn.T * 37 + 120, face) == pytest.approx(0, abs=1e-9)

    def test_an_opened_mouth_alone(self):
        error = landmark_metrics.expression_error(sixty_eight(mouth_open=0.7), sixty_eight(mouth_open=0.0))
        assert error == pytest.approx(0.35 / 7)

    def test_pose_error_is_the_tilt_when_only_the_tilt_differs(self):
        base = np.array([(-30.0, 0), (30, 0), (0, 35), (-25, 60), (25, 60)])

        def face(degrees):
            a = np.radians(degrees)
            points = base @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) * 2 + 200
            return Face((100, 100, 300, 300), tuple(map(tuple, points.tolist())), "insightface_5")

        assert landmark_metrics.pose_error(face(0), face(0)) == 0
        assert landmark_metrics.pose_error(face(12), face(0)) == pytest.approx(12, abs=0.5)
        assert landmark_metrics.pose_error(Face((0, 0, 9, 9)), face(0)) is None


class TestPictures:
    def test_psnr_of_a_tenth_is_twenty_decibels(self):
        black, grey = np.zeros((12, 12, 3)), np.full((12, 12, 3), 0.1)
        assert picture_metrics.psnr(grey, black) == pytest.approx(20.0)
        assert picture_metrics.psnr(black, black) == float("inf")

    def test_psnr_looks_only_at_the_mask(self):
        black, picture, mask = np.zeros((4, 4, 3)), np.zeros((4, 4, 3)), np.zeros((4, 4), bool)
        picture[0, 0], picture[1, 1] = 0.01, 1.0
        mask[0, 0] = True
        assert picture_metrics.psnr(picture, black, mask) == pytest.approx(40.0)
        with pytest.raises(ValueError, match="at least one pixel"):
            picture_metrics.psnr(picture, black, np.zeros((4, 4), bool))

    def test_ssim_of_flat_pictures_is_the_luminance_term(self):
        """No variance: (2 a b + c) / (a^2 + b^2 + c) with c = 0.01^2."""
        a, b = np.full((16, 16, 3), 0.2), np.full((16, 16, 3), 0.6)
        assert picture_metrics.ssim(a, b) == pytest.approx((0.24 + 1e-4) / (0.4 + 1e-4), abs=1e-6)
        assert picture_metrics.ssim(a, a) == pytest.approx(1.0)

    def test_lpips_is_absent_rather_than_downloaded(self, monkeypatch, tmp_path):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
        (
            tmp_path / "hub" / "checkpoints" / "alexnet-owt-4df8aa71.pth"
        ).touch()  # an older one: torchvision wants another
        assert picture_metrics.why_no_lpips().startswith("LPIPS not measured: ")
        assert picture_metrics.lpips_distance(np.zeros((64, 64, 3)), np.ones((64, 64, 3))) is None

    def test_lpips_runs_where_package_and_weights_are(self, monkeypatch, tmp_path):
        """With an AlexNet of random weights in the place of the trained one: equal pictures are at 0, farther ones farther."""
        pytest.importorskip("lpips")
        from torchvision.models import AlexNet_Weights, alexnet

        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        weights = tmp_path / "hub" / "checkpoints" / Path(AlexNet_Weights.DEFAULT.url).name
        weights.parent.mkdir(parents=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            torch.save(alexnet().state_dict(), weights)
        monkeypatch.setattr(picture_metrics, "_lpips_net", picture_metrics._lpips_net.__wrapped__)
        rng = np.random.default_rng(0)
        picture, noise = rng.random((64, 80, 3)) * 0.6 + 0.2, rng.normal(size=(64, 80, 3))
        distances = [picture_metrics.lpips_distance(picture, picture + share * noise) for share in (0, 0.02, 0.1)]
        assert distances[0] == 0 < distances[1] < distances[2]


def directions(count=400, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    vectors[:, 2] = np.abs(vectors[:, 2])  # seen from the front
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def light_from(x, y, z, strength=0.4):
    """White light: an even part, and a part from one direction."""
    light = np.zeros((9, 3))
    light[0] = 3.0
    light[[3, 1, 2]] = strength * np.array([[x], [y], [z]])
    return light


class TestLight:
    def test_linear_radiance_undoes_the_heads_tone_curve(self):
        from icportrait.training.data.heads.render import tone_map

        linear = np.linspace(0.0, 1.2, 25)
        undone = light_metrics.linear_radiance(tone_map(linear) / 255.0)
        assert np.allclose(undone, linear, atol=0.02)

    def test_shading_error_does_not_see_brightness(self):
        truth = np.array([[1.0, 2.0, 2.0]])
        assert light_metrics.scale_invariant_shading_error(0.3 * truth, truth) == pytest.approx(0)

    def test_shading_error_of_orthogonal_shadings_is_one(self):
        assert light_metrics.scale_invariant_shading_error([[1.0, 0, 0]], [[0, 2.0, 0]]) == pytest.approx(1)
        assert light_metrics.scale_invariant_shading_error([[0.0, 0, 0]], [[0, 2.0, 0]]) == pytest.approx(1)

    def test_shading_error_at_forty_five_degrees_is_its_sine(self):
        error = light_metrics.scale_invariant_shading_error([[1.0, 1.0, 0]], [[1.0, 0, 0]])
        assert error == pytest.approx(np.sin(np.pi / 4))

    def test_fit_finds_the_light_that_made_the_shading(self):
        normals, light = directions(), light_from(0.6, 0.0, 0.8)
        shading = (light_metrics.sh_basis(normals) * light_metrics.LAMBERT) @ light
        fitted = light_metrics.fit_light(shading, normals, ridge=1e-9)
        assert np.allclose(fitted, light, atol=1e-4)

    def test_fit_refuses_a_handful_of_pixels(self):
        with pytest.raises(ValueError, match="at least 100 pixels"):
            light_metrics.fit_light(np.ones((5, 3)), directions(5))

    def test_the_generators_own_basis_agrees(self):
        from icportrait.training.data.heads.lights import sh9

        assert np.allclose(light_metrics.sh_basis(directions(50)), sh9(directions(50)))

    def test_light_distance_of_opposite_is_two_and_scale_does_not_count(self):
        light = light_from(1, 0, 0)
        assert light_metrics.sh_light_distance(5 * light, light) == pytest.approx(0)
        assert light_metrics.sh_light_distance(-light, light) == pytest.approx(2)

    def test_light_angle(self):
        assert light_metrics.light_angle_error(light_from(1, 0, 0), light_from(0, 0, 1)) == pytest.approx(90)
        assert light_metrics.light_angle_error(light_from(0, 1, 1), light_from(0, 0, 1)) == pytest.approx(45)
        assert light_metrics.dominant_direction(light_from(0, 0, 1)) == pytest.approx([0, 0, 1])

    def test_leakage_is_none_all_or_part(self):
        profiles = [light_from(1, 0, 0), light_from(-1, 0, 0), light_from(0, 1, 0)]
        still = [light_from(0, 0, 1)] * 3
        assert light_metrics.light_leakage(still, profiles) == pytest.approx(0)
        assert light_metrics.light_leakage(profiles, profiles) == pytest.approx(1)
        weak = [light_from(0.01, 0, 0), light_from(-0.01, 0, 0), light_from(0, 0.01, 0)]
        assert 0 < light_metrics.light_leakage(weak, profiles) < 0.05
        assert light_metrics.light_leakage(profiles, still) is None
        with pytest.raises(ValueError, match="at least two"):
            light_metrics.light_leakage([], [])


class TestFlow:
    def test_end_point_error_is_the_length_of_the_difference(self):
        flow, truth = np.zeros((2, 1, 2)), np.zeros((2, 1, 2))
        flow[:, 0, 1] = 3, 4
        assert flow_metrics.end_point_error(flow, truth).tolist() == [[0.0, 5.0]]

    def test_pck_is_a_share_of_the_width(self):
        errors = np.array([0.5, 2.0, 9.9, 10.0])
        assert flow_metrics.pck(errors, width=100, share=0.01) == 25.0
        assert flow_metrics.pck(errors, width=100, share=0.10) == 75.0

    def test_figures_of_nothing_are_none(self):
        assert flow_metrics.flow_figures(np.array([]), 100)["epe_px"] is None
        figures = flow_metrics.flow_figures(np.array([1.0, 2.0, 6.0]), 100)
        assert (
            figures["epe_px"] == 2.0 and figures["epe_mean_px"] == 3.0 and figures["pck_0.05"] == pytest.approx(200 / 3)
        )

    def test_motion_correlation_of_half_the_motion_is_one_and_of_none_is_nothing(self):
        truth = np.array([[1.0, -2, 4], [0, 3, -5]])
        sums = flow_metrics.motion_moments(truth[:, :1] / 2, truth[:, :1]) + flow_metrics.motion_moments(
            truth[:, 1:] / 2, truth[:, 1:]
        )
        assert flow_metrics.motion_correlation(sums) == pytest.approx(1)
        assert flow_metrics.motion_correlation(flow_metrics.motion_moments(-truth, truth)) == pytest.approx(-1)
        assert flow_metrics.motion_correlation(flow_metrics.motion_moments(0 * truth, truth)) is None
        unlike = flow_metrics.motion_moments(np.array([[1.0, -1, 1, -1]]), np.array([[1.0, 1, -1, -1]]))
        assert flow_metrics.motion_correlation(unlike) == pytest.approx(0)

    def test_cycle_error_of_a_shift_and_back(self):
        forward, backward = np.zeros((2, 6, 8)), np.zeros((2, 6, 8))
        forward[0], backward[0] = 2.0, -2.0
        assert not flow_metrics.cycle_error(forward, backward).any()
        backward[0] = -1.5
        assert flow_metrics.cycle_error(forward, backward) == pytest.approx(0.5)

    def test_cycle_error_reads_the_backward_flow_where_the_forward_one_points(self):
        forward, backward = np.zeros((2, 4, 4)), np.zeros((2, 4, 4))
        forward[0] = 1.5
        backward[1, :, 2], backward[1, :, 3] = 1.0, 3.0
        error = flow_metrics.cycle_error(forward, backward)
        assert error[0, 0] == pytest.approx(np.hypot(1.5, 0.5))  # halfway between columns 1 and 2
        assert error[0, 1] == pytest.approx(np.hypot(1.5, 2.0))  # halfway between columns 2 and 3

    def test_regions_lie_where_the_landmarks_are(self):
        ones = np.ones((100, 100), np.uint8)
        hair = np.zeros((100, 100), np.uint8)
        hair[:10] = 1
        marks = np.array([(30.0, 40), (70, 40), (50, 60), (38, 75), (62, 75)])
        masks = flow_metrics.regions(marks, ones, ones - hair, hair)
        assert masks["eyes"][40, 30] and masks["eyes"][40, 70] and not masks["eyes"][40, 50]
        assert masks["eyes"][40, 30 + 11] and not masks["eyes"][40, 30 + 13]  # radius 0.3 x 40
        assert masks["mouth"][75, 50] and not masks["mouth"][75, 50 + 17] and not masks["mouth"][75 + 12, 50]
        assert masks["hair"].sum() == 1000 and not (masks["hair"] & masks["face"]).any()
        assert not flow_metrics.regions(marks, 0 * ones, ones, hair)["face"].any()

    def test_a_right_confidence_gives_falling_errors(self):
        errors = np.arange(100.0)
        right = flow_metrics.error_by_confidence(errors, -errors)
        assert right[0] == 94.5 and right[-1] == 4.5 and flow_metrics.falls_monotonically(right)
        wrong = flow_metrics.error_by_confidence(errors, errors)
        assert not flow_metrics.falls_monotonically(wrong)
