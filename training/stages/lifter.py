"""Stage `lifter`."""

from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm import tqdm

from ...models.nets.files import read_tensors, save_tensors
from ...models.views.lifter import FORMAT
from ..core.loop import train
from ..core.settings import LoopSettings
from ..data.heads.views import two_views
from ..data.samples import SampleSet
from ..tasks.lifter import LifterSettings, LifterTask
from .facts import training_facts

PORTION = 240  # heads a file of truth


def train_lifter(run: Path, samples: SampleSet, loop: LoopSettings, settings: LifterSettings) -> LifterTask:
    """Train the lifter on the heads of these samples; writes `lifter/lifter.safetensors`."""
    task = LifterTask(views_of(run, samples), settings, loop.seed)
    train(task, loop, run / "lifter", "lifter", {"config": asdict(task.net.config), "task": asdict(settings)})
    if PartialState().is_main_process:
        save_lifter(run / "lifter" / "lifter.safetensors", task, training_facts(loop, lr=loop.lr))
    return task


def save_lifter(path: Path, task: LifterTask, facts: dict) -> None:
    """Write a task's net in half precision."""
    tensors = {name: tensor.half() for name, tensor in task.net.state_dict().items()}
    save_tensors(path, tensors, {"format": FORMAT, "config": asdict(task.net.config), "training": facts})


def views_of(run: Path, samples: SampleSet) -> list[dict[str, torch.Tensor]]:
    """Two views of each head of the samples with depth and albedo, rendered once a run and kept in its folder."""
    pairs = {sample.target: sample.profile for sample in reversed(samples.samples)}
    size = next(iter(samples.pictures.values())).shape[0]
    names, views = sorted(pairs), []
    for first in tqdm(range(0, len(names), PORTION), desc="rendering truth", unit="part", mininterval=5):
        chosen = names[first : first + PORTION]
        path = run / "lifter" / f"truth_{size}_{chosen[0]}_{chosen[-1]}.safetensors"
        if not path.exists():
            made = [_view(name, pairs[name], size) for name in chosen]
            save_tensors(
                path,
                {key: torch.stack([one[key] for one in made]) for key in made[0]},
                {"format": "icportrait-views-1"},
            )
        tensors = read_tensors(path)[0]
        views += [{key: tensor[k] for key, tensor in tensors.items()} for k in range(len(chosen))]
    return views


def _view(target: str, profile: str, size: int) -> dict[str, torch.Tensor]:
    identity, scene = target.split("@")
    both = two_views(identity, scene, profile.split("@")[1], size)
    return {
        "picture": torch.from_numpy(both[0].picture),
        "cameras": torch.stack([torch.from_numpy(view.camera) for view in both]),
        "albedo": torch.stack([torch.from_numpy(view.albedo) for view in both]),
        "depth": torch.stack([torch.from_numpy(view.depth) for view in both]),
    }
