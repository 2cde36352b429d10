"""The training loop all nets share: accelerate, exact resume, checkpoints, TensorBoard.

A run is a folder. `settings.json` holds the settings, `checkpoint.safetensors` weights, their running average and the
optimiser's state; repeating the command resumes it.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tqdm import tqdm

from ...models.errors import UserError
from ...models.nets.files import read_tensors, save_tensors
from .acceleration import compile_blocks, use_checkpointing
from .checkpoint import FILE, RunningAverage, pack_state, unpack_state
from .interrupts import Interrupted, noted_signals
from .optimizers import make_optimizer
from .settings import LoopSettings
from .tracking import log_validation, start_tracking


class Task(Protocol):
    """What is trained: a module whose trainable parameters are exactly those with requires_grad.

    `forward(step, indices)` returns (loss, figures) for the samples at these positions of the step's global batch:
    `indices` is a list of (position in the global batch, ...) as made by `items`.
    """

    def items(self, step: int, batch: int) -> list: ...

    def __call__(self, step: int, items: list) -> tuple[torch.Tensor, dict[str, float]]: ...


class TrainingStopped(UserError):
    """Training cannot go on; the last good checkpoint is kept."""


def trainable(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Names and parameters that are trained."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


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
        UserError: the batch cannot be shared equally, or the checkpoint belongs to another run.
        Interrupted: Ctrl-C or SIGTERM (in a single process); the checkpoint of the step reached is written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(settings, folder)
    frozen = getattr(task, "frozen", {}).values()
    for module in frozen:
        module.to(accelerator.device)
    parameters = trainable(task)
    optimizer = make_optimizer(settings.optimizer, parameters.values(), settings.lr, settings.weight_decay)
    average = RunningAverage(parameters, settings.ema) if settings.ema else None
    step = 0
    if (folder / FILE).exists():
        step = unpack_state(read_tensors(folder / FILE)[0], parameters, optimizer, average)
    if settings.checkpointing:
        use_checkpointing([task, *frozen])
    if settings.compile:
        compile_blocks([task, *frozen])
    wrapped, prepared = accelerator.prepare(task, optimizer)
    if accelerator.is_main_process:
        start_tracking(accelerator, settings.tracker, folder)
        text = json.dumps({"settings": asdict(settings), "facts": facts or {}}, indent=1, default=str)
        (folder / "settings.json").write_text(text)
    saved = time.monotonic()
    bar = tqdm(
        total=settings.steps, initial=step, desc=description, disable=not accelerator.is_main_process, mininterval=5
    )
    # Several processes must stop at one step, which signals that reach them at different times cannot promise.
    with bar, noted_signals() if accelerator.num_processes == 1 else nullcontext([]) as signals:
        while step < settings.steps:
            for group in optimizer.param_groups:
                group["lr"] = settings.lr_at(step)
            items = task.items(step, settings.batch)
            figures = _backward(accelerator, wrapped, step, items, settings.accumulate, folder)
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
            if accelerator.is_main_process:
                if validate is not None and (last or step % settings.validate_every == 0):
                    log_validation(accelerator, folder, step, *validate())
                if last or signals or time.monotonic() - saved > 60 * settings.checkpoint_minutes:
                    _save(folder / FILE, pack_state(step, parameters, optimizer, average))
                    saved = time.monotonic()
            if signals and not last:
                raise Interrupted(
                    signals[0],
                    f"Stopped at step {step} of {settings.steps}; the checkpoint is {folder / FILE}, and the same command goes on from it.",
                )
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:  # not end_training(): it would also end the process group of later phases
        tracker.finish()
    if average is not None:
        average.copy_to(parameters)
    return task


def _accelerator(settings: LoopSettings, folder: Path) -> Accelerator:
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
        raise UserError(
            f"--batch ({settings.batch}) must be a multiple of processes x accumulate ({parts}): unequal shares would "
            "weigh samples unequally."
        )
    return accelerator


def _backward(accelerator: Accelerator, task, step: int, items: list, accumulate: int, folder: Path) -> dict:
    """Gradients of this process's share of the global batch, in micro-batches; returns the last one's figures."""
    share = items[accelerator.process_index :: accelerator.num_processes]
    figures: dict[str, float] = {}
    for micro in range(accumulate):
        part = share[micro::accumulate]
        context = accelerator.no_sync(task) if micro < accumulate - 1 else nullcontext()
        with context, accelerator.autocast():
            loss, figures = task(step, part)
        if not torch.isfinite(loss):
            raise TrainingStopped(
                f"The loss of step {step} is {loss.item()}; the last checkpoint in {folder} is kept. Lower --lr."
            )
        accelerator.backward(loss)  # divides by the accumulation steps
    return figures


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    try:
        save_tensors(path, tensors, {"format": "icportrait-run-1"})
    except OSError as error:
        raise TrainingStopped(
            f"The checkpoint could not be written ({error}); {path} of the last save is kept."
        ) from error
