"""The training loop all nets share: accelerate, exact resume, checkpoints, TensorBoard.

A run is a folder. `settings.json` says what was asked, `checkpoint.safetensors` holds weights, their running average
and the optimiser's state; repeating the command resumes it.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tqdm import tqdm

from ...models.nets.files import read_tensors, save_tensors
from .acceleration import compile_blocks, use_checkpointing
from .optimizers import OPTIMIZERS, make_optimizer, state_as_tensors, state_from_tensors
from .tracking import check_tracker, log_validation, start_tracking


@dataclass(frozen=True)
class LoopSettings:
    """What does not depend on the net."""

    steps: int
    """Optimiser steps (the paper: 200 for the matching net, 20,000 for the appearance net)."""
    batch: int = 16
    """Samples a step over all processes (the paper: 16)."""
    lr: float = 1e-5
    """Learning rate (the paper: 1e-5 constant)."""
    schedule: str = "constant"
    """`constant` (the paper) or `cosine` to a tenth of lr."""
    schedule_steps: int = 0
    """Steps until the schedule's end; 0 = `steps`. Longer than `steps` in all but the last of several phases."""
    warmup: int = 0
    """Steps over which lr rises linearly from 0 (the paper: none)."""
    weight_decay: float = 0.01
    """Of AdamW (the paper gives none; 0.01 is torch's own)."""
    ema: float = 0.0
    """Decay of the running average of the weights; 0 = none (the paper mentions none)."""
    clip: float = 1.0
    """Gradient norm limit (the paper gives none)."""
    precision: str = "no"
    """`no`, `bf16` or `fp16` (accelerate's mixed precision)."""
    accumulate: int = 1
    """Micro-batches a step; the batch is split among them."""
    seed: int = 0
    """Decides every draw and every fresh weight."""
    checkpoint_minutes: float = 3.0
    """A checkpoint at least this often, and at the end."""
    optimizer: str = "adamw"
    """`adamw`, or `adamw8bit`: its moments in 8 bits, needs bitsandbytes. The paper names none."""
    checkpointing: bool = False
    """Gradient checkpointing: every block is computed twice, for a fraction of the activations' memory; same bits."""
    compile: bool = False
    """torch.compile, block by block: slow first steps, then faster ones; last bits may differ."""
    validate_every: int = 250
    """Steps between looks at held-out samples (with --validation)."""
    tracker: str = "tensorboard"
    """Where curves and pictures go: `tensorboard`, `wandb` or `none`."""

    def __post_init__(self):
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"Unknown schedule {self.schedule!r}; choose constant or cosine.")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"Unknown optimizer {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}.")
        if self.validate_every < 1:
            raise ValueError(f"validate_every must be at least 1; {self.validate_every} came.")
        check_tracker(self.tracker)
        if self.batch % self.accumulate:
            raise ValueError(f"batch ({self.batch}) must be a multiple of accumulate ({self.accumulate}).")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        lr = self.lr * min(1.0, (step + 1) / self.warmup) if self.warmup else self.lr
        if self.schedule == "cosine":
            lr *= 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / (self.schedule_steps or self.steps))))
        return lr


class Task(Protocol):
    """What is trained: a module whose trainable parameters are exactly those with requires_grad.

    `forward(step, indices)` returns (loss, figures) for the samples at these positions of the step's global batch:
    `indices` is a list of (position in the global batch, ...) as made by `items`.
    """

    def items(self, step: int, batch: int) -> list: ...

    def __call__(self, step: int, items: list) -> tuple[torch.Tensor, dict[str, float]]: ...


class TrainingStopped(RuntimeError):
    """Training cannot go on; the last good checkpoint is kept."""


def trainable(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Names and parameters that are trained."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


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


def _pack_state(step, parameters, optimizer, average) -> dict[str, torch.Tensor]:
    tensors = {f"weights/{name}": parameter for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        for key, value in state_as_tensors(optimizer.state.get(parameter, {})).items():
            tensors[f"optimizer/{key}/{name}"] = value
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.values.items()}
    tensors["step"] = torch.tensor(step)
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _unpack_state(tensors, parameters, optimizer, average) -> int:
    wanted = {f"weights/{name}": parameter for name, parameter in parameters.items()}
    if average is not None:
        wanted |= {f"average/{name}": parameter for name, parameter in parameters.items()}
    wrong = [
        name for name, parameter in wanted.items() if name not in tensors or tensors[name].shape != parameter.shape
    ]
    if wrong:
        raise ValueError(
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
    return int(tensors["step"])


def train(
    task: torch.nn.Module,
    settings: LoopSettings,
    folder: str | Path,
    description: str,
    facts: dict | None = None,
    validate: Callable[[], tuple[dict, dict]] | None = None,
) -> torch.nn.Module:
    """Train `task` in `folder`, resuming from its checkpoint when there is one.

    Args:
        description: of the progress bar.
        facts: for `settings.json`.
        validate: called every `validate_every` steps and at the end, see `validation.Validator`.

    Returns:
        The task with its final weights (the running average when one is kept).

    Raises:
        TrainingStopped: loss or gradient are not finite or the checkpoint cannot be written; the last good one is kept.
        ValueError: the batch cannot be shared equally, or the checkpoint belongs to another run.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    AcceleratorState._reset_state()  # one process may train several stages, each with its own precision
    accelerator = Accelerator(
        mixed_precision=settings.precision,
        gradient_accumulation_steps=settings.accumulate,
        log_with=None if settings.tracker == "none" else settings.tracker,
        project_dir=str(folder),
        cpu=not torch.cuda.is_available(),
    )
    parts = accelerator.num_processes * settings.accumulate
    if settings.batch % parts:
        raise ValueError(
            f"batch ({settings.batch}) must be a multiple of processes x accumulate ({parts}): unequal shares would "
            "weigh samples unequally."
        )
    for module in getattr(task, "frozen", {}).values():
        module.to(accelerator.device)
    parameters = trainable(task)
    optimizer = make_optimizer(settings.optimizer, parameters.values(), settings.lr, settings.weight_decay)
    average = RunningAverage(parameters, settings.ema) if settings.ema else None
    checkpoint = folder / "checkpoint.safetensors"
    step = 0
    if checkpoint.exists():
        step = _unpack_state(read_tensors(checkpoint)[0], parameters, optimizer, average)
    modules = [task, *getattr(task, "frozen", {}).values()]
    if settings.checkpointing:
        use_checkpointing(modules)
    if settings.compile:
        compile_blocks(modules)
    wrapped, prepared = accelerator.prepare(task, optimizer)
    if accelerator.is_main_process:
        start_tracking(accelerator, settings.tracker, folder)
        text = json.dumps({"settings": asdict(settings), "facts": facts or {}}, indent=1, default=str)
        (folder / "settings.json").write_text(text)
    saved = time.monotonic()
    bar = tqdm(
        total=settings.steps, initial=step, desc=description, disable=not accelerator.is_main_process, mininterval=5
    )
    while step < settings.steps:
        for group in optimizer.param_groups:
            group["lr"] = settings.lr_at(step)
        items = task.items(step, settings.batch)
        share = items[accelerator.process_index :: accelerator.num_processes]
        figures: dict[str, float] = {}
        for micro in range(settings.accumulate):
            part = share[micro :: settings.accumulate]
            context = accelerator.no_sync(wrapped) if micro < settings.accumulate - 1 else nullcontext()
            with context, accelerator.autocast():
                loss, figures = wrapped(step, part)
            if not torch.isfinite(loss):
                raise TrainingStopped(
                    f"The loss of step {step} is {loss.item()}; the last checkpoint in {folder} is kept. Lower --lr."
                )
            accelerator.backward(loss)  # divides by the accumulation steps
        norm = accelerator.clip_grad_norm_(list(parameters.values()), settings.clip)
        if not math.isfinite(norm) and accelerator.scaler is None:  # a scaler (fp16) skips such a step itself
            raise TrainingStopped(
                f"The gradient of step {step} is not finite; the last checkpoint in {folder} is kept. Lower --lr."
            )
        prepared.step()
        prepared.zero_grad()
        if average is not None:
            average.update(parameters, step)
        step += 1
        bar.update()
        if step % 10 == 0:
            accelerator.log({**figures, "gradient_norm": float(norm), "lr": settings.lr_at(step - 1)}, step=step)
            bar.set_postfix({name: f"{value:.4f}" for name, value in figures.items()}, refresh=False)
        last = step == settings.steps
        if validate is not None and accelerator.is_main_process and (last or step % settings.validate_every == 0):
            log_validation(accelerator, folder, step, *validate())
        if accelerator.is_main_process and (last or time.monotonic() - saved > 60 * settings.checkpoint_minutes):
            try:
                save_tensors(
                    checkpoint, _pack_state(step, parameters, optimizer, average), {"format": "icportrait-run-1"}
                )
            except OSError as error:
                raise TrainingStopped(
                    f"The checkpoint could not be written ({error}); {checkpoint} of the last save is kept."
                ) from error
            saved = time.monotonic()
    bar.close()
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:  # not end_training(): it would also end the process group of later phases
        tracker.finish()
    if average is not None:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(average.values[name])
    return task


def load_weights(task: torch.nn.Module, folder: str | Path) -> int:
    """Put a run's weights (the running average where kept) into `task`; returns its step.

    Raises:
        ValueError: the folder holds no checkpoint.
    """
    tensors, _ = read_tensors(Path(folder) / "checkpoint.safetensors")
    with torch.no_grad():
        for name, parameter in task.named_parameters():
            value = tensors.get(f"average/{name}", tensors.get(f"weights/{name}"))
            if value is not None:
                parameter.copy_(value)
    return int(tensors["step"])
