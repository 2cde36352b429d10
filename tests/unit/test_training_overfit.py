"""Each stage learns four samples in seconds, and leaves frozen parts bit-identical."""

import pytest
import torch
from tiny_models import randomise
from tiny_training import UNET, VISION, random_base, random_matching, sample_set, write_shard

from icportrait.models.method.correspondence import match
from icportrait.training.core.loop import train
from icportrait.training.core.settings import LoopSettings
from icportrait.training.data.samples import SampleSet
from icportrait.training.tasks.appearance import AppearanceSettings, AppearanceTask
from icportrait.training.tasks.autoencoder import AutoencoderTask
from icportrait.training.tasks.base import BaseSettings, BaseTask
from icportrait.training.tasks.conditioning import draw_batch
from icportrait.training.tasks.matching import MatchingSettings, MatchingTask, true_flow

ALWAYS = MatchingSettings(objective="paper", drop=0.0)


@torch.no_grad()
def loss_of(task: torch.nn.Module, draws: range = range(900, 904)) -> float:
    """Mean loss over draws that training never makes."""
    return sum(task(step, task.items(step, 4))[0].item() for step in draws) / len(draws)


def copies(modules: dict) -> dict:
    return {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in modules.items()}


def assert_untouched(modules: dict, before: dict) -> None:
    for name, module in modules.items():
        assert all(torch.equal(v, before[name][k]) for k, v in module.state_dict().items()), name


def base_task(samples: SampleSet) -> BaseTask:
    return BaseTask(samples, BaseSettings(pair_share=0.7), unet_config=UNET, vision_config=VISION)


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> BaseTask:
    """A base that has learned four samples; the nets build on it and must leave it as it is."""
    folder = tmp_path_factory.mktemp("base")
    settings = LoopSettings(steps=50, batch=4, lr=3e-3, warmup=5)
    return train(base_task(sample_set(folder, styles=True)), settings, folder / "run", "base")


def test_base(learned):
    before = loss_of(base_task(learned.samples))
    assert 0.9 < before < 1.3  # a new UNet predicts nothing
    assert loss_of(learned) < 0.65 * before


def test_matching_with_the_exact_flow(tmp_path):
    samples = sample_set(tmp_path, shift=16)
    unet, vision = random_base()
    settings = MatchingSettings(drop=0.0, max_share=1.0, max_timestep=100)
    task = MatchingTask(samples, unet, vision, UNET, settings, steps=200)
    frozen = copies(task.frozen)
    idle = {name: p.clone() for name, p in task.net.named_parameters() if not p.requires_grad}

    @torch.no_grad()
    def error() -> float:
        """Mean end-point error in cells of 16 px over valid cells; standing still would have 1.41."""
        items = task.items(950, 4)
        batch = draw_batch(samples, items, 950, 0, task.frozen["vision"], settings)
        features = task.features(batch, task.net.encode_hint(batch.side_by_side(batch.sampled, batch.profile_image)))
        truth, valid = true_flow([sample for _, sample in items], (4, 4))
        return (match(*features, "window")[0] - truth / 16).norm(dim=1)[valid].mean().item()

    loss, epe = loss_of(task), error()
    train(task, LoopSettings(steps=300, batch=4, lr=2e-3), tmp_path / "run", "matching")
    assert loss_of(task) < 0.7 * loss
    assert error() < 0.5 < 0.8 < epe
    assert_untouched(task.frozen, frozen)
    assert all(torch.equal(task.net.get_parameter(name), p) for name, p in idle.items())


def test_matching_by_the_papers_objective(learned, tmp_path):
    task = MatchingTask(learned.samples, learned.unet, learned.vision, UNET, ALWAYS)
    frozen, before = copies(task.frozen), loss_of(task)
    train(task, LoopSettings(steps=30, batch=4, lr=3e-3), tmp_path / "run", "matching")
    assert loss_of(task) < 0.9 * before
    assert_untouched(task.frozen, frozen)


def test_appearance(learned, tmp_path):
    net, config = random_matching()
    settings = AppearanceSettings(drop=0.0, triplets=0.5, beta=0.2)
    task = AppearanceTask(learned.samples, learned.unet, learned.vision, net, config, UNET, settings)
    frozen, before = copies(task.frozen), loss_of(task)
    assert set(frozen) == {"unet", "vision", "matching"}
    train(task, LoopSettings(steps=60, batch=4, lr=3e-3), tmp_path / "run", "appearance")
    assert loss_of(task) < 0.93 * before
    assert_untouched(task.frozen, frozen)


def test_appearance_with_a_base_that_learns_along(tmp_path):
    """Net and UNet both move; out-of-place residuals leave the loss as it is, and single steps come at their rate."""
    samples = sample_set(tmp_path, styles=True)
    net, config = random_matching()
    tasks = [
        AppearanceTask(samples, *random_base(), net, config, UNET, AppearanceSettings(drop=0.0, base_share=share))
        for share in (0.0, 0.4)
    ]
    for task in tasks:
        randomise(task.net, 5)
    figures = [tasks[1](step, tasks[1].items(step, 2))[1] for step in range(200)]
    assert sum("single_loss" in figure for figure in figures) / 200 == pytest.approx(0.4, abs=0.1)
    paired = next(step for step, figure in enumerate(figures) if "target_loss" in figure)
    losses = [task(paired, task.items(paired, 2))[0].item() for task in tasks]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)

    task = tasks[1]
    before, moving = copies({"net": task.net, "unet": task.unet}), {"net": task.net, "unet": task.unet}
    frozen, loss = copies(task.frozen), loss_of(task)
    assert set(frozen) == {"vision", "matching"}
    train(task, LoopSettings(steps=40, batch=4, lr=3e-3), tmp_path / "run", "appearance")
    assert loss_of(task) < 0.8 * loss
    assert_untouched(task.frozen, frozen)
    for name, module in moving.items():
        assert not all(torch.equal(v, before[name][k]) for k, v in module.state_dict().items()), name


def test_autoencoder(tmp_path):
    task = AutoencoderTask(SampleSet([write_shard(tmp_path / "x.tar")]), crop=32)
    before = loss_of(task)
    train(task, LoopSettings(steps=16, batch=4, lr=1e-3), tmp_path / "run", "autoencoder")
    assert loss_of(task) < 0.75 * before
