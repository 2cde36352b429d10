"""`icportrait measure photographs`: figures that mean what they say, and the whole on the packaged photographs."""

import json

import mesh_faces
import numpy as np
import pytest
import torch

from icportrait.models.errors import UserError
from icportrait.models.faces.types import Face
from icportrait.training import cli
from icportrait.training.evaluation import photo_pairs
from icportrait.training.evaluation.metrics import composite
from icportrait.training.evaluation.photo_pairs import Portrait, pairs_of, same_person


def test_mirror_numbers_exchange_the_halves():
    assert (composite.MIRROR[composite.MIRROR] == np.arange(68)).all()
    pairs = ((17, 26), (30, 30), (31, 35), (36, 45), (41, 46), (48, 54), (55, 59), (57, 57), (60, 64), (65, 67))
    assert all(composite.MIRROR[a] == b for a, b in pairs)


def test_landmark_error_counts_eye_distances_and_the_mirrored_half():
    points = np.random.default_rng(0).random((68, 2))
    points[36:42], points[42:48] = (0.0, 0.5), (0.5, 0.5)
    inner = points[composite.INNER]
    assert composite.landmark_error(inner, points) == 0
    assert composite.landmark_error(inner + (0.05, 0), points) == pytest.approx(0.1)
    mirrored = np.zeros(51, bool)
    mirrored[19] = True  # point 36
    named = inner.copy()
    named[19] = points[45]
    assert composite.landmark_error(named, points) > 0.01
    assert composite.landmark_error(named, points, mirrored) == 0


def test_through_flow_moves_by_cells_of_its_own_grid():
    offsets = np.zeros((2, 10, 20), np.float32)
    offsets[0], offsets[1] = 2, -1
    moved = composite.through_flow(offsets, np.array([[0.5, 0.5], [0.25, 0.75]]))
    assert np.allclose(moved, [[0.6, 0.4], [0.35, 0.65]])


def test_light_error_sees_light_not_detail():
    size = 96
    face = np.ones((size, size), np.float32)
    plain = np.full((size, size, 3), 0.5, np.float32)
    grain = plain + np.random.default_rng(0).normal(0, 0.02, (size, size, 1)).astype(np.float32)
    assert composite.light_errors(plain, plain, face) == (0, 0)
    assert composite.light_errors(grain, plain, face)[0] < 0.6
    brighter, without_mean = composite.light_errors(plain + 0.1, plain, face)
    assert brighter > 5 and without_mean < 0.1
    side = plain + np.linspace(-0.2, 0.2, size, dtype=np.float32)[None, :, None]
    assert composite.light_errors(side, plain, face)[1] > 5


def test_a_pasted_face_has_a_seam():
    mesh = mesh_faces.face()
    size = mesh_faces.SIZE
    style = np.full((size, size, 3), 0.5, np.float32)
    pasted = style.copy()
    oval = composite.regions.oval(mesh, size)
    half = oval * (np.arange(size) < size / 2)
    assert composite.seam(style, mesh, style, mesh) == (0, 0)
    mean, worst = composite.seam(pasted + 0.2 * half[..., None], mesh, style, mesh)
    assert 0 < mean < worst


def _portrait(name: str, yaw: float) -> Portrait:
    points = mesh_faces.face(yaw)
    face = Face((0, 0, 1, 1), tuple(map(tuple, points[:, :2])), "mediapipe", depth=tuple(points[:, 2]))
    return Portrait(name, name.split("_")[0], torch.zeros(1, 1, 1, 3), face, 0.0)


def test_pairs_are_of_two_people_and_cover_all_yaw_differences():
    portraits = [_portrait(f"p{k}_{n}", yaw) for k, yaw in enumerate(range(-20, 21, 5)) for n in (1, 2)]
    every = pairs_of(portraits, 1000, seed=0)
    assert len(every) == 18 * 16
    sample = pairs_of(portraits, 20, seed=0)
    assert sample == pairs_of(portraits, 20, seed=0) and len(set(sample)) == 20
    assert all(a.person != b.person for a, b in sample)
    steps = [int(abs(a.yaw - b.yaw) // 10) for a, b in sample]
    assert [steps.count(step) for step in range(4)] == [5, 5, 5, 5]
    assert len({a.person for a, _ in sample}) >= 8
    assert len(same_person(portraits)) == 9


def test_a_folder_without_faces_is_refused(tmp_path):
    with pytest.raises(UserError, match="two are needed"):
        photo_pairs.in_folder(tmp_path)


def test_the_packaged_photographs(tmp_path, capsys):
    out, sheets = tmp_path / "out.json", tmp_path / "sheets"
    assert cli.main(["measure", "photographs", "--pairs", "3", "--sheets", str(sheets), "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["pairs"] == 3 and figures["photographs"] == 8 and figures["unread_results"] == 0
    errors = figures["landmark_error"]
    assert errors["mesh"] < 0.08 and errors["mesh"] < errors["none"]
    assert figures["identity"]["result"] > figures["identity"]["style"] + 0.1
    assert figures["identity"]["same_person"] is None
    assert figures["pose_error_deg"]["result"] < figures["pose_error_deg"]["affine_clone"]
    assert figures["light_error"]["result"] < figures["light_error"]["affine_clone"]
    assert set(figures["skin_tone_error"]) == {"to_profile", "to_style"} and set(figures["seam"]) == {
        "result",
        "affine_clone",
    }
    assert all(value > 0 for value in figures["seconds"].values())
    assert {path.name for path in sheets.iterdir()} == {"packaged_00.png", "packaged.json"}
    shown = capsys.readouterr().out
    assert "worst of packaged" in shown and "landmark error of the mesh at most 0.06" in shown
    assert ".jpg" not in out.read_text() and "t1" not in out.read_text()
