"""Picking faces and giving each its person."""

import itertools

import numpy as np
import pytest
from face_photos import upright_face
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from icportrait.models.faces import selection
from icportrait.models.faces.types import Face, Faces
from icportrait.models.groups.rules import SURE_FIRST, best_photograph, by_order, by_similarity, score_matrix
from icportrait.models.groups.typed_lists import parse_pairs


class TestIndices:
    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("", [0, 1, 2, 3, 4]),
            ("all", [0, 1, 2, 3, 4]),
            ("2", [2]),
            ("3,0", [3, 0]),
            ("1-3", [1, 2, 3]),
            ("-1", [4]),
            ("0, 0;1", [0, 1]),
        ],
    )
    def test_what_artists_type(self, text, wanted):
        assert selection.parse_indices(text, 5) == wanted

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("two", "not a face number"),
            ("5", "there are 5: 0, 1, 2, 3, 4"),
            ("-6", "there are 5"),
            ("1-", "not a face"),
        ],
    )
    def test_bad(self, text, sentence):
        with pytest.raises(ValueError, match=sentence):
            selection.parse_indices(text, 5)


class TestSelect:
    faces = Faces(10, 10, ((Face((0, 0, 1, 1)), Face((2, 0, 3, 1)), Face((4, 0, 9, 5))), (Face((5, 5, 6, 6)),)))

    def test_chosen_and_rest_are_everything(self):
        chosen, rest = selection.select(self.faces, lambda _, __, face: face.side > 2)
        assert [len(frame) for frame in chosen.frames] == [1, 0] and [len(frame) for frame in rest.frames] == [2, 1]

    def test_by_index_keeps_the_order_typed(self):
        chosen, rest = selection.select_by_index(self.faces, "2,0")
        assert [face.box[0] for face in chosen.frames[0]] == [4, 0] and [face.box[0] for face in rest.frames[0]] == [2]
        assert len(chosen.frames[1]) == 1 and rest.frames[1] == ()

    def test_by_similarity(self):
        def face(x):
            return Face((0, 0, 1, 1), embedding=tuple(np.eye(128)[0] * x))

        faces = Faces(10, 10, ((face(0.1), face(0.9), Face((0, 0, 1, 1))),))
        chosen, rest, scores = selection.select_by_similarity(faces, [np.zeros(128), np.eye(128)[0] * 2], 0.4)
        assert scores[0][:2] == pytest.approx([0.9, 0.1]) and scores[0][2] is None
        assert len(chosen.frames[0]) == 1 and len(rest.frames[0]) == 2


class TestSimilarity:
    @settings(deadline=None, max_examples=150)
    @given(
        arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(-0.2, 1)),
        st.floats(0, 0.8),
        st.sampled_from((SURE_FIRST, 1.0)),
    )
    def test_is_the_best_of_all_assignments(self, scores, threshold, bonus):
        """Against trying every one: the greatest sum above the threshold; with a bonus of 1 the most pairs first."""
        faces, people = scores.shape
        options = [None, *range(people)]
        best = 0.0
        for choice in itertools.product(options, repeat=faces):
            used = [p for p in choice if p is not None]
            pairs = [(f, p) for f, p in enumerate(choice) if p is not None]
            if len(set(used)) == len(used) and all(scores[pair] >= threshold for pair in pairs):
                best = max(best, sum(scores[pair] - threshold + bonus for pair in pairs))
        plain = by_similarity(scores, threshold, bonus)
        if bonus == SURE_FIRST:
            assert plain == by_similarity(scores, threshold), "the default"
        found = [(a.face, a.person) for a in plain if a.person is not None]
        assert len({person for _, person in found}) == len(found)
        assert all(scores[pair] >= threshold for pair in found)
        assert sum(scores[pair] - threshold + bonus for pair in found) == pytest.approx(best, abs=1e-9)

    @settings(deadline=None, max_examples=60)
    @given(st.floats(0.75, 1), st.floats(0.4, 0.5), st.floats(0.4, 0.5), st.floats(-0.2, 0.39))
    def test_a_sure_match_is_not_given_up_for_two_doubtful_ones(self, sure, first, second, stranger):
        """The stranger looks a little like person 0, and face 0 a little like person 1, who is not in the picture."""
        scores = np.array([[sure, first], [second, stranger]])
        assert [a.person for a in by_similarity(scores, 0.4)] == [0, None]
        assert [a.person for a in by_similarity(scores, 0.4, 1.0)] == [1, 0], "as many as possible"

    def test_a_pair_exactly_at_the_threshold_counts(self):
        assert by_similarity(np.array([[0.4]]), 0.4)[0].person == 0

    @settings(deadline=None, max_examples=60)
    @given(st.permutations(range(4)), st.permutations(range(5)))
    def test_moves_with_its_faces_and_people(self, rows, columns):
        scores = np.random.default_rng(5).uniform(0, 1, (4, 5))
        plain = {a.face: a.person for a in by_similarity(scores, 0.3)}
        moved = {a.face: a.person for a in by_similarity(scores[rows][:, columns], 0.3)}
        assert {rows[face]: None if person is None else columns[person] for face, person in moved.items()} == plain

    def test_greedy_would_be_worse(self):
        """Face 0 likes person 0 best, but face 1 fits nobody else."""
        found = by_similarity(np.array([[0.9, 0.8], [0.85, 0.1]]), 0.4)
        assert [a.person for a in found] == [1, 0] and found[1].score == pytest.approx(0.85)

    def test_strangers_are_left_alone_and_told(self):
        found = by_similarity(np.array([[0.2, 0.3], [np.nan, np.nan], [0.7, 0.1], [0.6, 0.0]]), 0.4)
        assert [a.person for a in found] == [None, None, 0, None]
        assert "nearest is person 1 with 0.300, below 0.4" in found[0].reason
        assert "no similarity" in found[1].reason and "taken by a better match" in found[3].reason

    @pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
    def test_nobody(self, shape):
        assert [a.person for a in by_similarity(np.zeros(shape), 0.4)] == [None] * shape[0]

    def test_score_matrix_takes_the_best_photograph(self):
        a, b = np.zeros(128), np.eye(128)[0]
        matrix = score_matrix([a, None], [[b, a * 1.0, None], [None]])
        assert matrix[0, 0] == 1 and np.isnan(matrix[0, 1]) and np.isnan(matrix[1]).all()


class TestOrderAndPairs:
    def test_more_faces_and_more_people(self):
        assert [a.person for a in by_order(3, 2)] == [0, 1, None]
        assert [a.person for a in by_order(1, 4)] == [0]

    def test_pairs(self):
        assert parse_pairs("0:1, 2=0", range(3), ("Anna", "Ben")) == {0: 1, 2: 0}
        assert parse_pairs("4:1", (1, 4), ("Anna", "Ben")) == {4: 1}

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("0", "not a pair"),
            ("7:0", "names face 7, the faces are: 0, 1, 2"),
            ("0:9", "person 9, there are 2"),
            ("0:0,0:1", "named twice"),
        ],
    )
    def test_bad_pairs(self, text, sentence):
        with pytest.raises(ValueError, match=sentence):
            parse_pairs(text, range(3), ("Anna", "Ben"))

    @pytest.mark.parametrize(
        "read",
        [lambda text: parse_pairs(text, range(3), ("Anna",)), lambda text: selection.parse_indices(text, 3)],
    )
    @pytest.mark.parametrize("text", ["x" * 5000, "0:" + "x" * 5000])
    def test_an_endless_text_is_not_repeated_whole(self, read, text):
        with pytest.raises(ValueError) as error:
            read(text)
        assert len(str(error.value)) < 300


class TestPhotograph:
    @staticmethod
    def turned(yaw: float, size: float = 60.0) -> Face:
        from icportrait.models.faces.head_shape import HeadFit

        head = HeadFit(yaw, 0.0, 0.0, size / 60, (200.0, 200.0), 1.0, 1.0, 0.0)
        names = ("eye_right_outer", "eye_right_inner", "eye_left_outer", "eye_left_inner", "nose_base")
        return Face((100, 100, 300, 300), tuple(tuple(head.point(name)) for name in names), "dlib_5")

    def test_nearest_pose(self):
        photographs = [(self.turned(yaw), 400, 400) for yaw in (0, 30, -30)]
        for index, yaw in ((0, 2), (1, 25), (2, -20)):
            choice = best_photograph(self.turned(yaw), photographs)
            assert choice.index == index and f"photograph {index}: yaw" in choice.reason

    def test_of_equal_poses_the_larger(self):
        small, large = (self.turned(10, size) for size in (12, 60))
        assert best_photograph(self.turned(10), [(small, 400, 400), (large, 400, 400)]).index == 1

    def test_photographs_without_a_face_are_passed_over(self):
        choice = best_photograph(self.turned(0), [(None, 9, 9), (self.turned(35), 400, 400)])
        assert choice.index == 1 and choice.costs[0] == float("inf")
        with pytest.raises(ValueError, match="none of the 1 photographs"):
            best_photograph(upright_face(), [(None, 9, 9)])
