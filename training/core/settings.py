"""Settings of the training loop, the same for all nets."""

import math
from dataclasses import dataclass

from ...models.errors import UserError
from .checks import at_least, shares
from .optimizers import OPTIMIZERS
from .tracking import check_tracker

PRECISIONS = ("no", "bf16", "fp16", "auto")


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
    """`no`, `bf16` or `fp16` (accelerate's mixed precision), or `auto`: on a GPU bf16 where it has that, else fp16; on a CPU no."""
    micro_batch: int = 0
    """Samples a process computes at a time, which decides the memory; a step adds up as many as its share of the batch needs.
    0 = the whole share at once."""
    workers: int = 0
    """Processes that draw samples while others are computed, beside each process that trains; 0 = that process itself. For
    GPUs; on a CPU they would take the cores that train."""
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
    """Steps between validations on held-out samples (with --validation)."""
    tracker: str = "tensorboard"
    """Where curves and pictures go: `tensorboard`, `wandb` or `none`."""

    def __post_init__(self):
        if self.schedule not in ("constant", "cosine"):
            raise UserError(f"Unknown schedule {self.schedule!r}; choose constant or cosine.")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"Unknown optimizer {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}.")
        if self.precision not in PRECISIONS:
            raise UserError(f"Unknown precision {self.precision!r}; choose one of {', '.join(PRECISIONS)}.")
        at_least(1, steps=self.steps, batch=self.batch, validate_every=self.validate_every)
        at_least(0, micro_batch=self.micro_batch, workers=self.workers, warmup=self.warmup, seed=self.seed, lr=self.lr)
        at_least(0, schedule_steps=self.schedule_steps, weight_decay=self.weight_decay, clip=self.clip)
        at_least(0, checkpoint_minutes=self.checkpoint_minutes)
        if math.isinf(self.lr) or math.isinf(self.weight_decay):
            raise UserError("--lr and --weight-decay must be finite.")
        shares(ema=self.ema)
        if self.ema == 1:
            raise UserError("--ema must be below 1: an average that never moves is no training.")
        check_tracker(self.tracker)

    def micro_batches(self, processes: int) -> int:
        """Micro-batches of each process's share of a step.

        Raises:
            UserError: the batch cannot be shared equally, which would weigh samples unequally.
        """
        at_a_time = self.micro_batch or max(1, self.batch // processes)
        if self.batch % (processes * at_a_time):
            raise UserError(
                f"--batch ({self.batch}) must be a multiple of processes x --micro-batch ({processes} x {at_a_time})."
            )
        return self.batch // (processes * at_a_time)

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        lr = self.lr * min(1.0, (step + 1) / self.warmup) if self.warmup else self.lr
        if self.schedule == "cosine":
            lr *= 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / (self.schedule_steps or self.steps))))
        return lr
