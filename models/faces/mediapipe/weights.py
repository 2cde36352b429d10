"""The networks with their weights: loaded once a device, shared by all threads."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from .networks import NETWORKS

FOLDER = Path(__file__).parent / "weights"

_LOADED: dict[tuple[str, torch.device], nn.Module] = {}
_LOCK = threading.Lock()


def device() -> torch.device:
    """ComfyUI's device when ComfyUI runs, else the CPU."""
    management = sys.modules.get("comfy.model_management")  # never imported from here: it would set up a GPU for a test
    return management.get_torch_device() if management else torch.device("cpu")


def network(name: str, on: torch.device) -> nn.Module:
    """One of `networks.NETWORKS` with its weights, float32, for reading only.

    Raises:
        FileNotFoundError: the pack was copied without its weights.
    """
    with _LOCK:
        if (name, on) not in _LOADED:
            with torch.device("meta"):  # without the usual random start, which would move torch's global generator
                net = NETWORKS[name]()
            tensors = load_file(FOLDER / f"{name}.safetensors")
            net.load_state_dict({key: value.float() for key, value in tensors.items()}, assign=True)
            # Channels last halves the time on a CPU.
            _LOADED[name, on] = net.eval().requires_grad_(False).to(on, memory_format=torch.channels_last)
        return _LOADED[name, on]


@torch.inference_mode()
def run(name: str, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """One network on a batch `[B, 3, S, S]`; its outputs, float32 on the CPU.

    Goes to the CPU when the device fails, for instance for lack of memory.
    """
    places = (device(), torch.device("cpu"))
    for on in places:
        try:
            outputs = network(name, on)(batch.to(on, torch.float32, memory_format=torch.channels_last))
            return tuple(output.cpu() for output in outputs)
        except RuntimeError:  # torch.OutOfMemoryError is one
            if on == places[-1]:
                raise
    raise AssertionError("unreachable")
