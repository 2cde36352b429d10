"""Tensors in files that are mapped into memory, not held in it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
import torch


class TensorFile(Mapping[str, torch.Tensor]):
    """A safetensors file as a mapping; a tensor lies on the mapped pages, which the system drops when it needs the memory."""

    def __init__(self, path: str | Path):
        self._file = safetensors.safe_open(str(path), framework="pt", device="cpu")

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.keys())

    def __len__(self) -> int:
        return len(self._file.keys())


class Spread(Mapping[str, torch.Tensor]):
    """One mapping over several, by the one that holds each id.

    Args:
        parts: mappings from `prefix` + id to a tensor, and the ids of each; of an id in several the first counts.
    """

    def __init__(self, parts: list[tuple[Mapping[str, torch.Tensor], list[str]]], prefix: str = ""):
        self._prefix, self._holder = prefix, {}
        for tensors, ids in parts:
            for key in ids:
                self._holder.setdefault(key, tensors)

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._holder[key][self._prefix + key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._holder)

    def __len__(self) -> int:
        return len(self._holder)
