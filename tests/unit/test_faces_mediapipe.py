"""MediaPipe's networks in torch against the published model files' own numbers, and what is built on them."""

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from face_photos import GROUP_CENTRES_X, astronaut, group
from safetensors import safe_open
from safetensors.numpy import load_file

from icportrait.models.faces import detection
from icportrait.models.faces.alignment import head_of, placement_of
from icportrait.models.faces.detection import DetectionSettings, find_faces
from icportrait.models.faces.head_shape import _rotation, angles_of
from icportrait.models.faces.mediapipe import detector, finder, mesh, topology, weights
from icportrait.models.faces.mediapipe.networks import NETWORKS
from icportrait.models.faces.pixels import to_bytes

REFERENCES = load_file(Path(__file__).parent / "mediapipe_reference.safetensors")


def picture(which=astronaut):
    return to_bytes(which()[0][0])


class TestNetworks:
    """Reference numbers: the published files, run by LiteRT on parts of the astronaut (`tools/mediapipe_references.py`)."""

    @pytest.mark.parametrize("name", sorted({*NETWORKS} - {"segmenter"}))
    def test_same_numbers_as_the_published_files(self, name):
        known = {key.split("/")[1]: value for key, value in REFERENCES.items() if key.startswith(name)}
        x, y, side = known["part"].tolist()
        part = torch.from_numpy(picture()[y : y + side, x : x + side]).permute(2, 0, 1)[None].float() / 255
        first, second = weights.run(name, part * 2 - 1 if "range" in name else part)
        if "range" in name:
            first = first[:, torch.from_numpy(known["anchors"])]
        assert np.abs(first.numpy().ravel() - known["0"]).max() < 1e-3  # pixels of the network's square
        assert np.abs(second.numpy().ravel() - known["1"]).max() < 1e-3

    def test_segmenter_gives_the_same_shares_but_for_its_rounded_weights(self):
        x, y, side = REFERENCES["segmenter/part"].tolist()
        part = torch.from_numpy(picture()[y : y + side, x : x + side]).permute(2, 0, 1)[None].float() / 255
        (logits,) = weights.run("segmenter", part)
        shares = logits.softmax(dim=1)[0].permute(1, 2, 0)[::16, ::16]
        known = torch.from_numpy(REFERENCES["segmenter/0"]).softmax(dim=-1)
        assert (shares - known).abs().max() < 0.03 and (shares - known).abs().mean() < 1e-3

    def test_loaded_once_whatever_the_number_of_threads(self):
        weights._LOADED.clear()
        seen = []
        threads = [
            threading.Thread(target=lambda: seen.append(weights.network("mesh", torch.device("cpu")))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(seen) == 4 and len({id(net) for net in seen}) == 1

    def test_a_device_that_fails_is_replaced_by_the_cpu(self, monkeypatch):
        monkeypatch.setattr(weights, "device", lambda: torch.device("meta"))
        points, _ = weights.run("mesh", torch.zeros(1, 3, 192, 192))
        assert points.shape == (1, 468, 3)


class TestFinding:
    @pytest.mark.parametrize("turns", [0, 1, 2, 3])
    def test_a_group_is_found_however_the_picture_is_turned(self, turns):
        rgb = np.ascontiguousarray(np.rot90(picture(group), turns))
        found, _ = finder.find(rgb)
        centres = np.array([[(f.box[0] + f.box[2]) / 2, (f.box[1] + f.box[3]) / 2] for f in found])
        back = detection._turned_back(centres, turns, rgb.shape[:2])
        assert np.allclose(sorted(back[:, 0]), GROUP_CENTRES_X, atol=15)

    @pytest.mark.parametrize("angle", range(0, 360, 30))
    def test_points_turn_with_the_face(self, angle):
        matrix = cv2.getRotationMatrix2D((225, 121), angle, 1)
        turned = cv2.warpAffine(picture(), matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE)
        (found,), _ = finder.find(turned)
        wanted = astronaut()[1].frames[0][0].points @ matrix[:, :2].T + matrix[:, 2]
        apart = np.hypot(*(found.points[:, :2] - wanted).T)
        assert apart.mean() < 2  # of a face of 100 px

    @pytest.mark.parametrize(
        "cut", [np.s_[:, 205:], np.s_[:, :235], np.s_[95:], np.s_[:145], np.s_[85:160, 180:255], np.s_[60:180, 160:290]]
    )
    def test_faces_cut_by_the_picture_and_tight_crops(self, cut):
        found, _ = finder.find(np.ascontiguousarray(picture()[cut]))
        assert len(found) == 1

    def test_small_faces_and_effort(self):
        rgb = picture(group)
        canvas = np.full_like(rgb, 90)
        canvas[100:321, 200:520] = cv2.resize(rgb, (320, 221), interpolation=cv2.INTER_AREA)  # faces of 28 px
        counts = [len(finder.find(canvas, effort)[0]) for effort in ("fast", "normal", "small faces")]
        assert counts == sorted(counts) and counts[2] == 6

    def test_a_face_in_a_given_box(self):
        face = astronaut()[1].frames[0][0]
        for turns in range(4):
            rgb = np.ascontiguousarray(np.rot90(picture(), turns))
            corners = np.array([face.box[:2], face.box[2:]])
            for _ in range(turns):
                corners = np.stack([corners[:, 1], 512 - corners[:, 0]], axis=1)
            found = finder.read_in_box(rgb, (*corners.min(axis=0), *corners.max(axis=0)))
            back = detection._turned_back(found.points[:, :2], turns, (512, 512))
            assert np.abs(back - face.points).mean() < 1.5
        assert finder.read_in_box(picture(), (300, 400, 390, 490)) is None

    def test_dlib_finds_what_mediapipe_does_not(self, monkeypatch):
        monkeypatch.setattr(finder, "find", lambda rgb, effort: ([], ["nowhere"]))
        found = find_faces(astronaut()[0][:, 20:220, 120:320], DetectionSettings(effort="fast"))
        assert found.frames[0][0].backend == "dlib" and "found by dlib" in found.message
        asked = find_faces(astronaut()[0][:, 20:220, 120:320], DetectionSettings(backend="mediapipe"))
        assert asked.count == 0 and "nowhere" in asked.message


class TestMesh:
    def test_a_settled_mesh_holds_still(self):
        rgb = torch.from_numpy(picture()).permute(2, 0, 1)[None]
        readings = mesh.read(rgb, [mesh.Square(225, 121, 160, 0.0), mesh.Square(235, 111, 190, 0.5)])
        assert all(r.presence > 0.99 and r.moved < finder._STEADY for r in readings)
        assert np.abs(readings[0].points[:, :2] - readings[1].points[:, :2]).mean() < 1

    def test_irises_lie_in_their_eyes(self):
        for which in (astronaut, group):
            for face in which()[1].frames[0]:
                for iris, ring in ((topology.LEFT_IRIS, topology.LEFT_EYE), (topology.RIGHT_IRIS, topology.RIGHT_EYE)):
                    eye = face.points[list(ring)]
                    width = np.hypot(*(eye[8] - eye[0]))
                    assert np.hypot(*(face.points[iris[0]] - eye.mean(axis=0))) < 0.4 * width

    def test_an_iris_goes_round_the_same_way_in_both_eyes(self):
        points = astronaut()[1].frames[0][0].points
        for centre, right, top, left, bottom in (topology.LEFT_IRIS, topology.RIGHT_IRIS):
            assert points[left, 0] < points[centre, 0] < points[right, 0]
            assert points[top, 1] < points[centre, 1] < points[bottom, 1]

    def test_depth_knows_the_nose(self):
        face = astronaut()[1].frames[0][0]
        depth = np.array(face.depth)
        assert depth[1] < depth[[33, 263, 234, 454]].min() - 0.1 * face.side
        assert face.points_3d.shape == (478, 3) and hash(face) == hash(face)

    def test_the_mirrored_face_is_the_mirrored_mesh(self):
        image, faces = astronaut()
        points = find_faces(image.flip(2)).frames[0][0].points[topology.mirrored()]
        assert np.abs(points * (-1, 1) + (512, 0) - faces.frames[0][0].points).mean() < 1.5

    def test_pose_from_the_mesh(self):
        for yaw, pitch, roll in ((0.3, -0.2, 0.7), (-0.9, 0.4, -2.5)):
            assert np.allclose(angles_of(_rotation(yaw, pitch, roll)), (yaw, pitch, roll))
        image, faces = astronaut()
        mirrored = find_faces(image.flip(2)).frames[0][0]
        ahead, other = head_of(faces.frames[0][0]), head_of(mirrored)
        assert abs(ahead.yaw) < 12 and abs(ahead.yaw + other.yaw) < 4 and abs(ahead.pitch - other.pitch) < 4

    def test_the_crop_is_framed_as_with_dlib(self):
        image, faces = astronaut()
        by_dlib = find_faces(image, DetectionSettings(backend="dlib")).frames[0][0]
        ours, theirs = (placement_of(face, 512, 512) for face in (faces.frames[0][0], by_dlib))
        middle = (np.full(2, 128.0) - ours.matrix[:, 2]) @ np.linalg.inv(ours.matrix[:, :2]).T
        assert np.abs(theirs.matrix[:, :2] @ middle + theirs.matrix[:, 2] - 128).max() < 0.03 * 256
        assert abs(ours.scale / theirs.scale - 1) < 0.05


class TestTopology:
    def test_the_surface_is_closed_up_to_the_faces_rim(self):
        edges = {(t[i], t[(i + 1) % 3]) for t in topology.triangles().tolist() for i in range(3)}
        rim = {edge for edge in edges if edge[::-1] not in edges}
        assert topology.triangles().shape == (898, 3)
        assert len(rim) == 36 and {corner for edge in rim for corner in edge} == set(topology.FACE_OVAL)

    def test_holes_are_closed_by_triangles_of_their_own(self):
        rings = (topology.LEFT_EYE, topology.RIGHT_EYE, topology.LIPS_INNER)
        assert [len(topology.closing(ring)) for ring in rings] == [14, 14, 18]
        assert len(topology.skin()) == 898 - 46

    def test_mirror_pairs(self):
        pairs = topology.mirrored()
        assert (pairs[pairs] == np.arange(478)).all() and (pairs == np.arange(478)).sum() == 28
        points = topology.canonical_points()
        assert np.allclose(points[pairs[:468]], points * (-1, 1, 1))
        assert set(pairs[list(topology.LEFT_EYE)]) == set(topology.RIGHT_EYE)
        assert [pairs[i] for i in topology.LEFT_EYE_READ] == list(topology.RIGHT_EYE_READ)
        assert {int(pairs[i]) for i in topology.STABLE} == set(topology.STABLE)

    def test_rings_lie_in_order(self):
        points = topology.canonical_points()
        for ring in (topology.LEFT_EYE, topology.RIGHT_EYE, topology.LIPS_OUTER, topology.LIPS_INNER):
            half = len(ring) // 2
            assert points[ring[0], 0] < points[ring[half], 0]
            assert points[list(ring[1:half]), 1].mean() > points[list(ring[half + 1 :]), 1].mean()  # y points up

    def test_average_face_is_read_only(self):
        with pytest.raises(ValueError):
            topology.canonical_points()[0] = 0


def test_every_weights_file_names_its_origin_and_licence():
    for path in sorted(weights.FOLDER.glob("*.safetensors")):
        with safe_open(str(path), "pt") as file:
            told = file.metadata()
        assert told["licence"] == "Apache-2.0" and len(told["source_sha256"]) == 64 and "mediapipe" in told["origin"]
    assert sum(path.stat().st_size for path in weights.FOLDER.iterdir()) < 14 * 2**20
    assert "Apache License" in (weights.FOLDER / "LICENSE").read_text("utf-8")


def test_anchors_are_the_middles_of_cells():
    assert detector._anchors("short_range").shape == (896, 2) and detector._anchors("full_range").shape == (2304, 2)
    assert np.allclose(detector._anchors("full_range")[:2], [[0.5 / 48, 0.5 / 48], [1.5 / 48, 0.5 / 48]])
    assert np.allclose(
        detector._anchors("short_range")[[1, 512, 517]], [[1 / 32, 1 / 32], [1 / 16, 1 / 16], [1 / 16, 1 / 16]]
    )
