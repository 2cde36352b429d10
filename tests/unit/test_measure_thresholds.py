"""`icportrait measure thresholds`: its rules on made-up figures, its readings on a real face, and the limits beside the committed figures."""

import json

import pytest
from face_photos import astronaut

pytest.importorskip("anny")
pytest.importorskip("numba")

from icportrait.models.faces import dlib_backend, identity
from icportrait.models.faces.detection import DetectionSettings, find_faces, overlap
from icportrait.models.faces.pixels import to_bytes
from icportrait.tools.docs_lint import MEASUREMENTS
from icportrait.training.data.folders.faces import FilterSettings
from icportrait.training.evaluation.measure import thresholds as measure


def test_the_best_border_divides():
    same, different = [0.52, 0.6, 0.7], [0.1, 0.3, 0.475]
    assert measure.best_border(same, different) == pytest.approx(0.5, abs=0.02)
    assert measure.right_at(0.5, same, different) == 1
    assert measure.right_at(0.55, same, different) == pytest.approx((2 / 3 + 1) / 2)
    assert measure.right_at(0.2, same, different) == pytest.approx((1 + 1 / 3) / 2)


def test_boxes_without_face_hold_none():
    image, faces = astronaut()
    boxes = measure.boxes_without_face(image.shape[1:3], faces.frames[0], 20, 0)
    assert len(boxes) == 20 and boxes == measure.boxes_without_face(image.shape[1:3], faces.frames[0], 20, 0)
    for box in boxes:
        assert overlap(box, faces.frames[0][0].box) == 0
        assert min(box) >= 0 and max(box) <= 512 and box[2] - box[0] == pytest.approx(box[3] - box[1])


def test_readings_of_a_real_face(monkeypatch):
    image, _ = astronaut()
    faces = find_faces(image, DetectionSettings(backend="dlib"))
    monkeypatch.setattr(measure, "BOXES_WITHOUT_FACE", 2)
    monkeypatch.setattr(measure, "SMALLER_BOXES", (0.9, 0.1))
    monkeypatch.setattr(measure, "LARGER_BOXES", (1.1,))
    picture = (to_bytes(image[0]), faces.frames[0])
    scatter = measure.measure_scatter([picture], 0)
    assert scatter["upright"]["most"] < scatter["turned"]["least"]
    assert (scatter["faces"], scatter["boxes_without_face"]) == (1, 2)
    box = measure.measure_box([picture])
    assert box["may_be_smaller_by"] == pytest.approx(0.1) and box["may_be_larger_by"] == pytest.approx(0.1)
    assert list(box["most_moved_px_by_scale"]) == ["0.1", "0.9", "1.1"]
    predictors = measure.measure_predictors(*picture)
    assert predictors["eyes"]["most"] < measure.EYES_AGREE and predictors["faces_where_eyes_agree"] == 1


def test_blur_is_seen():
    image, faces = astronaut()
    sharp, blurred = measure.sharpness_of(image, faces.frames[0][0])
    assert sharp > 3 * blurred > 0


def test_a_changed_picture_is_still_the_same_person():
    image, faces = astronaut()
    (face,) = faces.frames[0]
    likeness = measure.measure_likeness(image, (face, face), image, face)
    assert likeness["different_people"]["least"] == pytest.approx(1)  # the same face twice
    # Mirrored, the detector's box lies a tenth of its side off: no reading holds still but of a moved box.
    assert min(likeness["same_picture_changed"].values()) > 0.6


def test_missing_photographs_are_said(monkeypatch):
    monkeypatch.setattr(measure, "group_photograph", lambda: None)
    with pytest.raises(ValueError, match="insightface"):
        measure.measure_thresholds(measure.ThresholdsMeasure())


def test_the_limits_lie_where_the_committed_figures_say():
    figures = json.loads((MEASUREMENTS / "thresholds.json").read_text())
    scatter = figures["scatter"]
    assert dlib_backend.is_steady(scatter["upright"]["most"])
    assert not dlib_backend.is_steady(min(scatter["turned"]["least"], scatter["no_face"]["least"]))
    assert figures["likeness"]["photographs"]["different_people"]["most"] < identity.SAME_PERSON_ON_PHOTOGRAPHS
    for kind in figures["sharpness"].values():
        assert kind["as_they_are"]["least"] > FilterSettings.min_sharpness
