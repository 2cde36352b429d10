"""Who is it."""

import numpy as np
import pytest
import torch
from face_photos import astronaut, group

from icportrait.models.faces import identity
from icportrait.models.faces.detection import DetectionSettings, find_faces
from icportrait.models.faces.types import Face


def test_six_people_are_six_people():
    """In one photograph nobody is anybody else: every pair lies below the threshold by a margin."""
    image, faces = group()
    found = [identity.embedding(image[0], face) for face in faces.frames[0]]
    report = identity.compare(found, found)
    matrix = np.array(report.matrix)
    assert np.allclose(np.diag(matrix), 1)
    assert matrix[~np.eye(6, dtype=bool)].max() < identity.SAME_PERSON_ON_PHOTOGRAPHS - 0.02


def test_one_person_stays_one_person_at_another_size_tilt_and_light():
    image, faces = astronaut()
    face = faces.frames[0][0]
    truth = identity.embedding(image[0], face)
    turned = Face(
        (0, 0, 0, 0), tuple((512 - y, x) for x, y in face.landmarks), face.layout
    )  # the picture turned by a quarter, its landmarks with it
    half = torch.nn.functional.interpolate(image.permute(0, 3, 1, 2), scale_factor=0.5, mode="area").permute(0, 2, 3, 1)
    small = Face((0, 0, 0, 0), tuple((x / 2, y / 2) for x, y in face.landmarks), face.layout)
    for other in (
        identity.embedding(torch.rot90(image[0], -1), turned),
        identity.embedding(half[0], small),
        identity.embedding(image[0] ** 1.5, face),
    ):
        assert identity.similarity(truth, other) > 0.6


def test_layouts_agree():
    """A face known only by dlib's or insightface's points, or only by its box, is still the same person."""
    image, faces = astronaut()
    truth = identity.embedding(image[0], faces.frames[0][0])
    face = find_faces(image, DetectionSettings(backend="dlib")).frames[0][0]
    assert identity.similarity(truth, identity.embedding(image[0], face)) > 0.8
    eyes = face.points[[2, 3]].mean(0), face.points[[0, 1]].mean(0)
    five = Face(face.box, (*map(tuple, eyes), (224, 128), (206, 152), (247, 152)), "insightface_5")
    assert identity.similarity(truth, identity.embedding(image[0], five)) > 0.6
    assert identity.similarity(truth, identity.embedding(image[0], Face(face.box))) > 0.6


def test_similarity_is_one_minus_distance():
    a, b = np.zeros(128), np.zeros(128)
    b[3] = 0.25
    assert identity.similarity(a, b) == pytest.approx(0.75)
    assert identity.similarity(a, a) == 1


def test_no_face_is_none_and_never_zero():
    a = np.zeros(128)
    assert identity.similarity(None, a) is None
    report = identity.compare([None], [a])
    assert report.median is None and report.values == []
    assert "no similarity: no face" in report.text()


def test_batches_report_min_median_max_mean():
    a = np.zeros(128)
    others = []
    for distance in (0.1, 0.2, 0.6):
        other = np.zeros(128)
        other[0] = distance
        others.append(other)
    report = identity.compare([a], [*others, None])
    assert report.median == pytest.approx(0.8)
    text = report.text()
    assert (
        "min 0.400, median 0.800, max 0.900, mean 0.700 over 3 pairs, 1 pairs without a face" in text
        and "same person" in text
    )
    assert "different people" in identity.compare([a], [np.full(128, 0.1)]).text()


def test_with_embeddings_fills_in_and_keeps():
    image, faces = group()
    done = identity.with_embeddings(image, faces)
    assert all(len(face.embedding) == 128 for face in done.frames[0])
    assert faces.frames[0][0].embedding is None
    again = identity.with_embeddings(torch.zeros_like(image), done)  # would differ if computed again
    assert again.frames[0][2].embedding == done.frames[0][2].embedding
