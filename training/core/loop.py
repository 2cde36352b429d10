"""The training loop all nets share: accelerate, exact resume, checkpoints, TensorBoard.

A run is a folder. `settings.json` holds the settings, `checkpoint.safetensors` weights, their running average and the
optimiser's state, `usage.json` what the steps took; repeating the command resumes it.
"""

import json
import math
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from filelock import FileLock, Timeout
from tqdm import tqdm

from ...models.errors import UserError
from ...models.nets.files import read_tensors, save_tensors
from .acceleration import compile_blocks, use_checkpointing
from .checkpoint import FILE, RunningAverage, pack_state, unpack_state
from .feeding import Draws, feed
from .interrupts import Interrupted, noted_signals
from .optimizers import make_optimizer
from .settings import LoopSettings
from .tracking import log_validation, start_tracking

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Of frozen parts by precision: they need no more digits than the arithmetic has."""
MOST_SKIPPED = 30
"""fp16 steps skipped in a row before the run stops: the scale has then fallen by 2^30."""


class Task(Protocol):
    """What is trained: a module whose trainable parameters are exactly those with requires_grad.

    `items(step, batch)` lists what a step's global batch holds, as (position in the global batch, ...); a task may have
    `draw(step, items)`, which makes inputs of a part of it on the CPU. The call returns (loss, figures) of items or inputs.
    """

    def items(self, step: int, batch: int) -> list: ...

    def __call__(self, step: int, drawn) -> tuple[torch.Tensor, dict[str, float]]: ...


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
        UserError: the batch cannot be shared equally, the checkpoint belongs to another run, or another training works there.
        Interrupted: Ctrl-C or SIGTERM (in a single process); the checkpoint of the step reached is written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(settings, folder)
    with _alone_in(folder) if accelerator.is_main_process else nullcontext():
        return _train(accelerator, task, settings, folder, description, facts, validate)


def _train(accelerator: Accelerator, task, settings: LoopSettings, folder: Path, description: str, facts, validate):
    micro_batches = settings.micro_batches(accelerator.num_processes)
    frozen = getattr(task, "frozen", {}).values()
    for module in frozen:
        module.to(accelerator.device, DTYPES[accelerator.mixed_precision])
    parameters = trainable(task)
    optimizer = make_optimizer(settings.optimizer, parameters.values(), settings.lr, settings.weight_decay)
    average = RunningAverage(parameters, settings.ema) if settings.ema else None
    step = draw = 0
    kept = _checkpoint(accelerator, folder / FILE)
    if kept is not None:
        step, draw = unpack_state(kept, parameters, optimizer, average, accelerator.scaler)
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
    draws = Draws(task, settings.batch, micro_batches, accelerator.process_index, accelerator.num_processes)
    fed = feed(draws, draw, settings.workers if step < settings.steps else 0)
    found, skipped = Figures(), 0
    usage = Usage(accelerator.device)
    # Several processes must stop at one step, which signals that reach them at different times cannot promise.
    with bar, noted_signals() if accelerator.num_processes == 1 else nullcontext([]) as signals:
        while step < settings.steps:
            for group in optimizer.param_groups:
                group["lr"] = settings.lr_at(step)
            _backward(accelerator, wrapped, draw, fed, micro_batches, folder, found)
            norm = accelerator.clip_grad_norm_(list(parameters.values()), settings.clip)
            overflowed = not math.isfinite(norm)
            if overflowed and accelerator.scaler is None:
                raise TrainingStopped(
                    f"The gradient of step {step} is not finite; {_what_is_kept(folder)}. Lower --lr."
                )
            prepared.step()
            prepared.zero_grad()
            draw += 1
            if overflowed:  # in fp16: the scaler made no step and has lowered its scale
                skipped += 1
                if skipped == MOST_SKIPPED:
                    raise TrainingStopped(
                        f"fp16 overflowed {skipped} times in a row at step {step}; {_what_is_kept(folder)}. "
                        "Lower --lr, or use --precision bf16."
                    )
                continue
            skipped = 0
            if average is not None:
                average.update(parameters, step)
            step += 1
            usage.add_step()
            bar.update()
            if step % 10 == 0:
                figures = found.means()
                accelerator.log({**figures, "gradient_norm": float(norm), "lr": settings.lr_at(step - 1)}, step=step)
                bar.set_postfix({name: f"{value:.4f}" for name, value in figures.items()}, refresh=False)
            last = step == settings.steps
            if accelerator.is_main_process:
                if validate is not None and (last or step % settings.validate_every == 0):
                    with accelerator.autocast():
                        looked = validate()
                    log_validation(accelerator, folder, step, *looked)
                if last or signals or time.monotonic() - saved > 60 * settings.checkpoint_minutes:
                    _save(folder / FILE, pack_state(step, parameters, optimizer, average, draw, accelerator.scaler))
                    saved = time.monotonic()
            if signals and not last:
                raise Interrupted(
                    signals[0],
                    f"Stopped at step {step} of {settings.steps}; the checkpoint is {folder / FILE}, and the same command goes on from it.",
                )
    del fed  # ends the workers
    if accelerator.is_main_process and usage.steps:
        (folder / "usage.json").write_text(json.dumps(usage.figures(), indent=1) + "\n", "utf-8")
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:  # not end_training(): it would also end the process group of later phases
        tracker.finish()
    if average is not None:
        average.copy_to(parameters)
    return task


class Usage:
    """What the steps of one process take; the first of a run, in which libraries choose their kernels, is left out of the time."""

    def __init__(self, device: torch.device):
        self.device, self.steps, self._began = device, 0, 0.0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def add_step(self) -> None:
        """At the end of each."""
        self.steps += 1
        if self.steps == 1:
            self._began = time.monotonic()

    def figures(self) -> dict:
        """`steps`, `seconds_per_step` (None after one), `device` and, on a GPU, `gpu_gb`: the memory held at most, as torch counts it."""
        timed = self.steps - 1
        found = {"steps": self.steps, "device": "CPU"}
        found["seconds_per_step"] = round((time.monotonic() - self._began) / timed, 4) if timed else None
        if self.device.type == "cuda":
            found["device"] = torch.cuda.get_device_name(self.device)
            found["gpu_gb"] = round(torch.cuda.max_memory_reserved(self.device) / 1e9, 2)
        return found


class Figures:
    """Figures of micro-batches, averaged over all processes and all steps since they were last asked for."""

    def __init__(self):
        self._sums: dict[str, list[float]] = {}

    def add(self, figures: dict[str, float]) -> None:
        """Those of one micro-batch."""
        for name, value in figures.items():
            total = self._sums.setdefault(name, [0.0, 0])
            total[0], total[1] = total[0] + value, total[1] + 1

    def means(self) -> dict[str, float]:
        """Each figure over the micro-batches that had it; all processes must ask."""
        sums: dict[str, list[float]] = {}
        for part in gather_object([self._sums]):
            for name, (total, count) in part.items():
                one = sums.setdefault(name, [0.0, 0])
                one[0], one[1] = one[0] + total, one[1] + count
        self._sums = {}
        return {name: total / count for name, (total, count) in sums.items()}


@contextmanager
def _alone_in(folder: Path):
    """No other training in this folder meanwhile.

    Raises:
        UserError: there is one.
    """
    lock = FileLock(folder / "training.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another training works in {folder}: wait for it, or choose another --run or --name."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _accelerator(settings: LoopSettings, folder: Path) -> Accelerator:
    AcceleratorState._reset_state()  # one process may train several stages, each with its own precision
    return Accelerator(
        mixed_precision=chosen_precision(settings.precision),
        log_with=None if settings.tracker == "none" else settings.tracker,
        project_dir=str(folder),
        cpu=not torch.cuda.is_available(),
    )


def chosen_precision(name: str) -> str:
    """`auto` as accelerate's name of what suits the device."""
    if name != "auto":
        return name
    if not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _backward(accelerator: Accelerator, task, draw: int, fed, micro_batches: int, folder: Path, found: Figures) -> None:
    """Gradients of this process's share of a global batch, the mean over its micro-batches."""
    for micro in range(micro_batches):
        began = time.perf_counter()
        drawn = next(fed)
        waited = time.perf_counter() - began
        context = accelerator.no_sync(task) if micro < micro_batches - 1 else nullcontext()
        with context:
            with accelerator.autocast():
                loss, figures = task(draw, drawn)
            finite = bool(torch.isfinite(loss))
            if not finite and accelerator.scaler is None:
                raise TrainingStopped(f"The loss of step {draw} is {loss.item()}; {_what_is_kept(folder)}. Lower --lr.")
            accelerator.backward(loss / micro_batches)  # with a scaler (fp16) a loss that is not finite skips the step
        if finite:
            found.add({**figures, "data_wait_seconds": waited})


def _checkpoint(accelerator: Accelerator, path: Path) -> dict[str, torch.Tensor] | None:
    """The main process's checkpoint, None where it has none; the others, perhaps on machines without the file, get it sent."""
    kept = read_tensors(path)[0] if accelerator.is_main_process and path.exists() else None
    if accelerator.num_processes == 1:
        return kept
    told = [kept and {name: (tensor.shape, tensor.dtype) for name, tensor in kept.items()}]
    (shapes,) = broadcast_object_list(told)
    if shapes is None:
        return None
    found = {}
    for name, (shape, dtype) in shapes.items():  # one by one, as all together would not fit beside the nets
        empty = torch.empty(shape, dtype=dtype, device=accelerator.device)
        found[name] = broadcast(empty if kept is None else empty.copy_(kept[name])).cpu()
    return found


def _what_is_kept(folder: Path) -> str:
    return (
        f"the last checkpoint in {folder} is kept" if (folder / FILE).exists() else f"{folder} holds no checkpoint yet"
    )


def _save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    try:
        save_tensors(path, tensors, {"format": "icportrait-run-1"})
    except OSError as error:
        raise TrainingStopped(
            f"The checkpoint could not be written ({error}); {_what_is_kept(path.parent)}."
        ) from error
