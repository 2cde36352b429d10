"""Settings of the training loop, the same for all nets."""

import math
from dataclasses import dataclass

from ...models.errors import UserError
from .checks import at_least
from .optimizers import OPTIMIZERS
from .tracking import check_tracker


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
    """Steps between validations on held-out samples (with --validation)."""
    tracker: str = "tensorboard"
    """Where curves and pictures go: `tensorboard`, `wandb` or `none`."""

    def __post_init__(self):
        if self.schedule not in ("constant", "cosine"):
            raise UserError(f"Unknown schedule {self.schedule!r}; choose constant or cosine.")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"Unknown optimizer {self.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}.")
        at_least(1, steps=self.steps, batch=self.batch, accumulate=self.accumulate, validate_every=self.validate_every)
        check_tracker(self.tracker)
        if self.batch % self.accumulate:
            raise UserError(f"--batch ({self.batch}) must be a multiple of --accumulate ({self.accumulate}).")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        lr = self.lr * min(1.0, (step + 1) / self.warmup) if self.warmup else self.lr
        if self.schedule == "cosine":
            lr *= 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / (self.schedule_steps or self.steps))))
        return lr
