"""Stage `autoencoder`."""

from pathlib import Path

from accelerate import PartialState

from ...models.nets.files import save_tensors
from ..core.loop import train
from ..core.settings import LoopSettings
from ..data.samples import SampleSet
from ..tasks.autoencoder import AutoencoderTask
from .facts import training_facts


def train_autoencoder(run: Path, samples: SampleSet, loop: LoopSettings) -> Path:
    """Train the demo autoencoder and write `autoencoder/vae.safetensors`."""
    out = run / "autoencoder" / "vae.safetensors"
    if out.exists():
        return out
    task = AutoencoderTask(samples, seed=loop.seed)
    train(task, loop, run / "autoencoder", "autoencoder")
    if not PartialState().is_local_main_process:
        return out
    save_tensors(out, task.vae.state_dict(), {"format": "icportrait-vae-1", "training": training_facts(loop, samples)})
    return out
