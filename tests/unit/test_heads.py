"""Synthetic heads: determinism, exact flow, shared backdrops, metadata."""

import numpy as np
import pytest

pytest.importorskip("anny")
pytest.importorskip("numba")

from icportrait.training.data import shards
from icportrait.training.data.heads import generate, materials
from icportrait.training.data.heads.camera import portrait_camera
from icportrait.training.data.heads.expression import pose_cage
from icportrait.training.data.heads.flow import face_mask, flow_between, hair_mask
from icportrait.training.data.heads.geometry import crop_size, landmarks5, mouth_cage_vertices, random_shape
from icportrait.training.data.heads.hair_styles import FORMS, STYLES
from icportrait.training.data.heads.identity import make_person
from icportrait.training.data.heads.lights import KINDS, random_light
from icportrait.training.data.heads.raster import rasterise
from icportrait.training.data.heads.render import render
from icportrait.training.data.heads.scene import random_scene
from icportrait.training.data.heads.template import load_template
from icportrait.training.data.heads.template_build import build_arrays
from icportrait.training.data.heads.template_space import HAT
from icportrait.training.evaluation.face_scenes import HeadMaker

SIZE = 96


def sample_bilinear(picture, x, y):
    """Sample `[H, W, C]` at pixel indices."""
    x, y = np.clip(x, 0, picture.shape[1] - 1.001), np.clip(y, 0, picture.shape[0] - 1.001)
    i, j = x.astype(int), y.astype(int)
    u, v = (x - i)[..., None], (y - j)[..., None]
    above = picture[j, i] * (1 - u) + picture[j, i + 1] * u
    return above * (1 - v) + (picture[j + 1, i] * (1 - u) + picture[j + 1, i + 1] * u) * v


@pytest.fixture(scope="module")
def views():
    """{(person, scene): View} of two persons in two scenes."""
    people = [make_person(21, "short"), make_person(22, "long")]
    scenes = [random_scene(31), random_scene(35)]
    return {(i, s): render(p, c, SIZE) for i, p in enumerate(people) for s, c in enumerate(scenes)}


class TestTemplate:
    def test_cached_one_is_what_the_code_builds(self):
        template, built = load_template(), build_arrays()
        for name in ("cage", "triangles", "material", "fine", "morphs", "expressions", "atlas_position", "atlas_masks"):
            assert np.allclose(getattr(template, name), built[name], atol=1e-3), name
        assert template.morph_names == list(built["morph_names"])

    def test_subdivision_keeps_the_shape(self):
        template = load_template()
        assert np.allclose(np.asarray(template.subdivide.sum(1)).ravel(), 1, atol=1e-5)
        assert template.triangles.max() == len(template.fine) - 1
        assert np.linalg.norm(template.fine[: len(template.cage)] - template.cage, axis=1).max() < 10


class TestGeometry:
    def test_heads_fit_the_same_crop(self):
        sizes = [crop_size(random_shape(np.random.default_rng(i)).cage) for i in range(20)]
        assert np.ptp(sizes) > 0
        assert np.abs(np.array(sizes) / crop_size(load_template().cage) - 1).max() < 0.0501

    def test_smile_lifts_and_widens_the_mouth(self):
        shape = random_shape(np.random.default_rng(3))
        corners = mouth_cage_vertices()
        smile = pose_cage(shape, {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0})
        moved = (smile - shape.cage)[corners]
        assert (moved[:, 1] > 1).all()
        assert moved[0, 0] < -1 and moved[1, 0] > 1


class TestCamera:
    @pytest.mark.parametrize("yaw, pitch", [(0, 0), (30, 0), (-30, 10), (0, -12)])
    def test_frames_like_an_ffhq_crop(self, yaw, pitch):
        marks = landmarks5(load_template().fine)
        x, y, depth = portrait_camera(yaw, pitch, 0, 20).project(marks, 256).T
        eyes, mouth = np.array([x[:2].mean(), y[:2].mean()]), np.array([x[3:].mean(), y[3:].mean()])
        assert np.allclose(eyes + 0.1 * (mouth - eyes), 128, atol=0.3)
        side = 2 * max(2 * np.hypot(x[1] - x[0], y[1] - y[0]), 1.8 * np.linalg.norm(mouth - eyes))
        assert side == pytest.approx(256, rel=1e-3)
        # From the subject's left, the left eye, on the picture's right, is nearer.
        nearer = (marks[1, 0] - marks[0, 0]) * np.sin(np.radians(yaw)) * np.cos(np.radians(pitch))
        assert depth[0] - depth[1] == pytest.approx(nearer, abs=0.1)

    def test_roll_turns_the_head_anticlockwise(self):
        x, y, _ = portrait_camera(0, 0, 6, 20).project(landmarks5(load_template().fine), 256).T
        assert np.degrees(np.arctan2(y[0] - y[1], x[1] - x[0])) == pytest.approx(6, abs=0.1)

    def test_scalars_are_cam2world_and_intrinsics(self):
        camera = portrait_camera(20, 5, 3, 20)
        scalars = np.array(camera.scalars())
        matrix, intrinsics = scalars[:16].reshape(4, 4), scalars[16:].reshape(3, 3)
        point = np.array([10.0, -20, 30])
        seen = intrinsics @ (np.linalg.inv(matrix) @ [*(point / 1000), 1])[:3]
        assert np.allclose(seen[:2] / seen[2], camera.project(point, 1)[:2], atol=1e-4)


class TestRaster:
    def test_nearest_wins_and_barycentrics_are_perspective(self):
        # A triangle from depth 10 to 40 behind a small one.
        screen = np.array([[0, 0, 10], [64, 0, 40], [0, 64, 10], [2, 2, 5], [6, 2, 5], [2, 6, 5]], np.float32)
        ident, bary, inverse = rasterise(screen, np.array([[0, 1, 2], [3, 4, 5]], np.int32), 64, 64)
        assert ident[3, 3] == 1 and ident[20, 20] == 0 and ident[63, 63] == -1
        t = 20.5 / 64  # weight of corner 1 in the picture, and on the surface
        assert bary[10, 20, 1] == pytest.approx((t / 40) / ((1 - t) / 10 + t / 40), rel=1e-4)
        assert inverse[10, 20] == pytest.approx((1 - t) / 10 + t / 40, rel=1e-4)


class TestLight:
    @pytest.mark.parametrize("kind", KINDS)
    def test_facing_skin_is_exposed_to_mid_tones(self, kind):
        light = random_light(np.random.default_rng(1), 1, 0.0, kind)
        # Irradiance over pi of a surface that faces the camera, from the harmonics (Ramamoorthi and Hanrahan).
        facing = light.sh.T @ np.array([0.282095, 0, 0.488603 * 2 / 3, 0, 0, 0, 0.315392 * 2 / 4, 0, 0])
        grey = 0.18 * light.exposure * facing @ [0.2126, 0.7152, 0.0722]
        assert light.kind == kind and 0.01 < grey < 0.5

    def test_unknown_kind(self):
        with pytest.raises(ValueError, match="no such kind of light: 'candle'"):
            random_light(np.random.default_rng(1), 1, 0.0, "candle")


class TestPeople:
    def test_every_style_has_its_measures(self):
        assert set(FORMS) == set(STYLES) - {"bald"}

    def test_accessories_and_beard_join_the_mesh(self):
        person = make_person(23, "long", glasses=True, hat="beanie")
        assert [e.material for e in person.extras].count(HAT) == 1 and len(person.extras) == 2
        nodes = sum(h.nodes.shape[0] * h.nodes.shape[1] for h in person.hair)
        surface = len(load_template().fine) + sum(len(e.points) for e in person.extras)
        assert len(person.visibility) == surface + nodes
        assert person.triangles.max() == surface + 2 * nodes - 1
        assert len(person.triangles) == len(person.material)
        view = render(person, random_scene(31), SIZE)
        assert {materials.GLASSES, materials.HEADWEAR, materials.HAIR_CLASS} <= set(view.kind.ravel())

    def test_bald_has_no_ribbons(self):
        person = make_person(24, "bald")
        assert len(person.hair[0].nodes) == 0
        assert person.atlas.shape[2] == 8 and np.isfinite(person.atlas).all()


class TestViews:
    def test_same_seed_same_picture(self, views):
        again = render(make_person(21, "short"), random_scene(31), SIZE)
        assert np.array_equal(again.picture, views[0, 0].picture)
        assert np.array_equal(again.ident, views[0, 0].ident)
        assert not np.array_equal(again.picture, views[1, 0].picture)

    def test_style_and_target_share_the_backdrop(self, views):
        a, b = views[0, 0], views[1, 0]
        empty = (a.fine_ident < 0) & (b.fine_ident < 0)
        # Every sample a pixel's filter touches is empty.
        pixels = np.logical_and.reduce(
            [empty[j : j + 2 * SIZE : 2, i : i + 2 * SIZE : 2] for j in range(3) for i in range(3)]
        )
        assert pixels.mean() > 0.1
        assert np.array_equal(a.picture[pixels], b.picture[pixels])

    def test_landmarks_lie_on_the_face(self, views):
        for view in views.values():
            x, y = np.floor(view.landmarks).astype(int).T
            assert face_mask(view)[y, x].all()


class TestFlow:
    def test_there_and_back(self, views):
        for i in (0, 1):
            there, seen = flow_between(views[i, 0], views[i, 1])
            back, _ = flow_between(views[i, 1], views[i, 0])
            inside = (seen > 0) & (hair_mask(views[i, 0]) == 0)
            assert inside.mean() > 0.05
            y, x = np.nonzero(inside)
            fx, fy = there[0, y, x], there[1, y, x]
            returned = sample_bilinear(back.transpose(1, 2, 0), x + fx, y + fy)
            error = np.hypot(fx + returned[:, 0], fy + returned[:, 1])
            assert np.median(error) < 0.05

    def test_warped_albedo_matches(self, views):
        target, profile = views[0, 0], views[0, 1]
        flow, seen = flow_between(target, profile)
        y, x = np.nonzero((seen > 0) & (face_mask(target) > 0))
        warped = sample_bilinear(profile.albedo, x + flow[0, y, x], y + flow[1, y, x])
        error = np.median(np.abs(warped - target.albedo[y, x]))
        unmoved = np.median(np.abs(profile.albedo[y, x] - target.albedo[y, x]))
        assert error < 0.015 and error < 0.5 * unmoved

    def test_visible_points_are_inside_and_not_cloth(self, views):
        flow, seen = flow_between(views[0, 0], views[0, 1])
        y, x = np.nonzero(seen)
        assert not np.isin(views[0, 0].kind[y, x], (0, materials.CLOTH)).any()
        for position in (x + 0.5 + flow[0, y, x], y + 0.5 + flow[1, y, x]):
            assert position.min() > 0 and position.max() < SIZE
        assert not flow[:, views[0, 0].ident < 0].any()

    def test_between_people(self, views):
        flow, seen = flow_between(views[0, 0], views[1, 1])
        y, x = np.nonzero(seen)
        assert len(y) > 100 and not hair_mask(views[0, 0])[y, x].any()
        # The nose of one lands on the nose of the other.
        nose = np.floor(views[0, 0].landmarks[2]).astype(int)
        landed = nose + 0.5 + flow[:, nose[1], nose[0]]
        assert np.linalg.norm(landed - views[1, 1].landmarks[2]) < 2


class TestGroups:
    def test_plan_never_repeats_identity_or_scene(self):
        plan = generate.sample_plan(6, 4, np.random.default_rng(0))
        assert len(plan) == 48 and len({(y, b) for y, _, b, _ in plan}) == 24
        assert all(x != y and a != b for y, x, b, a in plan)

    def test_one_scene_makes_no_pair(self):
        with pytest.raises(ValueError, match="at least two scenes"):
            next(generate.generate_group(0, scenes=1))

    def test_shards_are_deterministic_and_resume(self, tmp_path):
        options = {
            "groups": 1,
            "first_group": generate.HELD_OUT,
            "identities": 2,
            "scenes": 2,
            "size": 64,
            "seed": 5,
            "workers": 1,
            "progress": False,
        }
        (one,) = generate.generate_shards(tmp_path / "a", **options)
        (two,) = generate.generate_shards(tmp_path / "b", **options)
        assert one.read_bytes() == two.read_bytes()
        assert shards.validate_shards([one]) == []
        stamp = one.stat().st_mtime_ns
        assert generate.generate_shards(tmp_path / "a", **options) == [one]
        assert one.stat().st_mtime_ns == stamp
        samples = list(shards.read_shards([one]))
        assert len(samples) == 8
        sample, meta = samples[0], samples[0]["meta"]
        assert sample["flow"].shape == (2, 64, 64) and meta["group"] == generate.HELD_OUT
        assert meta["identity"]["target"] != meta["identity"]["style"]
        assert set(meta["cameras"]) == set(meta["landmarks5"]) == {"target", "profile", "style"}
        assert set(meta["pose"]) == set(meta["light"]) == set(meta["expression"]) == {"target", "profile"}


class TestHeadMaker:
    """Held-out heads for group scenes."""

    def test_somebody_as_in_anothers_scene(self):
        maker = HeadMaker(0)
        other, guest, own = maker.head(4, 1, 64.0), maker.head(5, 1, 64.0, as_in=4), maker.head(5, 1, 64.0)
        assert np.array_equal(maker.head(5, 1, 64.0, as_in=5).picture, own.picture)
        assert not np.array_equal(guest.picture, own.picture) and not np.array_equal(guest.picture, other.picture)
        across = [np.hypot(*(head.landmarks - other.landmarks).T).mean() for head in (guest, own)]
        assert across[0] < 0.06 * len(other.picture) and across[0] < across[1]
