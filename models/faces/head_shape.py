"""An average head, fitted to whatever named points are known.

Why: dlib's five-point predictor (the only landmark model here that may be used commercially) gives the eye corners and the base of
the nose, nothing else. Alignment needs the mouth, the paste mask needs the face's outline, choosing among photographs needs the
pose. A rigid average head under scaled orthographic projection gives all three, and follows the turn of the head.

The head is measured in millimetres, x to the viewer's right, y down, z towards the camera, origin between the eyes. The figures are
rounded adult averages from anthropometry (L. Farkas, Anthropometry of the Head and Face, 1994: outer canthi 88 apart, inner 32,
bizygomatic 135, eye line to subnasale about 42, to the chin about 111); depths are our choice, checked on photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UserError

HEAD_POINTS: dict[str, tuple[float, float, float]] = {
    "eye_left_outer": (-44, 0, -10),
    "eye_left_inner": (-16, 1, 0),
    "eye_right_inner": (16, 1, 0),
    "eye_right_outer": (44, 0, -10),
    "eye_left": (-30, 0.5, -2),
    "eye_right": (30, 0.5, -2),
    "nose_tip": (0, 33, 32),
    "nose_base": (0, 42, 16),
    "mouth_left": (-25, 59, 4),
    "mouth_right": (25, 59, 4),
    "chin": (0, 108, 6),
}
_NOSE_BASE_Y = HEAD_POINTS["nose_base"][1]

# Right half of the face's rim from the forehead to the chin, and points that stand out when the head is turned. The rim stays
# below the average hairline (about -70) because hair belongs to the picture that is kept.
# fmt: off
_RIM = np.array(
    [(0, -56, 4), (26, -52, -4), (46, -38, -20), (60, -16, -40), (65, 8, -50),
     (64, 36, -50), (57, 64, -44), (42, 90, -26), (22, 108, -6), (0, 114, 4)],
    dtype=np.float64,
)
# fmt: on
_FRONT = np.array([(0, -20, 14), (0, 33, 32), (0, 56, 18), (0, 76, 14), (38, 20, 0), (30, -30, 4)], dtype=np.float64)


def _both_sides(half: np.ndarray) -> np.ndarray:
    return np.concatenate([half, half * (-1, 1, 1)])


FACE_SOLID = _both_sides(np.concatenate([_RIM, _FRONT]))

# Standard deviations of the fit. People differ in how long their noses and how deep their faces are, far more than their left and right halves
# differ; so length and depth are fitted too, and the points are then trusted closely: the asymmetry of the eyes decides the yaw.
# (With one loose tolerance for all instead, a long nose is taken for a head turned by 35 degrees.)
_POINT_SIGMA_MM = 1.5
_LOOSE_POINTS = {
    "nose_tip": 2.0,
    "mouth_left": 4.0,
    "mouth_right": 4.0,
    "chin": 5.0,
}  # expressions move these: times the sigma
_LENGTH_SIGMA, _DEPTH_SIGMA = 0.15, 0.25  # of the logarithm of the factor
_YAW_SIGMA, _PITCH_SIGMA = np.deg2rad(35.0), np.deg2rad(15.0)


@dataclass(frozen=True)
class HeadFit:
    """A fitted head: picture_xy = scale * (R @ head_xyz)[:2] + shift."""

    yaw: float
    """Degrees; positive when the head is turned to the viewer's right."""
    pitch: float
    """Degrees; positive when the head looks down."""
    roll: float
    """Degrees; positive when the head is tilted clockwise as seen."""
    scale: float
    """Pixels a millimetre."""
    shift: tuple[float, float]
    """Where the point between the eyes lands, pixels."""
    length: float
    """Length of this nose over the average's, for the same width of face."""
    depth: float
    """The same for depth."""
    error: float
    """Root mean square distance of the points used from the fitted head, millimetres. About 1 to 3 on a good face."""

    def project(self, head_xyz: np.ndarray) -> np.ndarray:
        """Head points `[N, 3]` in millimetres to picture pixels `[N, 2]`."""
        rotation = _rotation(*np.deg2rad([self.yaw, self.pitch, self.roll]))
        return self.scale * (_shaped(np.asarray(head_xyz, dtype=np.float64), self.length, self.depth) @ rotation.T)[
            :, :2
        ] + np.asarray(self.shift)

    def point(self, name: str) -> np.ndarray:
        """Where a named point lies on the fitted head, pixels `[2]`."""
        return self.project(np.array([HEAD_POINTS[name]]))[0]

    def outline(self) -> np.ndarray:
        """Points whose convex hull is the face without hair and neck, pixels `[N, 2]`."""
        return self.project(FACE_SOLID)


def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Roll after pitch after yaw (radians), as `[3, 3]`."""
    cy, sy, cp, sp, cr, sr = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch), np.cos(roll), np.sin(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return tilt @ nod @ turn


def angles_of(rotation: np.ndarray) -> tuple[float, float, float]:
    """Yaw, pitch and roll (radians) of a rotation `[3, 3]`, as `HeadFit` means them; the inverse of `_rotation`."""
    return (
        float(np.arctan2(-rotation[2, 0], rotation[2, 2])),
        float(np.arcsin(np.clip(-rotation[2, 1], -1, 1))),
        float(np.arctan2(-rotation[0, 1], rotation[1, 1])),
    )


def _shaped(head_xyz: np.ndarray, length: float, depth: float) -> np.ndarray:
    """The average head with a longer nose and a deeper face."""
    longer = (length - 1) * _NOSE_BASE_Y
    y = head_xyz[:, 1]
    # Down to the nose everything stretches with it; a long nose says little about mouth and chin (a quarter: our choice, by eye).
    down = np.clip(y, 0, None) / _NOSE_BASE_Y
    stretch = np.where(down <= 1, down, np.maximum(0.25, 1 - 3 * (down - 1)))
    return np.stack([head_xyz[:, 0], y + longer * stretch, head_xyz[:, 2] * depth], axis=1)


def fit_head(points: dict[str, np.ndarray], rotation: np.ndarray | None = None) -> HeadFit:
    """Fit the average head to named points (pixels `[2]` each) by damped Gauss-Newton; deterministic.

    Args:
        rotation: how the head is turned, `[3, 3]`, where that is known better than from these points; it is then kept.

    Needs both eyes and one point below them. Raises UserError otherwise, or when the eyes coincide.
    """
    # Eye centres say nothing new when the corners are there.
    names = [
        name
        for name in HEAD_POINTS
        if name in points and not (name in ("eye_left", "eye_right") and f"{name}_outer" in points)
    ]
    if (
        "eye_left" not in points
        or "eye_right" not in points
        or not any(n in names for n in ("nose_tip", "nose_base", "mouth_left", "chin"))
    ):
        raise UserError("the head needs both eyes and a point of the nose, mouth or chin")
    head = np.array([HEAD_POINTS[name] for name in names], dtype=np.float64)
    seen = np.array([points[name] for name in names], dtype=np.float64)
    sigma = _POINT_SIGMA_MM * np.array([_LOOSE_POINTS.get(name, 1.0) for name in names])[:, None]
    between = (points["eye_left"] + points["eye_right"]) / 2
    across = points["eye_right"] - points["eye_left"]
    below = seen[[i for i, name in enumerate(names) if not name.startswith("eye")]].mean(axis=0) - between
    if np.hypot(*across) < 1e-6 or np.hypot(*below) < 1e-6:
        raise UserError("the eyes, or the eyes and the points below them, coincide")

    # Start upright in the direction of both the eye line and the nose, which survives a full profile.
    roll = np.angle(complex(*across) + complex(below[1], -below[0]))
    size = max(np.hypot(*across) / 60, np.hypot(*below) / 60)
    state = np.array([0.0, 0.0, roll, np.log(size), between[0], between[1], 0.0, 0.0])
    # Which way the nose points decides between the two mirror poses before any descent.
    sideways = np.array([np.cos(roll), np.sin(roll)]) @ below / (size * 30)
    state[0] = np.clip(sideways, -1.0, 1.0)
    free = np.ones(len(state))
    if rotation is not None:
        state[:3], free[:3] = angles_of(rotation), 0

    def residuals(s: np.ndarray) -> np.ndarray:
        scale = np.exp(s[3])
        placed = scale * (_shaped(head, np.exp(s[6]), np.exp(s[7])) @ _rotation(s[0], s[1], s[2]).T)[:, :2] + s[4:6]
        priors = [s[0] / _YAW_SIGMA, s[1] / _PITCH_SIGMA, s[6] / _LENGTH_SIGMA, s[7] / _DEPTH_SIGMA]
        return np.concatenate([((placed - seen) / (scale * sigma)).ravel(), priors])

    step_sizes = np.array([1e-5, 1e-5, 1e-5, 1e-5, size * 1e-4, size * 1e-4, 1e-5, 1e-5])
    damping, current = 1e-3, residuals(state)
    for _ in range(40):
        columns = [
            (residuals(state + d) - residuals(state - d)) / (2 * h)
            for d, h in zip(np.diag(step_sizes), step_sizes, strict=True)
        ]
        jacobian = np.stack(columns, axis=1) * free
        normal = jacobian.T @ jacobian
        move = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), -jacobian.T @ current)
        trial = state + move
        if rotation is None:
            trial[:2] = np.clip(trial[:2], -1.5, 1.5)
        after = residuals(trial)
        if after @ after < current @ current:
            done = current @ current - after @ after < 1e-10
            state, current, damping = trial, after, max(damping / 5, 1e-9)
            if done:
                break
        else:
            damping *= 10
            if damping > 1e8:
                break
    error = float(np.sqrt(((current[:-4].reshape(-1, 2) * sigma) ** 2).sum(1).mean()))
    yaw, pitch, roll = np.rad2deg(state[:3])
    return HeadFit(
        yaw=float(yaw),
        pitch=float(pitch),
        roll=float((roll + 180) % 360 - 180),
        scale=float(np.exp(state[3])),
        shift=(float(state[4]), float(state[5])),
        length=float(np.exp(state[6])),
        depth=float(np.exp(state[7])),
        error=error,
    )
