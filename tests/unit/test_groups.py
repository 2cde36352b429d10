"""Group pictures without models: assignment, and one face after another on the running canvas."""

import gc
import weakref

import numpy as np
import pytest
import torch
from face_photos import upright_face
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from painters import painter_of, to_profile

from icportrait.models.faces import selection
from icportrait.models.faces.stitching import StitchSettings
from icportrait.models.faces.types import Face, Faces
from icportrait.models.groups.ahead import Batches
from icportrait.models.groups.assignment import assign
from icportrait.models.groups.painting import paint_group
from icportrait.models.groups.profiles import doubtful_photographs, with_person
from icportrait.models.groups.report import assignment_report, labels
from icportrait.models.groups.typed_lists import numbers_for_faces, parse_pairs, prompts_for_faces
from icportrait.models.groups.types import AssignedFace, GroupAssignment, Person, Photograph, Profiles
from icportrait.models.painting import CropResult

HEIGHT, WIDTH, SIZE = 240, 360, 64

# A busy machine is no failure.
patient = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def noise(seed: int, frames: int = 1, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    return torch.rand(frames, height, width, 3, generator=torch.Generator().manual_seed(seed))


def unit(index: int) -> tuple[float, ...]:
    """Embeddings of different people lie 2 ** 0.5 apart."""
    return tuple(np.eye(128)[index].tolist())


def person(number: int, photographs: int = 1) -> Person:
    """Somebody whose photographs are all of one colour of their own."""
    colour = torch.tensor([(number + 1) / 10, 0.5, 1 - (number + 1) / 10]).expand(1, 120, 120, 3)
    face = Face(
        *(getattr(upright_face(60, 50, 30), name) for name in ("box", "landmarks", "layout")), embedding=unit(number)
    )
    return Person(f"P{number}", (Photograph(colour, face),) * photographs)


def people(count: int) -> Profiles:
    return Profiles(tuple(map(person, range(count))))


def row_of_faces(count: int, gap: float = 50.0, size: float = 24.0) -> tuple[Face, ...]:
    return tuple(upright_face(40 + gap * k, 110, size) for k in range(count))


def assigned(canvas, frames, profiles, method="order", **options) -> GroupAssignment:
    return assign(canvas, Faces(*canvas.shape[1:3], tuple(frames)), profiles, method, **options)[0]


class TestPeople:
    def test_a_name_again_adds_photographs(self):
        profiles, first = with_person(Profiles(), "Anna", person(0).photographs)
        profiles, second = with_person(profiles, " ", person(1).photographs)
        more, third = with_person(profiles, "anna", person(2, 2).photographs)
        assert (first, second, third) == (0, 1, 0)
        assert more.names == ("Anna", "person 1") and [len(p.photographs) for p in more.people] == [3, 1]
        assert [len(p.photographs) for p in profiles.people] == [1, 1], "the set before is unchanged"

    @pytest.mark.parametrize("name", ["7", "a,b", "a:b", "a=b", "a;b", "a\nb"])
    def test_names_that_pairs_could_not_hold(self, name):
        with pytest.raises(ValueError, match="cannot be written in pairs"):
            with_person(Profiles(), name, person(0).photographs)

    def test_photographs_of_two_people_are_told(self):
        mixed = Person("Anna", person(0).photographs + person(1).photographs)
        (line,) = doubtful_photographs(mixed)
        assert line.startswith("photographs 0 and 1 of Anna look like different people")
        assert doubtful_photographs(person(0, 2)) == []


class TestPairs:
    def test_names_and_numbers(self):
        assert parse_pairs("0:Anna, 2=1\n3 : ANNA;", range(4), ("Anna", "Ben B")) == {0: 0, 2: 1, 3: 0}
        assert parse_pairs("1: ben b", range(4), ("Anna", "Ben B")) == {1: 1}

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("0:Cleo", "the profiles are: Anna, Ben"),
            ("9:Anna", '"9:Anna" names face 9, the faces are: 0, 1, 2, 3'),
            ("0:5", "names person 5, there are 2: 0 Anna, 1 Ben"),
            ("0", "not a pair"),
            ("0:", "the profiles are"),
            ("0:Anna,0:Ben", "named twice"),
            (" , ", "pairs is empty"),
        ],
    )
    def test_bad(self, text, sentence):
        with pytest.raises(ValueError, match=sentence):
            parse_pairs(text, range(4), ("Anna", "Ben"))

    @patient
    @given(
        st.dictionaries(st.integers(0, 5), st.integers(0, 3), min_size=1),
        st.sampled_from((", ", ";", "\n")),
        st.sampled_from((str, str.lower, str.upper, None)),
    )
    def test_what_is_written_is_read(self, wanted, between, spelling):
        names = ("Anna", "Ben", "Cleo", "Dora")
        parts = [f"{face}:{who if spelling is None else spelling(names[who])}" for face, who in wanted.items()]
        assert parse_pairs(between.join(parts), range(6), names) == wanted


class TestNumbers:
    def test_one_for_all_a_list_and_a_text(self):
        def strengths(given, text):
            return numbers_for_faces(given, text, 3, "strengths", 0, 10)

        assert strengths([0.5], "") == [0.5, 0.5, 0.5]
        assert strengths([0.5, 0.6], "") == [0.5, 0.6, 0.6]
        assert strengths([0.5], "1, , 0.2, 9") == [1, 0.5, 0.2]

    def test_seeds_differ_and_stay_in_range(self):
        limit = 2**64 - 1
        assert numbers_for_faces([limit], "", 3, "seeds", 0, limit, step=1) == [limit, 0, 1]
        assert numbers_for_faces([7, 7], "", 3, "seeds", 0, limit, step=1) == [7, 7, 7]
        assert numbers_for_faces([0], f",{limit}", 3, "seeds", 0, limit, step=1) == [0, limit, 2]

    @pytest.mark.parametrize(
        ("text", "step", "sentence"),
        [
            ("x", 0, '"x" is not a number'),
            ("1.5", 1, "not a whole number"),
            (",11", 0, "face 1 has 11"),
            ("nan", 0, "has nan"),
        ],
    )
    def test_bad(self, text, step, sentence):
        with pytest.raises(ValueError, match=sentence):
            numbers_for_faces([1], text, 2, "strengths", 0, 10, step=step)


class TestPrompts:
    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            ([""], ["", "", ""]),
            (["oil, thick"], ["oil, thick"] * 3),
            ([" oil \n"], ["oil"] * 3),
            (["oil\n\nsnow"], ["oil", "", "snow"]),
            (["\nsnow"], ["", "snow", ""]),
            (["oil\n\n"], ["oil", "", ""]),
            (["oil\nsnow"], ["oil", "snow", ""]),
            (["oil", "snow"], ["oil", "snow", "snow"]),
            (["a\nb", ""], ["a\nb", "", ""]),
            (["a", "b", "c", "d"], ["a", "b", "c"]),
        ],
    )
    def test_one_for_all_lines_and_lists(self, given, wanted):
        assert prompts_for_faces(given, 3) == wanted

    def test_embedding_first_then_words(self):
        from tiny_models import portrait_setup, text_encoder

        from icportrait.models.method import encoding

        profile = portrait_setup().profile
        with torch.inference_mode():
            for text, tokens in (("snow", 77), (", ".join(["snow at night"] * 30), 154)):
                words, none = encoding.encode_prompt(text_encoder(), text)
                assert words.shape == none.shape == (1, tokens, 768) and not torch.equal(words, none)
                ((positive, _),), ((negative, _),) = encoding.conditionings(profile, (words, none))
                assert torch.equal(positive, torch.cat([profile.embedding, words], 1))
                assert torch.equal(negative, torch.cat([torch.zeros(1, 1, 768), none], 1))
        ((positive, _),), _ = encoding.conditionings(profile)
        assert torch.equal(positive, profile.embedding)


class TestAssign:
    def test_more_people_than_faces_and_fewer(self):
        canvas = noise(0)
        for faces, profiles in ((2, 4), (4, 2)):
            found = assigned(canvas, [row_of_faces(faces)], people(profiles))
            assert [entry.person for entry in found.frames[0]] == [
                *range(min(faces, profiles)),
                *[None] * (faces - profiles),
            ]
            assert found.count == min(faces, profiles)

    def test_pairs_skip_frames_that_lack_the_face(self):
        found = assigned(noise(0, 3), [row_of_faces(2), (), row_of_faces(1)], people(2), "pairs", pairs="1:P0, 0:P1")
        assert [[entry.person for entry in frame] for frame in found.frames] == [[1, 0], [], [1]]

    @patient
    @given(st.permutations(range(6)), st.integers(1, 6), st.integers(0, 2**16))
    def test_similarity_never_mixes_people(self, order, known, seed):
        """However the faces stand, everybody known lands on their own face and strangers are left alone."""
        random = np.random.default_rng(seed)
        faces = []
        for face, who in zip(row_of_faces(6), order, strict=True):
            embedding = np.array(unit(who)) + random.normal(0, 0.02, 128)
            faces.append(Face(face.box, face.landmarks, face.layout, embedding=tuple(embedding.tolist())))
        canvas = torch.zeros(1, HEIGHT, WIDTH, 3)
        found = assigned(canvas, [tuple(faces)], people(known), "similarity", threshold=0.4)
        assert [entry.person for entry in found.frames[0]] == [who if who < known else None for who in order]

    def test_duplicate_people_get_one_face_each_at_most(self):
        twice = Profiles((person(0), Person("again", person(0).photographs)))
        faces = [Face(f.box, f.landmarks, f.layout, embedding=unit(k)) for k, f in enumerate(row_of_faces(2))]
        found = assigned(noise(0), [tuple(faces)], twice, "similarity")
        assert sorted(entry.person is not None for entry in found.frames[0]) == [False, True]
        assert found.frames[0][0].person in (0, 1)

    def test_the_report_names_people_photographs_and_scores(self):
        faces = tuple(Face(f.box, f.landmarks, f.layout, embedding=unit(k)) for k, f in enumerate(row_of_faces(3)))
        whole = Faces(HEIGHT, WIDTH, (faces, ()))
        found, matrices = assign(noise(0, 2), whole, people(2), "similarity")
        text = assignment_report(found, matrices)
        assert "2 of 3 faces get a person, 1 are left alone" in text
        assert "frame 0, face 1: P1, similarity 1.000 to P1; photograph 0: the only one" in text
        assert "frame 0, face 2: left alone: nearest is P0 with -0.414, below 0.4" in text
        assert "frame 1, no face" in text
        assert labels(found)[0, 0] == "P0 1.00" and labels(found)[0, 2] == "left alone -0.41"

    def test_the_photograph_nearest_in_pose_is_taken(self):
        from icportrait.models.faces.head_shape import HeadFit

        def turned(yaw):
            head = HeadFit(yaw, 0.0, 0.0, 0.5, (60.0, 60.0), 1.0, 1.0, 0.0)
            names = ("eye_right_outer", "eye_right_inner", "eye_left_outer", "eye_left_inner", "nose_base")
            return Face((30, 30, 90, 90), tuple(tuple(head.point(name)) for name in names), "dlib_5")

        picture = torch.zeros(1, 120, 120, 3)
        photographs = (None, *map(turned, (0, 30, -30)))
        somebody = Person("Anna", tuple(Photograph(picture, face) for face in photographs))
        for rule, wanted in (("nearest pose", 3), ("first", 1)):
            found = assigned(noise(0), [(turned(-25),)], Profiles((somebody,)), photograph=rule)
            assert found.frames[0][0].photograph == wanted, found.frames[0][0].reason

    def test_another_picture_than_the_faces(self):
        with pytest.raises(ValueError, match="the image is 50x40, the faces were found on 360x240"):
            assign(noise(0, 1, 40, 50), Faces(HEIGHT, WIDTH, ((),)), people(1), "order")
        with pytest.raises(ValueError, match="the image has 2 frames"):
            assign(noise(0, 2), Faces(HEIGHT, WIDTH, ((),)), people(1), "order")
        with pytest.raises(ValueError, match="no profiles"):
            assign(noise(0), Faces(HEIGHT, WIDTH, ((),)), Profiles(), "order")


class TestSelection:
    @patient
    @given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 6), min_size=1, max_size=4))
    def test_chosen_and_rest_are_all_faces_once(self, wanted, counts):
        faces = Faces(9, 9, tuple(tuple(Face((k, b, k + 1, b + 1)) for k in range(n)) for b, n in enumerate(counts)))
        text = ", ".join(str(k) for k in wanted if k < max(counts)) or "all"
        chosen, rest = selection.select_by_index(faces, text)
        for before, some, others in zip(faces.frames, chosen.frames, rest.frames, strict=True):
            assert sorted(face.box for face in some + others) == sorted(face.box for face in before)


class TestRunningCanvas:
    def test_everybody_is_on_their_own_face(self):
        canvas = noise(1)
        copy = canvas.clone()
        result = paint_group(canvas, assigned(canvas, [row_of_faces(6)], people(6)), to_profile, SIZE)
        assert torch.equal(canvas, copy)
        for number, face in enumerate(row_of_faces(6)):
            x, y = (round(float(v)) for v in face.points[:2].mean(axis=0))
            colour = person(number).photographs[0].image[0, 0, 0]
            assert torch.allclose(result.image[0, y + 10, x], colour, atol=0.02), number
        assert result.crops.shape == (6, SIZE, SIZE, 3)
        assert "6 painted (0 P0, 1 P1" in result.status

    def test_overlapping_faces_build_on_each_other(self):
        """Each crop is cut from the canvas that holds the faces before, and nothing painted before is lost."""
        canvas = noise(2)
        group = assigned(canvas, [row_of_faces(4, gap=22.0)], people(4))
        seen = []

        def look(profile_crop, style_crop, face):
            seen.append(style_crop)
            return profile_crop

        result = paint_group(canvas, group, painter_of(look), SIZE, StitchSettings(feather=0.02))
        # By hand: one face at a time, each on the result before.
        running = canvas
        for number in range(4):
            alone = GroupAssignment(
                HEIGHT,
                WIDTH,
                (
                    tuple(
                        e if k == number else AssignedFace(e.face, None, None, None, "")
                        for k, e in enumerate(group.frames[0])
                    ),
                ),
                group.profiles,
            )
            one = paint_group(running, alone, painter_of(look), SIZE, StitchSettings(feather=0.02))
            assert torch.equal(seen[number], seen[-1])
            running = one.image
        assert torch.equal(running, result.image)
        first = paint_group(canvas, alone, painter_of(look), SIZE)
        assert not torch.equal(seen[3], seen[-1]), "the fourth crop shows the third face"
        assert first.image.shape == canvas.shape

    def test_left_alone_is_bit_for_bit(self):
        canvas = noise(3)
        group = assigned(canvas, [row_of_faces(4)], people(4), "pairs", pairs="2:P0")
        result = paint_group(canvas, group, to_profile, SIZE)
        outside = result.mask == 0
        assert torch.equal(result.image[outside], canvas[outside])
        assert float(result.mask[0, :, :100].max()) == 0 and float(result.mask.max()) > 0.9
        assert "1 painted (2 P0), 3 left alone" in result.status

    def test_an_occlusion_is_never_painted(self):
        canvas = noise(3)
        hidden = torch.zeros(1, HEIGHT, WIDTH)
        hidden[..., :40] = 1
        group = assigned(canvas, [row_of_faces(1)], people(1))
        result = paint_group(canvas, group, to_profile, SIZE, occlusion=hidden)
        assert torch.equal(result.image[:, :, :40], canvas[:, :, :40]) and result.mask[:, :, 40:].any()
        with pytest.raises(ValueError, match="2 occlusion masks came for 1 frames"):
            paint_group(canvas, group, to_profile, SIZE, occlusion=hidden.repeat(2, 1, 1))

    def test_frames_come_out_in_order_and_without_a_face_untouched(self):
        canvas = noise(4, 4)
        group = assigned(
            canvas, [row_of_faces(1), (), row_of_faces(2), row_of_faces(2)], people(1), "pairs", pairs="1:P0"
        )
        order = []

        def look(profile_crop, style_crop, face):
            order.append(face)
            return profile_crop

        result = paint_group(canvas, group, painter_of(look), SIZE)
        assert order == [1, 1] and result.image.shape == canvas.shape
        assert torch.equal(result.image[:2], canvas[:2]) and not result.mask[:2].any()
        lines = [line for line in result.status.splitlines() if line.startswith("frame")]
        assert lines[0] == "frame 0: no face has a person, passed through unchanged (1 left alone)"
        assert lines[1] == "frame 1: no face, passed through unchanged"
        assert lines[2].startswith("frame 2: 1 painted (1 P0), 1 left alone")
        assert len(lines) == 4

    def test_nothing_to_paint(self):
        canvas = noise(5)
        result = paint_group(canvas, assigned(canvas, [()], people(1)), to_profile, SIZE)
        assert torch.equal(result.image, canvas) and not result.crops.any() and result.crops.shape == (1, SIZE, SIZE, 3)


class TestFailures:
    def failing(self, error):
        def paint(profile_crop, style_crop, face):
            if face == 1:
                raise error
            return profile_crop

        return paint

    @pytest.mark.parametrize("error", [ValueError("bad crop"), RuntimeError("out of memory\nmore")])
    def test_skip_keeps_the_others(self, error):
        canvas, done = noise(6), []
        group = assigned(canvas, [row_of_faces(3)], people(3))
        result = paint_group(canvas, group, painter_of(self.failing(error)), SIZE, on_error="skip", on_face=done.append)
        lines = result.status.splitlines()
        assert "2 painted (0 P0, 2 P2), 1 skipped" in lines[0]
        assert lines[1] == f"face 1 (P1) was skipped: {str(error).splitlines()[0]}"
        assert done == [1, 2, 3] and len(result.crops) == 2

    def test_error_names_the_face(self):
        canvas = noise(6, 2)
        group = assigned(canvas, [row_of_faces(3)] * 2, people(3))
        with pytest.raises(ValueError, match=r"^face 1 \(P1\) of frame 0: bad crop"):
            paint_group(canvas, group, painter_of(self.failing(ValueError("bad crop"))), SIZE)

    def test_a_face_too_small_to_align(self):
        canvas = noise(6)
        tiny = upright_face(200, 100, 0.2)
        group = assigned(canvas, [(*row_of_faces(1), tiny)], people(2))
        with pytest.raises(ValueError, match="too small to align"):
            paint_group(canvas, group, to_profile, SIZE)
        assert "1 skipped" in paint_group(canvas, group, to_profile, SIZE, on_error="skip").status

    def test_nan_pixels_are_a_failure(self):
        canvas = noise(6)
        group = assigned(canvas, [row_of_faces(1)], people(1))
        with pytest.raises(ValueError, match="NaN"):
            paint_group(canvas, group, painter_of(lambda *_: torch.full((1, SIZE, SIZE, 3), torch.nan)), SIZE)

    @pytest.mark.parametrize("where", ["within", "between"])
    def test_cancel_ends_the_run_also_with_skip(self, where):
        from comfy.model_management import InterruptProcessingException

        canvas, painted = noise(6), []

        def paint(profile_crop, style_crop, face):
            painted.append(face)
            if where == "within" and face == 1:
                raise InterruptProcessingException
            return profile_crop

        def between(done):
            if where == "between" and done == 2:
                raise InterruptProcessingException

        group = assigned(canvas, [row_of_faces(3)], people(3))
        with pytest.raises(InterruptProcessingException):
            paint_group(canvas, group, painter_of(paint), SIZE, on_error="skip", on_face=between)
        assert painted == [0, 1]


class TestPaintedAhead:
    """Faces as batches: the pictures of one after another, whatever overlaps, with fewer runs."""

    def run(self, canvas, frames, paint=None, at_once=4, kind_of=lambda face: 0, batch_error=None, **options):
        """(result, faces of each run), the result being equal to that without batches. `paint`: (pair, face number) -> CropResult."""
        paint = paint or (lambda pair, face: CropResult(0.5 * pair.style + 0.5 * pair.profile, notes=(f"n{face}",)))
        group = assigned(canvas, frames, people(4))
        plain = paint_group(canvas, group, lambda face: lambda pair: paint(pair, face), SIZE, **options)
        runs, done = [], []

        def together(faces, pairs):
            runs.append(list(faces))
            if batch_error:
                raise batch_error
            return [paint(pair, face) for pair, face in zip(pairs, faces, strict=True)]

        def one(face):
            return lambda pair: runs.append([face]) or paint(pair, face)

        batches = Batches(at_once, kind_of, together)
        result = paint_group(canvas, group, one, SIZE, batches=batches, on_face=done.append, **options)
        for name in ("image", "mask", "crops", "panel"):
            assert torch.equal(getattr(result, name), getattr(plain, name)), name
        assert result.status == plain.status and done == list(range(1, group.count + 1))
        return result, runs

    def test_frames_of_a_clip_go_together(self):
        frames = [row_of_faces(2, gap=200), (), row_of_faces(2, gap=200), row_of_faces(1)]
        assert self.run(noise(1, 4), frames)[1] == [[0, 1, 0, 1], [0]]
        assert self.run(noise(1, 4), frames, at_once=2)[1] == [[0, 1], [0, 1], [0]]
        assert self.run(noise(1, 4), frames, at_once=1)[1] == [[0], [1], [0], [1], [0]]

    def test_a_crop_that_shows_an_earlier_face_waits_for_it(self):
        assert self.run(noise(2), [row_of_faces(4, gap=22)])[1] == [[0], [1], [2], [3]]
        frames = [row_of_faces(2, gap=30)] * 3
        assert self.run(noise(2, 3), frames)[1] == [[0, 0, 0], [1], [1], [1]]

    def test_a_batch_begun_within_a_frame_shows_its_earlier_faces(self):
        faces = (*row_of_faces(2, gap=30), upright_face(250, 110, 24))
        assert self.run(noise(2), [faces], kind_of=lambda face: face > 0)[1] == [[0], [1, 2]]

    def test_a_crop_that_changed_is_painted_anew(self):
        """Painted over their whole crop, faces reach further than their boxes."""

        def wide(pair, face):
            return CropResult(pair.style * 0.5, mask=torch.ones(1, SIZE, SIZE))

        assert self.run(noise(2), [row_of_faces(3, gap=90)], wide)[1] == [[0, 1, 2], [1], [2]]
        assert self.run(noise(2), [row_of_faces(3, gap=110)], wide)[1] == [[0, 1, 2]]

    def test_only_faces_of_a_kind(self):
        frames = [row_of_faces(3, gap=110)] * 2
        assert self.run(noise(3, 2), frames, kind_of=lambda face: face % 2)[1] == [[0, 2, 0, 2], [1], [1]]

    def test_no_more_is_kept_than_one_batch(self):
        frames = [row_of_faces(3, gap=110)] * 8
        alive, most = [], 0

        def paint(pair, face):
            nonlocal most
            result = CropResult(pair.style * 0.5, sampled=pair.style * 0.25)
            most = max(most, sum(reference() is not None for reference in alive) + 1)
            alive.append(weakref.ref(result))
            return result

        for kind_of in (lambda face: 0, lambda face: face):
            alive, most = [], 0
            gc.collect()
            self.run(noise(3, 8), frames, paint, at_once=4, kind_of=kind_of)
            assert most <= 4

    @pytest.mark.parametrize("error", [ValueError("bad crop"), torch.OutOfMemoryError("full")])
    def test_a_failing_face_is_skipped_alone(self, error):
        def paint(pair, face):
            if face == 1:
                raise error
            return CropResult(pair.style * 0.5)

        result, runs = self.run(noise(6), [row_of_faces(3, gap=110)], paint, on_error="skip")
        assert runs == [[0, 1, 2], [0], [1], [2]]
        assert "2 painted (0 P0, 2 P2), 1 skipped" in result.status

    def test_batches_for_which_memory_lacks_become_smaller_and_end(self):
        frames = [row_of_faces(3, gap=110)] * 3
        _, runs = self.run(noise(6, 3), frames, batch_error=torch.OutOfMemoryError("full"))
        assert runs == [[0, 1, 2, 0], [0], [1], [2], [0], [1, 2], [1], [2], [0], [1], [2]]

    def test_error_names_the_face(self):
        canvas = noise(6)
        group = assigned(canvas, [row_of_faces(3, gap=110)], people(3))

        def fail(*_):
            raise ValueError("bad crop")

        with pytest.raises(ValueError, match=r"^face 0 \(P0\): bad crop"):
            paint_group(canvas, group, lambda face: fail, SIZE, batches=Batches(4, lambda face: 0, fail))

    def test_a_face_too_small_to_align(self):
        faces = (*row_of_faces(1), upright_face(200, 100, 0.2), upright_face(300, 110, 24))
        result, runs = self.run(noise(6), [faces], on_error="skip")
        assert runs == [[0, 2]] and "1 skipped" in result.status

    def test_cancel_ends_the_run_also_with_skip(self):
        from comfy.model_management import InterruptProcessingException

        canvas, alone = noise(6), []
        group = assigned(canvas, [row_of_faces(3, gap=110)], people(3))

        def cancel(faces, pairs):
            raise InterruptProcessingException

        with pytest.raises(InterruptProcessingException):
            paint_group(canvas, group, alone.append, SIZE, on_error="skip", batches=Batches(4, lambda face: 0, cancel))
        assert len(alone) == 1, "asked what paints it, and not painted"


def test_nothing_is_kept_of_a_face_but_pictures():
    """What `paint` makes beside its result is gone before the next face; crops go with the result."""
    canvas, alive, most = noise(7), [], 0

    def paint(profile_crop, style_crop, face):
        nonlocal most
        gc.collect()
        most = max(most, sum(reference() is not None for reference in alive))
        alive.extend(weakref.ref(one) for one in (profile_crop, style_crop))
        return style_crop * 0.5

    paint_group(canvas, assigned(canvas, [row_of_faces(6)], people(6)), painter_of(paint), SIZE)
    assert most == 0
