"""Writers and trainings ended by SIGKILL at random times, two writers of one file, a full disk, a read-only folder: nothing may be lost.

Run as a program, this file is the process that is killed: `python -m icportrait.tools.campaign.kills KIND FOLDER NUMBER`.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

PATIENCE = 240
"""Seconds after which a process that should have ended hangs."""
STEPS = 12


def write_without_end(kind: str, folder: Path, planted: bool) -> None:
    """What is killed while saving: writes the same files again and again."""
    import torch

    from ...models.nets.files import save_tensors
    from ...run import extract_below

    for number in range(10**9):
        if number == 1:
            print("ready", flush=True)  # everything is imported, and one file is there
        if kind == "saving" and planted:
            (folder / "net.safetensors").write_bytes(bytes(8) * 2**19)
        elif kind == "saving":
            save_tensors(
                folder / "net.safetensors", {"weights": torch.full((2**20,), float(number))}, {"number": number}
            )
        elif kind == "data":
            _write_data(folder, planted)
        elif kind == "set-up":
            part, whole = folder / "comfyui.part", folder / "comfyui"
            if whole.exists():  # moved first: a folder that is being removed is not whole
                whole.rename(folder / "old")
            for old in (part, folder / "old"):
                shutil.rmtree(old, ignore_errors=True)
            extract_below(folder / "archive.zip", "inside/", whole if planted else part)
            if not planted:
                part.rename(whole)


def _write_data(folder: Path, planted: bool) -> None:
    from ...training.data import shards

    if planted:
        data = (folder / "good.tar").read_bytes()
        with open(folder / "shard.tar", "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            time.sleep(0.02)
            file.write(data[len(data) // 2 :])
        return
    samples = ({"__key__": key, **members} for key, members in shards.raw_samples(folder / "good.tar"))
    shards.write_shard(folder / "shard.tar", samples)


def killed_writer(kind: str, number: int, folder: Path, planted: bool = False) -> list[str]:
    """Kill a writer at a random time. Returns what was lost or left behind; empty when all is well."""
    rng = random.Random(f"{kind} {number}")
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "data":
        _training_data(folder)
    if kind == "set-up":
        with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
            for name in range(60):
                archive.writestr(f"inside/{name}.py", bytes([name]) * 20_000)
    process = _start(kind, folder, planted)
    try:
        said = process.stdout.readline()
        if said.strip() != "ready":
            return [f"the writer did not start: {said}{process.communicate(timeout=PATIENCE)[0][-500:]}"]
        time.sleep(rng.uniform(0.02, 0.6))
    finally:
        process.kill()
        process.wait(PATIENCE)
    return _lost(kind, folder)


def _start(kind: str, folder: Path, planted: bool) -> subprocess.Popen:
    line = [sys.executable, "-m", "icportrait.tools.campaign.kills", kind, str(folder), "plant" if planted else "-"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _lost(kind: str, folder: Path) -> list[str]:
    """What is no good in the folder of a killed writer, also after the next one wrote there."""
    import torch

    from ...models.errors import UserError
    from ...models.nets.files import read_tensors, save_tensors
    from ...training.data import shards

    if kind == "set-up":
        whole = folder / "comfyui"
        files = sorted(whole.rglob("*.py")) if whole.exists() else []
        good = not whole.exists() or (len(files) == 60 and all(file.stat().st_size == 20_000 for file in files))
        return [] if good else [f"{len(files)} of 60 files appear as a complete folder"]
    problems = []
    path = folder / ("net.safetensors" if kind == "saving" else "shard.tar")
    if not path.exists():
        problems.append(f"{path.name} is gone")
    else:
        try:
            if kind == "saving":
                tensors, metadata = read_tensors(path)
                if not (tensors["weights"] == metadata["number"]).all():
                    problems.append("the file mixes two saves")
            else:
                list(shards.raw_samples(path))
        except UserError as error:
            problems.append(str(error))
    save_tensors(folder / "next.safetensors", {"a": torch.zeros(1)}, {})
    problems += [
        f"{left.name} stays for ever" for left in folder.iterdir() if ".part" in left.name or ".tmp" in left.name
    ]
    return problems


def full_disk(number: int, folder: Path, planted: bool = False) -> list[str]:
    """Save where the disk ends within the file (a limit on its size stands in). Returns what was lost."""
    import torch

    from ...models.errors import UserError
    from ...models.nets.files import read_tensors, save_tensors

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "net.safetensors"
    save_tensors(path, {"a": torch.full((3,), float(number))}, {})
    process = _start("full", folder, planted)
    said = process.communicate(timeout=PATIENCE)[0]
    problems = [] if process.returncode == 0 else [f"a full disk ended with {process.returncode}: {said[-300:]}"]
    try:
        if not (read_tensors(path)[0]["a"] == number).all():
            problems.append("the old file is another")
    except (UserError, KeyError) as error:
        problems.append(f"the old file is lost: {error}")
    return problems


def two_writers(number: int, folder: Path, planted: bool = False) -> list[str]:
    """Two processes save the same file again and again, then both are killed. Returns what was lost or left behind."""
    rng = random.Random(f"two writers {number}")
    folder.mkdir(parents=True, exist_ok=True)
    processes = [_start("saving", folder, planted) for _ in range(2)]
    problems = []
    try:
        for process in processes:
            if (said := process.stdout.readline().strip()) != "ready":
                problems.append(f"a writer did not start: {said}")
        time.sleep(rng.uniform(0.2, 1.0))
    finally:
        for process in processes:
            process.kill()
            process.wait(PATIENCE)
    return problems + _lost("saving", folder)


def read_only(number: int, folder: Path, planted: bool = False) -> list[str]:
    """Save into a folder that may not be written to. Returns what was lost."""
    import torch

    from ...models.nets.files import read_tensors, save_tensors

    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / "net.safetensors", {"a": torch.full((3,), float(number))}, {})
    folder.chmod(0o555)
    try:
        process = _start("read-only", folder, planted)
        said = process.communicate(timeout=PATIENCE)[0]
    finally:
        folder.chmod(0o755)
    problems = [] if process.returncode == 0 else [f"read-only ended with {process.returncode}: {said[-300:]}"]
    if not (read_tensors(folder / "net.safetensors")[0]["a"] == number).all():
        problems.append("the old file is another")
    return problems + [f"{left.name} was left" for left in folder.iterdir() if left.name != "net.safetensors"]


def _save_where_nothing_may_be_written(folder: Path, planted: bool) -> None:
    import os

    import torch

    from ...models.nets.files import save_tensors

    save = folder.parent / "first.safetensors"
    save_tensors(save, {"a": torch.zeros(1)}, {})  # everything is imported
    save.unlink()
    folder.parent.chmod(0o755)  # a temporary folder is its maker's alone
    if not planted and hasattr(os, "setuid") and os.getuid() == 0:
        os.setuid(65534)  # root may write everywhere
    try:
        save_tensors(folder / "net.safetensors", {"a": torch.zeros(10)}, {})
    except OSError as error:
        if "Permission denied" in str(error):
            return
    sys.exit("it was written")


def _save_on_a_full_disk(folder: Path, planted: bool) -> None:
    import resource
    import signal

    import torch

    from ...models.nets.files import save_tensors

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    if planted:
        with contextlib.suppress(OSError):
            (folder / "net.safetensors").write_bytes(bytes(100_000))
        return
    try:
        save_tensors(folder / "net.safetensors", {"a": torch.zeros(100_000)}, {})
    except OSError:
        return
    sys.exit(3)


def training(stage: str, data: Path, run: Path) -> subprocess.Popen:
    """A stage of training in a process of its own, with a checkpoint after every step."""
    line = [sys.executable, "-m", "icportrait.training.cli", "train", stage, "--run", str(run), "--data", str(data)]
    line += ["--size", "64", "--steps", str(STEPS), "--batch", "2", "--tracker", "none", "--checkpoint-minutes", "0"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_one_thread())


def _one_thread() -> dict[str, str]:
    import os

    return {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}  # threads decide the last bits


def killed_training(stage: str, number: int, work: Path, planted: bool = False) -> tuple[int, list[str], bool]:
    """Kill one training up to three times, resume it to its end, and compare it with one that was left alone.

    Returns:
        (kills, what was lost, whether the result is equal bit for bit).
    """
    import torch

    from ...models.nets.files import read_tensors, save_tensors

    rng = random.Random(f"{stage} {number}")
    data, run, alone = work / "data", work / f"{stage}-{number}", work / f"{stage}-alone"
    _training_data(data)
    if stage == "base":  # it builds on the autoencoder
        killed_training("autoencoder", 0, work) if not (work / "autoencoder-alone" / "done").exists() else None
        for folder in (run, alone):
            if not (folder / "autoencoder").exists():
                shutil.copytree(work / "autoencoder-alone" / "autoencoder", folder / "autoencoder")
    if not (alone / "done").exists():
        _finish(training(stage, data, alone))
        (alone / "done").touch()
    kills, checkpoint = 0, run / stage / "checkpoint.safetensors"
    for _ in range(3):
        process, marker = training(stage, data, run), run / stage / "settings.json"
        before = marker.stat().st_mtime_ns if marker.exists() else 0
        end = time.monotonic() + PATIENCE
        try:
            while process.poll() is None and time.monotonic() < end:
                if marker.exists() and marker.stat().st_mtime_ns != before:
                    time.sleep(rng.uniform(0.0, 2.0))
                    break
                time.sleep(0.02)
            running = process.poll() is None
        finally:
            process.kill()
            process.wait(PATIENCE)
        kills += running
    if planted and checkpoint.exists():
        tensors, metadata = read_tensors(checkpoint)
        name = next(name for name in sorted(tensors) if name.startswith("weights/"))
        tensors[name] = torch.nextafter(tensors[name], torch.full_like(tensors[name], 9.0))
        save_tensors(checkpoint, tensors, metadata)
    problems = _finish(training(stage, data, run))
    if problems:
        return kills, problems, False
    own, wanted = (read_tensors(folder / stage / "checkpoint.safetensors")[0] for folder in (run, alone))
    same = own.keys() == wanted.keys() and all(torch.equal(own[name], wanted[name]) for name in own)
    left = [f"{path.name} stays for ever" for path in (run / stage).iterdir() if path.suffix == ".part"]
    if same and not left:
        shutil.rmtree(run)
    return kills, left, same


def _finish(process: subprocess.Popen) -> list[str]:
    try:
        said = process.communicate(timeout=PATIENCE)[0]
    except subprocess.TimeoutExpired:
        return [f"did not end within {PATIENCE} s"]
    finally:
        process.kill()
    return [] if process.returncode == 0 else [f"ended with {process.returncode}: {said[-500:]}"]


def _training_data(folder: Path) -> None:
    from . import inputs

    if not (folder / "good.tar").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "good.tar").write_bytes(inputs.good_shard())


def main() -> None:
    """The process that is killed."""
    kind, folder, planted = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "plant"
    if kind == "full":
        _save_on_a_full_disk(folder, planted)
    elif kind == "read-only":
        _save_where_nothing_may_be_written(folder, planted)
    else:
        write_without_end(kind, folder, planted)


if __name__ == "__main__":
    main()
