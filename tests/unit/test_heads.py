"""Synthetic heads: determinism, flow, shared backdrops."""

import numpy as np
import pytest

pytest.importorskip("anny")
pytest.importorskip("numba")

from icportrait.training.data import shards
from icportrait.training.data.heads import generate
from icportrait.training.data.heads.flow import face_mask, flow_between, hair_mask
from icportrait.training.data.heads.identity import make_person
from icportrait.training.data.heads.lights import KINDS, random_light
from icportrait.training.data.heads.render import render
from icportrait.training.data.heads.scene import random_scene
from icportrait.training.data.heads.template import load_template

SIZE = 128


def _bilinear(picture, x, y):
    """Sample [H, W, C] at pixel indices."""
    x, y = np.clip(x, 0, picture.shape[1] - 1.001), np.clip(y, 0, picture.shape[0] - 1.001)
    i, j = x.astype(int), y.astype(int)
    u, v = (x - i)[..., None], (y - j)[..., None]
    return (picture[j, i] * (1 - u) + picture[j, i + 1] * u) * (1 - v) + (
        picture[j + 1, i] * (1 - u) + picture[j + 1, i + 1] * u
    ) * v


@pytest.fixture(scope="module")
def views():
    people = [make_person(21, "short"), make_person(22, "long")]
    scenes = [random_scene(31), random_scene(35)]
    return {(i, s): render(p, c, SIZE) for i, p in enumerate(people) for s, c in enumerate(scenes)}


def test_same_seed_same_picture(views):
    again = render(make_person(21, "short"), random_scene(31), SIZE)
    assert np.array_equal(again.picture, views[0, 0].picture)
    assert np.array_equal(again.ident, views[0, 0].ident)


def test_flow_there_and_back(views):
    for i in (0, 1):
        there, seen = flow_between(views[i, 0], views[i, 1])
        back, _ = flow_between(views[i, 1], views[i, 0])
        inside = (seen > 0) & (hair_mask(views[i, 0]) == 0)
        assert inside.mean() > 0.05
        y, x = np.nonzero(inside)
        fx, fy = there[0, y, x], there[1, y, x]
        returned = _bilinear(back.transpose(1, 2, 0), x + fx, y + fy)
        error = np.hypot(fx + returned[:, 0], fy + returned[:, 1])
        assert np.median(error) < 0.05


def test_warped_albedo_matches(views):
    target, profile = views[0, 0], views[0, 1]
    flow, seen = flow_between(target, profile)
    inside = (seen > 0) & (face_mask(target) > 0)
    y, x = np.nonzero(inside)
    warped = _bilinear(profile.albedo, x + flow[0, y, x], y + flow[1, y, x])
    assert np.median(np.abs(warped - target.albedo[y, x])) < 0.015


def test_flow_between_people(views):
    flow, seen = flow_between(views[0, 0], views[1, 1])
    y, x = np.nonzero(seen)
    assert len(y) > 100 and not hair_mask(views[0, 0])[y, x].any()
    # The nose of one lands on the nose of the other.
    nose = np.round(views[0, 0].landmarks[2] - 0.5).astype(int)
    landed = nose + 0.5 + flow[:, nose[1], nose[0]]
    assert np.linalg.norm(landed - views[1, 1].landmarks[2]) < 3


def test_style_and_target_share_the_backdrop(views):
    a, b = views[0, 0], views[1, 0]
    empty = (a.fine_ident < 0) & (b.fine_ident < 0)
    # Every sample a pixel's filter touches is empty.
    pixels = np.logical_and.reduce(
        [empty[j : j + 2 * SIZE : 2, i : i + 2 * SIZE : 2] for j in range(3) for i in range(3)]
    )
    assert pixels.mean() > 0.1
    assert np.array_equal(a.picture[pixels], b.picture[pixels])


def test_framing(views):
    for view in views.values():
        marks = view.landmarks / SIZE
        assert marks[0, 0] < marks[1, 0]
        assert 0.35 < marks[:2, 1].mean() < 0.55
        assert len(view.camera.scalars()) == 25


def test_every_light_has_a_sane_exposure():
    for kind in KINDS:
        light = random_light(np.random.default_rng(1), 1, 0.0, kind)
        assert light.kind == kind and 0.05 < light.exposure < 20 and np.isfinite(light.sh).all()


def test_template_is_closed_form():
    template = load_template()
    weights = np.asarray(template.subdivide.sum(1)).ravel()
    assert np.allclose(weights, 1, atol=1e-5)
    assert template.triangles.max() == len(template.fine) - 1


def test_plan_never_repeats_identity_or_scene():
    for y, x, b, a in generate.sample_plan(6, 4, np.random.default_rng(0)):
        assert x != y and a != b


def test_shards_are_deterministic_and_resume(tmp_path):
    options = dict(
        groups=1, first_group=generate.HELD_OUT, identities=2, scenes=2, size=64, seed=5, workers=1, progress=False
    )
    (one,) = generate.generate_shards(tmp_path / "a", **options)
    (two,) = generate.generate_shards(tmp_path / "b", **options)
    assert one.read_bytes() == two.read_bytes()
    assert shards.validate_shards([one]) == []
    stamp = one.stat().st_mtime_ns
    generate.generate_shards(tmp_path / "a", **options)
    assert one.stat().st_mtime_ns == stamp
    sample = next(shards.read_shards([one]))
    assert sample["flow"].shape == (2, 64, 64) and sample["meta"]["group"] == generate.HELD_OUT
    assert sample["meta"]["identity"]["target"] != sample["meta"]["identity"]["style"]
