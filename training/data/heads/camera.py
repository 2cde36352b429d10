"""Cameras in the EG3D convention: 16 row-major cam2world (OpenCV axes) and 9 normalised intrinsics.

Ranges of angles and distances were chosen by eye.
"""

from dataclasses import dataclass

import numpy as np

from .geometry import landmarks5
from .template import load_template

_PIVOT = np.array([0, -25.0, -40.0])  # the point cameras turn about: in the middle of the head, mm
_HALF_VIEW = 125.0  # mm about the pivot that the field of view spans on either side


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. Lengths in mm; camera axes x right, y down, z forward."""

    rotation: np.ndarray  # [3, 3] cam2world
    position: np.ndarray  # [3]
    intrinsics: np.ndarray  # [3, 3] in units of the picture's width
    yaw: float = 0.0  # degrees; positive = the camera stands on the subject's left
    pitch: float = 0.0  # degrees; positive = from above
    roll: float = 0.0  # degrees; positive = the head tilts anticlockwise in the picture

    def project(self, points: np.ndarray, size: int) -> np.ndarray:
        """float32 pixel x, y (centres at integer + 0.5) and depth in mm of world points `[..., 3]`."""
        p = (points - self.position) @ self.rotation
        z = p[..., 2]
        x = (p[..., 0] / z * self.intrinsics[0, 0] + self.intrinsics[0, 2]) * size
        y = (p[..., 1] / z * self.intrinsics[1, 1] + self.intrinsics[1, 2]) * size
        return np.stack([x, y, z], -1).astype(np.float32)

    def scalars(self) -> list[float]:
        """The 25 scalars, translation in metres."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.rotation
        matrix[:3, 3] = self.position / 1000
        return [round(float(v), 7) for v in np.concatenate([matrix.ravel(), self.intrinsics.ravel()])]


def portrait_camera(
    yaw: float,
    pitch: float,
    roll: float,
    fov: float,
    scale: float = 1.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> Camera:
    """A camera framing the mean head like a landmark-aligned (FFHQ) crop.

    Args:
        yaw, pitch, roll: degrees, signs as in `Camera`.
        fov: field of view of the crop in degrees; it sets the distance, not the size of the head.
        scale: above 1 shows the head larger.
        shift: of the head, in picture widths.
    """
    y, p, r = np.radians([yaw, pitch, roll])
    away = np.array([np.sin(y) * np.cos(p), np.sin(p), np.cos(y) * np.cos(p)])
    forward = -away
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    rotation = np.stack([right, down, forward], 1)
    turn = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    rotation = rotation @ turn
    position = _PIVOT + away * (_HALF_VIEW / np.tan(np.radians(fov) / 2))
    marks = landmarks5(load_template().fine)
    q = (marks - position) @ rotation
    q = q[:, :2] / q[:, 2:]
    # FFHQ (Karras et al., 2019): centre a tenth of the way from the eyes to the mouth, side by the larger distance.
    eye = (q[0] + q[1]) / 2
    to_mouth = (q[3] + q[4]) / 2 - eye
    half = max(np.linalg.norm(q[1] - q[0]) * 2.0, np.linalg.norm(to_mouth) * 1.8)
    centre = eye + 0.1 * to_mouth
    focal = scale / (2 * half)
    k = np.array(
        [[focal, 0, 0.5 - centre[0] * focal + shift[0]], [0, focal, 0.5 - centre[1] * focal + shift[1]], [0, 0, 1]]
    )
    return Camera(rotation, position, k, float(yaw), float(pitch), float(roll))


def random_camera(rng: np.random.Generator) -> Camera:
    """A random portrait camera: yaw within 35 degrees, pitch within 15, roll within 7, field of view 12 to 34."""
    yaw = float(np.clip(rng.normal(0, 17), -35, 35))
    pitch = float(np.clip(rng.normal(1, 6), -15, 15))
    return portrait_camera(
        yaw,
        pitch,
        roll=float(np.clip(rng.normal(0, 2.5), -7, 7)),
        fov=float(rng.uniform(12, 34)),
        scale=float(np.clip(rng.normal(1, 0.03), 0.92, 1.08)),
        shift=tuple(np.clip(rng.normal(0, 0.012, 2), -0.03, 0.03)),
    )
