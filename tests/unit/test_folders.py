"""Folders of people to shards: what is kept, what is dropped and why. Rendered heads stand for photographs."""

import dataclasses
import json
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from icportrait.models.errors import UserError
from icportrait.training import cli
from icportrait.training.data import shards, workers
from icportrait.training.data.folders import write as folders
from icportrait.training.data.folders.faces import AlignedFace, FilterSettings, _centre, sharpness
from icportrait.training.data.folders.pictures import identity_folders, pictures_of
from icportrait.training.data.folders.write import PairSettings, choose_pairs, pose_gap, report_text, write_folders
from icportrait.training.data.samples import SampleSet

SIZE = 256
FILTERS = FilterSettings(size=128, same_person=0.5, effort="fast")  # 0.5: docs/faces.md, rendered heads
YAWS = {"a": -20, "b": 0, "c": 18}


@pytest.fixture(scope="module")
def heads():
    """picture(person, yaw) -> uint8 `[256, 256, 3]`."""
    pytest.importorskip("anny")
    pytest.importorskip("numba")
    from icportrait.training.data.heads.camera import portrait_camera
    from icportrait.training.data.heads.identity import make_person
    from icportrait.training.data.heads.render import render
    from icportrait.training.data.heads.scene import random_scene

    people = {}

    def picture(person: int, yaw: float) -> np.ndarray:
        if person not in people:
            people[person] = make_person(7000 + person, "short", glasses=False, hat=None)
        scene = dataclasses.replace(random_scene(31), camera=portrait_camera(yaw, 2, 0, 20), expression={})
        return render(people[person], scene, SIZE).picture

    return picture


def save(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), rgb[..., ::-1])


def save_video(path: Path, frames: list[np.ndarray], rate: float = 4.0) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (SIZE, SIZE))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


@pytest.mark.slow
def test_from_pictures_to_training_samples(heads, tmp_path, capsys):
    """One person with a stranger, a blurred and a corrupt picture among his photographs; another as a video."""
    ann, ben = tmp_path / "people" / "ann", tmp_path / "people" / "ben lee"
    for name, yaw in YAWS.items():
        save(ann / f"{name}.png", heads(0, yaw))
    save(ann / "holiday" / "stranger.png", heads(1, 5))
    save(ann / "unsharp.png", cv2.GaussianBlur(heads(0, 8), (0, 0), 3))
    (ann / "corrupt.jpg").write_bytes(b"\xff\xd8\xff not a photograph")
    ben.mkdir()
    save_video(ben / "clip.avi", [heads(2, -15)] * 4 + [heads(2, 12)] * 2)
    (tmp_path / "people" / "notes.txt").write_text("not a person")

    arguments = [str(tmp_path / "people"), "--out", str(tmp_path / "out"), "--workers", "1", "--effort", "fast"]
    arguments += ["--size", "128", "--same-person", "0.5", "--frame-seconds", "1"]
    assert cli.main(["data", "folder", *arguments]) == 0
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    dropped = {f"{who}/{d['name']}": d["reason"] for who, x in report["by_person"].items() for d in x["dropped"]}
    assert dropped == {
        "ann/holiday/stranger.png": "another person",
        "ann/unsharp.png": "blurred",
        "ann/corrupt.jpg": "unreadable",
    }
    assert (report["people"], report["pictures"], report["kept"]) == (2, 8, 5)
    for text in ("2 people, 8 pictures", "ann/corrupt.jpg: unreadable (is not a readable picture", "similarity 0."):
        assert text in printed

    paths = sorted((tmp_path / "out").glob("*.tar"))
    assert [path.name for path in paths] == ["folders-ann.tar", "folders-ben_lee.tar"]
    assert shards.validate_shards(paths) == []
    records = list(shards.read_shards(paths))
    assert len(records) == report["pairs"] == 6 + 2  # a-b, a-c, b-c and ben's two frames, both ways
    for record in records:
        meta = record["meta"]
        assert record["target"].shape == record["profile"].shape == (128, 128, 3)
        assert "flow" not in record and "style" not in record
        gap = np.subtract(meta["pose"]["target"], meta["pose"]["profile"])[:2]
        assert PairSettings().min_gap <= np.hypot(*gap) <= PairSettings().max_gap
        marks = np.array(meta["landmarks5"]["target"])
        # FFHQ framing: the eyes lie a little above the middle, the mouth below.
        assert 32 < marks[0, 0] < marks[1, 0] < 96 and marks[:2, 1].max() < 72 < marks[3:, 1].min()
    assert {r["meta"]["scene"]["target"] for r in records if r["key"].startswith("ben")} == {"clip.avi#0", "clip.avi#4"}
    # Turned right in the render is turned right for the head fit.
    poses = {r["meta"]["scene"]["target"]: r["meta"]["pose"]["target"][0] for r in records}
    assert abs(poses["a.png"] - poses["c.png"]) > 15

    samples = SampleSet(paths)
    assert (
        len(samples) == 8 and len(samples.pictures) == 5 and {s.identity for s in samples.samples} == {"ann", "ben lee"}
    )

    # Repeating the command reads no picture again; other settings do.
    stamps = [path.stat().st_mtime_ns for path in paths]
    again = write_folders(
        tmp_path / "people", tmp_path / "out", FILTERS, PairSettings(frame_seconds=1.0), progress=False
    )
    assert again == report and [path.stat().st_mtime_ns for path in paths] == stamps


class TestPictures:
    def test_a_video_is_cut_at_its_rate(self, tmp_path):
        frames = [np.full((SIZE, SIZE, 3), 20 * i, np.uint8) for i in range(9)]
        save_video(tmp_path / "v.avi", frames, rate=4)
        found = list(pictures_of(tmp_path, frame_seconds=0.5))
        assert [p.name for p in found] == [f"v.avi#{i}" for i in (0, 2, 4, 6, 8)]
        for picture, i in zip(found, (0, 2, 4, 6, 8), strict=True):
            assert abs(picture.rgb.mean() - 20 * i) < 4
        assert len(list(pictures_of(tmp_path, 0.5, max_frames=2))) == 2

    def test_damaged_files_are_reported_not_skipped(self, tmp_path):
        (tmp_path / "x.mp4").write_bytes(b"no video")
        (tmp_path / "y.png").write_bytes(b"")
        (tmp_path / "z.txt").write_text("ignored")
        found = {p.name: p.problem for p in pictures_of(tmp_path)}
        assert set(found) == {"x.mp4", "y.png"} and all(found.values())

    def test_colours_stay_red_green_blue(self, tmp_path):
        rgb = np.zeros((8, 8, 3), np.uint8)
        rgb[..., 0] = 200
        save(tmp_path / "red.png", rgb)
        assert (next(pictures_of(tmp_path)).rgb[0, 0] == (200, 0, 0)).all()

    def test_folders(self, tmp_path):
        save(tmp_path / "p" / "deep" / "x.png", np.zeros((8, 8, 3), np.uint8))
        (tmp_path / "empty").mkdir()
        assert [f.name for f in identity_folders(tmp_path)] == ["p"]
        assert identity_folders(tmp_path / "p" / "deep") == [tmp_path / "p" / "deep"]
        with pytest.raises(ValueError, match="holds no folder with pictures"):
            identity_folders(tmp_path / "empty")
        with pytest.raises(ValueError, match="is not a folder"):
            identity_folders(tmp_path / "gone")


def face(yaw: float, name: str = "x", embedding=(0.0,)) -> AlignedFace:
    picture = np.zeros((64, 64, 3), np.uint8)
    return AlignedFace(name, picture, np.zeros((5, 2)), (yaw, 0.0, 0.0), 1.0, np.array(embedding))


class TestPairs:
    def test_gaps_are_kept(self):
        faces = [face(yaw) for yaw in (0, 2, 10, 75)]
        pairs = choose_pairs(faces, PairSettings(min_gap=6, max_gap=60))
        assert set(pairs) == {(0, 2), (2, 0), (1, 2), (2, 1)}  # 0-2 too near, 75 too far from all
        assert all(6 <= pose_gap(faces[i], faces[j]) <= 60 for i, j in pairs)

    def test_profiles_are_limited_and_drawn_from_the_seed(self):
        faces = [face(8.0 * i) for i in range(7)]
        pairs = choose_pairs(faces, PairSettings(pairs_per_picture=2))
        assert all(sum(i == target for i, _ in pairs) == 2 for target in range(7))
        assert pairs == choose_pairs(faces, PairSettings(pairs_per_picture=2))
        assert pairs != choose_pairs(faces, PairSettings(pairs_per_picture=2, seed=1))

    def test_the_person_is_the_one_on_most_pictures(self):
        """A stranger on the first picture, and beside the person on another, does not become the folder's person."""
        stranger, person = (1.0, 0.0), (0.0, 0.0)
        pictures = [[face(0, "s", stranger)], [face(0, "p1", person)], [face(0, "p2", person), face(0, "s2", stranger)]]
        pictures.append([face(0, "p3", (0.1, 0.0))])
        assert _centre(pictures, 0.5).name in ("p1", "p2")


def test_nothing_usable_is_one_sentence(tmp_path, monkeypatch, capsys):
    save(tmp_path / "in" / "p" / "grey.png", np.full((64, 64, 3), 90, np.uint8))
    monkeypatch.setattr(folders, "usable_faces", lambda pictures, _: (list(pictures) and [], []))
    arguments = ["data", "folder", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert cli.main(arguments) == 2
    assert "No pair was made from 1 pictures" in capsys.readouterr().err


def test_equal_file_names_are_refused(tmp_path):
    for name in ("a b", "a+b"):
        save(tmp_path / "in" / name / "x.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="one file name, a_b"):
        write_folders(tmp_path / "in", tmp_path / "out", progress=False)


def test_a_long_report_is_cut():
    drop = {"name": "x", "reason": "blurred", "detail": "d"}
    report = {"people": 1, "pictures": 90, "kept": 0, "pairs": 0, "dropped_by_reason": {"blurred": 90}}
    text = report_text(report | {"by_person": {"p": {"dropped": [drop] * 90}}}, lines=5)
    assert text.count("p/x: blurred") == 5 and "and 85 more in report.json" in text


def test_sharpness_does_not_depend_on_contrast_or_size():
    rng = np.random.default_rng(0)
    fine = cv2.GaussianBlur(rng.uniform(0, 255, (512, 512, 3)).astype(np.float32), (0, 0), 3)
    fine = ((fine - fine.min()) / np.ptp(fine) * 255).astype(np.uint8)
    pale = (fine // 2 + 60).astype(np.uint8)
    assert sharpness(pale) == pytest.approx(sharpness(fine), rel=0.1)
    assert sharpness(cv2.GaussianBlur(fine, (0, 0), 6)) < 0.2 * sharpness(fine)


class TestProcesses:
    def test_tasks_are_done_and_the_first_error_is_raised(self, tmp_path):
        workers.run_tasks(Path.touch, [tmp_path / "0", tmp_path / "1"])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
        with pytest.raises(OSError):
            workers.run_tasks(Path.touch, [tmp_path / "no folder" / "x", tmp_path / "2"])

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
    def test_a_killed_process_is_one_sentence(self):
        with pytest.raises(UserError, match="fewer --workers"):
            workers.run_tasks(signal.raise_signal, [signal.SIGKILL, signal.SIGKILL])


class TestRay:
    def test_missing_is_one_sentence(self, monkeypatch):
        monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match="needs the package ray.*pip install ray.*leave --ray out"):
            workers.run_tasks(print, [1, 2], ray_address="auto")

    @pytest.mark.slow
    @pytest.mark.skipif("ray" not in sys.modules and not workers.importlib.util.find_spec("ray"), reason="needs ray")
    def test_tasks_are_done_by_a_cluster(self, tmp_path):
        import ray

        tasks = [str(tmp_path / f"{i}") for i in range(3)]
        try:
            workers.run_tasks(Path.touch, [Path(task) for task in tasks], ray_address="local")
            with pytest.raises(OSError):
                workers.run_tasks(Path.touch, [tmp_path / "no folder" / "x"], ray_address="local")
        finally:
            ray.shutdown()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_the_default_makes_the_papers_35200_pairs():
    """734 groups of 6 people in 4 scenes, each picture a target twice."""
    from icportrait.training.commands.data import Heads
    from icportrait.training.data.heads.generate import sample_plan

    arguments = Heads(out=Path("x"))
    pairs = len(sample_plan(arguments.identities, arguments.scenes, np.random.default_rng(0)))
    assert 35_200 <= arguments.groups * pairs < 35_200 + pairs
