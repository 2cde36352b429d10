"""The order of faces."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from icportrait.models.faces.ordering import ORDERS, order_faces
from icportrait.models.faces.types import Face

HEIGHT, WIDTH = 800, 1000


@st.composite
def crowds(draw):
    """Two to seven boxes on a grid of 10 px: many exact ties, no near ties."""
    count = draw(st.integers(2, 7))
    faces = []
    for _ in range(count):
        x, y = 10 * draw(st.integers(0, 80)), 10 * draw(st.integers(0, 60))
        side = 20 * draw(st.integers(2, 8))
        faces.append(Face((x, y, x + side, y + side), score=0.05 * draw(st.integers(8, 24))))
    return faces


def boxes(faces):
    return [face.box for face in faces]


@settings(deadline=None)
@given(crowds(), st.sampled_from(ORDERS), st.randoms())
def test_the_order_faces_come_in_does_not_matter(faces, order, random):
    shuffled = list(faces)
    random.shuffle(shuffled)
    assert boxes(order_faces(faces, order, HEIGHT, WIDTH)) == boxes(order_faces(shuffled, order, HEIGHT, WIDTH))


@settings(max_examples=200, deadline=None)
@given(crowds(), st.sampled_from([o for o in ORDERS if o != "centre-out"]), st.integers(0, 2**31))
def test_one_pixel_of_jitter_changes_nothing(faces, order, seed):
    """Every edge of every box moves by up to 1 px. Faces with one and the same box are left out: they have no order."""
    assume(len(set(boxes(faces))) == len(faces))
    # Sides that differ by a half step of the grid would be near ties; crowds() makes none.
    noise = np.random.default_rng(seed).uniform(-1, 1, (len(faces), 4))
    moved = [
        replace(f, box=tuple(float(v) for v in np.add(f.box, n)), backend=str(i))
        for i, (f, n) in enumerate(zip(faces, noise))
    ]
    faces = [replace(f, backend=str(i)) for i, f in enumerate(faces)]
    before = [f.backend for f in order_faces(faces, order, HEIGHT, WIDTH)]
    after = [f.backend for f in order_faces(moved, order, HEIGHT, WIDTH)]
    assert before == after


def test_a_plain_sort_would_not_pass():
    """The guard of the test above: two faces one above the other, moved by half a pixel, swap under a plain sort by x."""
    upper, lower = Face((100, 0, 150, 50)), Face((99.5, 300, 149.5, 350))
    assert sorted([upper, lower], key=lambda f: f.centre[0])[0] is lower
    assert order_faces([lower, upper], "left-right", HEIGHT, WIDTH)[0] is upper


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("left-right", "abc"),
        ("right-left", "cba"),
        ("top-bottom", "bca"),
        ("bottom-top", "acb"),
        ("large-small", "cab"),
        ("small-large", "bac"),
        ("confidence", "bca"),
        ("centre-out", "bca"),
    ],
)
def test_each_order_means_what_it_says(order, wanted):
    a = Face((100, 600, 200, 700), score=0.5, backend="a")
    b = Face((450, 300, 510, 360), score=1.1, backend="b")
    c = Face((800, 450, 990, 640), score=0.9, backend="c")
    assert "".join(f.backend for f in order_faces([a, b, c], order, HEIGHT, WIDTH)) == wanted


def test_every_order_is_in_the_table_above():
    assert len(ORDERS) == 8


def test_ties_go_left_right_then_top_bottom():
    faces = [Face((x, y, x + 50, y + 50), score=1.0, backend=f"{x},{y}") for x in (300, 0) for y in (300, 0)]
    assert [f.backend for f in order_faces(faces, "confidence", HEIGHT, WIDTH)] == ["0,0", "0,300", "300,0", "300,300"]


def test_unknown_order():
    with pytest.raises(ValueError, match="unknown order 'sideways'"):
        order_faces([], "sideways", HEIGHT, WIDTH)


def test_no_faces():
    assert order_faces([], "left-right", HEIGHT, WIDTH) == ()
