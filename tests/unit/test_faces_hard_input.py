"""Pictures and faces that others fail on: each ends in a correct result or one clear sentence. Group level; no models."""

import numpy as np
import pytest
import torch
from face_photos import astronaut, upright_face
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from painters import painter_of, to_profile

from icportrait.models.errors import UserError
from icportrait.models.faces import detection
from icportrait.models.faces.alignment import AlignmentSettings, crop, placement_of
from icportrait.models.faces.ordering import order_faces
from icportrait.models.faces.stitching import stitch
from icportrait.models.faces.types import Face, Faces
from icportrait.models.groups.assignment import assign
from icportrait.models.groups.painting import GroupResult, paint_group
from icportrait.models.groups.report import assignment_report
from icportrait.models.groups.types import Person, Photograph, Profiles
from icportrait.nodes.align import AlignFace
from icportrait.nodes.assign import AssignProfiles
from icportrait.nodes.detect import DetectFaces
from icportrait.nodes.profiles import AddProfile
from icportrait.nodes.select import SelectFaces
from icportrait.nodes.similarity import IdentitySimilarity
from icportrait.nodes.stitch import StitchFace

SIZE = 64
patient = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])


def smooth(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """A picture `[1, H, W, 3]` without fine grain."""
    coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    drawn = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return drawn.movedim(1, -1).clamp(0, 1)


def person(colour: float = 1.0) -> Person:
    """Somebody whose photograph is of one grey."""
    return Person("P", (Photograph(torch.full((1, 120, 120, 3), colour), upright_face(60, 50, 30)),))


def turned(face: Face, degrees: float) -> Face:
    """The face turned about the centre of its box."""
    angle, centre = np.deg2rad(degrees), np.array(face.centre)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (face.points - centre) @ turn.T + centre
    return Face(face.box, tuple(map(tuple, points.tolist())), face.layout)


def painted(canvas: torch.Tensor, *faces: Face, people: int = 1) -> GroupResult:
    """Everybody's photograph on their face."""
    everybody = Profiles((person(),) * people)
    group, _ = assign(canvas, Faces(*canvas.shape[1:3], (faces,)), everybody, "order")
    return paint_group(canvas, group, to_profile, SIZE)


def test_importing_the_pack_needs_no_detector():
    import subprocess
    import sys

    from icportrait.tools.comfy_server import PACK

    code = (
        "import sys, importlib.util as u\n"
        f"spec = u.spec_from_file_location('pack', r'{PACK / '__init__.py'}', submodule_search_locations=[r'{PACK}'])\n"
        "pack = u.module_from_spec(spec); sys.modules['pack'] = pack\n"
        "import pack.models.groups.painting, pack.models.faces.detection, pack.models.faces.stitching\n"
        "print(sorted({'dlib', 'insightface', 'face_recognition_models', 'onnxruntime', 'mediapipe'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestRoll:
    @patient
    @given(st.floats(-180, 180), st.floats(14, 40))
    def test_a_face_at_any_roll_is_cut_upright_and_pasted_back(self, roll, size):
        canvas = smooth(300, 300)
        face = turned(upright_face(150, 140, size), roll)
        placement = placement_of(face, 300, 300, AlignmentSettings(crop_size=128))
        eyes = placement.landmarks[[0, 2]]  # the viewer's right one first
        assert eyes[0, 0] > eyes[1, 0] and abs(eyes[0, 1] - eyes[1, 1]) < 1
        cut = crop(canvas.movedim(-1, 1), placement)
        back, mask = stitch(canvas[0].movedim(-1, 0), cut[0], placement)
        assert float((back - canvas[0].movedim(-1, 0)).abs().max()) < 1e-4 and float(mask.max()) > 0.9

    @pytest.mark.parametrize("roll", [90, 180, -135])
    def test_the_group_paints_onto_it(self, roll):
        canvas = torch.zeros(1, 300, 300, 3)
        result = painted(canvas, turned(upright_face(150, 140, 30), roll))
        x, y = (round(v) for v in upright_face(150, 140, 30).centre)
        assert float(result.image[0, y, x].min()) > 0.9 and "1 painted" in result.status


class TestSizes:
    def test_a_face_of_12_pixels_is_painted_there_and_nowhere_else(self):
        canvas = smooth(120, 160)
        small = upright_face(80, 60, 4.6)
        assert small.side == pytest.approx(11.5)
        result = painted(canvas, small)
        touched = torch.nonzero(result.mask[0])
        assert len(touched) and (touched - torch.tensor([61, 80])).abs().max() < 12
        assert torch.equal(result.image[result.mask == 0], canvas[result.mask == 0])

    def test_a_face_larger_than_the_picture(self):
        canvas = smooth(90, 90)
        result = painted(canvas, upright_face(45, 40, 60))
        assert "1 painted" in result.status and float(result.mask.mean()) > 0.6

    def test_one_pixel_without_a_face_comes_back(self):
        canvas = torch.rand(1, 1, 1, 3)
        result = painted(canvas)
        assert torch.equal(result.image, canvas) and result.status == "frame 0: no face, passed through unchanged"

    @pytest.mark.parametrize("layout,count", [("mediapipe", 478), ("mediapipe", 468)])
    def test_landmarks_on_one_line_are_one_sentence(self, layout, count):
        along = np.linspace(20, 70, count)
        line = tuple(map(tuple, np.stack([along, along / 2 + 10], axis=1).tolist()))
        face = Face((10, 10, 80, 80), landmarks=line, layout=layout, backend="FACE_LANDMARKS")
        placement = placement_of(face, 90, 90, AlignmentSettings(crop_size=64))
        with pytest.raises(UserError, match="lie on one line"):
            stitch(torch.rand(3, 90, 90), torch.rand(3, 64, 64), placement)

    def test_a_face_of_a_million_pixels_is_one_sentence(self):
        with pytest.raises(UserError, match="too large to align"):
            placement_of(Face((-1e6, -1e6, 1e6, 1e6)), 90, 90, AlignmentSettings(crop_size=64))

    def test_one_pixel_with_a_box_on_it_is_one_sentence(self):
        with pytest.raises(ValueError, match="too small to align"):
            painted(torch.rand(1, 1, 1, 3), Face((0, 0, 1, 1), backend="MASK"))

    def test_8k_finds_and_paints_in_place(self):
        """An 8192 x 2048 picture with one large face; only the face's part is touched."""
        image, found = astronaut()
        portrait = image[:, 20:170, 140:290].movedim(-1, 1)
        canvas = torch.full((1, 2048, 8192, 3), 0.4)
        canvas[:, :, 6000:8048] = (
            torch.nn.functional.interpolate(portrait, (2048, 2048), mode="bicubic").clamp(0, 1).movedim(1, -1)
        )
        faces = detection.find_faces(canvas)
        assert faces.count == 1
        expected = (np.array(found.frames[0][0].centre) - (140, 20)) * 2048 / 150 + (6000, 0)
        assert np.hypot(*(np.array(faces.frames[0][0].centre) - expected)) < 150
        group, _ = assign(canvas, faces, Profiles((person(),)), "order")
        result = paint_group(canvas, group, to_profile, SIZE)
        assert not result.mask[..., :5900].any() and result.mask.any()
        assert torch.equal(result.image[..., :5900, :], canvas[..., :5900, :])


class TestPixels:
    @pytest.mark.parametrize("channels", [1, 2, 4])
    def test_grey_and_alpha_give_what_rgb_gives(self, channels):
        grey = smooth(100, 140)[..., :1]
        extra = {1: grey, 2: torch.cat([grey, grey * 0], -1), 4: torch.cat([grey.expand(-1, -1, -1, 3), grey * 0], -1)}
        rgb = grey.expand(-1, -1, -1, 3)
        faces = Faces(100, 140, ((upright_face(70, 45, 20),),))
        run = (faces, 0, 64, "ffhq", 1.0, 0.0, 0.0, 180.0, "error")
        first, second = (AlignFace.execute(picture, *run).args for picture in (extra[channels], rgb))
        assert torch.equal(first[0], second[0])
        placed = (0.08, "off", 1.0, 1.0, True, "as masked")
        pasted = [
            StitchFace.execute(picture, first[0] * 0.5, first[1], *placed).args[0] for picture in (extra[channels], rgb)
        ]
        assert torch.equal(*pasted) and pasted[0].shape == (1, 100, 140, 3)

    @pytest.mark.parametrize("node", [AlignFace, AssignProfiles, SelectFaces, DetectFaces, AddProfile])
    def test_nan_pixels_are_one_sentence_of_the_node(self, node):
        picture = smooth(100, 140)
        picture[0, 3, 4] = torch.nan
        faces = Faces(100, 140, ((upright_face(70, 45, 20),),))
        calls = {
            AlignFace: (picture, faces, 0, 64, "ffhq", 1.0, 0.0, 0.0, 180.0, "error"),
            DetectFaces: (picture, "left-right", "fast", 0.3, 0, "auto", "5 points"),
            SelectFaces: (picture, faces, "all", 0, 0, 0.0, 0.4),
            AddProfile: (picture, "Anna", "fast"),
            AssignProfiles: (picture, faces, Profiles((person(),)), "order", "", 0.4, "first"),
        }
        with pytest.raises(ValueError, match=r"^[A-Z]\w+ \w+: .*1 NaN or infinite pixels of 14000"):
            node.execute(*calls[node])


class TestNumbers:
    """One number a face, on every preview and in every text."""

    @patient
    @given(st.lists(st.booleans(), min_size=6, max_size=6).filter(any), st.permutations(range(6)))
    def test_a_face_keeps_its_number_through_every_node(self, keep, order):
        canvas = smooth(200, 360)
        row = [upright_face(30 + 58 * k, 90, 14) for k in range(6)]
        numbered = Faces(200, 360, (tuple(row),)).numbered()
        wanted = [number for number in order if keep[number]]
        chosen, rest, *_ = SelectFaces.execute(canvas, numbered, ", ".join(map(str, wanted)), 0, 0, 0.0, 0.4).args
        assert chosen.numbers(0) == tuple(wanted) and set(rest.numbers(0)) == set(range(6)) - set(wanted)
        last = wanted[-1]
        group, *_ = AssignProfiles.execute(
            canvas, chosen, Profiles((person(),)), "pairs", f"{last}:P", 0.4, "first"
        ).args
        seen = []

        def paint(profile, style, number):
            seen.append(number)
            return profile

        result = paint_group(canvas, group, painter_of(paint), SIZE)
        x, y = (round(v) for v in row[last].centre)
        assert seen == [last] and float(result.image[0, y, x].min()) > 0.9
        assert f"1 painted ({last} P)" in result.status and f"face {last}: P" in assignment_report(group)
        assert group.places == max(wanted) + 1
        cut = AlignFace.execute(canvas, chosen, last, 64, "ffhq", 1.0, 0.0, 0.0, 180.0, "error").args[1]
        assert cut.items[0].face == row[last]

    def test_a_number_that_was_left_out_is_told(self):
        canvas = smooth(100, 200)
        row = Faces(100, 200, (tuple(upright_face(40 + 50 * k, 40, 14) for k in range(3)),)).numbered()
        chosen = SelectFaces.execute(canvas, row, "0, 2", 0, 0, 0.0, 0.4).args[0]
        with pytest.raises(ValueError, match="Select Faces: face 1 was asked for, there are 2: 0, 2"):
            SelectFaces.execute(canvas, chosen, "1", 0, 0, 0.0, 0.4)
        with pytest.raises(ValueError, match="names face 1, the faces are: 0, 2"):
            assign(canvas, chosen, Profiles((person(),)), "pairs", "1:P")
        with pytest.raises(ValueError, match="Align Face: face 1 was asked for, but frame 0 .* has 2, numbered 0, 2"):
            AlignFace.execute(canvas, chosen, 1, 64, "ffhq", 1.0, 0.0, 0.0, 180.0, "error")

    def test_the_drawn_number_is_the_faces_own(self, monkeypatch):
        from icportrait.models.pictures import faces as pictures

        drawn = []
        monkeypatch.setattr(pictures, "_draw_face", lambda picture, face, number, text: drawn.append((number, text)))
        face = upright_face(40, 40, 10)
        pictures.draw_faces(smooth(80, 80), Faces(80, 80, ((Face(face.box, number=4), face),)), {(0, 0): "Anna"})
        assert drawn == [(4, "Anna"), (1, "")]

    def test_found_faces_are_numbered_in_their_order(self):
        boxes = [upright_face(x, 40, 10) for x in (150, 40, 90)]
        found = detection.find_faces(smooth(80, 200), given=[boxes])
        assert found.numbers(0) == (0, 1, 2) and [f.centre[0] for f in found.frames[0]] == [40, 90, 150]
        assert [f.number for f in found.frames[0]] == [0, 1, 2]


class TestGivenFaces:
    def test_confidence_never_drops_them_when_selecting(self):
        canvas = smooth(100, 200)
        row = (Face((10, 10, 50, 50), score=0.1, backend="BOUNDING_BOX"), Face((60, 10, 99, 50), backend="MASK"))
        found = Face((110, 10, 150, 50), score=0.9, backend="dlib")
        chosen, rest, *_ = SelectFaces.execute(canvas, Faces(100, 200, ((*row, found),)), "all", 0, 0, 1.5, 0.4).args
        assert chosen.frames == (row,) and rest.frames == ((found,),)

    def test_two_equal_boxes_are_two_faces(self):
        canvas = smooth(100, 200)
        twice = Faces(100, 200, ((upright_face(60, 45, 16),) * 2,))
        chosen, rest, *_ = SelectFaces.execute(canvas, twice, "1", 0, 0, 0.0, 0.4).args
        assert chosen.numbers(0) == (1,) and rest.numbers(0) == (0,)
        assert "2 painted" in painted(canvas, *twice.frames[0], people=2).status


class TestClips:
    def test_minus_one_is_the_first_face_of_each_frame(self):
        canvas = torch.cat([smooth(100, 200, seed) for seed in range(3)])
        row = tuple(upright_face(40 + 50 * k, 40, 14) for k in range(3))
        clip = Faces(100, 200, (row, (), row)).numbered()
        picked = Faces(100, 200, (clip.frames[0][2:], (), clip.frames[2][1:2]))  # the same person, twice elsewhere
        crops, placed, _, message = AlignFace.execute(
            canvas, picked, -1, 64, "ffhq", 1.0, 0.0, 0.0, 180.0, "pass through"
        ).args
        assert len(crops) == 3 and [p and p.face for p in placed.items] == [row[2], None, row[1]]
        assert message.startswith("frame 1: passed through")

    @patient
    @given(st.lists(st.lists(st.integers(0, 5), unique=True, max_size=4), min_size=1, max_size=4))
    def test_as_many_frames_come_out_in_order(self, shown):
        """Whatever faces the frames show: frame k of the result is frame k outside its own mask."""
        canvas = torch.cat([smooth(120, 360, seed) for seed in range(len(shown))])
        frames = tuple(
            order_faces([upright_face(30 + 58 * k, 60, 12) for k in frame], "left-right", 120, 360) for frame in shown
        )
        everybody = Profiles((person(), person(0.0)))
        group, _ = assign(canvas, Faces(120, 360, frames), everybody, "order")
        result = paint_group(canvas, group, to_profile, SIZE)
        assert result.image.shape == canvas.shape
        assert sum(line.startswith("frame ") for line in result.status.splitlines()) == len(shown)
        assert torch.equal(result.image[result.mask == 0], canvas[result.mask == 0])
        assert [bool(mask.any()) for mask in result.mask] == [bool(frame) for frame in shown]
        assert len(result.crops) == max(1, sum(min(2, len(frame)) for frame in shown))


class TestTimeWithoutAFace:
    def area(self, effort, side, **options):
        """Pixels looked at in all, in units of the first look."""
        looks = detection._passes(effort, side, side, **options)
        return sum(look.longest_side**2 for look in looks) / looks[0].longest_side ** 2

    @pytest.mark.parametrize("side", [64, 256, 512, 1024, 4000])
    def test_comparing_people_never_enlarges(self, side):
        """The search for the two people of Identity Similarity costs little more when there is nobody."""
        looks = detection._passes("normal", side, side, enlarge=False)
        assert max(look.longest_side for look in looks[1:]) <= 640
        assert self.area("normal", side, enlarge=False) < 8

    @pytest.mark.parametrize("effort", ["fast", "normal"])
    @pytest.mark.parametrize("side", [256, 512, 1024, 4000])
    def test_all_looks_together_are_bounded(self, effort, side):
        assert self.area(effort, side) < 9
        assert max(look.longest_side for look in detection._passes(effort, side, side)) <= 1536

    def test_identity_similarity_asks_for_that(self, monkeypatch):
        asked = []

        def look(picture, wanted, **_):
            asked.append(wanted)
            return Faces(*picture.shape[1:3], ((),) * len(picture))

        monkeypatch.setattr(detection, "find_faces", look)
        IdentitySimilarity.execute(smooth(64, 64), smooth(64, 64), -1, -1, "normal")
        assert [wanted.enlarge for wanted in asked] == [False, False]
