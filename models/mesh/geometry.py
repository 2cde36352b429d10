"""Meshes in space: one posed onto another, with whose expression, and which way their surface looks."""

from __future__ import annotations

import numpy as np

from ..faces.mediapipe import topology
from ..faces.mediapipe.pose import head_rotation

EXPRESSIONS = ("profile", "style", "profile, style's gaze")


def similarity_3d(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and turn as one matrix `[3, 3]`, and the shift `[3]`, with `source @ matrix.T + shift` nearest to `target`.

    Weighted least squares in closed form: S. Umeyama, Least-squares estimation of transformation parameters between two point
    patterns, 1991.
    """
    weights = np.full(len(source), 1 / len(source)) if weights is None else weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    a, b = source - source_mean, target - target_mean
    u, values, v = np.linalg.svd((b * weights[:, None]).T @ a)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ v))])
    scale = (values * signs).sum() / (weights @ (a**2).sum(axis=1))
    matrix = scale * (u * signs) @ v
    return matrix, target_mean - matrix @ source_mean


def posed(profile: np.ndarray, style: np.ndarray, expression: str = EXPRESSIONS[0]) -> np.ndarray:
    """The profile's mesh with the style's place, size and turn: the person's own shape in the style's pose.

    Args:
        profile, style: `[468, 3]`, crop pixels each.
        expression: whose eyes and mouth are how far open.

    Returns:
        float64 `[468, 3]` in the style's crop.
    """
    stable = np.array(list(topology.STABLE))
    matrix, shift = similarity_3d(profile[stable], style[stable], np.array(list(topology.STABLE.values())))
    result = profile @ matrix.T + shift
    return _with_expression(result, style) if expression == EXPRESSIONS[1] else result


def _with_expression(mesh: np.ndarray, style: np.ndarray) -> np.ndarray:
    """Eyes, brows and mouth of the style, moved and sized to where this mesh has its own; what lies between follows smoothly."""
    canonical = topology.canonical_points().astype(np.float64)
    moved, shares = np.zeros_like(mesh), np.zeros(len(mesh))
    parts = (
        (*topology.LEFT_EYE, *topology.LEFT_BROW),
        (*topology.RIGHT_EYE, *topology.RIGHT_BROW),
        (*topology.LIPS_OUTER, *topology.LIPS_INNER),
    )
    for part in map(list, parts):
        matrix, shift = similarity_3d(style[part], mesh[part])
        apart = np.linalg.norm(canonical[:, None] - canonical[part][None], axis=2).min(axis=1)
        share = np.exp(-((apart / 1.0) ** 2))  # falls off within a centimetre
        moved += share[:, None] * (style @ matrix.T + shift - mesh)
        shares += share
    return mesh + moved / np.maximum(shares, 1)[:, None]


def normals(mesh: np.ndarray) -> np.ndarray:
    """Unit normals of the mesh's points, float64 `[468, 3]`: x to the right, y down, z to the camera."""
    a, b, c = np.moveaxis((mesh * (1, 1, -1))[topology.triangles()], 1, 0)
    faces = np.cross(c - a, b - a)  # counter-clockwise with y up, so the other way round with y down
    result = np.zeros((len(mesh), 3))
    for corner in range(3):
        np.add.at(result, topology.triangles()[:, corner].astype(int), faces)
    return result / np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-9)


def yaw_pitch_roll(points: np.ndarray) -> tuple[float, float, float]:
    """How a head is turned, degrees: yaw to the viewer's right, pitch down, roll clockwise as seen; 0 looks at the camera."""
    rotation = head_rotation(points)
    yaw = np.degrees(np.arctan2(rotation[0, 2], rotation[2, 2]))
    pitch = np.degrees(np.arcsin(np.clip(rotation[1, 2], -1, 1)))
    roll = np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0]))
    return float(yaw), float(pitch), float(roll)


def degrees_between(first: np.ndarray, second: np.ndarray) -> float:
    """The angle between two heads' turns, 0 to 180 degrees; meshes `[468 or 478, 3]`."""
    turn = head_rotation(first) @ head_rotation(second).T
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))))
