"""Similarity transforms, the fitted head, alignment and resampling."""

import numpy as np
import pytest
import torch
from face_photos import astronaut, group, upright_face
from hypothesis import given, settings
from hypothesis import strategies as st

from icportrait.models.faces import head_shape
from icportrait.models.faces.alignment import AlignmentSettings, crop, head_of, placement_of, similarity
from icportrait.models.faces.landmarks import named_points
from icportrait.models.faces.resampling import invert, resample, transform
from icportrait.models.faces.types import Face

angles = st.floats(-np.pi, np.pi)
scales = st.floats(0.05, 20)
shifts = st.floats(-2000, 2000)


def matrix_of(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, x], [s, c, y]])


class TestSimilarity:
    @settings(deadline=None)
    @given(angles, scales, shifts, shifts, st.integers(2, 9), st.integers(0, 2**31))
    def test_recovers_the_transform(self, angle, scale, x, y, count, seed):
        points = np.random.default_rng(seed).normal(size=(count, 2)) * 50
        truth = matrix_of(angle, scale, x, y)
        assert np.allclose(similarity(points, transform(points, truth)), truth, rtol=1e-6, atol=1e-5)

    def test_is_the_least_squares_answer(self):
        """Against a plain linear least-squares solution over (a, b, tx, ty), in noisy points."""
        generator = np.random.default_rng(3)
        source, target = generator.normal(size=(2, 7, 2))
        rows = [r for x, y in source for r in ((x, -y, 1, 0), (y, x, 0, 1))]
        a, b, tx, ty = np.linalg.lstsq(np.array(rows), target.ravel(), rcond=None)[0]
        assert np.allclose(similarity(source, target), [[a, -b, tx], [b, a, ty]])

    def test_never_mirrors(self):
        points = np.array([(0.0, 0), (1, 0), (0, 1)])
        found = similarity(points, points * (-1, 1))
        assert np.linalg.det(found[:, :2]) >= 0

    def test_one_point_is_refused(self):
        with pytest.raises(ValueError, match="two distinct points"):
            similarity(np.zeros((3, 2)), np.ones((3, 2)))

    @given(angles, scales, shifts, shifts)
    def test_there_and_back(self, angle, scale, x, y):
        matrix = matrix_of(angle, scale, x, y)
        points = np.array([(3.0, 4.0), (-7, 100)])
        assert np.allclose(transform(transform(points, matrix), invert(matrix)), points, atol=1e-6)


class TestHead:
    @settings(deadline=None, max_examples=60)
    @given(st.floats(-40, 40), st.floats(-12, 12), st.floats(-170, 170), st.floats(0.3, 5))
    def test_pose_is_recovered_from_five_exact_points(self, yaw, pitch, roll, scale):
        truth = head_shape.HeadFit(yaw, pitch, roll, scale, (300.0, 200.0), 1.0, 1.0, 0.0)
        names = ("eye_left_outer", "eye_left_inner", "eye_right_inner", "eye_right_outer", "nose_base")
        points = {name: truth.point(name) for name in names}
        points["eye_left"] = (points["eye_left_outer"] + points["eye_left_inner"]) / 2
        points["eye_right"] = (points["eye_right_outer"] + points["eye_right_inner"]) / 2
        fit = head_shape.fit_head(points)
        # The prior pulls large turns a little towards the front; pitch trades against the length of the nose.
        assert abs(fit.yaw - truth.yaw) < 5
        assert abs(fit.pitch - truth.pitch) < 12
        assert abs((fit.roll - truth.roll + 180) % 360 - 180) < 5
        assert np.hypot(*(fit.point("mouth_left") - truth.point("mouth_left"))) < 10 * scale  # 10 mm

    @given(angles, scales, shifts, shifts)
    @settings(deadline=None, max_examples=40)
    def test_follows_the_face_through_any_similarity(self, angle, scale, x, y):
        """The same face turned, scaled and moved has the same yaw and pitch, and its outline moves along."""
        points = named_points(upright_face())
        matrix = matrix_of(angle, scale, x, y)
        moved = {name: transform(point[None], matrix)[0] for name, point in points.items()}
        before, after = head_shape.fit_head(points), head_shape.fit_head(moved)
        assert abs(after.yaw - before.yaw) < 0.5 and abs(after.pitch - before.pitch) < 0.5
        assert np.allclose(after.outline(), transform(before.outline(), matrix), atol=1.0 * scale)

    def test_the_group_photo_is_read_as_a_person_reads_it(self):
        """Face 4 looks strongly to the viewer's left, face 1 too and tilts her head to the left; face 2 tilts right."""
        heads = [head_of(face) for face in group()[1].frames[0]]
        assert heads[4].yaw < -30 and heads[1].yaw < -25
        assert abs(heads[0].yaw) < 15 and abs(heads[2].yaw) < 20
        assert heads[0].roll < -15 and heads[1].roll < -15 and heads[2].roll > 8

    def test_a_box_has_no_head(self):
        assert head_of(Face((0, 0, 10, 10))) is None

    def test_coinciding_points_are_refused(self):
        with pytest.raises(ValueError, match="coincide"):
            head_of(Face((0, 0, 9, 9), ((5.0, 5.0),) * 5, "dlib_5"))

    def test_nan_landmarks_are_refused(self):
        with pytest.raises(ValueError, match="NaN"):
            head_of(Face((0, 0, 9, 9), ((float("nan"), 5.0),) * 5, "dlib_5"))

    def test_wrong_number_of_landmarks_is_refused(self):
        with pytest.raises(ValueError, match="has 5 points, 4 came"):
            head_of(Face((0, 0, 9, 9), ((1.0, 5.0),) * 4, "dlib_5"))


class TestPlacement:
    def test_ffhq_rule_on_a_hand_computed_face(self):
        """68 points at chosen places: eyes 60 px apart, mouth 66 px below them, so both rules can be checked by hand."""
        points = np.zeros((68, 2))
        points[:] = (200, 200)
        points[36:42], points[42:48] = (170, 180), (230, 180)
        points[[36, 39]], points[[42, 45]] = [(160, 180), (180, 180)], [(220, 180), (240, 180)]
        points[[48, 54]] = [(180, 246), (220, 246)]
        points[33], points[30], points[8] = (200, 225), (200, 215), (200, 290)
        face = Face((150, 150, 250, 300), tuple(map(tuple, points.tolist())), "ibug_68")
        placement = placement_of(face, 400, 400, AlignmentSettings(crop_size=256))
        side = max(4 * 60, 3.6 * 66)  # 240
        assert placement.scale == pytest.approx(256 / side)
        centre = transform(np.array([[200, 180 + 0.1 * 66]]), placement.matrix)
        assert np.allclose(centre, 128)

    @settings(deadline=None, max_examples=40)
    @given(angles, st.floats(0.2, 5), st.floats(-50, 400), st.floats(-50, 400))
    def test_the_crop_is_the_same_however_the_face_lies_on_the_canvas(self, angle, scale, x, y):
        face = upright_face(0, 0)
        matrix = matrix_of(angle, scale, x, y)
        moved = Face(face.box, tuple(map(tuple, transform(face.points, matrix).tolist())), "dlib_5")
        a, b = placement_of(face, 300, 300), placement_of(moved, 300, 300)
        assert np.allclose(a.landmarks, b.landmarks, atol=0.5)

    @pytest.mark.parametrize("template", ["ffhq", "arcface"])
    def test_tilted_faces_come_out_upright(self, template):
        for face in group()[1].frames[0]:
            placement = placement_of(face, 886, 1280, AlignmentSettings(template))
            fit = head_shape.fit_head(
                {name: transform(point[None], placement.matrix)[0] for name, point in named_points(face).items()}
            )
            assert abs(fit.roll) < 8

    def test_arcface_reference_points(self):
        """A face whose five points are ArcFace's own, scaled by 3, is cut so that they land on them again (at 448 px: times 4)."""
        reference = np.array(
            [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
        )
        face = Face((0, 0, 336, 336), tuple(map(tuple, ((reference + 0.5) * 3).tolist())), "insightface_5")
        placement = placement_of(face, 336, 336, AlignmentSettings("arcface", 448))
        assert np.allclose(placement.landmarks, (reference + 0.5) * 4, atol=1e-6)

    def test_rotation_limit(self):
        tilted = group()[1].frames[0][0]  # about -25 degrees
        angle = [
            np.rad2deg(
                np.arctan2(*placement_of(tilted, 886, 1280, AlignmentSettings(max_rotation=limit)).matrix[[1, 0], 0])
            )
            for limit in (0, 10, 180)
        ]
        assert angle[0] == pytest.approx(0, abs=1e-9)
        assert angle[1] == pytest.approx(10)
        assert angle[2] > 20

    def test_scale_and_offset(self):
        face = upright_face()
        plain, wide, moved = (
            placement_of(face, 300, 300, AlignmentSettings(**k))
            for k in ({}, {"scale": 2.0}, {"offset_x": 0.25, "offset_y": -0.5})
        )
        assert wide.scale == pytest.approx(plain.scale / 2)
        assert np.allclose(moved.landmarks, plain.landmarks + np.array([-0.25, 0.5]) * 256)

    def test_a_box_gives_an_upright_crop_around_it(self):
        """Of about the size the landmarks give, because boxes and landmarks are mixed in one picture."""
        for face in group()[1].frames[0]:
            from_box = placement_of(Face(face.box), 886, 1280)
            from_points = placement_of(face, 886, 1280)
            assert from_box.matrix[0, 1] == 0
            assert 0.75 < from_box.scale / from_points.scale < 1.35

    @pytest.mark.parametrize("size", [63, 100, 0, -64])
    def test_crop_size_must_fit_the_grid(self, size):
        with pytest.raises(ValueError, match="crop_size must be"):
            AlignmentSettings(crop_size=size)

    def test_a_tiny_face_is_refused(self):
        with pytest.raises(ValueError, match="too small"):
            placement_of(Face((5, 5, 7, 7)), 64, 64)

    def test_another_canvas_is_refused(self):
        with pytest.raises(ValueError, match="connect the same picture"):
            crop(torch.zeros(1, 3, 100, 100), placement_of(upright_face(), 200, 200))

    def test_at_size_is_the_same_square(self):
        placement = placement_of(upright_face(), 300, 300)
        double = placement.at_size(512)
        assert np.allclose(double.landmarks, 2 * placement.landmarks)


class TestResample:
    def test_identity_is_exact(self):
        image = torch.rand(2, 3, 31, 45, generator=torch.Generator().manual_seed(0))
        identity = np.array([[1.0, 0, 0], [0, 1, 0]])
        assert torch.allclose(resample(image, identity, 31, 45), image, atol=1e-5)

    def test_convention_half_pixel_centres(self):
        """A shift by whole pixels moves pixels, nothing in between."""
        image = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(1))
        moved = resample(image, np.array([[1.0, 0, 2], [0, 1, 3]]), 9, 9)
        assert torch.allclose(moved[..., 3:, 2:], image[..., :-3, :-2], atol=1e-5)

    @settings(deadline=None, max_examples=40)
    @given(angles, st.floats(0.08, 6))
    def test_a_ramp_is_reproduced(self, angle, scale):
        """Colour that is linear in position stays so through any similarity: no shift by half a pixel at any scale."""
        size = 200
        y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
        image = torch.stack([x, y])[None] / size
        matrix = matrix_of(angle, scale, 0, 0)
        matrix[:, 2] = 8 - matrix[:, :2] @ (100, 100)  # the middle of the source lands in the middle of 16 x 16
        drawn = resample(image, matrix, 16, 16)[0]
        v, u = np.mgrid[:16, :16] + 0.5
        source = transform(np.stack([u.ravel(), v.ravel()], axis=1), invert(matrix))
        inside = ((source > 12) & (source < size - 12)).all(axis=1)
        wanted = torch.from_numpy(source.T.reshape(2, 16, 16) / size).float()
        error = (drawn - wanted).abs().amax(0).flatten()[torch.from_numpy(inside)]
        assert inside.any() and float(error.max()) < 0.02 / min(scale, 1) / size * 10

    def test_shrinking_does_not_alias(self):
        """A one-pixel checkerboard shrunk by any factor is flat grey; point sampling would show its pattern at full contrast."""
        y, x = torch.meshgrid(torch.arange(240), torch.arange(240), indexing="ij")
        board = ((x + y) % 2).float()[None, None]
        for scale in (0.07, 0.31, 0.5):
            drawn = resample(board, np.array([[scale, 0, 0], [0, scale, 0]]), int(200 * scale), int(200 * scale))
            assert float((drawn - 0.5).abs().max()) < 0.05
        turned = resample(board, matrix_of(0.6, 0.43, 30, -30), 40, 40)
        assert float(turned.std()) < 0.1

    def test_beyond_the_edge_the_edge_is_repeated(self):
        image = torch.tensor([[0.2, 0.8]])[None, None].expand(1, 3, 2, 2)
        drawn = resample(image, np.array([[1.0, 0, 500], [0, 1, 0]]), 2, 2)  # looks 500 px to the left of the picture
        assert torch.allclose(drawn, torch.full_like(drawn, 0.2))

    def test_a_crop_beyond_the_edge_shows_no_stripes(self):
        """Rows of noise at the edge: repeated as they are, each would be a line through the crop."""
        rows = torch.rand(1, 3, 200, 1, generator=torch.Generator().manual_seed(0)).expand(1, 3, 200, 200).contiguous()
        face = Face(box=(130.0, 60.0, 190.0, 120.0))
        placement = placement_of(face, 200, 200, AlignmentSettings(crop_size=256, offset_x=0.4))
        cut, plain = crop(rows, placement)[0], resample(rows, placement.matrix, 256, 256)[0].clamp(0, 1)
        inside = torch.arange(256) + 0.5 < placement.matrix[0, 0] * 200 + placement.matrix[0, 2]
        assert 20 < (~inside).sum() < 236
        assert torch.equal(cut[:, :, inside], plain[:, :, inside])
        assert cut[:, :, -1].std() < 0.3 * plain[:, :, -1].std()

    def test_a_large_picture_costs_only_its_part(self):
        """An 8k canvas: the crop of a face in it must not touch the rest (NaN there would show)."""
        canvas = torch.full((1, 1, 4320, 7680), float("nan"))
        canvas[..., 1000:2000, 3000:4000] = 0.5
        drawn = resample(canvas, np.array([[0.5, 0, -1600], [0, 0.5, -600]]), 256, 256)
        assert torch.allclose(drawn, torch.full_like(drawn, 0.5))

    @pytest.mark.parametrize("scale", [0.0, float("nan"), 1e9])
    def test_absurd_scale_is_refused(self, scale):
        with pytest.raises(ValueError, match="cannot resample"):
            resample(torch.zeros(1, 1, 4, 4), np.array([[scale, 0, 0], [0, scale, 0]]), 4, 4)

    def test_the_crop_of_a_photograph_shows_the_face_where_the_template_says(self):
        """dlib finds the face again in the crop, with its eyes where the placement says."""
        from icportrait.models.faces.detection import find_faces

        image, faces = astronaut()
        placement = placement_of(faces.frames[0][0], 512, 512)
        cut = crop(image.permute(0, 3, 1, 2), placement)
        again = find_faces(cut.permute(0, 2, 3, 1)).frames[0]
        assert len(again) == 1
        assert np.abs(again[0].points - placement.landmarks).max() < 5
