"""A face put into another picture, judged without a true picture to compare with: correspondence, light, skin colour, seam.

Pictures are aligned crops `[S, S, 3]`, sRGB in [0, 1]; lengths are shares of S or of the eye distance, so that crop sizes do not matter.
"""

import cv2
import numpy as np

from ....models.faces.dlib_backend import read_at_turn
from ....models.mesh import regions
from ....models.mesh.numerics import blur, blurred_within, sampled, to_lab

INNER = slice(17, 68)
"""Of the 68-point mark-up (iBUG 300-W): brows, nose, eyes, mouth; without the outline, whose points slide along it."""
_EYES = (slice(36, 42), slice(42, 48))
_SECTORS = 24
# dlib's box in an aligned crop, as in models/faces/identity.py.
_CROP_PER_BOX, _BOX_BELOW = 1.5, 0.05


def _mirror() -> np.ndarray:
    """For each of the 68 points its number on the other half of the face."""
    other = np.arange(68)
    runs = ((17, 26), (31, 35), (48, 54), (55, 59), (60, 64), (65, 67))
    pairs = [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(first + k, last - k) for first, last in runs for k in range(last - first + 1)]
    for a, b in pairs:
        other[a], other[b] = b, a
    return other


MIRROR = _mirror()


def dlib_landmarks(crop) -> np.ndarray:
    """dlib's 68 landmarks of the face in an aligned crop (template "ffhq"), float64 `[68, 2]` in shares of its side.

    Args:
        crop: float32 tensor `[1, S, S, 3]` in [0, 1].

    Raises:
        UserError: dlib or its weights are missing.
    """
    size = crop.shape[1]
    half, middle = size / _CROP_PER_BOX / 2, size / 2
    below = middle + _BOX_BELOW * size / _CROP_PER_BOX
    picture = crop.movedim(-1, 1) * 255  # aligned crops stand upright
    points, _ = read_at_turn(picture, (middle - half, below - half, middle + half, below + half), 0, 68)
    return points / size


def landmark_error(named: np.ndarray, profile: np.ndarray, mirrored: np.ndarray | None = None) -> float:
    """Mean distance of the places a correspondence names for 51 inner landmarks from the profile's own, in its eye distances.

    Args:
        named: `[51, 2]`.
        profile: `[68, 2]`, in the same unit.
        mirrored: bool `[51]`: the correspondence means the other half of the profile's face there, so the other half's landmark counts.
    """
    numbers = np.arange(68)[INNER]
    if mirrored is not None:
        numbers = np.where(mirrored, MIRROR[numbers], numbers)
    eyes = [profile[eye].mean(axis=0) for eye in _EYES]
    return float(np.linalg.norm(named - profile[numbers], axis=1).mean() / np.linalg.norm(eyes[1] - eyes[0]))


def through_flow(offsets: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where a flow's offsets `[2, h, w]` (cells) lead points `[N, 2]`; both in shares of the picture's side, `[N, 2]`."""
    cells = np.array([offsets.shape[2], offsets.shape[1]])
    return points + sampled(np.moveaxis(offsets, 0, -1), (points * cells)[None])[0] / cells


def light_errors(made: np.ndarray, style: np.ndarray, face: np.ndarray) -> tuple[float, float]:
    """Root mean square error of the low-frequency lightness (CIE L, sigma 5 % of the side) in a face: as it is, and with both means removed.

    Args:
        face: `[S, S]`: the skin area to judge, without eyes, brows and mouth.
    """
    low = [blurred_within(to_lab(x)[..., :1], face, 0.05 * len(face))[..., 0] for x in (made, style)]
    difference = (low[0] - low[1])[face > 0.5]
    return float(np.sqrt((difference**2).mean())), float(difference.std())


def skin_colour(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Median CIE a and b `[2]` of cheeks and nose, where beards and hair are rare."""
    size = len(picture)
    skin = regions.hulls(mesh, (regions.LEFT_CHEEK, regions.RIGHT_CHEEK, regions.NOSE), size) > 0.5
    return np.median(to_lab(picture)[skin][:, 1:], axis=0)


def gradient_across(picture: np.ndarray, mesh: np.ndarray) -> np.ndarray:
    """Mean change of CIE L across the face's outline, `[24]` sectors round it, in L a hundredth of the crop's side.

    Sectors begin at the viewer's right and go clockwise; NaN where the outline lies outside the crop.
    """
    size = len(picture)
    face = regions.oval(mesh, size) > 0.5
    inside, outside = (cv2.distanceTransform(x.astype(np.uint8), cv2.DIST_L2, 5) for x in (face, ~face))
    distance = np.where(face, inside - 0.5, 0.5 - outside)
    across_y, across_x = np.gradient(blur(distance, 2))
    lightness = blur(to_lab(picture)[..., 0], 0.002 * size)
    down, right = np.gradient(lightness)
    change = abs(right * across_x + down * across_y) * size / 100
    y, x = np.nonzero(abs(distance) < 0.015 * size)
    centre = mesh[:, :2].mean(axis=0)
    sector = (np.arctan2(y + 0.5 - centre[1], x + 0.5 - centre[0]) % (2 * np.pi) / (2 * np.pi) * _SECTORS).astype(int)
    count = np.bincount(sector % _SECTORS, minlength=_SECTORS)
    total = np.bincount(sector % _SECTORS, change[y, x], minlength=_SECTORS)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def seam(made: np.ndarray, made_mesh: np.ndarray, style: np.ndarray, style_mesh: np.ndarray) -> tuple[float, float]:
    """How much harder the face's outline is than the style's own: mean over the outline, and in the worst of 24 sectors.

    Unit: CIE L a hundredth of the crop's side; 0 is the style's own outline.

    Args:
        made_mesh, style_mesh: `[468, 3]`: where the pasted face's outline lies, and the style's own.
    """
    excess = gradient_across(made, made_mesh) - gradient_across(style, style_mesh)
    return float(np.nanmean(excess)), float(np.nanmax(excess))
