"""The optimisers a run may use."""

import importlib.util
from collections.abc import Iterable

import torch

from ...models.errors import UserError

OPTIMIZERS = ("adamw", "adamw8bit")


def make_optimizer(
    name: str, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float
) -> torch.optim.Optimizer:
    """AdamW in float32, or with its two moments in 8 bits (Dettmers et al. 2021, arXiv 2110.02861; a quarter of the memory).

    Raises:
        UserError: an unknown name, or bitsandbytes is not installed.
    """
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
    if name != "adamw8bit":
        raise UserError(f"Unknown optimizer {name!r}; choose one of {', '.join(OPTIMIZERS)}.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(
            "--optimizer adamw8bit needs the package bitsandbytes, which is not installed: `pip install bitsandbytes`, or "
            "use --optimizer adamw."
        )
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(parameters, lr=lr, weight_decay=weight_decay)


def state_as_tensors(state: dict) -> dict[str, torch.Tensor]:
    """One parameter's optimiser state, numbers as tensors."""
    return {key: torch.as_tensor(value) for key, value in state.items()}


def state_from_tensors(
    optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter, tensors: dict[str, torch.Tensor]
) -> dict:
    """The inverse of `state_as_tensors`. torch counts steps in a tensor on the CPU, bitsandbytes in a number."""
    state = {key: value if key == "step" else value.to(parameter.device) for key, value in tensors.items()}
    if "step" in state and not isinstance(optimizer, torch.optim.AdamW):
        state["step"] = int(state["step"])
    return state
