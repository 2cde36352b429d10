"""Meshes in space: poses, normals, drawing, correspondence."""

import cv2
import numpy as np
import pytest
from mesh_faces import SIZE, face

from icportrait.models.faces.mediapipe import topology
from icportrait.models.mesh import correspondence, geometry, raster, regions
from icportrait.models.mesh.numerics import sampled


@pytest.mark.parametrize("yaw, pitch", [(0, 0), (25, 0), (-25, 0), (0, 15), (20, -10)])
def test_yaw_and_pitch(yaw, pitch):
    measured = geometry.yaw_pitch_roll(face(yaw, pitch))
    assert measured[0] == pytest.approx(yaw, abs=0.5) and measured[1] == pytest.approx(pitch, abs=0.5)


def test_angle_between_heads():
    assert geometry.degrees_between(face(10), face(-25)) == pytest.approx(35, abs=0.1)


def test_similarity_3d_recovers_a_known_one():
    rng = np.random.default_rng(0)
    points, weights = rng.normal(size=(20, 3)), rng.uniform(0.1, 1, 20)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    matrix, shift = geometry.similarity_3d(points, 1.7 * points @ rotation.T + (1, 2, 3), weights)
    np.testing.assert_allclose(matrix, 1.7 * rotation, atol=1e-9)
    np.testing.assert_allclose(shift, (1, 2, 3), atol=1e-9)


def test_posed_takes_the_pose_and_keeps_the_shape():
    wide = face()
    wide[:, 0] = SIZE / 2 + 1.15 * (wide[:, 0] - SIZE / 2)  # another person
    posed = geometry.posed(wide, face(20, 5, side=70))
    assert geometry.degrees_between(posed, face(20, 5)) < 1
    matrix, shift = geometry.similarity_3d(wide, posed)
    np.testing.assert_allclose(wide @ matrix.T + shift, posed, atol=1e-6)


def test_the_styles_expression_opens_the_mouth_and_leaves_the_nose():
    style = face()
    lower = list(topology.LIPS_INNER[11:])
    style[lower, 1] += 8
    own, other = geometry.posed(face(), style), geometry.posed(face(), style, "style")
    gap = lambda mesh: mesh[14, 1] - mesh[13, 1]  # noqa: E731
    assert gap(other) > gap(own) + 3
    assert np.abs(other - own)[[1, 4, 6, 10]].max() < 0.5


def test_normals_look_at_the_camera_in_front_and_away_at_the_side():
    normals = geometry.normals(face(40))
    assert normals[4, 0] > 0.2  # the nose's tip looks where the head looks
    assert geometry.normals(face())[[1, 9, 152], 2].min() > 0.3
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)


def test_drawn_interpolates_linearly():
    mesh = face()
    drawn = raster.draw(mesh, SIZE)
    y, x = np.nonzero(drawn.inside)
    places = drawn.interpolated(mesh[:, :2])[y, x]
    np.testing.assert_allclose(places, np.stack([x + 0.5, y + 0.5], axis=1), atol=1e-4)


def test_the_nearer_triangle_wins():
    mesh = face(50)
    drawn = raster.draw(mesh, SIZE)
    x, y = mesh[4, :2].astype(int)  # in front of the far cheek
    corners = topology.triangles()[drawn.triangle[y, x]]
    assert mesh[corners, 2].mean() < mesh[:, 2].mean()


def test_a_mesh_matches_itself():
    match = correspondence.match_meshes(face(), face(), SIZE)
    flow = correspondence.as_flow(match)
    inside = match.drawn.inside
    offsets = np.abs(flow.offsets[0].numpy())
    core = cv2.erode(inside.astype(np.uint8), np.ones((9, 9))) > 0  # at the rim colours are taken from farther inside
    assert np.median(offsets[:, core]) < 0.1 and offsets[:, core].max() < 0.013 * SIZE + 0.6
    assert np.quantile(offsets[:, inside], 0.999) < 0.013 * SIZE + 0.6
    assert match.visible[inside].mean() > 0.8 and match.visible[~inside].max() == 0


def test_flow_points_from_the_target_to_the_profile():
    moved = face() + (7, -3, 0)
    offsets = correspondence.as_flow(correspondence.match_meshes(moved, face(), SIZE)).offsets[0]
    inside = raster.draw(face(), SIZE).inside
    np.testing.assert_allclose(offsets[:, inside].median(dim=1).values, (7, -3), atol=0.1)


def test_the_far_side_is_filled_from_the_mirrored_near_side():
    profile = face(45)  # turned to the viewer's right: the viewer's right half is hidden
    match = correspondence.match_meshes(profile, face(), SIZE)
    row = SIZE // 2 + 8
    columns = np.nonzero(match.drawn.inside[row])[0]
    left, right = columns[len(columns) // 4], columns[-len(columns) // 6]
    assert match.near[row, left] > 0.9 and match.near[row, right] < 0.5
    warped = match.warped(np.linspace(0, 1, SIZE)[None].repeat(SIZE, 0))
    assert warped[row, right] < 0.6  # its content lies in the profile's left


def test_a_lock_over_one_brow_is_replaced_by_the_other_half_and_the_eye_is_not():
    mesh = face()
    match = correspondence.match_meshes(mesh, mesh, SIZE)
    brow, eye, other = (
        regions.hull(mesh, part, SIZE) > 0.5 for part in (regions.BROWS[1], regions.EYES[1], regions.BROWS[0])
    )
    clear, grey = np.ones((SIZE, SIZE), np.float32), np.full((SIZE, SIZE, 3), 0.5, np.float32)
    rows, columns = np.nonzero(brow)
    clear[: int(np.median(rows)) + 1, int(np.median(columns)) :] = 0  # a part of the brow is covered
    without = correspondence.from_better_half(match, grey, clear, mesh)
    assert without.near[brow & ~eye].max() < 0.5 and without.near[eye].min() > 0.9
    assert without.near[other].min() > 0.9
    covered = np.ones_like(clear)
    covered[:, SIZE // 2 :] = 0  # half the face: the eye comes from the other half, too
    assert correspondence.from_better_half(match, grey, covered, mesh).near[eye].max() < 0.5


def test_a_shadow_beside_the_nose_is_replaced_by_the_other_half():
    mesh = face()
    match = correspondence.match_meshes(mesh, mesh, SIZE)
    cheek = regions.hull(mesh, regions.LEFT_CHEEK, SIZE) > 0.5
    lit, shadow = np.full((SIZE, SIZE, 3), 0.7, np.float32), np.full((SIZE, SIZE, 3), 0.7, np.float32)
    shadow[cheek] = 0.25
    clear = np.ones((SIZE, SIZE), np.float32)
    assert correspondence.from_better_half(match, lit, clear, mesh).near[cheek].min() > 0.9
    without = correspondence.from_better_half(match, shadow, clear, mesh)
    assert without.near[cheek].mean() < 0.3 and without.warped(shadow)[cheek].mean() > 0.6


@pytest.mark.parametrize("yaw", [10, 14, 32, 35, 38, 41])
def test_two_halves_make_no_eye_and_no_nose(yaw):
    """Turned so far that the other half begins to be seen better, each eye is still of one half; turned little, so is the nose's base."""
    match = correspondence.match_meshes(face(yaw), face(), SIZE)
    for ring in regions.EYES:
        eye = match.near[regions.shrunk(regions.hull(face(), ring, SIZE), 0.012 * SIZE) > 0.5]
        assert eye.min() > 0.9 or eye.max() < 0.1
    assert yaw > 14 or match.near[regions.hull(face(), (97, 2, 326, 4), SIZE) > 0.5].min() > 0.9


def test_a_nostril_is_no_shadow():
    mesh = face()
    match = correspondence.match_meshes(mesh, mesh, SIZE)
    picture = np.full((SIZE, SIZE, 3), 0.7, np.float32)
    nostril = regions.polygon(mesh[98, :2] + np.array([(-3, -3), (3, -3), (3, 3), (-3, 3)]), SIZE) > 0.5
    picture[nostril] = 0.02
    without = correspondence.from_better_half(match, picture, np.ones((SIZE, SIZE), np.float32), mesh)
    assert without.near[nostril].min() > 0.9


def test_where_the_nose_ends_before_the_cheek_the_border_is_soft():
    match = correspondence.match_meshes(face(), face(40), SIZE)
    across = np.linspace(0, 1, SIZE)[None].repeat(SIZE, 0)
    jump = np.abs(np.diff(sampled(across, match.places), axis=1))
    jump[~(match.drawn.inside[:, 1:] & match.drawn.inside[:, :-1])] = 0
    assert jump.max() > 0.05 and np.abs(np.diff(match.warped(across), axis=1))[jump > 0.05].max() < 0.6 * jump.max()


def test_the_outlines_neighbourhood_moves_and_the_border_does_not():
    style, target = face(), face() + (6, 0, 0)
    from icportrait.models.mesh import regions

    picture = np.random.default_rng(0).uniform(size=(SIZE, SIZE, 3)).astype(np.float32)
    moved = correspondence.moved_outline(picture, style, target, regions.oval(target, SIZE))
    assert (moved[0] == picture[0]).all() and (moved[:, -1] == picture[:, -1]).all()
    x, y = target[152, :2].astype(int)
    assert np.abs(moved[y, x] - picture[y, x]).max() > 0.01
