"""Stage `matching`."""

from dataclasses import asdict
from pathlib import Path

from ..core.settings import LoopSettings
from ..data.samples import SampleSet
from ..tasks.matching import MatchingSettings, MatchingTask
from .base_models import Base
from .nets import train_net
from .sample_sets import embed_samples, encode_samples


def train_matching(
    run: Path,
    name: str,
    samples: SampleSet,
    base: Base,
    loop: LoopSettings,
    settings: MatchingSettings,
    held_out: SampleSet | None = None,
    init: Path | None = None,
) -> MatchingTask:
    """Train a matching net in the run's subfolder `name`, from the UNet's copy or from the net file `init`."""
    encode_samples(samples, base.vae)
    embed_samples(samples, base.vision)
    task = MatchingTask(
        samples,
        base.unet,
        base.vision,
        base.unet_config,
        settings,
        loop.seed,
        loop.steps,
    )
    facts = {"task": asdict(settings)}
    return train_net(run, name, task, base, loop, facts, {"objective": settings.objective}, held_out, init)
