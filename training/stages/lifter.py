"""Stage `lifter`."""

from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm import tqdm

from ...models.errors import UserError
from ...models.faces.detection import DetectionSettings, find_faces
from ...models.faces.mediapipe import topology
from ...models.nets.files import read_tensors, save_tensors
from ...models.views.lifter import FORMAT
from ...models.views.photograph import lift_crop
from ...models.views.volume import seen_by_net
from ..core.loop import train
from ..core.settings import LoopSettings
from ..data.heads.views import two_views
from ..data.samples import SampleSet
from ..tasks.lifter import LifterSettings, LifterTask
from .facts import training_facts

PORTION = 120  # heads a file of truth


def train_lifter(run: Path, samples: SampleSet, loop: LoopSettings, settings: LifterSettings) -> LifterTask:
    """Train the lifter on the heads of these samples; writes `lifter/lifter.safetensors`."""
    task = LifterTask(views_of(run, samples), settings, loop.seed)
    train(task, loop, run / "lifter", "lifter", {"config": asdict(task.net.config), "task": asdict(settings)})
    if PartialState().is_main_process:
        save_lifter(run / "lifter" / "lifter.safetensors", task, training_facts(loop, samples, lr=loop.lr))
    return task


def save_lifter(path: Path, task: LifterTask, facts: dict) -> None:
    """Write a task's net in half precision."""
    tensors = {name: tensor.half() for name, tensor in task.net.state_dict().items()}
    save_tensors(path, tensors, {"format": FORMAT, "config": asdict(task.net.config), "training": facts})


def views_of(run: Path, samples: SampleSet) -> list[dict[str, torch.Tensor]]:
    """Two views of each head of the samples with albedo and depth, and what the net sees of the first; made once a run and kept in its folder.

    Raises:
        UserError: on none of the heads a face mesh can be read, or they are no heads of shards.
    """
    pairs = {sample.target: sample.profile for sample in reversed(samples.samples)}
    size = next(iter(samples.pictures.values())).shape[0]
    names, views = sorted(pairs), []
    for first in tqdm(range(0, len(names), PORTION), desc="rendering truth", unit="part", mininterval=5):
        chosen = names[first : first + PORTION]
        path = run / "lifter" / f"views_{size}_{chosen[0]}_{chosen[-1]}.safetensors"
        if not path.exists():
            made = [view for name in chosen if (view := _view(name, pairs[name], size)) is not None]
            if not made:
                continue
            save_tensors(
                path,
                {key: torch.stack([one[key] for one in made]) for key in made[0]},
                {"format": "icportrait-views-2"},
            )
        tensors = read_tensors(path)[0]
        views += [{key: tensor[k] for key, tensor in tensors.items()} for k in range(len(tensors["seen"]))]
    if not views:
        raise UserError(f"on none of the {len(names)} heads a face mesh can be read; use larger pictures")
    return views


def _view(target: str, profile: str, size: int) -> dict[str, torch.Tensor] | None:
    """One head, or None where no mesh is read on it: nothing would be lifted in use either."""
    identity, scene = target.split("@")
    both = two_views(identity, scene, profile.split("@")[1], size)
    picture = torch.from_numpy(both[0].picture).float() / 255
    faces = find_faces(picture[None], DetectionSettings(order="large-small", backend="mediapipe")).frames[0]
    if not faces:
        return None
    cameras = torch.stack([torch.from_numpy(view.camera) for view in both])
    lifted = lift_crop(picture, faces[0].points_3d[: topology.POINTS], taken_by=cameras[0])
    return {
        "seen": seen_by_net(lifted).half(),
        "cameras": cameras,
        "albedo": torch.stack([torch.from_numpy(view.albedo) for view in both]),
        "depth": torch.stack([torch.from_numpy(view.depth) for view in both]),
        "back": torch.from_numpy(both[0].back),
    }
