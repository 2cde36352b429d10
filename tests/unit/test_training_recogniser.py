"""The recogniser of the identity loss: crops by true landmarks, contrast between pictures of a person, verification."""

import math

import numpy as np
import pytest
import torch
from tiny_training import face_shard

from icportrait.models.nets.files import read_tensors
from icportrait.training.core.loop import train
from icportrait.training.core.settings import LoopSettings
from icportrait.training.data.samples import SampleSet
from icportrait.training.stages.recogniser import train_recogniser
from icportrait.training.tasks.recogniser import (
    RecogniserSettings,
    RecogniserTask,
    aligned_faces,
    area_under_roc,
    blurred,
    build_recogniser,
    new_recogniser,
    pictures_of_people,
    verification,
)

NET = {"widths": (8, 16), "dimensions": 16, "side": 32}


@pytest.fixture
def samples(tmp_path):
    return SampleSet([face_shard(tmp_path / "faces.tar")])


def task_of(samples, **options) -> RecogniserTask:
    return RecogniserTask(samples, RecogniserSettings(**options), seed=4, net=NET)


def test_landmarks_are_those_of_the_picture_that_is_used(tmp_path):
    path = face_shard(tmp_path / "faces.tar")
    stored, half = SampleSet([path]), SampleSet([path], size=32)
    assert stored.landmarks.keys() == stored.pictures.keys() and stored.landmarks["p0@a"].shape == (5, 2)
    for key, points in stored.landmarks.items():
        assert np.allclose(half.landmarks[key], points / 2)


def test_faces_are_cut_out_by_their_landmarks(samples):
    """The shard's faces are one pattern a person, turned, scaled and moved: aligned, two pictures of a person are alike."""
    faces = {key: aligned_faces(samples, [key], 32)[0] for key in samples.landmarks}
    for person in ("p0", "p1", "p2"):
        a, b = faces[f"{person}@a"], faces[f"{person}@b"]
        raw = (samples.images([f"{person}@a"]) - samples.images([f"{person}@b"])).abs().mean()
        other = faces["p1@b" if person != "p1" else "p2@b"]
        assert (a - b).abs().mean() < 0.4 * min((a - other).abs().mean(), raw)


def test_people_are_those_with_two_known_faces(samples):
    assert pictures_of_people(samples)["p0"] == ["p0@a", "p0@b"]
    del samples.landmarks["p0@a"]
    assert sorted(task_of(samples).people) == ["p1", "p2", "p3", "p4", "p5"]
    samples.landmarks.clear()
    with pytest.raises(ValueError, match="needs two people at least.*landmarks"):
        task_of(samples)


def test_a_batch_shows_two_pictures_of_each_person(samples):
    task = task_of(samples, light=0.0, blur=0.0, shift=0)
    items = task.items(0, 6)
    assert sorted(person for _, person in items) == [f"p{i}" for i in range(6)]
    orders = set()
    for step in range(4):
        first, second, _ = task.draw(step, items)
        for i, (_, person) in enumerate(items):
            shown = [torch.equal(first[i], task.face(f"{person}@{scene}")) for scene in "ab"]
            assert shown.count(True) == 1
            assert torch.equal(second[i], task.face(f"{person}@{'ab'[shown[0]]}"))
            orders.add(shown[0])
    assert orders == {True, False}


def test_augmentation(samples):
    """In bounds, decided by the generator, and each part does what it says."""
    draw = lambda seed=0: torch.Generator().manual_seed(seed)  # noqa: E731
    face = task_of(samples).face("p0@a")
    kinds = {
        name: {"light": 0.0, "blur": 0.0, "shift": 0} | {name: value}
        for name, value in (("light", 0.3), ("blur", 3.0), ("shift", 3))
    }
    made = {name: task_of(samples, **options).augmented(face, draw()) for name, options in kinds.items()}
    for name, picture in made.items():
        assert (
            picture.shape == face.shape and 0 <= picture.min() and picture.max() <= 1 and not torch.equal(picture, face)
        )
        assert torch.equal(picture, task_of(samples, **kinds[name]).augmented(face, draw()))
    blurs = [task_of(samples, **kinds["blur"]).augmented(face, draw(seed)) for seed in range(5)]
    edges = [picture.diff(dim=-1).abs().mean() / face.diff(dim=-1).abs().mean() for picture in blurs]
    assert max(edges) < 1.001 and min(edges) < 0.9
    inside = slice(3, -3)
    moves = [
        (face.roll((dy, dx), (1, 2))[:, inside, inside] - made["shift"][:, inside, inside]).abs().max().item()
        for dy in range(-3, 4)
        for dx in range(-3, 4)
    ]
    assert min(moves) < 1e-6
    order = face[0].flatten().argsort()  # light keeps the order of brightness in a channel
    assert (made["light"][0].flatten()[order].diff() >= 0).all()


def test_blur_is_gaussian():
    spot = torch.zeros(1, 21, 21)
    spot[0, 10, 10] = 1
    seen = blurred(spot, 1.5)[0]
    assert seen.sum().item() == pytest.approx(1, abs=1e-5)
    assert (seen[10, 12] / seen[10, 10]).item() == pytest.approx(math.exp(-0.5 * (2 / 1.5) ** 2), rel=1e-4)
    assert torch.allclose(seen, seen.T) and torch.equal(blurred(spot, 0.0), spot)


def test_embeddings_have_unit_length_whatever_the_batch(samples):
    net = task_of(samples).net
    faces = aligned_faces(samples, ["p0@a", "p1@a", "p2@b"], 32)
    with torch.no_grad():
        together = net(faces)
        assert torch.allclose(together.norm(dim=1), torch.ones(3))
        assert torch.allclose(net(faces[1:2])[0], together[1], atol=1e-5)


def test_the_default_net_has_one_to_two_million_weights_and_draws_nothing_globally():
    state = torch.get_rng_state()
    net = new_recogniser(torch.Generator().manual_seed(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert 1e6 < sum(p.numel() for p in net.parameters()) < 2e6 and net.side == 96


def test_area_under_roc():
    higher, lower = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([0.0, 2.0])
    wanted = sum((a > b) + 0.5 * (a == b) for a in (3, 1, 2) for b in (0, 2)) / 6
    assert area_under_roc(higher, lower) == pytest.approx(wanted)


def test_verification_tells_scenes_from_people(samples):
    """An embedding of the scene alone is always wrong about people in one scene, one of the person never."""

    class Knowing(torch.nn.Module):
        side = 32

        def __init__(self, by):
            super().__init__()
            self.weight, self.by, self.keys = torch.nn.Parameter(torch.zeros(1)), by, []
            for person, keys in pictures_of_people(samples).items():
                self.keys += [(person, key[-1]) for key in keys]

        def forward(self, faces):
            told, self.keys = self.keys[: len(faces)], self.keys[len(faces) :]
            index = [int(p[1:]) if self.by == "person" else "ab".index(scene) for p, scene in told]
            return torch.eye(8)[index]

    assert verification(Knowing("person"), samples, batch=5) == {"auc": 1.0, "auc_same_scene": 1.0}
    blind = verification(Knowing("scene"), samples, batch=5)
    assert blind["auc_same_scene"] == 0.0 and blind["auc"] == pytest.approx(0.25)


def test_it_learns_to_know_people_it_has_not_seen(tmp_path):
    seen = SampleSet([face_shard(tmp_path / "seen.tar", people=24)])
    unseen = SampleSet([face_shard(tmp_path / "unseen.tar", people=8, first=100)])
    task = task_of(seen, light=0.1, blur=0.5, shift=1)
    train(task, LoopSettings(steps=40, batch=12, lr=3e-3, tracker="none"), tmp_path / "run", "recogniser")
    assert verification(task.net, unseen)["auc"] > 0.9


def test_resume_is_exact_and_the_file_says_what_it_is(tmp_path, samples):
    settings = {"batch": 4, "lr": 1e-3, "ema": 0.9, "tracker": "none", "validate_every": 2}
    for folder, parts in (("whole", (4,)), ("parts", (2, 4))):
        for steps in parts:
            loop = LoopSettings(steps=steps, **settings)
            train_recogniser(tmp_path / folder, samples, loop, RecogniserSettings(blur=1.0), samples, NET)
    files = [read_tensors(tmp_path / f / "recogniser" / "recogniser.safetensors") for f in ("whole", "parts")]
    assert all(torch.equal(files[0][0][name], files[1][0][name]) for name in files[0][0])
    metadata = files[0][1]
    assert metadata["format"] == "icportrait-recogniser-1"
    assert metadata["training"]["people"] == 6 and 0 <= metadata["training"]["held_out"]["auc"] <= 1
    net = build_recogniser(metadata["config"])
    net.load_state_dict(files[0][0])
    lines = (tmp_path / "whole" / "recogniser" / "validation.jsonl").read_text().splitlines()
    assert len(lines) == 2 and '"auc_same_scene"' in lines[0]
