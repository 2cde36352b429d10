"""Options of the loop: checkpointing, compilation, optimisers, trackers, Min-SNR, cached embeddings, validation."""

import dataclasses
import json
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_training_loop import Toy, checkpoint, same, weights
from test_training_objectives import EpsSampling, beside, loud, redraw
from tiny_models import randomise
from tiny_training import UNET, VISION, random_base, random_matching, sample_set, with_latents, write_shard

from icportrait.models.nets.files import read_tensors
from icportrait.training.core import optimizers, tracking
from icportrait.training.core.acceleration import blocks_of, compile_blocks, use_checkpointing
from icportrait.training.core.diffusion import min_snr_weights
from icportrait.training.core.loop import train
from icportrait.training.core.modules import embed_images
from icportrait.training.core.settings import LoopSettings
from icportrait.training.data.samples import SampleSet
from icportrait.training.stages import sample_sets
from icportrait.training.tasks.appearance import AppearanceSettings, AppearanceTask
from icportrait.training.tasks.base import BaseSettings, BaseTask
from icportrait.training.tasks.conditioning import ConditioningSettings, draw_batch
from icportrait.training.tasks.matching import MatchingSettings, MatchingTask, true_flow
from icportrait.training.tasks.validation import Validator


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return sample_set(tmp_path_factory.mktemp("shards"), styles=True)


def task_of(kind: str, samples: SampleSet, identity=None, **options) -> torch.nn.Module:
    if kind == "base":
        task = BaseTask(samples, BaseSettings(**options), unet_config=UNET, vision_config=VISION)
        randomise(task.unet, 3)
        return task
    if kind == "appearance":
        net, config = random_matching()
        task = AppearanceTask(
            samples, *random_base(), net, config, UNET, AppearanceSettings(**options), identity=identity
        )
    else:
        task = MatchingTask(samples, *random_base(), UNET, MatchingSettings(objective=kind.split()[1], **options))
    loud(task.net, 5)
    return task


def gradients(task: torch.nn.Module) -> tuple[float, dict]:
    loss, _ = task(1, task.items(1, 2))
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


def wandb_records(file: Path) -> list[bytes]:
    """The records of a W&B file: a LevelDB log of 32 KB blocks after a header of 7 bytes."""
    data, at, records, record = file.read_bytes(), 7, [], b""
    while at < len(data):
        if (left := 32768 - at % 32768) < 7:  # no place for a header
            at += left
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or a last part
            records.append(record)
            record = b""
    return records


def wandb_curves(run: Path) -> dict[str, dict[int, float]]:
    """{curve: {step: value}} of a W&B run's folder, pictures left out."""
    from wandb.proto.wandb_internal_pb2 import Record

    curves: dict[str, dict[int, float]] = {}
    (file,) = run.glob("*.wandb")
    for history in (Record.FromString(record).history for record in wandb_records(file)):
        values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in history.item}
        for name, value in values.items():
            if isinstance(value, int | float):
                curves.setdefault(name, {})[values["_step"]] = value
    return curves


@pytest.mark.parametrize("kind", ["matching flow", "matching paper", "appearance", "base"])
class TestBlocks:
    def test_checkpointing_keeps_the_bits(self, samples, kind):
        plain_loss, plain = gradients(task_of(kind, samples))
        task = task_of(kind, samples)
        modules = [task, *getattr(task, "frozen", {}).values()]
        assert use_checkpointing(modules) == use_checkpointing(modules) >= 4
        loss, checkpointed = gradients(task)
        assert loss == plain_loss and same(plain, checkpointed)

    def test_compiled_blocks_compute_the_same(self, samples, kind):
        loss, plain = gradients(task_of(kind, samples))
        task = task_of(kind, samples)
        assert compile_blocks([task, *getattr(task, "frozen", {}).values()], backend="eager") >= 4
        compiled_loss, compiled = gradients(task)
        assert compiled_loss == pytest.approx(loss, rel=1e-5) and plain.keys() == compiled.keys()
        for name, gradient in plain.items():
            assert torch.allclose(gradient, compiled[name], rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("kind", ["matching paper", "appearance"])
def test_frozen_models_run_in_their_own_precision(samples, kind):
    """Autocast would take their norms to float32 and back."""
    exact, _ = gradients(task_of(kind, samples))
    task, seen = task_of(kind, samples), []
    for module in task.frozen.values():
        for part in module.to(torch.bfloat16).modules():
            if isinstance(part, torch.nn.GroupNorm):
                part.register_forward_pre_hook(lambda _, x: seen.append((torch.is_autocast_enabled("cpu"), x[0].dtype)))
    with torch.autocast("cpu", torch.bfloat16):
        loss, found = gradients(task)
    assert set(seen) == {(False, torch.bfloat16)}
    assert loss == pytest.approx(exact, rel=0.05)
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in found.values())


def test_checkpointing_keeps_less_in_memory():
    def kept(unet) -> int:
        """Bytes autograd keeps besides the weights."""
        held, seen = {p.untyped_storage().data_ptr() for p in unet.parameters()}, {}

        def note(tensor):
            if tensor.untyped_storage().data_ptr() not in held:
                seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            out = unet(torch.ones(2, 4, 16, 32), torch.tensor([1, 500]), torch.ones(2, 1, UNET["context_dim"]))
        assert out.requires_grad
        return sum(seen.values())

    plain = kept(random_base()[0])
    unet = random_base()[0]
    use_checkpointing([unet])
    assert kept(unet) < 0.5 * plain


def test_a_checkpointed_run_ends_on_the_same_bits(samples, tmp_path):
    settings = {"steps": 3, "batch": 2, "lr": 1e-3}
    plain = train(task_of("appearance", samples), LoopSettings(**settings), tmp_path / "a", "x")
    checked = train(task_of("appearance", samples), LoopSettings(checkpointing=True, **settings), tmp_path / "b", "x")
    assert same(weights(plain), weights(checked))


class TestOptimizers:
    def test_missing_package_is_one_sentence(self, monkeypatch, tmp_path):
        there = optimizers.importlib.util.find_spec
        monkeypatch.setattr(
            optimizers.importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else there(name)
        )
        settings = LoopSettings(steps=1, batch=4, optimizer="adamw8bit")
        with pytest.raises(ValueError, match="adamw8bit needs the package bitsandbytes.*pip install bitsandbytes"):
            train(Toy(), settings, tmp_path, "toy")

    def test_unknown_is_refused(self):
        with pytest.raises(ValueError, match="'sgd'; choose one of adamw, adamw8bit"):
            LoopSettings(steps=1, optimizer="sgd")

    def test_a_step_counted_in_a_number_survives_resume(self, monkeypatch, tmp_path):
        """bitsandbytes counts steps in an int, torch in a tensor; a checkpoint gives back what it was."""

        class CountsInNumbers(torch.optim.Optimizer):
            def __init__(self, parameters, lr, weight_decay):
                super().__init__(list(parameters), {"lr": lr})

            def step(self, closure=None):
                for group in self.param_groups:
                    for parameter in group["params"]:
                        state = self.state[parameter]
                        state["step"] = state.get("step", 0) + 1
                        assert isinstance(state["step"], int)
                        parameter.data -= group["lr"] / state["step"] * parameter.grad

        fake = SimpleNamespace(optim=SimpleNamespace(AdamW8bit=CountsInNumbers))
        monkeypatch.setattr(optimizers.importlib.util, "find_spec", lambda name: object())
        monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", fake)
        settings = {"batch": 4, "optimizer": "adamw8bit", "lr": 0.1}
        whole = train(Toy(), LoopSettings(steps=4, **settings), tmp_path / "whole", "toy")
        train(Toy(), LoopSettings(steps=2, **settings), tmp_path / "parts", "toy")
        parts = train(Toy(), LoopSettings(steps=4, **settings), tmp_path / "parts", "toy")
        assert same(weights(whole), weights(parts)) and not same(weights(whole), weights(Toy()))
        assert checkpoint(tmp_path / "parts")["optimizer/step/first.weight"] == 4

    @pytest.mark.parametrize("ema", [0.0, 0.9])
    def test_eight_bit_moments_train_and_survive_resume(self, samples, tmp_path, ema):
        """The real package; parts of a checkpoint are bytes and tables then, and resume is on the same bits."""
        pytest.importorskip("bitsandbytes")
        settings = {"batch": 2, "lr": 1e-3, "optimizer": "adamw8bit", "tracker": "none", "ema": ema}
        start = weights(task_of("matching flow", samples))
        whole = train(task_of("matching flow", samples), LoopSettings(steps=4, **settings), tmp_path / "whole", "x")
        train(task_of("matching flow", samples), LoopSettings(steps=2, **settings), tmp_path / "parts", "x")
        parts = train(task_of("matching flow", samples), LoopSettings(steps=4, **settings), tmp_path / "parts", "x")
        assert same(weights(whole), weights(parts)) and not same(weights(whole), start)
        kept = {name: value for name, value in checkpoint(tmp_path / "parts").items() if "optimizer/state1" in name}
        assert any(value.dtype == torch.uint8 for value in kept.values())


class TestTrackers:
    def test_missing_package_is_one_sentence(self, monkeypatch):
        monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(ValueError, match="--tracker wandb needs the package wandb.*pip install wandb"):
            LoopSettings(steps=1, tracker="wandb")

    def test_unknown_is_refused(self):
        with pytest.raises(ValueError, match="'mlflow'; choose one of tensorboard, wandb, none"):
            LoopSettings(steps=1, tracker="mlflow")

    def test_wandb_offline_holds_curves_and_pictures(self, monkeypatch, tmp_path):
        pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_MODE", "offline")
        faces = torch.linspace(0, 1, 2 * 8 * 6 * 3).reshape(2, 8, 6, 3)

        def look():
            return {"epe_px": 1.5}, {"faces": faces}

        settings = LoopSettings(steps=20, batch=4, tracker="wandb", validate_every=10)
        train(Toy(), settings, tmp_path / "demo" / "matching", "toy", validate=look)
        (run,) = (tmp_path / "demo" / "matching" / "wandb").glob("offline-run-*")
        curves = wandb_curves(run)
        assert curves["loss"].keys() == {10, 20} and curves["validation/epe_px"] == {10: 1.5, 20: 1.5}
        pictures = sorted((run / "files" / "media" / "images" / "validation").glob("faces_10_*.png"))
        shown = np.stack([np.asarray(Image.open(picture)) for picture in pictures])
        assert sorted(frame.tobytes() for frame in shown) == sorted(
            frame.tobytes() for frame in (faces * 255).round().byte().numpy()
        )

    def test_none_writes_no_log(self, tmp_path):
        train(Toy(), LoopSettings(steps=10, batch=4, tracker="none"), tmp_path / "run", "toy")
        assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
            "checkpoint.safetensors",
            "settings.json",
            "training.lock",
            "usage.json",
        ]


class TestMinSnr:
    def test_weights_are_the_papers(self):
        timesteps = torch.tensor([0, 200, 600, 999])
        snr = EpsSampling().sigma(timesteps).double() ** -2
        wanted = torch.minimum(snr, torch.tensor(5.0)) / snr
        assert torch.allclose(min_snr_weights(timesteps, 5.0).double(), wanted, rtol=1e-4)
        assert wanted[0] < 0.01 and wanted[-1] == 1
        assert torch.equal(min_snr_weights(timesteps, 0.0), torch.ones(4))

    @torch.no_grad()
    @pytest.mark.parametrize("kind", ["matching paper", "appearance"])
    def test_each_sample_counts_by_its_timestep(self, samples, kind):
        plain, weighted = task_of(kind, samples), task_of(kind, samples, min_snr=5.0)
        items = plain.items(2, 2)
        batch = redraw(plain, 2)
        factors = min_snr_weights(batch.timesteps, 5.0).tolist()
        assert factors[0] != factors[1]
        # Alone, a sample's loss is its weight times the unweighted one; together it is the mean.
        alone = [plain(2, [item])[0].item() for item in items]
        wanted = sum(f * loss for f, loss in zip(factors, alone, strict=True)) / 2
        assert weighted(2, items)[0].item() == pytest.approx(wanted, rel=1e-4)


@torch.no_grad()
def test_papers_objective_with_a_bridge_asks_for_the_noise_that_leads_to_the_target(samples):
    task = task_of("matching paper", samples, triplets=1.0, bridge=1.0, min_timestep=600)
    asked = []
    task.frozen["unet"].forward = lambda x, t, c, control: asked.append(x) or torch.zeros_like(x)
    loss, _ = task(1, task.items(1, 2))
    batch = redraw(task, 1)
    assert not torch.equal(batch.start, batch.target)
    sigma = EpsSampling().sigma(batch.timesteps).double().view(-1, 1, 1, 1)
    z_0 = beside(batch, batch.target, batch.profile).double()
    epsilon = (asked[0].double() * (sigma**2 + 1).sqrt() - z_0) / sigma
    added = beside(batch, batch.noise[..., :8], batch.noise[..., 8:])
    assert loss.item() == pytest.approx(epsilon.square().mean().item(), rel=5e-5)
    assert loss.item() != pytest.approx(added.square().mean().item(), rel=3e-4)


class TestEmbeddings:
    def test_cached_ones_are_those_that_would_be_drawn(self, tmp_path):
        samples, vision = sample_set(tmp_path), random_base()[1].eval()
        items = [(i, sample) for i, sample in enumerate(samples.samples)]
        settings = ConditioningSettings(drop=0.5)
        computed = draw_batch(samples, items, 3, 0, vision, settings)
        sample_sets.embed_samples(samples, vision)
        vision.forward = None  # not run again
        cached = draw_batch(samples, items, 3, 0, torch.nn.Linear(1, 1), settings)
        assert torch.allclose(cached.context, computed.context, atol=1e-6) and cached.context.shape == (4, 1, 24)
        assert (cached.context == 0).flatten(1).all(1).tolist() == (computed.context == 0).flatten(1).all(1).tolist()

    def test_are_kept_for_one_encoder_only(self, tmp_path):
        shard, (_, vision) = write_shard(tmp_path / "tiny.tar"), random_base()

        def embedded(encoder):
            samples = sample_sets.stored_samples(tmp_path / "run", [shard], None)
            sample_sets.embed_samples(samples, encoder)
            return samples, dict(samples.embeddings)

        _, first = embedded(vision)
        path = tmp_path / "run" / "samples_full" / "tiny.embeddings.safetensors"
        stamp = path.stat().st_mtime_ns
        assert same(first, embedded(vision)[1]) and path.stat().st_mtime_ns == stamp
        other = random_base(seed=9)[1]
        samples, third = embedded(other)
        for sample in samples.samples:
            wanted = embed_images(other, samples.images([sample.profile]))[0, 0]
            assert torch.allclose(third[sample.profile], wanted, atol=1e-6)
            assert not torch.allclose(wanted, first[sample.profile], atol=1e-2)
        assert read_tensors(path)[1]["encoder"] == sample_sets.fingerprint(other)


class TestPhotographs:
    """Shards of `icportrait data folder` have no exact flow."""

    @staticmethod
    def without_truth(samples: SampleSet, which=slice(None)) -> SampleSet:
        for index in range(len(samples))[which]:
            samples.samples[index] = dataclasses.replace(
                samples.samples[index], flow=None, visible=None, face=None, style=None
            )
        return samples

    def test_flow_objective_needs_some(self, tmp_path):
        with pytest.raises(ValueError, match="needs samples with exact flow.*--objective paper"):
            MatchingTask(
                self.without_truth(sample_set(tmp_path)), *random_base(), UNET, MatchingSettings(objective="flow")
            )

    def test_they_mix_with_heads(self, tmp_path):
        mixed = self.without_truth(sample_set(tmp_path), slice(0, 4, 2))
        flow, valid = true_flow(mixed.samples, (4, 4))
        assert valid.flatten(1).any(dim=1).tolist() == [False, True, False, True]
        only, cells = true_flow(mixed.samples[:1], (4, 4))
        assert only.shape == (1, 2, 4, 4) and not cells.any()
        for kind in ("matching flow", "matching paper", "appearance"):
            loss, found = gradients(task_of(kind, mixed))
            assert np.isfinite(loss) and found


class TestValidation:
    @pytest.fixture
    def held_out(self, tmp_path):
        return with_latents(SampleSet([write_shard(tmp_path / "held_out.tar", people=3, styles=True)]))

    @pytest.mark.parametrize("kind", ["matching flow", "matching paper", "appearance", "base"])
    def test_looks_do_not_change_training(self, samples, held_out, kind, tmp_path):
        def run(folder, look):
            task = task_of(kind, samples)
            settings = LoopSettings(steps=3, batch=2, lr=1e-3, validate_every=1)
            validate = Validator(task, held_out, None, draws=1) if look else None
            return weights(train(task, settings, tmp_path / folder, kind, validate=validate))

        assert same(run("looked at", True), run("alone", False))
        lines = [json.loads(x) for x in (tmp_path / "looked at" / "validation.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines] == [1, 2, 3]

    def test_figures_are_the_tasks_own_on_fixed_draws(self, samples, held_out):
        task = task_of("appearance", samples)
        validator = Validator(task, held_out, draws=2)
        figures, pictures = validator()
        assert validator()[0] == figures and pictures == {} and task.samples is samples
        task.samples = held_out
        items = list(enumerate(held_out.samples))
        with torch.no_grad():
            wanted = [task(step, items)[1]["target_loss"] for step in (-1, -2)]
            alone = [task(step, items, nets=False)[1]["target_loss"] for step in (-1, -2)]
        assert figures["target_loss"] == pytest.approx(sum(wanted) / 2)
        assert figures["target_loss_without"] == pytest.approx(sum(alone) / 2)
        assert figures["target_loss"] != pytest.approx(figures["target_loss_without"], rel=1e-3)

    def test_a_base_that_learns_along_is_looked_at_again(self, samples, held_out):
        task = task_of("appearance", samples, base_share=0.2)
        validator = Validator(task, held_out, draws=1)
        before, _ = validator()
        with torch.no_grad():
            for parameter in task.unet.parameters():
                parameter.mul_(1.1)
        assert validator()[0]["target_loss_without"] != before["target_loss_without"]

    def test_without_nets_is_the_loss_at_step_0(self, samples, held_out):
        """ControlNet's zero convolutions: an untrained net changes nothing."""
        for kind in ("matching paper", "appearance"):
            task = task_of(kind, samples)
            with torch.no_grad():
                for layer in (*task.net.zero_convs, task.net.middle_block_out):
                    for parameter in layer.parameters():
                        parameter.zero_()
            figures, _ = Validator(task, held_out, draws=1)()
            name = "loss" if "paper" in kind else "target_loss"
            assert figures[name] == pytest.approx(figures[f"{name}_without"], rel=1e-5)

    def test_the_match_is_scored_against_the_true_flow(self, samples, held_out, monkeypatch):
        """Features that say where a cell lies give the true flow, or one that is 3 px off."""
        task = task_of("matching flow", samples)
        wanted = {}

        def told(batch, hint):
            truth, _ = true_flow([held_out.samples[i] for i in range(3)], (4, 4))
            wanted["flow"] = (truth + wanted["off"]) / 16
            return torch.zeros(3, 2, 4, 4), torch.zeros(3, 2, 4, 4)

        monkeypatch.setattr(task, "features", told)
        monkeypatch.setattr("icportrait.training.tasks.validation.match", lambda a, b, method: (wanted["flow"], None))
        validator = Validator(task, held_out, draws=1)
        wanted["off"] = 0.0
        assert validator._match_error() == {"epe_px": pytest.approx(0, abs=1e-5), "pck_0.05": 100.0}
        wanted["off"] = torch.tensor([3.0, 0.0])[None, :, None, None]
        assert validator._match_error() == {"epe_px": pytest.approx(3.0), "pck_0.05": 100.0}  # 5 % of 64 px = 3.2
        wanted["off"] = torch.tensor([3.0, 4.0])[None, :, None, None]
        assert validator._match_error() == {"epe_px": pytest.approx(5.0), "pck_0.05": 0.0}

    @pytest.mark.parametrize("kind,name,columns", [("matching paper", "match", 3), ("appearance", "portraits", 4)])
    def test_pictures_are_kept(self, samples, held_out, kind, name, columns, tmp_path, monkeypatch):
        monkeypatch.setattr(
            "icportrait.training.tasks.portrait_figures.dlib_backend.why_unavailable", lambda: "not sought"
        )
        task = task_of(kind, samples)
        decode = lambda z: torch.nn.functional.interpolate(z[:, :3], scale_factor=8).sigmoid()  # noqa: E731
        validator = Validator(task, held_out, decode, draws=1, pictures=2, steps=2)
        train(task, LoopSettings(steps=2, batch=2, validate_every=2), tmp_path / "run", kind, validate=validator)
        strip = np.asarray(Image.open(tmp_path / "run" / f"validation_{name}.png"))
        assert strip.shape == (2 * 64, columns * 64, 3) and strip.std() > 10
        events = b"".join(path.read_bytes() for path in (tmp_path / "run" / "log").rglob("events.*"))
        assert f"validation/{name}".encode() in events

    def test_painting_ends_at_what_the_net_believes(self, samples, held_out):
        """A net that knows the noise paints the target exactly, from any start."""
        task = task_of("appearance", samples)
        validator = Validator(task, held_out)
        batch = validator._batch(validator.shown)

        def knowing(noisy, timesteps, context, hint, flow, confidence, side):
            from icportrait.training.core.diffusion import noise_for

            return noise_for(noisy, batch.side_by_side(batch.target, batch.profile), timesteps)

        task.predict = knowing
        from icportrait.training.tasks.validation import paint

        assert torch.allclose(paint(task, batch, 5), batch.target, atol=2e-3)


def test_settings_say_what_was_asked(tmp_path):
    train(Toy(), LoopSettings(steps=1, batch=4, checkpointing=True), tmp_path, "toy")
    told = json.loads((tmp_path / "settings.json").read_text())["settings"]
    assert told["checkpointing"] is True and told["optimizer"] == "adamw" and told["tracker"] == "tensorboard"
    assert blocks_of([Toy()]) == [] and optimizers.OPTIMIZERS == ("adamw", "adamw8bit")
