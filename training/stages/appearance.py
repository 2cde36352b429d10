"""Stage `appearance`."""

from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from ...models.errors import UserError
from ...models.nets.files import read_metadata, save_tensors
from ..core.settings import LoopSettings
from ..data.samples import SampleSet
from ..tasks.appearance import AppearanceSettings, AppearanceTask
from ..tasks.identity_loss import IdentityLoss
from .base_models import DEMO_BASE, Base
from .nets import load_stage_net, train_net
from .recogniser import load_recogniser
from .sample_sets import embed_samples, encode_samples


def train_appearance(
    run: Path,
    name: str,
    matching: str,
    samples: SampleSet,
    base: Base,
    loop: LoopSettings,
    settings: AppearanceSettings,
    held_out: SampleSet | None = None,
    init: Path | None = None,
) -> AppearanceTask:
    """Train an appearance net in the run's subfolder `name`, guided by the matching net of subfolder `matching`, from the
    UNet's copy or from the net file `init`."""
    if settings.base_share and base.name != DEMO_BASE:
        raise UserError("--base-share above 0 is for the demo's own base; an SD1.5 checkpoint stays frozen.")
    net, config = load_stage_net(run / matching / "net.safetensors")
    encode_samples(samples, base.vae)
    embed_samples(samples, base.vision)
    identity = IdentityLoss(load_recogniser(run), base.vae) if settings.identity_weight else None
    task = AppearanceTask(samples, base.unet, base.vision, net, config, base.unet_config, settings, loop.seed, identity)
    facts = {"task": asdict(settings), "matching": matching}
    metadata = {key: getattr(settings, key) for key in ("triplets", "bridge", "identity_weight")}
    train_net(run, name, task, base, loop, facts, metadata, held_out, init)
    if settings.base_share and PartialState().is_local_main_process:
        metadata = read_metadata(run / "base" / "unet.safetensors")
        along = {"steps": loop.steps, "batch": loop.batch, "lr": loop.lr, "base_share": settings.base_share}
        metadata["training"] = metadata["training"] | {"along_with_appearance": along}
        save_tensors(run / name / "unet.safetensors", task.unet.state_dict(), metadata)
    return task
