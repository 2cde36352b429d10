"""What training writes is what ComfyUI runs: the same residuals, features and flow."""

import pytest
import torch
from test_training_objectives import loud
from tiny_training import CONTEXT, UNET, random_base, random_matching, sample_set

from icportrait.models.nets.files import read_tensors, save_tensors
from icportrait.models.nets.loading import load_net
from icportrait.training.core.diffusion import keyed_generator
from icportrait.training.core.settings import LoopSettings
from icportrait.training.stages.base_models import Base
from icportrait.training.stages.export import export_bundle
from icportrait.training.stages.nets import save_net_of
from icportrait.training.tasks.appearance import AppearanceSettings, AppearanceTask
from icportrait.training.tasks.matching import MatchingSettings, MatchingTask


def trained(role: str, folder):
    samples, (unet, vision) = sample_set(folder), random_base()
    if role == "matching":
        task = MatchingTask(samples, unet, vision, UNET, MatchingSettings(objective="paper"))
    else:
        task = AppearanceTask(
            samples, unet, vision, *random_matching(), UNET, AppearanceSettings(alpha=0.7, beta=0.1, gate=True)
        )
    loud(task.net, 3)  # stands for training
    base = Base(unet, UNET, None, vision, "tiny")
    save_net_of(folder / role / "net.safetensors", task, LoopSettings(steps=1), base, {})
    return task


def inputs():
    draw = keyed_generator("export")
    shapes = {"x": (1, 4, 8, 16), "context": (1, 1, CONTEXT)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}, torch.rand(
        1, 3, 64, 128, generator=draw
    )


@torch.no_grad()
@pytest.mark.parametrize("role", ["matching", "appearance"])
def test_a_stages_file_gives_the_residuals_of_training(tmp_path, role):
    task = trained(role, tmp_path)
    loaded = load_net(tmp_path / role / "net.safetensors", role)
    (x, hint), t = inputs(), torch.tensor([250])
    ours = task.net.residuals(x["x"], t, x["context"], task.net.encode_hint(hint))
    theirs = loaded.patcher.model.residuals(x["x"], t, x["context"], loaded.patcher.model.encode_hint(hint))
    assert len(ours) == len(theirs) == 5 and max(r.abs().max().item() for r in ours) > 0.1
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-5
    assert loaded.config == task.config


@torch.no_grad()
def test_a_bundle_holds_the_same_weights_in_half_precision(tmp_path):
    tasks = {role: trained(role, tmp_path) for role in ("matching", "appearance")}
    for path in ("autoencoder/vae", "base/unet", "base/vision"):
        save_tensors(
            tmp_path / f"{path}.safetensors", {"w": torch.rand(3, generator=keyed_generator(1))}, {"format": "x"}
        )
    sizes = export_bundle(tmp_path, tmp_path / "bundle")
    assert set(sizes) == {f"{n}.safetensors" for n in ("base", "vae", "vision", "matching", "appearance")}
    for role, task in tasks.items():
        tensors, metadata = read_tensors(tmp_path / "bundle" / f"{role}.safetensors")
        state = task.net.state_dict()
        assert tensors.keys() == state.keys() and metadata["config"] == task.config
        assert all(torch.equal(tensors[name], state[name].half()) for name in state)
        assert load_net(tmp_path / "bundle" / f"{role}.safetensors", role).config["gate"] is (role == "appearance")
