"""The command line: every verb and stage runs by command, and what people can mend is one sentence and exit code 2."""

import os
import signal
import subprocess
import sys
import time

import pytest
import tiny_training
from child import child_environment
from tiny_models import write_bundle

from icportrait.models.nets.files import read_metadata, read_tensors
from icportrait.training import cli
from icportrait.training.commands import measure
from icportrait.training.stages import base, base_models
from icportrait.training.tasks import base as base_task


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny_training.write_shard(folder / "a.tar", styles=True)
    tiny_training.face_shard(folder / "b.tar")
    (folder / "small").mkdir()
    tiny_training.write_shard(folder / "small" / "a.tar", size=32)
    return folder


@pytest.fixture
def tiny_base(monkeypatch):
    """The demo's base in the tests' size."""
    for module in (base_models, base):
        monkeypatch.setattr(module, "DEMO_UNET", tiny_training.UNET)
        monkeypatch.setattr(module, "DEMO_VISION", tiny_training.VISION)
    small = {"unet_config": tiny_training.UNET, "vision_config": tiny_training.VISION}
    monkeypatch.setattr(
        base, "BaseTask", lambda samples, settings, seed: base_task.BaseTask(samples, settings, seed, **small)
    )


def train(stage, run, data, *more) -> int:
    arguments = ["--run", str(run), "--data", str(data), "--size", "64", "--steps", "1", "--batch", "2"]
    return cli.main(["train", stage, *arguments, "--tracker", "none", *more])


def test_all_stages_by_command(data, tmp_path, tiny_base):
    """Each builds on the ones before; `hint` has no validation."""
    look = ("--validation", str(data))
    for stage in ("autoencoder", "base", "recogniser", "hint"):
        assert train(stage, tmp_path / "run", data, *(look if stage == "recogniser" else ())) == 0, stage
    run = tmp_path / "run"
    assert train("matching", run, data, *look, "--tap", "3", "--fine-tap", "-1", "--name", "net") == 0
    assert (run / "net" / "validation.jsonl").is_file() and (run / "net" / "validation_match.png").is_file()
    assert train("appearance", run, data, "--matching", "net", "--identity-weight", "0.1", "--limit", "8") == 0
    kept = read_metadata(run / "appearance" / "net.safetensors")["training"]
    assert kept["identity_weight"] == 0.1 and kept["hint"] is True and kept["steps"] == 1
    assert cli.main(["export", "--run", str(run), "--out", str(tmp_path / "bundle"), "--matching", "net"]) == 0
    assert len(list((tmp_path / "bundle").iterdir())) == 6
    assert cli.main(["curves", str(run / "net"), "--out", str(tmp_path / "curves.png")]) == 0
    assert (tmp_path / "curves.png").is_file()


def test_data_by_command(data, tmp_path, capsys):
    assert cli.main(["data", "validate", str(data / "a.tar"), str(data / "b.tar")]) == 0
    assert "2 shards, no problem found." in capsys.readouterr().out
    (tmp_path / "cut.tar").write_bytes((data / "a.tar").read_bytes()[:2000])
    assert cli.main(["data", "validate", str(tmp_path / "cut.tar")]) == 1
    assert "cut.tar" in capsys.readouterr().out
    assert cli.main(["data", "sheet", str(data / "a.tar"), "--out", str(tmp_path / "sheet.png"), "--rows", "2"]) == 0
    assert (tmp_path / "sheet.png").is_file()
    assert cli.main(["data", "sheet", str(tmp_path / "cut.tar"), "--out", str(tmp_path / "sheet.png")]) == 2


@pytest.mark.slow
def test_heads_by_command(tmp_path):
    options = ["--groups", "1", "--identities", "1", "--scenes", "2", "--size", "64", "--workers", "1"]
    assert cli.main(["data", "heads", "--out", str(tmp_path), *options]) == 0
    assert cli.main(["data", "validate", *map(str, tmp_path.glob("*.tar"))]) == 0


@pytest.mark.parametrize("name", measure.MEASURES)
def test_each_measure_gets_its_settings_and_writes_its_figures(name, tmp_path, monkeypatch, capsys):
    kind, *_ = measure.MEASURES[name]
    given = []
    stub = (kind, lambda settings: given.append(settings) or {"figure": 1}, lambda figures: print(figures))
    monkeypatch.setitem(measure.MEASURES, name, stub)
    assert cli.main(["measure", name, "--out", str(tmp_path / "new" / "f.json")]) == 0
    assert type(given[0]) is kind and "figure" in (tmp_path / "new" / "f.json").read_text()


@pytest.mark.slow
def test_evaluate_and_study_by_command(tmp_path):
    heads = ["--identities", "2", "--scenes", "2", "--groups", "1", "--size", "256", "--workers", "1"]
    assert cli.main(["data", "heads", "--first-group", "1000000", "--out", str(tmp_path / "data"), *heads]) == 0
    common = ["--data", str(tmp_path / "data"), "--identities", "1", "--steps", "1"]
    assert cli.main(["evaluate", *common, "--out", str(tmp_path / "out"), "--methods", "style unchanged"]) == 0
    assert (tmp_path / "out" / "report.html").is_file()
    places = ["--out", str(tmp_path / "study"), "--work", str(tmp_path / "work")]
    assert cli.main(["study", "noise", *common, *places, "--values", "0.5"]) == 0
    assert (tmp_path / "study" / "noise.json").is_file()


TRAIN = "train matching --run RUN --data DATA"


@pytest.mark.parametrize(
    "command,sentence",
    [
        (f"{TRAIN} --threads -3", "--threads must be at least 0; -3 was given."),
        (f"{TRAIN} --micro-batch -1", "--micro-batch must be at least 0; -1 was given."),
        (f"{TRAIN} --ema 2", "--ema must lie from 0 to 1; 2.0 was given."),
        (f"{TRAIN} --triplets 1.5", "--triplets must lie from 0 to 1; 1.5 was given."),
        (f"{TRAIN} --sigma-end 0", "--sigma-end must be at least 0.01; 0.0 was given."),
        (f"{TRAIN} --base FILE --vision FILE", "--base and --vision belong to --preset sd15, which is not given."),
        ("train hint --preset sd15 --run RUN --data DATA --base GONE --vision FILE", "--base: there is no file GONE."),
        (
            "train hint --preset sd15 --run RUN --data DATA --base FILE --vision FILE",
            "FILE is not a readable safetensors",
        ),
        ("train matching --preset sd15 --run RUN --data DATA --base FILE", "The sd15 preset needs --base"),
        ("data heads --out OUT --groups 0", "--groups must be at least 1; 0 was given."),
        ("data heads --out OUT --identities 0", "--identities must be at least 1; 0 was given."),
        ("data heads --out OUT --size 63", "--size must be a multiple of 64 from 64 to 4096 px; 63 was given."),
        ("data heads --out OUT --size 8", "--size must be a multiple of 64 from 64 to 4096 px; 8 was given."),
        ("data heads --out OUT --size 128000", "--size must be a multiple of 64 from 64 to 4096 px; 128000 was given."),
        ("train autoencoder --run RUN --data DATA --size 32", "--size must be a multiple of 64 from"),
        ("train autoencoder --run RUN --data SMALL", "are 32 px: training needs a multiple of 64"),
        ("data views --out OUT --portraits EMPTY --size 72", "--size must be a multiple of 64 from"),
        ("evaluate --data DATA --out OUT --size 100", "--size must be a multiple of 64 from"),
        ("measure faces --crop-size 8", "--crop-size must be a multiple of 64 from"),
        (f"{TRAIN} --batch 0", "--batch must be at least 1; 0 was given."),
        (f"{TRAIN} --steps 0", "--steps must be at least 1; 0 was given."),
        (f"{TRAIN} --size -64", "--size must be a multiple of 64 from 64 to 4096 px; -64 was given."),
        (f"{TRAIN} --size 63", "--size must be a multiple of 64 from 64 to 4096 px; 63 was given."),
        (f"{TRAIN} --schedule zigzag", "Unknown schedule 'zigzag'; choose constant or cosine."),
        (f"{TRAIN} --min-timestep 900", "--min-timestep must lie below --max-timestep"),
        (f"{TRAIN} --init GONE", "--init: there is no file GONE."),
        (f"{TRAIN} --validation GONE", "--validation: there is no folder GONE."),
        ("train base --run RUN --data GONE", "--data: there is no folder GONE."),
        ("train base --run RUN --data EMPTY", "No .tar shards in EMPTY"),
        ("train appearance --preset sd15 --run RUN --data DATA", "The sd15 preset needs --base"),
        ("data heads --out OUT --size -64", "--size must be a multiple of 64 from 64 to 4096 px; -64 was given."),
        ("data folder GONE --out OUT", "PICTURES: there is no folder GONE."),
        ("data folder EMPTY --out OUT --size 100", "--size must be a multiple of 64"),
        ("data sheet GONE --out OUT", "SHARDS: there is no file GONE."),
        ("data validate", "Name at least one shard"),
        ("curves --out OUT", "Name at least one stage folder."),
        ("curves EMPTY --out OUT", "EMPTY holds no validation.jsonl"),
        ("customise GONE --out OUT", "PHOTOS: there is no folder GONE."),
        ("export --run EMPTY --out OUT", "does not exist"),
        ("measure files --bundle GONE", "--bundle: there is no folder GONE."),
        ("measure faces --insightface GONE", "--insightface: there is no folder GONE."),
        ("measure bundle --steps 0", "--steps must be at least 1; 0 was given."),
        ("evaluate --data DATA --photos DATA --out OUT", "Give either --data"),
        ("study noise --data EMPTY --out OUT", "No .tar shards in EMPTY"),
        ("study noise --data DATA --out OUT --work FILE", "--work: FILE must be a folder, but is none."),
        ("data heads --out FILE", "--out: FILE must be a folder, but is none."),
        ("data heads --out INSIDE", "--out: INSIDE cannot be made, as FILE is a file."),
        ("train base --run FILE --data DATA", "--run: FILE must be a folder, but is none."),
        ("customise EMPTY --out INSIDE", "--out: INSIDE cannot be made, as FILE is a file."),
        ("measure faces --out EMPTY", "--out: EMPTY must be a file, but is none."),
        ("curves DATA --out EMPTY", "--out: EMPTY must be a file, but is none."),
    ],
)
def test_what_people_can_mend_is_one_sentence(command, sentence, data, tmp_path, capsys):
    places = {name: str(tmp_path / name.lower()) for name in ("RUN", "OUT", "GONE", "EMPTY")} | {
        "DATA": str(data),
        "SMALL": str(data / "small"),
    }
    (tmp_path / "empty").mkdir()
    places["FILE"] = str(tmp_path / "file.safetensors")
    places["INSIDE"] = str(tmp_path / "file.safetensors" / "inside")
    (tmp_path / "file.safetensors").write_bytes(b"nothing")
    if "sd15" not in command:
        (tmp_path / "run").mkdir()
    assert cli.main([places.get(word, word) for word in command.split()]) == 2
    for name, path in places.items():
        sentence = sentence.replace(name, path)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("icportrait: ") and sentence in last


@pytest.mark.parametrize(
    "command", ["train matching --run r", f"{TRAIN} --lrr 3", f"{TRAIN} --objective both", "train", "measure nothing"]
)
def test_what_cannot_be_parsed_ends_with_2(command, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(command.split())
    assert end.value.code == 2 and "icportrait" in capsys.readouterr().err


def test_a_file_that_vanishes_is_one_sentence(capsys, monkeypatch):
    def run():
        return open("/nowhere/at/all")  # noqa: SIM115

    assert cli.exit_code(run, "icportrait") == 2
    assert "/nowhere/at/all" in capsys.readouterr().err


def test_a_mistake_of_ours_keeps_its_traceback():
    with pytest.raises(ValueError, match="ours"):
        cli.exit_code(lambda: int("ours"), "icportrait")


def test_help_loads_no_torch(tmp_path):
    code = (
        "import sys; from icportrait.training import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules, 'comfy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=child_environment(tmp_path)
    )
    assert done.stdout.splitlines()[-1] == "False False" and "customise" in done.stdout, done.stderr


def test_comfyui_that_is_not_there_is_one_sentence(tmp_path):
    """In a process of its own, as this one has ComfyUI on its path."""
    environment = {name: value for name, value in child_environment(tmp_path).items() if name != "COMFYUI_PATH"}
    done = subprocess.run(
        [sys.executable, "-m", "icportrait.training.cli", "data", "validate", "x.tar"],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and "ComfyUI was not found" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number,code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint(number, code, data, tmp_path):
    arguments = ["--run", str(tmp_path), "--data", str(data), "--size", "64", "--steps", "100000", "--batch", "2"]
    arguments += ["--checkpoint-minutes", "60", "--tracker", "none"]
    command = [sys.executable, "-m", "icportrait.training.cli", "train", "autoencoder", *arguments]
    worker = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=child_environment(tmp_path)
    )
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "autoencoder" / "settings.json").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(3)
        worker.send_signal(number)
        output = worker.communicate(timeout=300)[1]
    finally:
        worker.kill()
    assert worker.returncode == code and "Traceback" not in output, output[-2000:]
    assert "checkpoint.safetensors, and the same command goes on from it" in output
    assert read_tensors(tmp_path / "autoencoder" / "checkpoint.safetensors")[0]["step"] > 0


def test_the_shipped_bundles_twin_is_measured(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    assert cli.main(["measure", "files", "--bundle", str(folder)]) == 0


def test_tools_by_command(capsys, tmp_path):
    from icportrait.tools import __main__ as tools

    assert tools.main(["thumbnails", "nothing"]) == 2
    assert "run.py tools: no workflow is called nothing" in capsys.readouterr().err
    assert tools.main(["person-lora", "--bundle", str(tmp_path / "gone")]) == 2
    assert "--bundle: there is no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        tools.main(["--help"])
    shown = capsys.readouterr().out
    assert end.value.code == 0 and all(name in shown for name in tools.TOOLS)
