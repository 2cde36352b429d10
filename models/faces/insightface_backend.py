"""insightface's detector, when the artist has a model pack in models/insightface. Nothing is ever downloaded from here.

The code of insightface is MIT; its published model packs (buffalo_*, antelopev2) are for non-commercial research only.
Only the detector of the pack is loaded (bounding boxes and five points); the 2 to 5 further networks of a pack are not needed.
"""

from __future__ import annotations

import functools
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .types import Box

_LOCK = threading.Lock()
# File names of the detectors in the published packs: det_10g.onnx, det_500m.onnx, det_2.5g.onnx, scrfd_10g_bnkps.onnx ...
_DETECTOR_PATTERNS = ("det_*.onnx", "scrfd_*.onnx")


def find_detector(folders: Sequence[str | Path]) -> Path | None:
    """The detector file of the first model pack in `folders` (ComfyUI's models/insightface), or None.

    Looks two packs deep because the antelopev2 archive unpacks into a folder inside a folder, a trap many users fall into.
    """
    for folder in folders:
        for pattern in _DETECTOR_PATTERNS:
            found = sorted(
                path for path in Path(folder).glob(f"**/{pattern}") if len(path.relative_to(folder).parts) <= 4
            )
            if found:
                return found[0]
    return None


def why_unavailable(folders: Sequence[str | Path]) -> str | None:
    """None when it can run, else one sentence saying what is missing and where it was looked for."""
    for package in ("insightface", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            return f"insightface not used: the package {package} is not installed"
    if find_detector(folders) is None:
        looked = ", ".join(str(folder) for folder in folders) or "no folder (models/insightface is not configured)"
        return f"insightface not used: no model pack (det_*.onnx) found in {looked}"
    return None


def detect(rgb: np.ndarray, detector_file: Path) -> list[tuple[Box, float, np.ndarray]]:
    """Faces in one picture uint8 `[H, W, 3]`: (box, score 0 to 1, `insightface_5` landmarks `[5, 2]`), continuous pixels."""
    model = _model(str(detector_file))
    with _LOCK:
        boxes, points = model.detect(np.ascontiguousarray(rgb[:, :, ::-1]), input_size=(640, 640))
    if points is None:
        raise UserError(
            f"{detector_file.name} gives no landmarks; use a detector with key points (det_10g, det_500m, scrfd_*_bnkps)"
        )
    # insightface counts pixel centres as whole numbers.
    return [
        (tuple(float(v) + 0.5 for v in box[:4]), float(box[4]), np.asarray(five, dtype=np.float64) + 0.5)
        for box, five in zip(boxes, points, strict=True)
    ]


@functools.cache
def _model(path: str):
    from insightface.model_zoo import model_zoo

    # An existing file path is opened as it is; only names are looked up and downloaded.
    model = model_zoo.get_model(path, providers=["CPUExecutionProvider"])
    if model is None or not hasattr(model, "detect"):
        raise UserError(f"{path} is not a face detector insightface knows")
    model.prepare(ctx_id=-1, det_thresh=0.3)
    return model
