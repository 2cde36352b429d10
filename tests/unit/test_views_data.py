"""Pairs from single portraits, the lifter's truth from shards, and what measures views."""

import dataclasses
import importlib.util
import shutil
import threading
import time

import numpy as np
import pytest
import torch

from icportrait.models.errors import UserError
from icportrait.models.nets.bundle import FOLDER
from icportrait.models.nets.files import read_tensors
from icportrait.models.views.light import environment_light, harmonics
from icportrait.training import cli
from icportrait.training.commands import data as data_command
from icportrait.training.data import views as views_data
from icportrait.training.data.heads.generate import PERSON, SCENE, generate_shards, seed_of
from icportrait.training.data.heads.identity import make_person
from icportrait.training.data.heads.render import render
from icportrait.training.data.heads.scene import random_scene
from icportrait.training.data.heads.views import two_views
from icportrait.training.data.samples import SampleSet
from icportrait.training.data.shards import read_shards, validate_shards
from icportrait.training.data.views import ViewSettings, descriptions, random_map, write_views
from icportrait.training.evaluation.measure import views as measure
from icportrait.training.stages import lifter as stage


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """A portrait and a picture without a face."""
    import cv2

    folder = tmp_path_factory.mktemp("portraits")
    shutil.copy(FOLDER / "icportrait_style.png", folder / "anna.png")
    cv2.imwrite(str(folder / "wall.png"), np.full((64, 64, 3), 90, np.uint8))
    return folder


def test_shards_of_views(portraits, tmp_path):
    settings = ViewSettings(pairs=6, size=64)
    report = write_views(portraits, tmp_path, settings, workers=1)
    assert report["portraits"] == 2 and report["shards"] == 1
    assert list(report["left_out"].values()) == ["wall.png shows no face"]
    shards = sorted(tmp_path.glob("*.tar"))
    assert validate_shards(shards) == []
    samples = list(read_shards(shards))
    assert len(samples) == 3  # half of the pairs; the wall's are not made up for
    for sample in samples:
        assert sample["meta"]["generator"] == "views" and sample["meta"]["identity"] == {"target": "anna"}
        visible = sample["visible"] > 0
        assert visible.mean() > 0.1 and (sample["face"] > 0).mean() > 0.05
        # Where a pixel is seen in both, its colours agree once light is evened out: correlation over the face.
        y, x = np.nonzero(visible & (sample["face"] > 0))
        there = np.rint(np.stack([x, y]) + sample["flow"][:, y, x]).astype(int).clip(0, 63)
        own, other = sample["target"][y, x].mean(-1), sample["profile"][there[1], there[0]].mean(-1)
        assert np.corrcoef(own, other)[0, 1] > 0.5
    before = shards[0].stat().st_mtime_ns
    write_views(portraits, tmp_path, settings, workers=1)
    assert shards[0].stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
def test_a_lost_machines_shards_are_made_by_another(portraits, tmp_path):
    """Three raylets on one computer: one that only leads, two that work, of which one is killed while both do."""
    import ray
    from ray.cluster_utils import Cluster

    folder = tmp_path / "portraits"
    folder.mkdir()
    for name in ("anna", "berta", "cora"):
        shutil.copy(portraits / "anna.png", folder / f"{name}.png")
    settings = ViewSettings(pairs=12, size=64)
    write_views(folder, tmp_path / "alone", settings, workers=1)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        lost = [cluster.add_node(num_cpus=1) for _ in range(2)][1]
        ray.init(address=cluster.address, log_to_driver=False)

        def lose():
            deadline = time.monotonic() + 120
            while len(writing := list((tmp_path / "shared").glob(".*.part"))) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)
            both_worked.append(len(writing) == 2)
            cluster.remove_node(lost, allow_graceful=False)

        both_worked = []
        killer = threading.Thread(target=lose)
        killer.start()
        report = write_views(folder, tmp_path / "shared", settings, ray=cluster.address)
        killer.join()
        assert both_worked == [True]
        deadline = time.monotonic() + 60  # the loss is noted when a heartbeat fails to come
        while (alive := sum(node["Alive"] for node in ray.nodes())) > 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert alive == 2
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert report["shards"] == 3
    for path in sorted((tmp_path / "alone").glob("*.tar")):
        assert path.read_bytes() == (tmp_path / "shared" / path.name).read_bytes()


def test_what_views_refuse(tmp_path, portraits):
    with pytest.raises(UserError, match="holds no pictures"):
        write_views(tmp_path, tmp_path / "out")
    alone = tmp_path / "walls"
    alone.mkdir()
    shutil.copy(portraits / "wall.png", alone)
    with pytest.raises(UserError, match="none of the 1 pictures"):
        write_views(alone, tmp_path / "out", ViewSettings(pairs=1, size=64), workers=1)
    with pytest.raises(UserError, match="multiple of 64"):
        ViewSettings(size=100)
    with pytest.raises(UserError, match="either --portraits"):
        data_command.Views(out=tmp_path)


def test_descriptions_name_nobody_and_differ():
    words = descriptions()
    assert len(words) == 206 == len(set(words))
    assert all(text.startswith("portrait photo of a ") for text in words)


def test_painted_portraits_are_lifted(monkeypatch, tmp_path, portraits):
    """The route from words, with a stand-in for the checkpoint's sampler."""
    asked = {}

    def paint(checkpoint, prompts, folder, settings, seed):
        asked.update(checkpoint=checkpoint, prompts=prompts)
        folder.mkdir(parents=True)
        shutil.copy(portraits / "anna.png", folder / "painted-0-00000.png")

    monkeypatch.setattr(data_command, "paint_portraits", paint)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a woman\n\n  a man \n")
    checkpoint = tmp_path / "model.safetensors"
    checkpoint.write_bytes(b"")
    views = ViewSettings(pairs=1, size=64)
    command = data_command.Views(out=tmp_path / "out", checkpoint=checkpoint, prompts=prompts, views=views, workers=1)
    assert command.run() == 0
    assert asked["prompts"] == ["a woman", "a man"]
    assert len(list((tmp_path / "out").glob("*.tar"))) == 1


def test_pictures_that_are_there_are_not_painted_again(tmp_path):
    (tmp_path / "painted-0-00000.png").write_bytes(b"x")
    assert views_data.paint_portraits(tmp_path / "none", ["a man"], tmp_path) == [tmp_path / "painted-0-00000.png"]
    with pytest.raises(UserError, match="no prompts"):
        views_data.paint_portraits(tmp_path / "none", [], tmp_path)


def test_truth_is_that_of_the_shard():
    """The same person, moment and light; depth that both views agree on."""
    first, second = two_views("0-3-1", "0-3-0", "0-3-2", 64)
    person, scene = make_person(seed_of(0, 3, PERSON, 1)), random_scene(seed_of(0, 3, SCENE, 0))
    assert np.array_equal(first.picture, render(person, scene, 64).picture)
    moved = dataclasses.replace(scene, camera=random_scene(seed_of(0, 3, SCENE, 2)).camera)
    assert np.array_equal(second.picture, render(person, moved, 64).picture)
    head = first.depth > 0
    assert 0.2 < head.mean() < 0.9 and 0.2 < first.depth[head].min() < first.depth[head].max() < 2
    assert first.albedo[~head].max() == 0 and first.albedo[head].max() > 60
    # A head is about 20 cm deep, and nothing ends before it begins.
    assert np.array_equal(first.back > 0, head) and (first.back >= first.depth - 1e-3)[head].all()
    assert 0.1 < np.median((first.back - first.depth)[28:36, 28:36]) < 0.3


def test_lifter_by_command(tmp_path, portraits):
    """Trained on a shard of heads, resumed, and chosen for pairs; shards of anything else are refused."""
    generate_shards(tmp_path / "heads", 1, identities=1, scenes=2, size=64, workers=1, progress=False)
    words = [
        "train",
        "lifter",
        "--run",
        str(tmp_path / "run"),
        "--threads",
        "1",
        "--tracker",
        "none",
        "--batch",
        "1",
        "--rays",
        "8",
    ]
    for steps in ("1", "2"):
        assert cli.main([*words, "--data", str(tmp_path / "heads"), "--steps", steps]) == 0
    lifter = tmp_path / "run" / "lifter" / "lifter.safetensors"
    assert lifter.stat().st_size < 6 * 2**20
    (kept,) = (tmp_path / "run" / "lifter").glob("views_*.safetensors")
    views = read_tensors(kept)[0]
    seen, depth = views["seen"].float(), views["depth"][:, 0].float()
    assert seen.shape[1:] == (6, 128, 128)
    # The outline is the segmenter's: near that of the render, and not it.
    head = torch.nn.functional.interpolate((depth > 0).float()[:, None], size=(128, 128))[:, 0]
    assert 0 < float((head - seen[:, 3]).abs().mean()) < 0.3
    pairs = [
        "data",
        "views",
        "--portraits",
        str(portraits),
        "--out",
        str(tmp_path / "views"),
        "--pairs",
        "2",
        "--size",
        "64",
    ]
    assert cli.main([*pairs, "--workers", "1", "--lifter", str(lifter)]) == 0
    assert cli.main([*words, "--data", str(tmp_path / "views"), "--steps", "3"]) == 2


def test_heads_that_are_not_lifted_in_use_are_no_training(tmp_path, monkeypatch):
    """Those without a readable mesh are left out; where none remain, one sentence says so."""
    generate_shards(tmp_path / "heads", 1, identities=1, scenes=2, size=64, workers=1, progress=False)
    samples = SampleSet(sorted((tmp_path / "heads").glob("*.tar")))
    calls = iter([None, *[True] * 100])
    view = stage._view
    monkeypatch.setattr(stage, "_view", lambda *words: next(calls) and view(*words))
    heads = {sample.target for sample in samples.samples}
    assert len(stage.views_of(tmp_path / "run", samples)) == len(heads) - 1
    monkeypatch.setattr(stage, "_view", lambda *words: None)
    with pytest.raises(UserError, match="on none of the"):
        stage.views_of(tmp_path / "other", samples)


def test_a_heads_light_becomes_a_map():
    scene = random_scene(seed_of(0, 3, SCENE, 0))
    light = environment_light(measure.environment_map(scene.light))
    assert np.corrcoef(light.numpy().ravel(), scene.light.sh.ravel())[0, 1] > 0.97
    assert harmonics(torch.tensor([0.0, 0, 1])).shape == (9,)
    generator = np.random.default_rng(0)
    assert all(float(random_map(generator).max()) <= 1 for _ in range(3))


def test_measure_of_one_head():
    options = measure.ViewsMeasure(identities=1, size=128)
    figures, row = measure.measure_head(0, options, None)
    assert len(figures) == 2 and len(row) > 6
    for one in figures:
        assert one["psnr_db"]["view"] > one["psnr_db"]["unchanged"]
        assert one["relight_error"]["ours"] >= 0 and one["seconds_per_view"] > 0
