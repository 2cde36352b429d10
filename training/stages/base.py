"""Stage `base`."""

from pathlib import Path

from accelerate import PartialState

from ...models.nets.files import save_tensors
from ..core.loop import train
from ..core.modules import DEMO_UNET, DEMO_VISION
from ..core.settings import LoopSettings
from ..data.samples import SampleSet
from ..tasks.base import BaseSettings, BaseTask
from .base_models import load_vae
from .facts import training_facts
from .sample_sets import encode_samples
from .validation import validator


def train_base(
    run: Path, samples: SampleSet, loop: LoopSettings, settings: BaseSettings, held_out: SampleSet | None = None
) -> None:
    """Train the demo's UNet and vision encoder; writes `base/unet.safetensors` and `base/vision.safetensors`."""
    vae = load_vae(run)
    encode_samples(samples, vae)
    task = BaseTask(samples, settings, loop.seed)
    train(task, loop, run / "base", "base", validate=validator(task, held_out, vae))
    if not PartialState().is_local_main_process:
        return
    facts = training_facts(loop, samples)
    save_tensors(
        run / "base" / "unet.safetensors",
        task.unet.state_dict(),
        {"format": "icportrait-base-1", "config": DEMO_UNET, "training": facts},
    )
    save_tensors(
        run / "base" / "vision.safetensors",
        task.vision.state_dict(),
        {"format": "icportrait-vision-1", "config": DEMO_VISION, "training": facts},
    )
