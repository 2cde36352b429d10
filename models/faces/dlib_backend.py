"""dlib: the default backend. Its weights come inside the PyPI package `face-recognition-models`; nothing is downloaded.

Weights used, and their terms (`docs/faces.md` has the details):
- `mmod_human_face_detector.dat` (CNN detector), `shape_predictor_5_face_landmarks.dat`, `dlib_face_recognition_resnet_model_v1.dat`:
  released into the public domain / CC0 by their author.
- `shape_predictor_68_face_landmarks.dat`: CC0 by its author too, but trained on iBUG 300-W, whose terms exclude commercial use;
  dlib's own README says the model must not be used in a commercial product without asking. Only used when it is asked for.

The files are located without importing `face_recognition_models`: that package imports `pkg_resources`, which current setuptools lacks.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from .resampling import invert, resample, transform
from .types import Box

DETECTOR_FILE = "mmod_human_face_detector.dat"
POINTS_5_FILE = "shape_predictor_5_face_landmarks.dat"
POINTS_68_FILE = "shape_predictor_68_face_landmarks.dat"
RECOGNISER_FILE = "dlib_face_recognition_resnet_model_v1.dat"
INSTALL_HINT = "pip install dlib-bin face-recognition-models"

# dlib's networks keep state during a call, and two executions may share this process.
_LOCK = threading.Lock()

# dlib's detector fails with an internal error on pictures smaller than its filters; they are padded to this.
_SMALLEST_PICTURE = 80
# Side in pixels a face's box is brought to before its landmarks are read. dlib answers in whole pixels: at 200 px a step is
# half a per cent of the face, and the answer does not depend on the size of the picture.
_LANDMARK_SIDE = 200
# The answer is the mean over these shifts of the box (fractions of its side).
_BOX_SHIFTS = tuple((dx, dy) for dx in (-0.05, 0.0, 0.05) for dy in (-0.05, 0.0, 0.05))
# Turns tried, degrees; the predictor copes with about 30 by itself.
_TURNS = (0, 45, -45, 90, -90, 135, -135, 180)
_STEADY = 1.2
# Where the detector's box may lie instead when no turn holds still: moved or resized by shares of its side (dx, dy, size).
_MOVED_BOXES = ((0, -0.1, 1), (0, 0.1, 1), (-0.1, 0, 1), (0.1, 0, 1), (0, 0, 0.85), (0, 0, 1.15))


def why_unavailable() -> str | None:
    """None when dlib and its weights are there, else one sentence saying what is missing. Imports nothing heavy."""
    if importlib.util.find_spec("dlib") is None:
        return f"dlib is not installed ({INSTALL_HINT})"
    folder = _weights_folder()
    if folder is None:
        return f"dlib's weights are not installed ({INSTALL_HINT})"
    missing = [name for name in (DETECTOR_FILE, POINTS_5_FILE, RECOGNISER_FILE) if not (folder / name).is_file()]
    if missing:
        return f"{', '.join(missing)} not found in {folder} ({INSTALL_HINT})"
    return None


def require() -> None:
    """Raise ValueError with the sentence of `why_unavailable` when dlib cannot be used."""
    reason = why_unavailable()
    if reason:
        raise UserError(reason)


def detect(rgb: np.ndarray) -> list[tuple[Box, float]]:
    """Faces in one picture at the size it has, by the CNN detector. About 1 s per 0.3 megapixel on one CPU core.

    Args:
        rgb: uint8 `[H, W, 3]`. Faces below about 75 px are missed at this size.

    Returns:
        (box in continuous pixels, confidence about 0 to 1.5) for each face.
    """
    lack = [max(0, _SMALLEST_PICTURE - size) for size in rgb.shape[:2]]
    if any(lack):
        rgb = np.pad(rgb, ((0, lack[0]), (0, lack[1]), (0, 0)), mode="edge")
    with _LOCK:
        found = _detector()(rgb, 0)
    # A dlib rectangle holds whole pixels, last one included.
    return [
        ((d.rect.left(), d.rect.top(), d.rect.right() + 1, d.rect.bottom() + 1), float(d.confidence)) for d in found
    ]


def landmarks(rgb: np.ndarray, box: Box, count: int = 5) -> tuple[np.ndarray, float]:
    """Landmarks of the face in `box`, however it is turned.

    dlib's predictor answers as if every face were upright, and it always answers. What gives a wrong answer away is that it
    scatters when the box is moved by a little: measured on photographs, below 1.4 pixels (at 200 pixels a box) on upright faces and
    above 4.9 on the same faces turned by quarter turns. So the box is read upright first, and at other turns until a reading holds
    still: an upright face takes one reading, a turned one up to eight. Where none does, the detector's box may be a little off:
    moved boxes are read upright, and the steadiest upright reading is taken.

    Args:
        rgb: uint8 `[H, W, 3]`.
        count: 5 or 68.

    Returns:
        float64 `[count, 2]` in continuous pixels, and the scatter in hundredths of the box's side; `is_steady` judges it.
    """
    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    places = [(box, turn) for turn in _TURNS] + [(_moved(box, *by), 0) for by in _MOVED_BOXES]
    best: tuple[float, np.ndarray, Box, float] | None = None
    for place, turn in places:
        points, scatter = read_at_turn(picture, place, turn, 5)
        if is_steady(scatter) or (turn == 0 and (best is None or scatter < best[0])):
            best = scatter, points, place, turn
        if is_steady(scatter):
            break
    scatter, points, place, turn = best
    if count != 5:
        points, _ = read_at_turn(picture, place, turn, count)
    return points, scatter


def _moved(box: Box, dx: float, dy: float, size: float) -> Box:
    """The box moved by (dx, dy) and resized by `size`, shares of its own sides."""
    half_width, half_height = (box[2] - box[0]) * size / 2, (box[3] - box[1]) * size / 2
    x = (box[0] + box[2]) / 2 + dx * (box[2] - box[0])
    y = (box[1] + box[3]) / 2 + dy * (box[3] - box[1])
    return x - half_width, y - half_height, x + half_width, y + half_height


def is_steady(scatter: float) -> bool:
    """Whether landmarks with this scatter (hundredths of the box's side) lie on a face that was read the right way up."""
    return scatter < _STEADY


def read_at_turn(picture: torch.Tensor, box: Box, turn: float, count: int) -> tuple[np.ndarray, float]:
    """Landmarks read with the surroundings of the box turned by `turn` degrees, in picture pixels, and their scatter."""
    import dlib

    side = max(box[2] - box[0], box[3] - box[1], 1.0)
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    zoom, angle = _LANDMARK_SIDE / side, np.deg2rad(turn)
    linear = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    chip_from_picture = np.concatenate([linear, (_LANDMARK_SIDE - linear @ centre)[:, None]], axis=1)
    chip = resample(picture, chip_from_picture, 2 * _LANDMARK_SIDE, 2 * _LANDMARK_SIDE, kernel="bilinear")
    chip = np.ascontiguousarray((chip[0].permute(1, 2, 0) + 0.5).clamp(0, 255).to(torch.uint8).numpy())
    predictor, half = _predictor(count), _LANDMARK_SIDE // 2
    readings = []
    with _LOCK:
        for dx, dy in _BOX_SHIFTS:
            x, y = half + round(dx * _LANDMARK_SIDE), half + round(dy * _LANDMARK_SIDE)
            rectangle = dlib.rectangle(x, y, x + _LANDMARK_SIDE - 1, y + _LANDMARK_SIDE - 1)
            readings.append([(part.x + 0.5, part.y + 0.5) for part in predictor(chip, rectangle).parts()])
    readings = np.array(readings, dtype=np.float64)
    scatter = 100 / _LANDMARK_SIDE * float(np.sqrt(readings.var(axis=0).sum(axis=-1).mean()))
    return transform(readings.mean(axis=0), invert(chip_from_picture)), scatter


def embed(chip: np.ndarray, points: np.ndarray) -> np.ndarray:
    """dlib's 128 numbers for a face.

    Args:
        chip: uint8 `[H, W, 3]`, the face upright and at least 150 px wide.
        points: `dlib_5` landmarks in the chip, continuous pixels.

    Returns:
        float64 `[128]`, length about 1.
    """
    import dlib

    parts = [dlib.point(round(float(x) - 0.5), round(float(y) - 0.5)) for x, y in points]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, chip.shape[1] - 1, chip.shape[0] - 1), parts)
    with _LOCK:
        return np.array(_recogniser().compute_face_descriptor(chip, shape))


def _weights_folder() -> Path | None:
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "models"


def _weights(name: str) -> str:
    require()
    path = _weights_folder() / name
    if not path.is_file():
        raise UserError(f"{name} not found in {path.parent} ({INSTALL_HINT})")
    return str(path)


@functools.cache
def _detector():
    import dlib

    return dlib.cnn_face_detection_model_v1(_weights(DETECTOR_FILE))


@functools.cache
def _predictor(count: int):
    import dlib

    return dlib.shape_predictor(_weights({5: POINTS_5_FILE, 68: POINTS_68_FILE}[count]))


@functools.cache
def _recogniser():
    import dlib

    return dlib.face_recognition_model_v1(_weights(RECOGNISER_FILE))
