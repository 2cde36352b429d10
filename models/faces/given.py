"""Faces the artist hands in: ComfyUI's FACE_LANDMARKS and BOUNDING_BOX, and hand-drawn masks."""

from __future__ import annotations

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
    found_height, found_width = value.get("image_size", (height, width))
    if abs(found_width * height - found_height * width) > max(width, height) * 2:
        raise UserError(
            f"FACE_LANDMARKS were found on a {found_width}x{found_height} picture, this one is {width}x{height}: other proportions"
        )
    factor = np.array([width / found_width, height / found_height])
    result = []
    for index, frame in enumerate(_frame_lists(value["frames"], frames, "FACE_LANDMARKS")):
        faces = []
        for item in frame:
            points = np.asarray(item["landmarks_xy"], dtype=np.float64)[:, :2] * factor
            box = np.asarray(item["bbox_xyxy"], dtype=np.float64).reshape(2, 2) * factor
            layout = "mediapipe" if len(points) in (468, 478) else "ibug_68" if len(points) == 68 else "none"
            faces.append(
                Face(
                    box=tuple(map(float, box.ravel())),
                    landmarks=tuple(map(tuple, points.tolist())) if layout != "none" else (),
                    layout=layout,
                    score=float(item.get("score", 1.0)),
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
    solid = np.asarray(solid, dtype=np.float64)
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
    value = list(value)
    flat = bool(value) and (
        isinstance(value[0], dict)
        or (not isinstance(value[0], dict) and len(value[0]) == 4 and np.isscalar(value[0][0]))
    )
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
        box: Box = (
            float(item["x"]),
            float(item["y"]),
            float(item["x"]) + float(item["width"]),
            float(item["y"]) + float(item["height"]),
        )
        score = float(item.get("score", 1.0))
    elif len(item) == 4:
        box = tuple(float(v) for v in item)
    else:
        raise UserError(f"a BOUNDING_BOX needs 4 numbers, {len(item)} came")
    if not np.isfinite(box).all() or box[2] - box[0] < 1 or box[3] - box[1] < 1:
        raise UserError(f"the BOUNDING_BOX {tuple(round(v, 1) for v in box)} (x0, y0, x1, y1) is smaller than a pixel")
    if box[2] <= 0 or box[3] <= 0 or box[0] >= width or box[1] >= height:
        raise UserError(
            f"the BOUNDING_BOX {tuple(round(v, 1) for v in box)} (x0, y0, x1, y1) lies outside the {width}x{height} picture"
        )
    return Face(box=box, score=score, backend="BOUNDING_BOX", frame=frame)


def _frame_lists(value, frames: int, what: str) -> list:
    value = list(value)
    if len(value) == 1 and frames > 1:  # one list for a whole clip, as a hand-drawn mask may be
        value = value * frames
    if len(value) != frames:
        raise UserError(f"{what} has {len(value)} frames, the picture batch has {frames}")
    return value
