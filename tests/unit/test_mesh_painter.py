"""Skin, light and the painted face, on the photographs that packages bring."""

import functools
from dataclasses import replace

import face_photos
import numpy as np
import pytest
import torch
from mesh_faces import face

from icportrait.models.errors import UserError
from icportrait.models.faces import identity
from icportrait.models.faces.alignment import AlignmentSettings, crop, placement_of
from icportrait.models.faces.resampling import invert, transform
from icportrait.models.mesh import beard, correspondence, light, painter, regions
from icportrait.models.mesh.numerics import blended, blur, from_lab, to_lab, to_linear, to_srgb
from icportrait.models.mesh.painter import MeshSettings, crop_mesh, paint_by_mesh
from icportrait.models.mesh.skin import FaceParts, face_parts
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
    return style, face_parts(style, mesh).clear * (1 - regions.features(mesh, SIZE)) * regions.oval(mesh, SIZE)


@functools.cache
def parts(name: str) -> FaceParts:
    """What belongs to the first face of one of `face_photos`."""
    canvas, faces = getattr(face_photos, name)()
    found = faces.frames[0][0]
    placement = placement_of(found, *canvas.shape[1:3], AlignmentSettings(crop_size=SIZE))
    crop_bchw = crop(canvas.permute(0, 3, 1, 2), placement)
    picture = crop_bchw.permute(0, 2, 3, 1)
    return face_parts(picture[0].numpy(), crop_mesh(placement, picture, "picture"))


class TestFaceParts:
    def test_cheeks_are_and_a_fringe_is_not(self):
        astronaut = parts("astronaut")
        x, y = astronaut.mesh[10, :2].astype(int)  # the outline's top lies in her hair
        for mask in (astronaut.skin, astronaut.face):
            assert mask[regions.hull(astronaut.mesh, regions.LEFT_CHEEK, SIZE) > 0.5].mean() > 0.95
            assert mask[y - 2 : y + 3, x - 15 : x + 15].mean() < 0.2

    def test_what_hair_shades_is_not_clear(self):
        astronaut = parts("astronaut")
        lost = (astronaut.face > 0.9) & (astronaut.clear < 0.1) & (regions.oval(astronaut.mesh, SIZE) > 0.5)
        assert lost[: int(astronaut.mesh[9, 1])].sum() > 100 and not lost[int(astronaut.mesh[2, 1]) :].any()

    def test_eyes_and_mouth_belong_to_the_face(self):
        for name in ("astronaut", "officer"):
            found = parts(name)
            for ring in (*regions.EYES, regions.topology.LIPS_INNER):
                assert found.face[regions.hull(found.mesh, ring, SIZE) > 0.5].mean() > 0.9

    def test_the_neck_is_skin_and_no_face(self):
        astronaut = parts("astronaut")
        x, y = (astronaut.mesh[152, :2] + (0, 0.06 * SIZE)).astype(int)
        assert astronaut.skin[y, x] > 0.8 and astronaut.face[y, x] < 0.3

    def test_glasses(self):
        officer, astronaut = parts("officer"), parts("astronaut")
        assert officer.wears_glasses and not astronaut.wears_glasses
        assert officer.glasses[: int(officer.mesh[10, 1])].max() < 0.05  # her cap is worn, too
        bridge = officer.mesh[168, :2].astype(int)
        assert officer.glasses[bridge[1] - 12 : bridge[1] + 12, bridge[0]].max() > 0.5
        assert officer.face[officer.glasses > 0.5].min() > 0.5  # they go where the face goes
        assert officer.skin[officer.glasses > 0.8].mean() < 0.3

    def test_where_no_face_is_seen_the_mesh_alone_says_where_it_is(self):
        mesh = parts("astronaut").mesh
        grey = np.full((SIZE, SIZE, 3), 0.5, np.float32)
        np.testing.assert_array_equal(face_parts(grey, mesh).face, regions.oval(mesh, SIZE))


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

    def test_a_tone_leaves_what_is_dark_dark(self):
        lab = np.full((SIZE, SIZE, 3), (60, 15, 18), np.float32)
        lab[:40, :40] = (12, 3, 3)
        skin = np.ones((SIZE, SIZE), np.float32)
        skin[:40, :40] = 0
        moved = to_lab(light.in_tone(from_lab(lab), np.array([9.0, 2.0, -1.0]), skin)) - lab
        np.testing.assert_allclose(moved[-1, -1], (9, 2 + 15 * 9 / 76, -1 + 18 * 9 / 76), atol=0.5)
        assert 0 < moved[0, 0, 0] < 4
        darker = to_lab(light.in_tone(from_lab(lab), np.array([-9.0, 0, 0]), skin))[-1, -1]
        assert darker[0] == pytest.approx(51, abs=0.5) and np.hypot(*darker[1:]) > np.hypot(15, 18)  # no greyer for it

    @pytest.mark.parametrize(("own", "least", "most"), [((60, 9, 4), 0.05, 0.25), ((60, 18, 32), 0.2, 0.4)])
    def test_skin_grows_more_readily_in_colour_than_paler(self, own, least, most):
        pictures = [from_lab(np.full((SIZE, SIZE, 3), lab, np.float32)) for lab in (own, (60, 14, 20))]
        skin = np.ones((SIZE, SIZE), np.float32)
        shift, apart = light.tone_shift(*pictures, skin, skin, 0.0)[1:], np.array(own[1:]) - (14, 20)
        assert least < np.linalg.norm(shift) / np.linalg.norm(apart) < most

    def test_along_a_join_a_shadows_edge_gives_way_to_the_styles_shading(self):
        lab = np.full((SIZE, SIZE, 3), (60, 15, 18), np.float32)
        style = from_lab(lab)
        lab[:, 120:132] -= (9, 0, 0)  # as wide as a shadow's rim
        skin = np.ones((SIZE, SIZE), np.float32)
        joins = np.zeros((SIZE, SIZE), np.float32)
        joins[: SIZE // 2] = 1
        evened = to_lab(light.evened(from_lab(lab), style, 0 * skin, (skin, skin), joins))[..., 0]
        depth = evened[:, 90] - evened[:, 126]
        assert depth[40] < 4 and depth[-40] > 1.5 * depth[40]

    def test_a_strand_is_strange_and_eyeliner_is_not(self):
        mesh, skin = face(), np.ones((SIZE, SIZE), np.float32)
        lab = np.full((SIZE, SIZE, 3), (60, 15, 18), np.float32)
        places = mesh[33, :2] - (3, 0), mesh[regions.RIGHT_CHEEK[3], :2]  # beside an eye, and on a cheek
        for x, y in np.int_(places):
            lab[y - 3 : y + 4, x - 3 : x + 4] = (15, 5, 5)
        found = light.strange(from_lab(lab), from_lab(np.full_like(lab, (60, 15, 18))), (skin, skin), mesh)
        (eye_x, eye_y), (cheek_x, cheek_y) = np.int_(places)
        assert found[eye_y, eye_x] < 0.2 < found[cheek_y, cheek_x]

    def test_tone_one_shifts_nothing(self):
        result, _, _ = painted()
        style, skin = skin_of(result)
        other = np.clip(style * (1.1, 1, 0.8), 0, 1).astype(np.float32)
        assert np.abs(light.tone_shift(other, style, skin, skin, 0.0)).max() > 2
        assert np.abs(light.tone_shift(other, style, skin, skin, 1.0)).max() == 0


@pytest.mark.parametrize(("seen", "left"), [(1.0, False), (0.0, True)])
def test_the_styles_brows_stay_only_where_the_photograph_shows_none(seen, left):
    mesh = face()
    inside, brows = regions.oval(mesh, SIZE), regions.hulls(mesh, regions.BROWS, SIZE)
    skin = np.full((SIZE, SIZE, 3), (0.8, 0.6, 0.5), np.float32)
    plain = inside * (1 - regions.features(mesh, SIZE))
    faces = painter._OnTarget(
        match=None, mesh=mesh, inside=inside, profile=skin, style=skin * (1 - 0.8 * brows)[..., None],
        own=inside * np.where(brows > 0, seen, 1), free=inside, profile_skin=plain, style_skin=plain, halves=(), plain=plain,
    )  # fmt: skip
    filling = painter._filling(faces, skin, plain, 1.0)
    assert (filling[brows == 1].mean() < 0.4) == left


def test_what_comes_mirrored_gets_the_light_of_its_own_half():
    """A brow from the bright half among skin of the dark half."""
    mesh = face()
    match = correspondence.match_meshes(mesh, mesh, SIZE)
    inside, brow = match.drawn.inside.astype(np.float32), regions.hull(mesh, regions.BROWS[0], SIZE)
    match = replace(match, near=1 - brow)
    dark, bright, style = (np.full((SIZE, SIZE, 3), x, np.float32) * (1, 0.8, 0.7) for x in (0.3, 0.8, 0.6))
    skin = inside * (1 - regions.features(mesh, SIZE))
    faces = painter._OnTarget(
        match=match, mesh=mesh, inside=inside, profile=match.joined(dark, bright), style=style, own=inside, free=inside,
        profile_skin=skin, style_skin=skin, halves=((dark, skin), (bright, skin)), plain=skin,
    )  # fmt: skip
    relit, _ = painter._relit(faces, np.zeros(3), 1.0)
    lightness = to_lab(relit)[..., 0]
    assert abs(lightness[brow == 1].mean() - lightness[skin > 0.9].mean()) < 2


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

    def test_what_the_photograph_cuts_off_comes_from_the_other_half(self):
        (profile, profile_faces), (canvas, faces) = face_photos.astronaut(), face_photos.group()
        found = profile_faces.frames[0][0]
        cut = int(0.5 * (found.points[1, 0] + found.box[0]))  # between the nose and the side of the face
        moved = replace(
            found,
            box=(found.box[0] - cut, found.box[1], found.box[2] - cut, found.box[3]),
            landmarks=tuple((x - cut, y) for x, y in found.landmarks),
        )
        result = paint_face(
            canvas, faces.frames[0][1], profile[:, :, cut:], moved, paint_by_mesh, AlignmentSettings(crop_size=SIZE)
        )
        match, parts, _, _ = painter.mesh_match(result.pair)
        there = transform(match.places.reshape(-1, 2), invert(result.pair.profile_placement.matrix)).reshape(
            SIZE, SIZE, 2
        )
        gone = match.drawn.inside & (there[..., 0] < 0)
        assert gone.sum() > 1000 and match.near[gone].mean() < 0.2 and parts.clear[:, 0].max() == 0

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

    def test_a_blurred_profile_is_warned_about(self):
        (canvas, faces), (photo, photo_faces) = face_photos.group(), face_photos.astronaut()
        blurred = torch.from_numpy(blur(photo[0].numpy(), 0.02 * photo_faces.frames[0][0].side))[None]
        for picture, warned in ((photo, False), (blurred, True)):
            result = paint_face(
                canvas,
                faces.frames[0][1],
                picture,
                photo_faces.frames[0][0],
                paint_by_mesh,
                AlignmentSettings(crop_size=SIZE),
            )
            assert any("blurred" in note for note in result.crop.notes) == warned

    def test_glasses_are_warned_about(self):
        (officer, worn), (astronaut, bare) = face_photos.officer(), face_photos.astronaut()
        first, second = (officer, worn.frames[0][0]), (astronaut, bare.frames[0][0])
        settings = AlignmentSettings(crop_size=SIZE)
        assert "The profile wears glasses" in paint_face(*second, *first, paint_by_mesh, settings).crop.notes[-1]

    def test_the_styles_glasses_stay(self):
        (officer, worn), (astronaut, bare) = face_photos.officer(), face_photos.astronaut()
        result = paint_face(
            officer, worn.frames[0][0], astronaut, bare.frames[0][0], paint_by_mesh, AlignmentSettings(crop_size=SIZE)
        )
        rims = torch.from_numpy(parts("officer").glasses) > 0.8
        beside = torch.from_numpy(regions.oval(parts("officer").mesh, SIZE)) * ~rims > 0
        apart = (result.crop.image - result.pair.style)[0].abs().amax(dim=-1)
        assert rims.sum() > 50 and apart[rims].mean() < 0.06 < apart[beside].mean()

    @pytest.mark.parametrize("bad", [{"skin_tone": 2}, {"light": -1}, {"shape": float("nan")}, {"expression": "x"}])
    def test_bad_settings(self, bad):
        with pytest.raises(UserError, match=next(iter(bad))):
            MeshSettings(**bad)


class TestBeard:
    """A beard is drawn on the astronaut's chin: fine hairs, lighter than skin, as grey ones are."""

    @staticmethod
    def grown(face: FaceParts) -> FaceParts:
        below = regions.hull(face.mesh, regions.LOWER_FACE, SIZE) * (1 - regions.features(face.mesh, SIZE))
        hairs = np.random.default_rng(0).normal(0, 0.25, (SIZE, SIZE, 1)).astype(np.float32)
        return replace(face, crop=(face.crop + below[..., None] * hairs).clip(0, 1), beard=1.0)

    def test_hairs_are_found_whatever_their_colour(self):
        face = parts("astronaut")
        assert face.beard == 0 and face_parts(self.grown(face).crop, face.mesh).beard == 1

    @pytest.mark.parametrize(("sides", "found"), [(("left", "right"), True), (("left",), False), (("right",), False)])
    def test_what_darkens_one_side_is_a_shadow(self, sides, found):
        face = parts("astronaut")
        middle = int(face.mesh[2, 0])
        dark = regions.hull(face.mesh, regions.LOWER_FACE, SIZE)
        if "left" not in sides:
            dark[:, :middle] = 0
        if "right" not in sides:
            dark[:, middle:] = 0
        picture = to_srgb(to_linear(face.crop) * (1 - 0.85 * dark[..., None]))
        mask = beard.beard_mask(picture, face.face * (1 - regions.features(face.mesh, SIZE)), face.mesh)
        assert (mask[dark > 0.9].mean() > 0.5) if found else (mask.max() < 0.2)

    def test_what_is_left_of_it_becomes_skin_and_nothing_else_changes(self):
        face = parts("astronaut")
        style = self.grown(face)
        painted = 1 - regions.grown(1 - regions.oval(face.mesh, SIZE), 0.06 * SIZE)
        image = painted[..., None] * face.crop + (1 - painted[..., None]) * style.crop
        shaved = beard.shaved(image, face.crop, painted, face, style, face.mesh)
        left = (np.abs(style.crop - face.crop).max(axis=-1) > 0) & (painted < 0.1) & (face.face > 0.9)
        left &= regions.grown(1 - regions.hull(face.mesh, regions.LOWER_FACE, SIZE), 2) < 0.5

        def roughness(picture):
            lightness = to_lab(picture)[..., 0]
            return np.abs(np.diff(lightness, axis=1))[left[:, 1:]].mean()

        assert left.sum() > 50 and roughness(shaved) < 0.4 * roughness(image)
        above = slice(0, int(face.mesh[2, 1]))
        assert np.abs(shaved - image)[above].max() < 1e-3
        assert beard.shaved(image, face.crop, painted, style, style, face.mesh) is image

    @pytest.mark.parametrize(("dark", "hangs"), [(0.05, True), (0.9, False)])
    def test_a_full_beard_hangs_below_the_mesh_and_stubble_does_not(self, dark, hangs):
        face = parts("astronaut")
        chin, middle = face.mesh[regions.CHIN, 1].astype(int), face.mesh[regions.CHIN, 0].astype(int)
        lower = regions.hull(face.mesh, regions.LOWER_FACE, SIZE)
        for _ in range(round(0.1 * SIZE)):  # and hangs down
            lower = np.maximum(lower, np.roll(lower, 1, axis=0))
        own = face.crop * (1 - (1 - dark) * lower[..., None])
        profile = replace(face, crop=own, face=np.maximum(face.face, lower), beard=1.0)
        image = np.full_like(face.crop, (0.2, 0.4, 0.9))
        match = correspondence.match_meshes(face.mesh, face.mesh, SIZE)
        result = beard.with_beard(image, own, own, match, profile, face, face.mesh)
        changed = np.abs(result - image).max(axis=-1)
        below = changed[chin + round(0.035 * SIZE), middle - 3 : middle + 4].min()
        assert below > 0.3 and changed[chin - 4, middle] > 0.3 if hangs else changed.max() < 0.01
        assert changed[: int(face.mesh[regions.NOSE_BASE, 1])].max() < 0.01

    def test_grey_hair_is_grey_beside_skin_and_black_hair_is_not(self):
        mesh, lab = face(), np.full((SIZE, SIZE, 3), (70, 18, 20), np.float32)
        lab[90:, : SIZE // 2], lab[90:, SIZE // 2 :] = (70, 3, 3), (18, 7, 8)
        grey = beard.greyness(from_lab(lab), mesh)
        assert grey[100, 20] > 0.9 and grey[100, SIZE - 20] < 0.1 and grey[20, 60] < 0.1

    def test_no_light_is_read_where_a_beard_grows(self):
        """Or it would be made as light as the style's chin, hairs that are no darker than skin, too."""
        shaven = parts("astronaut")
        match = correspondence.match_meshes(shaven.mesh, shaven.mesh, SIZE)
        chin = regions.hull(shaven.mesh, (18, 200, 199, 175), SIZE) > 0.5
        for profile, style in ((replace(shaven, beard=1.0), shaven), (shaven, replace(shaven, beard=1.0))):
            faces = painter._on_target(match, shaven.mesh, profile, style)
            read = [skin[chin].mean() for skin in (faces.profile_skin, faces.halves[0][1], faces.style_skin)]
            with_beard = [profile.beard, profile.beard, style.beard]
            assert all(share < 0.05 if one else share > 0.8 for share, one in zip(read, with_beard, strict=True))

    def test_below_a_full_beard_is_a_shaded_neck_and_beside_it_the_backdrop(self):
        face = parts("astronaut")
        chin, (left, right) = face.mesh[regions.CHIN, :2].astype(int), sorted(face.mesh[[58, 288], 0].astype(int))
        full = face.face.copy()
        full[chin[1] - 10 : chin[1] + 30, left - 20 : right + 20] = 1
        style, blue = replace(face, face=full, beard=1.0), np.array([0.1, 0.2, 0.8], np.float32)
        image = np.where(full[..., None] > 0.5, np.float32(0.05), blue)
        shown = regions.shrunk(regions.oval(face.mesh, SIZE), 3)
        image = image + shown[..., None] * (face.crop - image)
        shaved = beard.shaved(image, face.crop, shown, face, style, face.mesh)
        row = chin[1] + 12
        for beside in (shaved[row, left - 16 : left - 8], shaved[row, right + 9 : right + 17]):
            assert np.abs(beside - blue).max() < 0.15
        lightness = to_lab(shaved)[..., 0]
        own, rim, neck = (
            lightness[chin[1] + down : chin[1] + down + 3, chin[0] - 3 : chin[0] + 4].mean() for down in (-9, -4, 5)
        )
        assert 10 < neck < own - 10 and rim > neck + 8


def test_a_dark_photograph_turns_no_other_hue():
    """Four stops darker and warm: every colour's gain is larger than the limit of the light's."""
    dark = np.full((SIZE, SIZE, 3), (0.16, 0.07, 0.03), np.float32)
    bright = np.full((SIZE, SIZE, 3), (0.9, 0.75, 0.65), np.float32)
    skin, normals = np.ones((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE, 3))
    normals[..., 2] = 1
    gain = light.light_gain(dark, bright, skin, skin, normals).field[SIZE // 2, SIZE // 2]
    wanted = (to_linear(bright) / to_linear(dark))[0, 0]
    np.testing.assert_allclose(gain / gain.mean(), wanted / wanted.mean(), rtol=0.1)


def test_a_black_and_white_photograph_wears_no_lipstick_of_the_styles():
    face_mesh = parts("astronaut").mesh
    grey = np.full((SIZE, SIZE, 3), 0.55, np.float32)
    lips = regions.hull(face_mesh, regions.topology.LIPS_OUTER, SIZE)[..., None]
    style = (1 - lips) * np.float32((0.8, 0.6, 0.5)) + lips * np.float32((0.8, 0.05, 0.1))
    skins = ((1 - lips[..., 0]),) * 2
    lab = to_lab(light.coloured(grey, style.astype(np.float32), grey, skins, face_mesh))
    mouth, cheek = face_mesh[[17, 14], :2].mean(axis=0).astype(int), face_mesh[50, :2].astype(int)
    apart = lab[mouth[1], mouth[0], 1:] - lab[cheek[1], cheek[0], 1:]
    assert 3 < np.hypot(*apart) < 14 and apart[0] > 2
