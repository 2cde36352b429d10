"""Faces the artist hands in: ComfyUI's FACE_LANDMARKS and BOUNDING_BOX, and hand-drawn masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ..errors import UserError
from .types import Box, Face


def from_face_landmarks(value: dict, frames: int, height: int, width: int) -> list[list[Face]]:
    """ComfyUI's FACE_LANDMARKS (its MediaPipe node, 2026): `{"frames": [[face, ...], ...], "image_size": (H, W)}`.

    Each face is a dict with `bbox_xyxy` `[4]`, `landmarks_xy` `[468 or 478, 2]` (pixels of `image_size`), `score`, and mostly
    `landmarks_3d` `[468 or 478, 3]` (pixels of the square the mesh saw), of which the depth is kept.
    Landmarks found at another picture size are scaled to this one.

    Raises:
        UserError: another layout, or not as many frames as the picture batch.
    """
    if not isinstance(value, dict) or "frames" not in value:
        raise UserError(
            'FACE_LANDMARKS must be a dict with "frames" and "image_size", as ComfyUI\'s MediaPipe Face Landmarker node makes it'
        )
    found_height, found_width = _numbers(value.get("image_size", (height, width)), 2, "image_size of FACE_LANDMARKS")
    if min(found_height, found_width) < 1:
        raise UserError(f"FACE_LANDMARKS were found on a picture of {found_width:g}x{found_height:g}")
    if abs(found_width * height - found_height * width) > max(width, height) * 2:
        raise UserError(
            f"FACE_LANDMARKS were found on a {found_width:g}x{found_height:g} picture, this one is {width}x{height}: other proportions"
        )
    factor = np.array([width / found_width, height / found_height])
    result = []
    for index, frame in enumerate(_frame_lists(value["frames"], frames, "FACE_LANDMARKS")):
        faces = []
        for item in frame:
            if not isinstance(item, dict) or not {"bbox_xyxy", "landmarks_xy"} <= item.keys():
                raise UserError("a face of FACE_LANDMARKS must be a dict with bbox_xyxy and landmarks_xy")
            points = _points(item["landmarks_xy"]) * factor
            box = _numbers(item["bbox_xyxy"], 4, "bbox_xyxy of FACE_LANDMARKS").reshape(2, 2) * factor
            layout = "mediapipe" if len(points) in (468, 478) else "ibug_68" if len(points) == 68 else "none"
            faces.append(
                Face(
                    box=tuple(map(float, box.ravel())),
                    landmarks=tuple(map(tuple, points.tolist())) if layout != "none" else (),
                    layout=layout,
                    score=float(_numbers([item.get("score", 1.0)], 1, "score of FACE_LANDMARKS")[0]),
                    backend="FACE_LANDMARKS",
                    frame=index,
                    depth=_depth(item.get("landmarks_3d"), points) if layout == "mediapipe" else None,
                )
            )
        result.append(faces)
    return result


def _depth(solid, points: np.ndarray) -> tuple[float, ...] | None:
    """Depth in the unit of `points` `[N, 2]`, from the same points `[N, 3]` in another unit; None where they are not given so."""
    if solid is None:
        return None
    try:
        solid = np.asarray(solid, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if solid.shape != (len(points), 3) or not np.isfinite(solid).all():
        return None
    spread = float(solid[:, :2].var(axis=0).sum())
    if spread <= 0:
        return None
    zoom = (float(points.var(axis=0).sum()) / spread) ** 0.5  # a turn between the two changes no variance in all
    return tuple((zoom * solid[:, 2]).tolist())


def from_boxes(value, frames: int, height: int, width: int) -> list[list[Face]]:
    """ComfyUI's BOUNDING_BOX: per frame a list of dicts `x, y, width, height` (pixels) with optional `score`.

    Also accepted: one dict, one flat list (a single frame), and `[x0, y0, x1, y1]` instead of a dict.

    Raises:
        UserError: another layout, an empty or infinite box, or not as many frames as the picture batch.
    """
    if isinstance(value, dict):
        value = [value]
    value = _listed(value, "BOUNDING_BOX")
    flat = bool(value) and (isinstance(value[0], dict) or _is_box(value[0]))
    per_frame = _frame_lists([value] if flat else value, frames, "BOUNDING_BOX")
    return [[_box_face(item, index, height, width) for item in frame] for index, frame in enumerate(per_frame)]


def from_mask(mask: torch.Tensor, frames: int, height: int, width: int) -> list[list[Face]]:
    """One face a connected white region (above 0.5) of a hand-drawn mask `[B or 1, H, W]`; its box is the region's.

    Regions below 8 pixels a side are taken for slips of the pen and left out.

    Raises:
        UserError: another size than the picture's, or neither one mask nor as many as frames.
    """
    from scipy import ndimage

    if tuple(mask.shape[1:]) != (height, width):
        raise UserError(
            f"the mask is {mask.shape[2]}x{mask.shape[1]}, the picture {width}x{height}: draw the mask on this picture"
        )
    if mask.shape[0] not in (1, frames):
        raise UserError(f"{mask.shape[0]} masks came for {frames} pictures; give one, or one each")
    result = []
    for index in range(frames):
        labels, _ = ndimage.label(mask[min(index, mask.shape[0] - 1)].numpy() > 0.5, structure=np.ones((3, 3)))
        faces = []
        for rows, columns in ndimage.find_objects(labels):
            box = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
            if box[2] - box[0] >= 8 and box[3] - box[1] >= 8:
                faces.append(Face(box=box, backend="MASK", frame=index))
        result.append(faces)
    return result


def _box_face(item, frame: int, height: int, width: int) -> Face:
    score = 1.0
    if isinstance(item, dict):
        if not {"x", "y", "width", "height"} <= item.keys():
            raise UserError(
                f"a BOUNDING_BOX needs x, y, width and height, this one has {', '.join(map(str, item)) or 'nothing'}"
            )
        x, y, wide, high = _numbers([item[name] for name in ("x", "y", "width", "height")], 4, "BOUNDING_BOX").tolist()
        box: Box = (x, y, x + wide, y + high)
        score = float(_numbers([item.get("score", 1.0)], 1, "score of BOUNDING_BOX")[0])
    else:
        box = tuple(_numbers(item, 4, "BOUNDING_BOX").tolist())
    if not np.isfinite(box).all() or box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise UserError(f"the BOUNDING_BOX {tuple(round(v, 1) for v in box)} (x0, y0, x1, y1) is smaller than a pixel")
    if box[2] <= 0 or box[3] <= 0 or box[0] >= width or box[1] >= height:
        raise UserError(
            f"the BOUNDING_BOX {tuple(round(v, 1) for v in box)} (x0, y0, x1, y1) lies outside the {width}x{height} picture"
        )
    return Face(box=box, score=score, backend="BOUNDING_BOX", frame=frame)


def _is_box(value) -> bool:
    return isinstance(value, Sequence | np.ndarray) and len(value) == 4 and all(map(np.isscalar, value))


def _numbers(value, count: int, what: str) -> np.ndarray:
    """float64 `[count]`, all finite. Raises UserError for anything else."""
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise UserError(f"{what} needs {count} finite numbers, this came: {repr(value)[:60]}")
    return numbers


def _points(value) -> np.ndarray:
    """float64 `[N, 2]` of points with two or more finite coordinates. Raises UserError for anything else."""
    try:
        points = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] < 2 or not np.isfinite(points[:, :2]).all():
        raise UserError(
            f"landmarks_xy of FACE_LANDMARKS must be points of finite numbers, this came: {repr(value)[:60]}"
        )
    return points[:, :2]


def _listed(value, what: str) -> list:
    single = isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 0
    if single or isinstance(value, str | bytes | dict) or not isinstance(value, Sequence | np.ndarray | torch.Tensor):
        raise UserError(f"{what} must be a list, a {type(value).__name__} came")
    return list(value)


def _frame_lists(value, frames: int, what: str) -> list[list]:
    value = [_listed(frame, f"a frame of {what}") for frame in _listed(value, what)]
    if len(value) == 1 and frames > 1:  # one list for a whole clip, as a hand-drawn mask may be
        value = value * frames
    if len(value) != frames:
        raise UserError(f"{what} has {len(value)} frames, the picture batch has {frames}")
    return value
