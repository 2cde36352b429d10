"""Made-up dense meshes: MediaPipe's average face, turned."""

import numpy as np

from icportrait.models.faces.mediapipe import topology

SIZE = 128


def face(yaw: float = 0.0, pitch: float = 0.0, side: float = 90.0) -> np.ndarray:
    """MediaPipe's average face, turned (degrees), in the middle of a crop of SIZE pixels: `[468, 3]`, smaller z nearer."""
    points = topology.canonical_points().astype(np.float64) * (1, -1, 1)
    y, p = np.deg2rad(yaw), np.deg2rad(pitch)
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), np.sin(p)], [0, -np.sin(p), np.cos(p)]])
    points = (points - points.mean(axis=0)) @ (turn @ nod).T * side / np.ptp(points[:, 1])
    return points * (1, 1, -1) + (SIZE / 2, SIZE / 2, 0)
