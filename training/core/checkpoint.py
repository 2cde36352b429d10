"""Checkpoints: weights, their running average, the optimiser's state and the step, in one safetensors file."""

from pathlib import Path

import torch

from ...models.errors import UserError
from ...models.nets.files import read_tensors
from .optimizers import state_as_tensors, state_from_tensors

FILE = "checkpoint.safetensors"
"""Of a stage's folder."""


class RunningAverage:
    """Exponential moving average of the trained weights, in float32."""

    def __init__(self, parameters: dict[str, torch.nn.Parameter], decay: float):
        self.decay = decay
        self.values = {name: parameter.detach().float().clone() for name, parameter in parameters.items()}

    def update(self, parameters: dict[str, torch.nn.Parameter], step: int) -> None:
        """One step; the decay grows from 0 with the step so that early averages do not remember the start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in parameters.items():
            value = self.values[name] = self.values[name].to(parameter.device)  # made before the move to the GPU
            value.lerp_(parameter.detach().float(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, parameters: dict[str, torch.nn.Parameter]) -> None:
        """Give the parameters the averaged values."""
        for name, parameter in parameters.items():
            parameter.copy_(self.values[name])


def pack_state(
    step, parameters, optimizer, average: RunningAverage | None, draw: int | None = None, scaler=None
) -> dict[str, torch.Tensor]:
    """All a run needs to go on, not copied: `weights/`, `optimizer/`, `average/` by parameter name, `step`, and with a scaler
    (fp16) its state and `draw`, which then runs ahead of the step."""
    tensors = {f"weights/{name}": parameter for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in state_as_tensors(optimizer.state.get(parameter, {})).items():
            tensors[f"optimizer/{key}/{name}"] = value
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.values.items()}
    tensors["step"] = torch.tensor(step)
    if scaler is not None:
        tensors["draw"] = torch.tensor(step if draw is None else draw)
        numbers = scaler.state_dict()
        tensors |= {f"scaler/{name}": torch.tensor(float(numbers[name])) for name in ("scale", "_growth_tracker")}
    return {name: tensor.detach() for name, tensor in tensors.items()}


def unpack_state(tensors, parameters, optimizer, average: RunningAverage | None, scaler=None) -> tuple[int, int]:
    """Put what `pack_state` gave into parameters, optimiser, average and scaler; returns (step, next draw).

    Raises:
        UserError: a tensor is missing or of another shape.
    """
    wanted = {f"weights/{name}": parameter for name, parameter in parameters.items()}
    if average is not None:
        wanted |= {f"average/{name}": parameter for name, parameter in parameters.items()}
    wrong = [
        name for name, parameter in wanted.items() if name not in tensors or tensors[name].shape != parameter.shape
    ]
    if wrong:
        raise UserError(
            f"The checkpoint does not fit this run ({len(wrong)} tensors, first: {wrong[0]}): it was made with other "
            "options. Use a new --run or --name, or repeat the first command's options."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"weights/{name}"])
            state = {
                key.split("/")[1]: value
                for key, value in tensors.items()
                if key.startswith("optimizer/") and key.split("/", 2)[2] == name
            }
            if state:
                optimizer.state[parameter] = state_from_tensors(optimizer, parameter, state)
            if average is not None:
                average.values[name] = tensors[f"average/{name}"].to(parameter.device)
    if scaler is not None and "scaler/scale" in tensors:
        scale, growth = float(tensors["scaler/scale"]), int(tensors["scaler/_growth_tracker"])
        scaler.load_state_dict(scaler.state_dict() | {"scale": scale, "_growth_tracker": growth})
    return int(tensors["step"]), int(tensors.get("draw", tensors["step"]))


def load_weights(task: torch.nn.Module, folder: str | Path) -> int:
    """Put a run's weights (the running average where kept) into `task`; returns its step.

    Raises:
        FileNotFoundError: the folder holds no checkpoint.
    """
    tensors, _ = read_tensors(Path(folder) / FILE)
    with torch.no_grad():
        for name, parameter in task.named_parameters():
            value = tensors.get(f"average/{name}", tensors.get(f"weights/{name}"))
            if value is not None:
                parameter.copy_(value)
    return int(tensors["step"])
