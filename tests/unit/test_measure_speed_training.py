"""The measurement of speed beside diffusers, and of memory: what they say, on tiny models."""

import importlib.util

import pytest
import tiny_models
import torch

from icportrait.training.evaluation.measure import diffusers_training, speed, step_memory


def test_only_some_parts(capsys):
    options = speed.SpeedMeasure(only=("correspondence",), cells=(8,), repetitions=1)
    figures = speed.measure_speed(options)
    assert set(figures) == {"device", "torch", "threads", "correspondence_vs_matmul"}
    speed.print_figures(figures)
    assert "match 8 x 8, smooth" in capsys.readouterr().out


def test_without_diffusers_the_figure_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    figures = speed.measure_speed(speed.SpeedMeasure(only=("training",)))
    assert "train_vs_diffusers" not in figures
    assert "diffusers or transformers is not installed" in capsys.readouterr().out
    speed.print_figures(figures)


def test_ratios_are_theirs_over_ours(monkeypatch):
    """One view of theirs counts twice: it has half the cells of our pair."""
    seconds = {"diffusers": 6.0, "diffusers_one_view": 3.5, "plain": 4.0, "cached": 3.0}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(
        diffusers_training,
        "diffusers_step",
        lambda batch, height, width: "diffusers" if width > height else "diffusers_one_view",
    )
    for name in ("plain", "cached"):
        monkeypatch.setattr(diffusers_training, f"{name}_step", lambda *arguments, name=name, **options: name)
    monkeypatch.setattr(diffusers_training, "seconds_per_picture", lambda build, batch, steps: (seconds[build()], 0.0))
    found = diffusers_training.train_vs_diffusers(64, 1, 1, 2)
    ratios = [found[name]["median"] for name in ("plain", "cached", "cached_by_cell_of_one_view")]
    assert ratios == pytest.approx([1.5, 2.0, 7 / 3])


@pytest.mark.parametrize("build", ["plain_step", "cached_step"])
def test_our_steps_train(build, monkeypatch):
    monkeypatch.setattr(diffusers_training, "SD15_UNET", tiny_models.UNET)
    monkeypatch.setattr(diffusers_training, "SD15_VAE", tiny_models.VAE["ddconfig"])
    monkeypatch.setattr(diffusers_training, "CLIP_VIT_L14", tiny_models.VISION)
    torch.manual_seed(1)
    step = getattr(diffusers_training, build)(2, 64)
    losses = [step(index) for index in (0, 1)]
    assert all(0 < loss < 1e4 for loss in losses) and losses[0] != losses[1]


def test_live_bytes_are_those_at_one_time():
    with step_memory.LiveBytes() as live:
        kept = torch.zeros(1000)
        for _ in range(3):
            other = kept + 1
            view = other.view(10, 100)
            view.add_(1)
            del other, view
    assert live.peak == 8000


def test_memory_is_told_by_speed():
    setup = tiny_models.portrait_setup()
    found = step_memory.errors(setup.model, setup.nets, setup.profile)
    assert found["stock"]["taken_gb"] <= found["exact"]["taken_gb"] <= found["fast"]["taken_gb"]
    declared = {name: one["declared_gb"] / found["stock"]["declared_gb"] for name, one in found.items()}
    assert declared["exact"] == pytest.approx(2) and declared["fast"] == pytest.approx(2.5, rel=0.05)
    for one in found.values():
        assert one["error"] == pytest.approx(abs(one["declared_gb"] / one["taken_gb"] - 1))
