"""The loop: exact resume, accumulation, running average, and clear stops that keep the last good checkpoint."""

import json
import math

import pytest
import torch
from filelock import FileLock
from tiny_models import randomise
from tiny_training import UNET, VISION, random_base, random_matching, sample_set

from icportrait.models.errors import UserError
from icportrait.models.nets.files import read_tensors
from icportrait.training.core import loop
from icportrait.training.core.checkpoint import load_weights
from icportrait.training.core.diffusion import keyed_generator
from icportrait.training.core.loop import TrainingStopped, train
from icportrait.training.core.settings import LoopSettings
from icportrait.training.tasks.appearance import AppearanceSettings, AppearanceTask
from icportrait.training.tasks.base import BaseTask
from icportrait.training.tasks.matching import MatchingSettings, MatchingTask


class Toy(torch.nn.Module):
    """Least squares with a draw of its own for each sample, keyed as the real tasks' draws are."""

    def __init__(self, fail_at: int | None = None, failure: str = "", scale: float = 1.0):
        super().__init__()
        self.first = torch.nn.Linear(5, 4)
        self.second = torch.nn.Linear(4, 1)
        self.unused = torch.nn.Linear(3, 3).requires_grad_(False)
        for parameter in self.parameters():
            parameter.data.copy_(torch.randn(parameter.shape, generator=keyed_generator("toy", *parameter.shape)))
        self.fail_at, self.failure, self.scale = fail_at, failure, scale
        self.steps: list[int] = []

    def items(self, step: int, batch: int) -> list:
        return list(range(batch))

    def forward(self, step: int, items: list):
        x = torch.stack([torch.randn(5, generator=keyed_generator(step, position)) for position in items])
        out = self.second(self.first(x).tanh())
        loss = self.scale * (out - x.sum(dim=1, keepdim=True)).square().mean()
        self.steps.append(step)
        if step == self.fail_at:
            if self.failure == "crash":
                raise KeyboardInterrupt
            if self.failure == "loss":
                loss = loss * float("nan")
            if self.failure == "gradient":  # sqrt has no slope at 0
                loss = loss + (out * 0).sqrt().sum()
        return loss, {"loss": loss.item()}


def weights(task: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in task.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def checkpoint(folder) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "checkpoint.safetensors")[0]


class TestResume:
    """Training in two goes, with new objects in between, ends on the very bits of training in one."""

    @pytest.mark.parametrize(
        "options",
        [{}, {"ema": 0.9, "warmup": 4}, {"micro_batch": 2}, {"clip": 0.01, "weight_decay": 0.1}],
        ids=["plain", "average", "micro-batches", "clip"],
    )
    def test_toy(self, tmp_path, options):
        settings = {"batch": 4, "lr": 0.02} | options
        whole = train(Toy(), LoopSettings(steps=6, **settings), tmp_path / "whole", "toy")
        train(Toy(), LoopSettings(steps=3, **settings), tmp_path / "parts", "toy")
        resumed = Toy()
        train(resumed, LoopSettings(steps=6, **settings), tmp_path / "parts", "toy")
        assert resumed.steps[0] == 3 and len(set(resumed.steps)) == 3
        assert same(weights(whole), weights(resumed)) and not same(weights(whole), weights(Toy()))
        assert same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))

    @pytest.mark.parametrize("kind", ["matching flow", "matching paper", "appearance", "base"])
    def test_real_tasks(self, tmp_path, kind):
        samples = sample_set(tmp_path, styles=True)
        settings = {"batch": 2, "lr": 1e-3, "ema": 0.9, "seed": 5}
        conditioning = {"triplets": 0.5, "bridge": 0.5}

        def task():
            if kind == "base":
                return BaseTask(samples, seed=5, unet_config=UNET, vision_config=VISION)
            unet, vision = random_base()
            if kind == "appearance":
                net, config = random_matching()
                return AppearanceTask(
                    samples, unet, vision, net, config, UNET, AppearanceSettings(**conditioning), seed=5
                )
            settings = MatchingSettings(objective=kind.split()[1], **conditioning)
            return MatchingTask(samples, unet, vision, UNET, settings, seed=5, steps=6)

        whole = train(task(), LoopSettings(steps=6, **settings), tmp_path / "whole", kind)
        train(task(), LoopSettings(steps=3, **settings), tmp_path / "parts", kind)
        resumed = train(task(), LoopSettings(steps=6, **settings), tmp_path / "parts", kind)
        assert same(weights(whole), weights(resumed))
        assert same(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts"))
        assert not same(weights(whole), weights(task()))

    def test_after_a_crash_between_checkpoints(self, tmp_path):
        settings = {"batch": 4, "lr": 0.02, "ema": 0.9}
        whole = train(Toy(), LoopSettings(steps=9, **settings), tmp_path / "whole", "toy")
        every_step = LoopSettings(steps=9, checkpoint_minutes=0, **settings)
        with pytest.raises(KeyboardInterrupt):
            train(Toy(fail_at=5, failure="crash"), every_step, tmp_path / "parts", "toy")
        assert checkpoint(tmp_path / "parts")["step"] == 5
        resumed = train(Toy(), LoopSettings(steps=9, **settings), tmp_path / "parts", "toy")
        assert same(weights(whole), weights(resumed))

    def test_a_finished_run_is_not_trained_again(self, tmp_path):
        settings = LoopSettings(steps=3, batch=4, lr=0.02, ema=0.9)
        first = train(Toy(), settings, tmp_path, "toy")
        again = Toy()
        train(again, settings, tmp_path, "toy")
        assert again.steps == [] and same(weights(first), weights(again))

    def test_another_runs_checkpoint_is_refused(self, tmp_path):
        train(Toy(), LoopSettings(steps=1, batch=4), tmp_path, "toy")
        other = Toy()
        other.first = torch.nn.Linear(5, 6)
        with pytest.raises(ValueError, match="does not fit this run.*weights/first"):
            train(other, LoopSettings(steps=2, batch=4), tmp_path, "toy")
        with pytest.raises(ValueError, match="does not fit this run.*average/"):
            train(Toy(), LoopSettings(steps=2, batch=4, ema=0.9), tmp_path, "toy")

    def test_a_truncated_checkpoint_is_named(self, tmp_path):
        train(Toy(), LoopSettings(steps=1, batch=4), tmp_path, "toy")
        path = tmp_path / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(ValueError, match="checkpoint.safetensors is not a readable safetensors file"):
            train(Toy(), LoopSettings(steps=2, batch=4), tmp_path, "toy")


class TestStops:
    @pytest.mark.parametrize("failure", ["loss", "gradient"])
    def test_not_a_number(self, tmp_path, failure):
        """Also when only the gradient breaks: the next loss would show it, but after a checkpoint of broken weights."""
        settings = LoopSettings(steps=9, batch=4, lr=0.02, checkpoint_minutes=0)
        with pytest.raises(TrainingStopped, match=f"{failure} of step 4 .*last checkpoint .* kept"):
            train(Toy(fail_at=4, failure=failure), settings, tmp_path, "toy")
        kept = checkpoint(tmp_path)
        assert kept["step"] == 4 and all(torch.isfinite(tensor).all() for tensor in kept.values())
        whole = train(Toy(), LoopSettings(steps=4, batch=4, lr=0.02), tmp_path / "whole", "toy")
        assert all(torch.equal(kept[f"weights/{name}"], tensor) for name, tensor in loop.trainable(whole).items())

    @pytest.mark.parametrize("failure", ["loss", "gradient"])
    def test_no_checkpoint_is_promised_where_none_was_saved(self, tmp_path, failure):
        with pytest.raises(TrainingStopped, match="holds no checkpoint yet"):
            train(Toy(fail_at=0, failure=failure), LoopSettings(steps=9, batch=4), tmp_path, "toy")
        assert not (tmp_path / loop.FILE).exists()

    @pytest.mark.parametrize("name", ["lr", "weight_decay"])
    def test_an_infinite_rate_is_one_sentence(self, name):
        with pytest.raises(UserError, match="must be finite"):
            LoopSettings(steps=1, **{name: float("inf")})

    def test_disk_full(self, tmp_path, monkeypatch):
        written, save = [], loop.save_tensors

        def full_at_the_third(path, tensors, metadata):
            written.append(int(tensors["step"]))
            if len(written) == 3:
                raise OSError(28, "No space left on device")
            save(path, tensors, metadata)

        monkeypatch.setattr(loop, "save_tensors", full_at_the_third)
        settings = LoopSettings(steps=9, batch=4, checkpoint_minutes=0)
        with pytest.raises(TrainingStopped, match="could not be written.*No space left"):
            train(Toy(), settings, tmp_path, "toy")
        assert written == [1, 2, 3] and checkpoint(tmp_path)["step"] == 2


class TestStep:
    def test_accumulation_equals_one_large_batch(self, tmp_path):
        """The loss is so small that Adam's epsilon matters: then the gradient's size does, not only its direction."""
        settings = {"steps": 3, "batch": 8, "lr": 0.1, "clip": 1e9}
        whole = train(Toy(scale=1e-8), LoopSettings(**settings), tmp_path / "1", "toy")
        parts = train(Toy(scale=1e-8), LoopSettings(micro_batch=2, **settings), tmp_path / "4", "toy")
        moved = max((a - b).abs().max() for a, b in zip(whole.parameters(), Toy().parameters(), strict=True))
        assert moved > 0.05
        for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)

    def test_is_adamw_with_clipping(self, tmp_path):
        """Three steps against the update rule written out in float64. Gradients are cut to the size of Adam's epsilon,
        because otherwise their size would not matter."""
        settings = LoopSettings(steps=3, batch=4, lr=0.02, warmup=2, weight_decay=0.1, clip=2e-8)
        trained = train(Toy(), settings, tmp_path, "toy")
        task = Toy().double()
        names = list(loop.trainable(task))
        moments = dict.fromkeys(names, (0.0, 0.0))
        for step in range(3):
            x = torch.stack([torch.randn(5, generator=keyed_generator(step, i)) for i in range(4)]).double()
            out = task.second(task.first(x).tanh())
            loss = (out - x.sum(dim=1, keepdim=True)).square().mean()
            parameters = loop.trainable(task)
            gradients = dict(zip(names, torch.autograd.grad(loss, list(parameters.values())), strict=True))
            norm = math.sqrt(sum(g.square().sum().item() for g in gradients.values()))
            lr = 0.02 * min(1.0, (step + 1) / 2)
            for name, parameter in parameters.items():
                g = gradients[name] * min(1.0, 2e-8 / norm)
                m, v = moments[name]
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
                moments[name] = m, v
                m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
                parameter.data -= lr * 0.1 * parameter.data + lr * m_hat / (v_hat.sqrt() + 1e-8)
        for (name, a), b in zip(trained.named_parameters(), task.parameters(), strict=True):
            assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-5), name

    def test_frozen_weights_stay(self, tmp_path):
        task = train(Toy(), LoopSettings(steps=3, batch=4, lr=0.1, weight_decay=0.5), tmp_path, "toy")
        for name, parameter in Toy().named_parameters():
            assert torch.equal(parameter, task.get_parameter(name)) == name.startswith("unused")

    def test_learning_rate(self):
        """Constant as in the paper; or warm-up and a half cosine to a tenth."""
        assert {LoopSettings(steps=10, lr=2e-5).lr_at(step) for step in range(10)} == {2e-5}
        settings = LoopSettings(steps=100, lr=1.0, warmup=10, schedule="cosine")
        assert settings.lr_at(0) == pytest.approx(0.1, rel=1e-3)
        assert settings.lr_at(50) == pytest.approx(0.55)
        assert settings.lr_at(100) == pytest.approx(0.1)
        rates = [settings.lr_at(step) for step in range(9, 101)]
        assert rates == sorted(rates, reverse=True)

    def test_two_stages_of_one_process_may_differ_in_precision(self, tmp_path):
        train(Toy(), LoopSettings(steps=1, batch=4, precision="bf16"), tmp_path / "a", "toy")
        train(Toy(), LoopSettings(steps=1, batch=4, precision="no"), tmp_path / "b", "toy")

    @pytest.mark.parametrize(
        "options,message",
        [
            ({"schedule": "linear"}, "'linear'; choose constant or cosine"),
            ({"precision": "fp8"}, "'fp8'; choose one of no, bf16, fp16, auto"),
            ({"ema": 2.0}, "--ema must lie from 0 to 1; 2.0 was given"),
            ({"ema": 1.0}, "--ema must be below 1"),
            ({"lr": float("nan")}, "--lr must be at least 0; nan was given"),
            ({"clip": -1.0}, "--clip must be at least 0"),
        ],
    )
    def test_impossible_settings_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            LoopSettings(steps=1, **options)

    def test_a_batch_that_cannot_be_shared_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"multiple of processes x --micro-batch \(1 x 3\)"):
            train(Toy(), LoopSettings(steps=1, batch=4, micro_batch=3), tmp_path, "toy")

    def test_two_trainings_in_one_folder_are_refused(self, tmp_path):
        with FileLock(tmp_path / "training.lock"):
            with pytest.raises(ValueError, match="Another training works in"):
                train(Toy(), LoopSettings(steps=1, batch=4), tmp_path, "toy")
        train(Toy(), LoopSettings(steps=1, batch=4), tmp_path, "toy")

    def test_logged_figures_are_means_over_micro_batches_and_steps(self, tmp_path, monkeypatch):
        logged = []
        monkeypatch.setattr(loop.Accelerator, "log", lambda self, values, step: logged.append(values))
        train(Toy(), LoopSettings(steps=10, batch=4, micro_batch=1, lr=0.0, tracker="none"), tmp_path, "toy")
        task = Toy()
        wanted = [task(step, [position])[0].item() for step in range(10) for position in range(4)]
        assert logged[0]["loss"] == pytest.approx(sum(wanted) / 40)


class Overflowing(Toy):
    """fp16: the gradient overflows at the first two draws, the loss itself at the fifth."""

    def forward(self, step: int, items: list):
        loss, figures = super().forward(step, items)
        if step in (0, 1):
            loss = loss + (self.second.weight.sum() * 1e30) ** 2 * 1e-9
        return loss * (float("inf") if step == 4 else 1.0), figures


class TestHalfPrecision:
    """The scaler of fp16, on the CPU: accelerate itself starts it on GPUs only."""

    @pytest.fixture(autouse=True)
    def scaler(self, monkeypatch):
        plain = loop._accelerator

        def with_scaler(settings, folder):
            accelerator = plain(settings, folder)
            accelerator.native_amp = True
            accelerator.state._mixed_precision = "fp16"
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
            return accelerator

        monkeypatch.setattr(loop, "_accelerator", with_scaler)
        monkeypatch.setitem(loop.DTYPES, "fp16", torch.float32)

    def test_skipped_steps_are_no_steps_and_the_scale_resumes(self, tmp_path):
        settings = {"batch": 4, "lr": 0.02, "ema": 0.9, "tracker": "none"}
        task = train(Overflowing(), LoopSettings(steps=6, **settings), tmp_path / "whole", "toy")
        assert len(task.steps) == 6 + 3  # every draw is a new one
        whole = checkpoint(tmp_path / "whole")
        assert (whole["step"], whole["draw"]) == (6, 9) and all(torch.isfinite(t).all() for t in whole.values())
        assert whole["scaler/scale"] == 2.0**10 / 2**3 * 2
        for steps in (3, 6):
            train(Overflowing(), LoopSettings(steps=steps, **settings), tmp_path / "parts", "toy")
        assert same(whole, checkpoint(tmp_path / "parts"))

    def test_it_stops_where_nothing_helps(self, tmp_path):
        task = Toy(fail_at=None, scale=float("inf"))
        with pytest.raises(TrainingStopped, match="fp16 overflowed 30 times in a row at step 0.*bf16"):
            train(task, LoopSettings(steps=6, batch=4, tracker="none"), tmp_path, "toy")


class TestFeeding:
    @pytest.mark.parametrize("micro_batch", [0, 1])
    def test_workers_draw_what_the_loop_draws(self, tmp_path, micro_batch):
        samples = sample_set(tmp_path, styles=True)

        def trained(folder, steps, workers):
            unet, vision = random_base()
            task = MatchingTask(samples, unet, vision, UNET, MatchingSettings(objective="paper", triplets=0.5))
            randomise(task.net, 1)
            options = {"batch": 2, "lr": 1e-3, "micro_batch": micro_batch, "tracker": "none"}
            return weights(train(task, LoopSettings(steps=steps, workers=workers, **options), folder, "matching"))

        alone = trained(tmp_path / "alone", 4, 0)
        trained(tmp_path / "fed", 2, 2)
        assert same(alone, trained(tmp_path / "fed", 4, 2))


class TestRunningAverage:
    def test_equals_the_loop_and_is_what_training_returns(self, tmp_path):
        settings = {"batch": 4, "lr": 0.05}
        raw = [weights(Toy())]
        for step in range(1, 13):
            raw.append(weights(train(Toy(), LoopSettings(steps=step, **settings), tmp_path / "raw", "toy")))
        average = {name: tensor.double() for name, tensor in raw[0].items()}
        for step in range(12):
            decay = min(0.3, (1 + step) / (10 + step))
            for name in average:
                average[name] = decay * average[name] + (1 - decay) * raw[step + 1][name].double()
        task = train(Toy(), LoopSettings(steps=12, ema=0.3, **settings), tmp_path / "average", "toy")
        for name, tensor in weights(task).items():
            assert torch.allclose(tensor.double(), average[name], atol=1e-5), name
        kept = checkpoint(tmp_path / "average")
        for name in loop.trainable(task):
            assert torch.equal(kept[f"weights/{name}"], raw[12][name])
            assert torch.equal(kept[f"average/{name}"], task.get_parameter(name))
        loaded = Toy()
        assert load_weights(loaded, tmp_path / "average") == 12
        assert same(weights(loaded), weights(task))

    def test_without_a_checkpoint_loading_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="checkpoint.safetensors does not exist"):
            load_weights(Toy(), tmp_path)


def test_the_run_folder(tmp_path):
    train(Toy(), LoopSettings(steps=10, batch=4), tmp_path / "run", "toy", {"base": "mine"})
    told = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert told["settings"]["steps"] == 10 and told["facts"] == {"base": "mine"}
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "checkpoint.safetensors",
        "log",
        "settings.json",
        "training.lock",
        "usage.json",
    ]
    used = json.loads((tmp_path / "run" / "usage.json").read_text())
    assert used["steps"] == 10 and 0 < used["seconds_per_step"] < 10
    assert used["device"] == "CPU" and "gpu_gb" not in used
    events = list((tmp_path / "run" / "log").rglob("events.*"))
    assert events and any(b"gradient_norm" in path.read_bytes() for path in events)


def test_the_global_generator_is_not_touched(tmp_path):
    samples = sample_set(tmp_path)
    unet, vision = random_base()
    torch.manual_seed(8)
    state = torch.get_rng_state()
    task = MatchingTask(samples, unet, vision, UNET, MatchingSettings(objective="paper"))
    randomise(task.net, 1)
    train(task, LoopSettings(steps=2, batch=2), tmp_path / "run", "matching")
    assert torch.equal(torch.get_rng_state(), state)
