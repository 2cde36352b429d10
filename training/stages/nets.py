"""What the stages `matching` and `appearance` share: where a net starts from, and how it is trained, written and read."""

from pathlib import Path

import torch
from accelerate import PartialState

from ...models.errors import UserError
from ...models.nets.files import load_net_file, read_tensors, save_net
from ...models.nets.loading import load_strictly
from ...models.nets.portrait_net import build_net
from ..core.loop import train
from ..core.settings import LoopSettings
from ..data.samples import SampleSet
from ..tasks.appearance import AppearanceTask
from ..tasks.matching import MatchingTask
from .base_models import DEMO_BASE, Base
from .facts import training_facts
from .hint import start_from_hint
from .validation import validator


def start_from_net(path: Path, net: torch.nn.Module, config: dict) -> dict:
    """Give a fresh net the weights of a net file, of this run or of a bundle (float16).

    Only the role and the UNet it was made for must be those of `config`: tap, alpha, beta and gate are the new run's.

    Returns:
        What to record: the file's name, and the steps and licence it tells (None when it does not).

    Raises:
        UserError: not a net file, of another role, or for another UNet.
    """
    tensors, found, training = load_net_file(path, config["role"])
    differing = [key for key, value in config["unet"].items() if found["unet"].get(key) != value]
    if differing:
        told = ", ".join(f"{key} {found['unet'].get(key)} instead of {config['unet'][key]}" for key in differing)
        raise UserError(f"{path} (--init) was made for another UNet than this run's: {told}.")
    load_strictly(lambda: net.load_state_dict(tensors, strict=False), path)
    return {"file": Path(path).name, "steps": training.get("steps"), "license": training.get("license")}


def starting_weights(run: Path, task: MatchingTask | AppearanceTask, init: Path | None) -> dict:
    """Give a task's fresh net its start beyond the UNet's copy: a net file, or else the run's hint block where there is one.

    Returns:
        Facts for the settings and the net's metadata.
    """
    if init is None:
        return {"hint": start_from_hint(run, task.net)}
    return {"hint": False, "init": start_from_net(init, task.net, task.config)}


def train_net(
    run: Path,
    name: str,
    task,
    base: Base,
    loop: LoopSettings,
    facts: dict,
    metadata: dict,
    held_out: SampleSet | None,
    init: Path | None,
):
    """Train a net's task in the run's subfolder `name` and write `net.safetensors`, which later stages read (float32), and for an
    SD1.5 base `<base>_<role>_fp16.safetensors`, which ComfyUI loads; returns the task.

    Args:
        facts: for `settings.json`, beside what all nets have.
        metadata: for the net file's metadata, likewise.
        init: net file whose weights it begins with, or None.
    """
    start = starting_weights(run, task, init)
    facts = {"config": task.config, "base": base.name, **start, **facts}
    train(task, loop, run / name, name, facts, validator(task, held_out, base.vae, base.vision))
    save_net_of(run / name / "net.safetensors", task, loop, base, {**metadata, **start})
    return task


def save_net_of(path: Path, task, loop: LoopSettings, base: Base, extra: dict) -> None:
    """Write a task's net in float32, and for a base that is not the demo's (whose nets are exported) also the half-precision file
    for ComfyUI; `extra` is added to the training facts in their metadata."""
    if not PartialState().is_local_main_process:
        return
    told = training_facts(loop, task.samples, base.name, extra.get("init"), lr=loop.lr, base=base.name, **extra)
    save_net(path, task.net.state_dict(), task.config, told, torch.float32)
    if base.name != DEMO_BASE:
        half = path.with_name(f"{Path(base.name).stem}_{task.config['role']}_fp16.safetensors")
        save_net(half, task.net.state_dict(), task.config, told)
        print(f"For ComfyUI's models/icportrait: {half}", flush=True)


def load_stage_net(path: Path) -> tuple[torch.nn.Module, dict]:
    """A trained net in float32 and its config."""
    tensors, metadata = read_tensors(path)
    net = build_net(metadata["config"])
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return net.requires_grad_(False).eval(), metadata["config"]
