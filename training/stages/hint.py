"""Stage `hint`: a start for the nets' hint blocks."""

from pathlib import Path

import torch
from accelerate import PartialState

from ...models.nets.files import read_tensors, save_tensors
from ..core.loop import train
from ..core.settings import LoopSettings
from ..data.samples import SampleSet
from ..tasks.hint import HintSettings, HintTask
from .base_models import Base
from .sample_sets import encode_samples


def train_hint(run: Path, samples: SampleSet, base: Base, loop: LoopSettings, settings: HintSettings) -> None:
    """Train a start for the nets' hint blocks and write `hint/hint.safetensors`; later stages of the run begin with it."""
    encode_samples(samples, base.vae)
    task = HintTask(samples, base.unet, base.unet_config, settings, loop.seed)
    train(task, loop, run / "hint", "hint")
    if PartialState().is_local_main_process:
        save_tensors(run / "hint" / "hint.safetensors", task.net.state_dict(), {"format": "icportrait-hint-1"})


def start_from_hint(run: Path, net: torch.nn.Module) -> bool:
    """Give a fresh net the run's trained hint block where there is one; returns whether there was."""
    path = run / "hint" / "hint.safetensors"
    if not path.exists():
        return False
    prefix = "input_hint_block."
    weights = {name.removeprefix(prefix): tensor for name, tensor in read_tensors(path)[0].items()}
    net.input_hint_block.load_state_dict(weights)
    return True
