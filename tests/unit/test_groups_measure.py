"""The parts of `icportrait measure faces` that need neither renders nor a detector."""

import numpy as np
import pytest
import torch
from face_photos import upright_face

from icportrait.models.faces.types import Face
from icportrait.models.painting import CropPair
from icportrait.training.evaluation import face_scenes, group_painting
from icportrait.training.evaluation.measure import faces as measure


def head(person: int, side: int, shade: float) -> face_scenes.Head:
    """A square whose middle is opaque."""
    alpha = np.zeros((side, side), np.float32)
    alpha[side // 4 : -(side // 4), side // 4 : -(side // 4)] = 1
    marks = side * np.array([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.45, 0.6], [0.55, 0.6]])
    return face_scenes.Head(person, np.full((side, side, 3), shade, np.float32), alpha, marks, 0.48 * side)


def test_heads_lie_where_their_landmarks_say():
    shades = (0.0, 1.0, 0.0, 1.0, 0.0)
    scene = face_scenes.paste_heads([head(k, 60 - 6 * (k % 2), shade) for k, shade in enumerate(shades)], 0.9, 0.8, 3)
    assert scene.image.shape == (1, 60 + 48, 60 + 2 * 54, 3)
    for shade, marks in zip(shades, scene.landmarks, strict=True):
        x, y = marks[2].round().astype(int)
        assert float(scene.image[0, y, x, 0]) == shade
    again = face_scenes.paste_heads([head(k, 60 - 6 * (k % 2), shade) for k, shade in enumerate(shades)], 0.9, 0.8, 3)
    assert torch.equal(again.image, scene.image)


def test_each_head_gets_the_nearest_face_once():
    scene = face_scenes.paste_heads([head(k, 60, 0.5) for k in range(3)], 1.0, 1.0, 0)
    boxes = [
        tuple(np.concatenate([m.mean(axis=0) - 15 + d, m.mean(axis=0) + 15 + d]))
        for m, d in zip(scene.landmarks, (3, -2, 40))
    ]
    faces = tuple(Face(boxes[k]) for k in (1, 0, 2)) + (Face(boxes[0]),)
    assert face_scenes.matched(scene, faces) == {1: 0, 0: 1}


def test_landmark_errors_are_in_eye_distances():
    face = upright_face(100, 100, 60)
    truth = np.array([[70, 106], [130, 106], [100, 140], [80, 170], [120, 170]], float)
    eyes, mouth = measure.landmark_errors(face, truth)
    assert eyes == pytest.approx(0.1, abs=0.02) and 0 <= mouth < 0.4


def test_round_trip_keeps_the_picture():
    picture = torch.nn.functional.interpolate(
        torch.rand(1, 3, 30, 30, generator=torch.Generator().manual_seed(0)), (240, 240), mode="bicubic"
    )
    picture = picture.movedim(1, -1).clamp(0, 1)
    figures = measure.measure_round_trip(picture, (upright_face(120, 110, 40),), 256)
    assert figures["roundtrip_psnr_db"] > 100 > figures["roundtrip_plain_paste_psnr_db"] > 35
    assert figures["outside_max_abs_diff"] == 0


def test_without_a_bundle_the_profile_is_pasted_and_said(tmp_path):
    name, painter_of = group_painting.bundle_painter(tmp_path, measure.CropSettings())
    picture = torch.rand(1, 8, 8, 3)
    painted = painter_of(0, steps=1)(CropPair(picture, picture * 0, None, None))
    assert name.startswith("none") and torch.equal(painted.image, picture)


def test_the_peak_is_seen():
    with group_painting.Peak() as peak:
        block = torch.ones(64 * 2**20 // 4)
        block.sum()
        import time

        time.sleep(0.1)
    assert peak.bytes > 64 * 2**20


def test_the_table_prints(capsys):
    figures = {
        "t1": {"dlib": 6, "insightface": "no pack"},
        "outside_max_abs_diff": 0.0,
        "heads": {
            "heads": 2,
            "scenes": 1,
            "effort": "normal",
            "detection_rate": 1.0,
            "detection_rate_by_face_px": {"64 to 127": None},
            "false_detections": 0,
            "landmark_error": {"eyes_mean": 0.04, "eyes_max": 0.1, "mouth_mean": None},
            "assignment_accuracy": 0.5,
            "assigned_to_somebody_else": 0,
        },
        "round_trip": {},
        "group": {
            "painter": "bundle",
            "overlapping_boxes": 4,
            "group_identity": [[0.5] * 6] * 6,
            "mixed_identities": 0,
            "without_detail": {"mixed_identities": 3},
            "true_renders": {"mixed_identities": 0},
            "more_groups": [
                {
                    "mixed_identities": 1,
                    "without_detail": {"mixed_identities": 4},
                    "true_renders": {"mixed_identities": 2},
                }
            ],
            "memory_ratio_6_to_1": 1.01,
            "peak_mb": {"1": 1.0, "6": 1.0},
            "time_a_face_6_to_1": 1.0,
            "seconds": {"1": 1.0, "6": 6.0},
        },
    }
    measure.print_table(figures)
    printed = capsys.readouterr().out
    assert "6 found" in printed and "no pack" in printed and "mixed identities" in printed
