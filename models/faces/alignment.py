"""Where a face's crop lies: a similarity transform (turn, scale, shift; no shear) from the picture to a square.

Templates:
- "ffhq": the rule of the FFHQ data set (Karras et al. 2019, `align.py` of the data set's code). From the eye centres and the mouth
  centre: crop side = 2 * max(2 * |eye to eye|, 1.8 * |eyes to mouth|), upright along eye line and mouth, centred a tenth of the way
  from the eyes to the mouth. Hair and chin are inside: the frame to generate in.
- "arcface": the 112-px template of ArcFace and most recognisers (five points), a tight face without hair.

Landmarks a layout does not have (the mouth, with dlib's five points) come from the fitted average head, `head_shape.py`.
A face that is only a box gives an upright crop of the same proportions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import UserError
from ..values import check_number, check_option, check_whole
from .head_shape import HeadFit, fit_head
from .landmarks import named_points
from .mediapipe.pose import head_rotation
from .resampling import invert, resample
from .types import Face, Placement

TEMPLATES = ("ffhq", "arcface")

# ArcFace's reference points in a 112-px crop (insightface, utils/face_align.py `arcface_dst`): whole-number pixel centres, so + 0.5.
_ARCFACE_112 = {
    "eye_left": (38.2946 + 0.5, 51.6963 + 0.5),
    "eye_right": (73.5318 + 0.5, 51.5014 + 0.5),
    "nose_tip": (56.0252 + 0.5, 71.7366 + 0.5),
    "mouth_left": (41.5493 + 0.5, 92.3655 + 0.5),
    "mouth_right": (70.7299 + 0.5, 92.2041 + 0.5),
}
# A detector's box against the ffhq crop, from dlib's boxes on photographs: crop side / box side, and how far the crop's centre
# lies above the box's, in box sides.
_CROP_PER_BOX, _CROP_ABOVE_BOX = 1.5, 0.05
# Sigma of the blur that a crop fades into beyond the canvas, in crop sides.
_SOFT = 0.06
# Crop sides of the canvas (or of the crop, if larger) a crop may cover at most.
_LARGEST = 64


@dataclass(frozen=True)
class AlignmentSettings:
    """How a face is framed; every field has the node's default."""

    template: str = "ffhq"
    crop_size: int = 256
    """Side of the crop in pixels, a multiple of 64."""
    scale: float = 1.0
    """Above 1 shows more around the face, below 1 less."""
    offset_x: float = 0.0
    """Moves the frame to the right on the face, in crop sides."""
    offset_y: float = 0.0
    """Moves the frame down on the face, in crop sides."""
    max_rotation: float = 180.0
    """A tilted face is turned upright by at most this, degrees; 0 never turns."""

    def __post_init__(self) -> None:
        check_option("template", self.template, TEMPLATES)
        check_whole("crop_size", self.crop_size, 64, 4096)
        if self.crop_size % 64:
            raise UserError(f"crop_size must be a multiple of 64; {self.crop_size} came")
        check_number("scale", self.scale, 0.25, 4)
        check_number("offset_x", self.offset_x, -1, 1)
        check_number("offset_y", self.offset_y, -1, 1)
        check_number("max_rotation", self.max_rotation, 0, 180)


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The similarity that takes `source` `[N, 2]` nearest to `target` `[N, 2]` in the least-squares sense, no mirroring.

    Closed form of S. Umeyama, 1991, in complex numbers. Returns float64 `[2, 3]`. Raises UserError for fewer than two distinct
    points.
    """
    z, w = np.asarray(source, np.float64) @ (1, 1j), np.asarray(target, np.float64) @ (1, 1j)
    spread = (np.abs(z - z.mean()) ** 2).sum()
    if len(z) < 2 or spread < 1e-12:
        raise UserError("a similarity needs at least two distinct points")
    turn = (np.conj(z - z.mean()) * (w - w.mean())).sum() / spread
    shift = w.mean() - turn * z.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def arcface_transform(points: np.ndarray, side: int) -> np.ndarray:
    """The similarity `[2, 3]` from a picture to the "arcface" square of `side` pixels.

    Args:
        points: `[5, 2]` px: eyes, nose tip, mouth corners; the viewer's left first.
    """
    return similarity(points, np.array(list(_ARCFACE_112.values())) * (side / 112))


def head_of(face: Face) -> HeadFit | None:
    """The average head fitted to this face, or None for a face that is only a box."""
    points = named_points(face)
    if not points:
        return None
    solid = face.points_3d if face.layout == "mediapipe" else None
    return fit_head(points, None if solid is None else head_rotation(solid))


def placement_of(
    face: Face, canvas_height: int, canvas_width: int, settings: AlignmentSettings = AlignmentSettings()
) -> Placement:
    """Where this face's crop lies on a canvas. Deterministic; the crop may reach outside the canvas.

    Raises:
        UserError: the face is smaller than 4 px or far larger than the canvas, or its landmarks coincide.
    """
    centre, side, angle = _frame(face, settings.template)
    if side < 4:
        raise UserError(f"the face is too small to align: its crop would cover {side:.1f} px of the picture")
    if side > _LARGEST * max(
        canvas_height, canvas_width, settings.crop_size
    ):  # resampling would need memory without end
        raise UserError(
            f"the face is too large to align: its crop would cover {side:.3g} px of a {canvas_width}x{canvas_height} picture"
        )
    limit = np.deg2rad(settings.max_rotation)
    angle = float(np.clip(angle, -limit, limit))
    side *= settings.scale
    right, down = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    centre = centre + side * (settings.offset_x * right + settings.offset_y * down)
    zoom = settings.crop_size / side
    linear = zoom * np.stack([right, down])
    shift = settings.crop_size / 2 - linear @ centre
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    return Placement(
        canvas_height, canvas_width, tuple(matrix.ravel().tolist()), settings.crop_size, face, settings.template
    )


def crop(canvas_bchw: torch.Tensor, placement: Placement) -> torch.Tensor:
    """Cut the placed square out of a canvas.

    Args:
        canvas_bchw: float `[B, 3, H, W]` in [0, 1], of the placement's canvas size.

    Returns:
        float `[B, 3, S, S]` in [0, 1]. Beyond the canvas's edge its nearest pixels go on, ever softer: sharp ones would draw stripes.
    """
    if tuple(canvas_bchw.shape[-2:]) != (placement.canvas_height, placement.canvas_width):
        raise UserError(
            f"the canvas is {canvas_bchw.shape[-1]}x{canvas_bchw.shape[-2]}, the face was found on "
            f"{placement.canvas_width}x{placement.canvas_height}: connect the same picture, or detect again"
        )
    size = placement.crop_size
    picture = resample(canvas_bchw, placement.matrix, size, size).clamp(0, 1)
    beyond = beyond_canvas(placement)
    if not beyond.any():
        return picture
    reach = min(round(3 * _SOFT * size), size - 1)  # mirrored borders cannot be wider than the picture
    from kornia.filters import gaussian_blur2d  # torchvision's is one square kernel: minutes for a large crop

    soft = gaussian_blur2d(picture, (2 * reach + 1,) * 2, (_SOFT * size,) * 2)
    share = (beyond / (_SOFT * size)).clamp(0, 1)
    return torch.where(beyond > 0, picture + share * (soft - picture), picture)


def beyond_canvas(placement: Placement) -> torch.Tensor:
    """How far each of a crop's pixels lies beyond the canvas's edge, in crop pixels: float32 `[S, S]`, 0 inside."""
    size, inverse = placement.crop_size, invert(placement.matrix)
    y, x = np.mgrid[:size, :size] + 0.5
    out = np.zeros((size, size))
    for row, side in zip(inverse, (placement.canvas_width, placement.canvas_height), strict=True):
        place = row[0] * x + row[1] * y + row[2]
        out = np.maximum(out, np.maximum(-place, place - side))
    return torch.from_numpy((out * placement.scale).astype(np.float32))


def _frame(face: Face, template: str) -> tuple[np.ndarray, float, float]:
    """Centre (px), side (px) and tilt (radians, clockwise as seen) of the template's square on the canvas."""
    points = named_points(face)
    if not points:
        side = face.side
        centre = np.array(face.centre) - (0, _CROP_ABOVE_BOX * side)
        return (centre, _CROP_PER_BOX * side, 0.0) if template == "ffhq" else (np.array(face.centre), 1.1 * side, 0.0)
    head = None if points.keys() >= _ARCFACE_112.keys() else fit_head(points)
    at = {name: points[name] if name in points else head.point(name) for name in _ARCFACE_112}
    if template == "arcface":
        names = list(_ARCFACE_112)
        matrix = similarity(np.array([at[n] for n in names]), np.array([_ARCFACE_112[n] for n in names]))
        zoom = np.hypot(matrix[0, 0], matrix[1, 0])
        centre = np.linalg.solve(matrix[:, :2], np.array([56.0, 56.0]) - matrix[:, 2])
        return centre, 112 / zoom, float(-np.arctan2(matrix[1, 0], matrix[0, 0]))
    eyes, mouth = (at["eye_left"] + at["eye_right"]) / 2, (at["mouth_left"] + at["mouth_right"]) / 2
    across, down = at["eye_right"] - at["eye_left"], mouth - eyes
    direction = across + np.array([down[1], -down[0]])  # the eye line plus the mouth line turned by a quarter
    if np.hypot(*direction) < 1e-6:
        direction = across
    side = 2 * max(2 * np.hypot(*across), 1.8 * np.hypot(*down))
    return eyes + 0.1 * down, float(side), float(np.arctan2(direction[1], direction[0]))
