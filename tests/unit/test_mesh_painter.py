"""Skin, light and the painted face, on the photographs that packages bring."""

import functools
from dataclasses import replace

import cv2
import face_photos
import numpy as np
import pytest
import torch
from mesh_faces import face

from icportrait.models.errors import UserError
from icportrait.models.faces import identity
from icportrait.models.faces.alignment import AlignmentSettings
from icportrait.models.mesh import glasses, light, painter, regions
from icportrait.models.mesh.numerics import blended, to_lab, to_linear, to_srgb
from icportrait.models.mesh.painter import MeshSettings, crop_mesh, paint_by_mesh
from icportrait.models.mesh.skin import face_parts, skin_mask, uncovered
from icportrait.models.painting import identity_change, paint_face

SIZE = 256


@functools.cache
def painted(style_face: int = 1, settings: MeshSettings = MeshSettings(), grey: bool = False):
    """The astronaut in the place of one face of the group: (result, canvas, profile picture)."""
    (profile, profile_faces), (canvas, faces) = face_photos.astronaut(), face_photos.group()
    if grey:
        canvas = canvas.mean(dim=-1, keepdim=True).expand(-1, -1, -1, 3).contiguous()
    result = paint_face(
        canvas,
        faces.frames[0][style_face],
        profile,
        profile_faces.frames[0][0],
        lambda pair: paint_by_mesh(pair, settings),
        AlignmentSettings(crop_size=SIZE),
    )
    return result, canvas, profile


def skin_of(result) -> tuple[np.ndarray, np.ndarray]:
    """(style crop, its bare skin)."""
    style = result.pair.style[0].numpy()
    mesh = crop_mesh(result.pair.style_placement, result.pair.style, "style reference")
    return style, skin_mask(style, mesh) * (1 - regions.features(mesh, SIZE)) * regions.oval(mesh, SIZE)


class TestSkin:
    def test_cheeks_are_and_a_fringe_is_not(self):
        result, _, _ = painted()
        profile = result.pair.profile
        mesh = crop_mesh(result.pair.profile_placement, profile, "profile")
        skin = skin_mask(profile[0].numpy(), mesh)
        assert skin[regions.hull(mesh, regions.LEFT_CHEEK, SIZE) > 0.5].mean() > 0.95
        x, y = mesh[10, :2].astype(int)  # the outline's top lies in her hair
        assert skin[y - 2 : y + 3, x - 15 : x + 15].mean() < 0.2

    def test_eyes_and_mouth_belong_to_the_face(self):
        result, _, _ = painted()
        mesh = crop_mesh(result.pair.profile_placement, result.pair.profile, "profile")
        grey = np.full((SIZE, SIZE, 3), 0.5, np.float32)  # nothing in the picture says where skin is
        face = face_parts(grey, mesh).face
        for ring in (*regions.EYES, regions.topology.LIPS_INNER):
            assert face[regions.hull(mesh, ring, SIZE) > 0.5].min() > 0.9

    def test_a_lock_in_the_colour_of_skin_is_found_by_its_edge(self):
        mesh = face(side=0.7 * SIZE) * (SIZE / 128)
        mesh[:, :2] += SIZE / 2 - mesh[:, :2].mean(axis=0)
        picture = np.full((SIZE, SIZE, 3), (0.75, 0.6, 0.5), np.float32)
        left, right = mesh[:, 0].min(), mesh[:, 0].max()
        edge = int(left + 0.2 * (right - left))
        picture[:, :edge] *= (1 + 0.08 * np.sin(np.arange(edge) * 1.5))[None, :, None]
        picture[:, edge - 2 : edge + 2] *= 0.7
        free, _ = uncovered(picture, mesh)
        inside = regions.oval(mesh, SIZE) > 0.5
        beside = np.arange(SIZE)[None] < edge - 6
        assert free[inside & beside].mean() < 0.1
        assert free[inside & ~(np.arange(SIZE)[None] < edge + 12)].mean() > 0.95


class TestGlasses:
    def picture(self, rim):
        mesh = face(side=0.7 * SIZE)
        mesh[:, :2] += SIZE / 2 - mesh[:, :2].mean(axis=0)
        picture = np.full((SIZE, SIZE, 3), (0.75, 0.6, 0.5), np.float32)
        drawn = np.zeros((SIZE, SIZE), np.uint8)
        centres = [mesh[list(eye), :2].mean(axis=0) for eye in ((33, 133), (263, 362))]
        apart = np.linalg.norm(centres[1] - centres[0])
        for centre in centres:
            cv2.circle(drawn, tuple(int(c) for c in centre), int(0.36 * apart), 1, 4)
        ends = [(int(c[0] + s * 0.36 * apart), int(c[1])) for c, s in zip(centres, (1, -1))]
        cv2.line(drawn, *ends, 1, 4)
        picture[drawn > 0] = rim
        return picture, mesh, drawn > 0

    def test_dark_rims_are_found_and_cut_out(self):
        picture, mesh, drawn = self.picture((0.05, 0.05, 0.06))
        assert glasses.wears_glasses(picture, mesh)
        found = glasses.rims(picture, mesh, np.ones((SIZE, SIZE), np.float32) * ~drawn)
        assert (
            found[drawn].mean() > 0.8
            and found[~cv2.dilate(drawn.astype(np.uint8), np.ones((9, 9))).astype(bool)].max() < 0.05
        )

    def test_a_bare_face_wears_none(self):
        picture, mesh, drawn = self.picture((0.75, 0.6, 0.5))
        assert not glasses.wears_glasses(picture, mesh)
        assert glasses.rims(picture, mesh, np.ones((SIZE, SIZE), np.float32)).max() == 0


class TestLight:
    def test_a_light_from_the_side_is_found_again(self):
        y, x = np.mgrid[:SIZE, :SIZE] / SIZE * 2 - 1
        inside = ((x**2 + y**2) < 0.8).astype(np.float32)
        normals = np.stack([x, y, np.sqrt(np.clip(1 - x**2 - y**2, 0.05, None))], axis=-1) * inside[..., None]
        skin = np.full((SIZE, SIZE, 3), (0.6, 0.45, 0.4), np.float32)
        lit = to_srgb(to_linear(skin) * (0.6 + 0.4 * x)[..., None])
        gain = light.light_gain(skin, lit, inside, inside, normals).field
        middle = inside * (x**2 + y**2 < 0.5) > 0
        np.testing.assert_allclose(gain[middle][:, 1], (0.6 + 0.4 * x)[middle], rtol=0.12)

    def test_black_and_white_and_colour(self):
        picture = np.random.default_rng(0).uniform(size=(64, 64, 3)).astype(np.float32)
        grey = picture.mean(axis=-1, keepdims=True).repeat(3, axis=-1)
        toned, amount = light.toned(picture, grey)
        assert amount == 1 and np.ptp(toned, axis=-1).max() < 0.02
        same, amount = light.toned(picture, picture)
        assert amount == 0 and same is picture

    def test_tone_one_shifts_nothing(self):
        result, _, _ = painted()
        style, skin = skin_of(result)
        other = np.clip(style * (1.1, 1, 0.8), 0, 1).astype(np.float32)
        assert np.abs(light.tone_shift(other, style, skin, skin, 0.0)).max() > 2
        assert np.abs(light.tone_shift(other, style, skin, skin, 1.0)).max() == 0


def test_blending_a_picture_with_itself_changes_nothing():
    picture = np.random.default_rng(0).uniform(size=(70, 70, 3)).astype(np.float32)
    mask = np.zeros((70, 70), np.float32)
    mask[20:50, 20:50] = 1
    np.testing.assert_allclose(blended(picture, picture, mask), picture, atol=1e-5)


class TestPaint:
    def test_the_person_comes_and_the_rest_stays_bit_for_bit(self):
        result, canvas, profile = painted()
        change = identity_change(result, canvas, profile)
        assert change.after > change.before + 0.2
        untouched = result.mask[0] == 0
        assert untouched.float().mean() > 0.9 and torch.equal(result.canvas[0][untouched], canvas[0][untouched])

    def test_it_is_the_same_every_time(self):
        first, _, _ = painted()
        painted.cache_clear()
        second, _, _ = painted()
        assert torch.equal(first.canvas, second.canvas)

    def test_the_light_is_the_styles(self):
        result, _, _ = painted()
        style, skin = skin_of(result)
        made, photo = (to_lab(p[0].numpy())[..., 0][skin > 0.9] for p in (result.crop.image, result.crop.warped))
        wanted = to_lab(style)[..., 0][skin > 0.9]
        assert abs(made - wanted).mean() < 0.8 * abs(photo - wanted).mean()

    def test_a_grey_style_gives_a_grey_face(self):
        result, _, _ = painted(grey=True)
        assert (result.canvas.amax(dim=-1) - result.canvas.amin(dim=-1)).max() < 0.03

    def test_without_the_styles_light(self):
        own, _, _ = painted(settings=MeshSettings(light=0.0))
        inside = own.crop.mask[0] == 1
        lit, _, _ = painted()
        assert not torch.equal(own.canvas, lit.canvas) and inside.any()

    def test_a_face_without_a_mesh_is_read_in_its_crop(self):
        (profile, profile_faces), (canvas, faces) = face_photos.astronaut(), face_photos.group()
        bare = replace(faces.frames[0][1], landmarks=(), layout="none", depth=None)
        result = paint_face(
            canvas, bare, profile, profile_faces.frames[0][0], paint_by_mesh, AlignmentSettings(crop_size=SIZE)
        )
        assert identity.similarity(
            identity.embedding(profile[0], profile_faces.frames[0][0]),
            identity.embedding(result.canvas[0], faces.frames[0][1]),
        ) > 0.4  # fmt: skip

    def test_no_face_is_said(self):
        (profile, profile_faces), _ = face_photos.astronaut(), face_photos.group()
        canvas = torch.full((1, 300, 300, 3), 0.5)
        wall = replace(profile_faces.frames[0][0], box=(100, 100, 200, 200), landmarks=(), layout="none", depth=None)
        with pytest.raises(UserError, match="style reference cannot be read as a mesh"):
            paint_face(canvas, wall, profile, profile_faces.frames[0][0], paint_by_mesh)

    def test_far_apart_heads_are_warned_about(self):
        result, _, _ = painted()
        assert painter.notes_about(result.pair, face(0), face(30)) == ()
        (note,) = painter.notes_about(result.pair, face(-10), face(40))
        assert "50 degrees apart (yaw -10 and 40)" in note

    def test_glasses_are_warned_about(self):
        (officer, worn), (astronaut, bare) = face_photos.officer(), face_photos.astronaut()
        first, second = (officer, worn.frames[0][0]), (astronaut, bare.frames[0][0])
        settings = AlignmentSettings(crop_size=SIZE)
        assert "The profile wears glasses" in paint_face(*second, *first, paint_by_mesh, settings).crop.notes[-1]
        assert "style reference wears glasses" in paint_face(*first, *second, paint_by_mesh, settings).crop.notes[-1]

    @pytest.mark.parametrize("bad", [{"skin_tone": 2}, {"light": -1}, {"shape": float("nan")}, {"expression": "x"}])
    def test_bad_settings(self, bad):
        with pytest.raises(UserError, match=next(iter(bad))):
            MeshSettings(**bad)
