"""The style's gaze on a matched profile: made-up meshes, irises placed by hand."""

import numpy as np
from mesh_faces import SIZE, face

from icportrait.models.mesh import correspondence
from icportrait.models.mesh.gaze import both_open, looking_as
from icportrait.models.mesh.numerics import sampled
from icportrait.models.mesh.regions import EYE_CORNERS


def irises(mesh: np.ndarray, aside: float) -> np.ndarray:
    """In the middle of each eye, moved by a share of its width: `[2, 2]`."""
    eyes = np.array([mesh[list(corners), :2] for corners in EYE_CORNERS])
    return eyes.mean(axis=1) + aside * (eyes[:, 1] - eyes[:, 0])


def test_the_irises_come_to_where_the_styles_are():
    profile, style = face(), face(side=80)
    looking_ahead, looking_aside = irises(profile, 0), irises(style, 0.2)
    match = correspondence.match_meshes(profile, profile, SIZE)
    moved = looking_as(match, looking_ahead, looking_aside, style, profile)
    picture = np.zeros((SIZE, SIZE), np.float32)
    for x, y in looking_ahead.round().astype(int):
        picture[y - 1 : y + 2, x - 1 : x + 2] = 1
    seen = sampled(picture, moved.places)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    for wanted in irises(profile, 0.2):
        near = seen * (np.hypot(x - wanted[0], y - wanted[1]) < 6)
        centre = np.array([(near * x).sum(), (near * y).sum()]) / near.sum()
        assert np.hypot(*(centre - wanted)) < 1.5
    far = np.min([np.hypot(x - cx, y - cy) for cx, cy in looking_ahead], axis=0) > 0.2 * SIZE
    assert np.array_equal(moved.places[far], match.places[far])


def test_the_same_gaze_moves_nothing():
    mesh = face()
    match = correspondence.match_meshes(mesh, mesh, SIZE)
    still = looking_as(match, irises(mesh, 0.1), irises(mesh, 0.1), mesh, mesh)
    inside = match.drawn.inside
    assert np.abs(still.places - match.places)[inside].max() < 1.1  # a pixel's rounding


def test_eyes_that_are_shut_say_nothing():
    mesh = face()
    assert both_open(mesh)
    mesh[159, :2] = mesh[145, :2]
    assert not both_open(mesh)
