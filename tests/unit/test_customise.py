"""Customisation: the whole UNet or a LoRA learns a person; ComfyUI's own loaders open what is written."""

import dataclasses

import comfy.sd
import comfy.utils
import pytest
import torch
from tiny_models import write_bundle
from tiny_training import smooth_picture, write_shard

from icportrait.models.nets import bundle as bundles
from icportrait.models.nets.files import read_tensors, save_tensors
from icportrait.tools import person_lora
from icportrait.tools.demo_pictures import PICTURES
from icportrait.training import cli
from icportrait.training.commands.customise import parse_customise
from icportrait.training.core.diffusion import keyed_generator
from icportrait.training.core.lora import Lora
from icportrait.training.core.settings import LoopSettings
from icportrait.training.data.samples import SampleSet
from icportrait.training.stages import customise
from icportrait.training.stages.base_models import load_bundle_base, load_sd15_base
from icportrait.training.stages.customise import prepare, save_person
from icportrait.training.tasks.customise import PAPER, CustomiseSettings, CustomiseTask, photo_samples

FACTS = {"steps": 1}
ASKED = ("attn2_to_q", "attn2_to_k")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("customise") / "bundle")


@pytest.fixture
def base(bundle):
    return load_bundle_base(bundle)


def pictures(count: int = 3) -> dict[str, torch.Tensor]:
    return {f"{i}.png": torch.from_numpy(smooth_picture(40 + i, 64, 64)) for i in range(count)}


def copy_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@torch.no_grad()
def loss_of(task: CustomiseTask, draws=range(900, 906)) -> float:
    """On draws that training never makes."""
    return sum(task(step, task.items(step, 2))[0].item() for step in draws) / len(draws)


def trained(base, run, steps: int, lr: float, prior=None, **settings) -> CustomiseTask:
    loop = LoopSettings(steps=steps, batch=1, lr=lr)
    return customise.train_person(pictures(), base, run, loop, CustomiseSettings(**settings), prior)


def test_defaults_are_the_papers(tmp_path):
    command = [str(tmp_path), "--out", "x.safetensors"]
    given = parse_customise(command)
    assert given.training == PAPER and given.settings == CustomiseSettings() and given.photographs.size == 256
    (tmp_path / "sd15.safetensors").write_bytes(b"")
    lora = parse_customise([*command, "--rank", "16", "--base", str(tmp_path / "sd15.safetensors")])
    assert lora.training == dataclasses.replace(PAPER, lr=1e-4) and lora.photographs.size == 512
    assert parse_customise([*command, "--rank", "16", "--lr", "3e-5"]).training.lr == 3e-5
    assert (PAPER.lr, PAPER.batch, PAPER.schedule) == (2e-6, 1, "constant")
    assert CustomiseSettings().rank == 0 and CustomiseSettings().drop == 0.1


@pytest.fixture
def one_thread():
    """Several threads add in an order of their own, so that even two whole runs may differ in last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestWholeUnet:
    def test_learns_and_becomes_a_bundle(self, bundle, base, tmp_path):
        vae, vision = copy_of(base.vae), copy_of(base.vision)
        before = CustomiseTask(prepare(photo_samples(pictures()), base), base.unet)
        start, old = loss_of(before), copy_of(base.unet)
        task = trained(base, tmp_path / "run", 30, 1e-3)
        assert loss_of(task) < 0.8 * start
        assert equal(copy_of(base.vae), vae) and equal(copy_of(base.vision), vision)
        changed = [name for name, tensor in task.unet.state_dict().items() if not torch.equal(tensor, old[name])]
        assert len(changed) == len(old)  # the whole UNet

        path = save_person(task, tmp_path / "made", bundle / "base.safetensors", FACTS)
        for name in set(bundles.FILES) - {"base.safetensors"}:
            assert (path.parent / name).read_bytes() == (bundle / name).read_bytes(), name
        model, *_ = bundles.load_bundle(tmp_path / "made")
        assert equal(model.model.diffusion_model.state_dict(), task.unet.state_dict())
        assert read_tensors(path)[1]["training"]["customised"] == FACTS

    def test_resumes_on_the_same_bits(self, bundle, tmp_path, one_thread):
        whole = trained(load_bundle_base(bundle), tmp_path / "whole", 4, 1e-4)
        trained(load_bundle_base(bundle), tmp_path / "parts", 2, 1e-4)
        parts = trained(load_bundle_base(bundle), tmp_path / "parts", 4, 1e-4)
        assert equal(whole.unet.state_dict(), parts.unet.state_dict())

    def test_a_checkpoint_keeps_all_but_the_unet(self, base, tmp_path):
        """An SD1.5 file's other tensors keep their bits, and the UNet its precision."""
        state = base.unet.state_dict()
        tensors = {f"model.diffusion_model.{name}": torch.zeros_like(tensor).half() for name, tensor in state.items()}
        others = {
            "first_stage_model.x": torch.randn(3, generator=keyed_generator(1)),
            "cond_stage_model.y": torch.arange(5),
            "model_ema.z": torch.ones(2, dtype=torch.bfloat16),
        }
        save_tensors(tmp_path / "sd15.safetensors", tensors | others, {})
        task = CustomiseTask(photo_samples(pictures()), base.unet)
        save_person(task, tmp_path / "made.safetensors", tmp_path / "sd15.safetensors", FACTS)
        made, facts = read_tensors(tmp_path / "made.safetensors")
        assert made.keys() == (tensors | others).keys() and facts["customised_from"] == "sd15.safetensors"
        assert equal({name: made[name] for name in others}, others)
        assert equal({k: made[f"model.diffusion_model.{k}"] for k in state}, {k: v.half() for k, v in state.items()})
        save_tensors(tmp_path / "other.safetensors", others, {})
        with pytest.raises(ValueError, match="other.safetensors lacks .* tensors of its UNet"):
            save_person(task, tmp_path / "x.safetensors", tmp_path / "other.safetensors", FACTS)


class TestLora:
    def test_learns_and_comfyui_adds_exactly_what_was_learned(self, bundle, base, tmp_path):
        old = copy_of(base.unet)
        task = trained(base, tmp_path / "run", 40, 1e-2, rank=4)
        start = CustomiseTask(task.samples, load_bundle_base(bundle).unet)
        assert loss_of(task) < 0.95 * loss_of(start)
        assert equal(copy_of(base.unet), old)  # a LoRA leaves its base alone

        task.lora.save(tmp_path / "lora.safetensors", FACTS, torch.float32)
        model = bundles.load_base(bundle / "base.safetensors")
        file = comfy.utils.load_torch_file(str(tmp_path / "lora.safetensors"))
        patched, _ = comfy.sd.load_lora_for_models(model, None, file, 1.0, 0.0)
        patched.patch_model()
        try:
            new = copy_of(patched.model.diffusion_model)
        finally:
            patched.unpatch_model()
        learned = 0
        for name, tensor in new.items():
            key = name.removesuffix(".weight").replace(".", "_")
            if name.endswith(".weight") and key in task.lora.names:
                delta = task.lora.scale * (task.lora.up[key] @ task.lora.down[key]).detach()
                assert torch.allclose(tensor - old[name], delta.reshape(tensor.shape), atol=1e-6), name
                learned += delta.abs().max() > 1e-3 and not key.endswith(ASKED)
            else:
                assert torch.equal(tensor, old[name]), name
        # The prompt is one token, so what is asked of it (to_q, to_k) changes nothing and has no gradient but rounding.
        assert learned == sum(not key.endswith(ASKED) for key in task.lora.names) > 20

        # What training computed is what ComfyUI computes with the file.
        x = torch.randn(1, 4, 8, 8, generator=keyed_generator(2))
        context = torch.randn(1, 1, 768, generator=keyed_generator(3))
        with torch.no_grad():
            wanted = base.unet(x, torch.tensor([300]), context)
            task.lora.detach()
            plain = base.unet(x, torch.tensor([300]), context)
            base.unet.load_state_dict(new)
            assert torch.allclose(base.unet(x, torch.tensor([300]), context), wanted, rtol=1e-3, atol=1e-4)
        assert (wanted - plain).abs().max() > 0.01

    def test_starts_as_nothing_and_is_written_small(self, base, tmp_path):
        x, context = torch.randn(1, 4, 8, 8, generator=keyed_generator(2)), torch.ones(1, 1, 768)
        with torch.no_grad():
            plain = base.unet(x, torch.tensor([300]), context)
            lora = Lora(base.unet, 4, keyed_generator(1))
            assert torch.equal(base.unet(x, torch.tensor([300]), context), plain)
        lora.save(tmp_path / "lora.safetensors", FACTS)
        tensors, facts = read_tensors(tmp_path / "lora.safetensors")
        assert {name.rsplit(".", 1)[0].split(".")[0] for name in tensors} == {f"lora_unet_{n}" for n in lora.names}
        assert tensors[f"lora_unet_{lora.names[0]}.lora_down.weight"].dtype == torch.float16
        assert facts["training"] == FACTS
        with pytest.raises(ValueError, match="--rank must be at least 1"):
            Lora(base.unet, -1, keyed_generator(1))


class TestDraws:
    def test_every_photograph_meets_every_other(self):
        samples = photo_samples(pictures(3)).samples
        assert {(s.target, s.profile) for s in samples} == {
            (f"{a}.png", f"{b}.png") for a in range(3) for b in range(3) if a != b
        }
        (alone,) = photo_samples(pictures(1)).samples
        assert alone.target == alone.profile

    @torch.no_grad()
    def test_prior_preservation_adds_the_loss_on_others(self, base, tmp_path):
        samples = prepare(photo_samples(pictures()), base)
        others = prepare(SampleSet([write_shard(tmp_path / "others.tar")]), base)
        plain = CustomiseTask(samples, base.unet)
        both = CustomiseTask(samples, base.unet, CustomiseSettings(prior_weight=0.5), prior=others)
        loss, figures = both(0, both.items(0, 2))
        own = plain(0, plain.items(0, 2))[0].item()
        assert figures["loss"] == pytest.approx(own)
        assert loss.item() == pytest.approx(own + 0.5 * figures["prior_loss"], rel=1e-5)
        drawn = {other.key for step in range(8) for _, _, other in both.items(step, 2)}
        assert drawn == {sample.key for sample in others.samples}

    @torch.no_grad()
    def test_shares_of_pairs_and_of_dropped_embeddings(self, base):
        samples = prepare(photo_samples(pictures()), base)
        widths, dropped = [], []

        class Watched(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(1))

            def forward(self, x, timesteps, context):
                widths.append(x.shape[-1])
                dropped.append((context == 0).all().item())
                return x

        task = CustomiseTask(samples, Watched(), CustomiseSettings(pair_share=0.25, drop=0.3))
        for step in range(400):
            task(step, task.items(step, 1))
        assert widths.count(16) / 400 == pytest.approx(0.25, abs=0.09) and set(widths) == {8, 16}
        assert sum(dropped) / 400 == pytest.approx(0.3, abs=0.09)


class TestPersonLora:
    def test_the_person_is_the_sample_profiles_and_no_scene_is(self):
        people = {name: person for name, person, *_ in PICTURES}
        assert people["icportrait_profile.png"] == (person_lora.GROUP, person_lora.PERSON)
        assert people["icportrait_style.png"] == (person_lora.GROUP, person_lora.OTHER)
        assert all(number < person_lora.FIRST_SCENE for _, _, (_, number), *_ in PICTURES)

    @pytest.mark.slow
    def test_is_made_and_measured_from_nothing(self, bundle, tmp_path, monkeypatch):
        """With two photographs, two steps and one view; the pictures are real renders."""
        monkeypatch.setattr(person_lora, "PHOTOS", 2)
        monkeypatch.setattr(person_lora, "UNSEEN", 1)
        loop = dataclasses.replace(person_lora.LOOP, steps=2)
        figures = person_lora.make_person_lora(bundle, tmp_path / "lora.safetensors", tmp_path / "work", loop)
        assert set(figures["similarity_to_unseen_truth"]) == {"before", "after", "style", "photographs"}
        tensors, metadata = read_tensors(tmp_path / "lora.safetensors")
        assert any(name.endswith("lora_up.weight") and tensor.any() for name, tensor in tensors.items())
        assert metadata["license"] == "CC0-1.0" and metadata["training"]["steps"] == 2
        assert metadata["training"]["base_sha256"] == person_lora.fingerprint(bundle / "base.safetensors")
        assert (tmp_path / "work" / "customise.png").is_file()


class TestBadInput:
    @pytest.mark.parametrize(
        "out,options,message",
        [
            ("made.safetensors", [], "must be a folder"),
            ("made", ["--rank", "4"], "must end in .safetensors"),
            ("made", ["--base", "x.safetensors"], "must end in .safetensors"),
            ("made.safetensors", ["--base", "x.safetensors"], "needs --vision"),
            ("made.safetensors", ["--base", "x.ckpt", "--vision", "v"], "x.ckpt is not a .safetensors file"),
        ],
    )
    def test_is_one_sentence_before_any_work(self, tmp_path, out, options, message, capsys, monkeypatch):
        for name in ("x.safetensors", "x.ckpt", "v"):
            (tmp_path / name).write_bytes(b"")
        monkeypatch.chdir(tmp_path)
        assert cli.main(["customise", str(tmp_path), "--out", str(tmp_path / out), *options]) == 2
        assert message in capsys.readouterr().err

    def test_the_base_bundle_is_never_overwritten(self, bundle, tmp_path, capsys):
        assert cli.main(["customise", str(tmp_path), "--out", str(bundle), "--bundle", str(bundle)]) == 2
        assert "is the base bundle itself" in capsys.readouterr().err

    def test_no_photographs(self, bundle, tmp_path, capsys):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "broken.png").write_bytes(b"x")
        arguments = ["customise", str(tmp_path / "photos"), "--out", str(tmp_path / "o"), "--bundle", str(bundle)]
        assert cli.main(arguments) == 2
        assert "No usable photograph" in (message := capsys.readouterr().err) and "broken.png: unreadable" in message


@pytest.mark.slow
def test_from_a_photograph_by_command(bundle, astronaut_path, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "her.png").write_bytes(astronaut_path.read_bytes())
    arguments = ["customise", str(tmp_path / "photos"), "--bundle", str(bundle), "--size", "64", "--steps", "2"]
    arguments += ["--effort", "fast"]
    assert cli.main([*arguments, "--out", str(tmp_path / "lora.safetensors"), "--rank", "2"]) == 0
    assert cli.main([*arguments, "--out", str(tmp_path / "made")]) == 0
    assert str(tmp_path / "made" / "base.safetensors") in capsys.readouterr().out
    before, after = (read_tensors(folder / "base.safetensors")[0] for folder in (bundle, tmp_path / "made"))
    moved = max((after[name] - before[name]).abs().max().item() for name in before)
    assert 0 < moved < 1e-5  # two steps of at most 2e-6, and a little decay
    assert dataclasses.asdict(PAPER)["batch"] == 1


def test_a_base_that_would_be_unpickled_is_refused(tmp_path):
    """torch.load runs what a pickle says; only safetensors are read."""
    for name in ("model.ckpt", "model.safetensors", "model.pt"):
        torch.save({"state_dict": {}}, tmp_path / name)
        with pytest.raises(ValueError, match=rf"{name} is not a (readable )?\.?safetensors file"):
            load_sd15_base(tmp_path / name, tmp_path / "vision.safetensors")
