"""Training in real processes: two that share a batch equal one, and a killed one resumes to the same bits.

Run as a program, this file is the process that is started: `python test_training_processes.py SHARDS RUN STEPS KILL`.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

BATCH = 4


def train_tiny(data: Path, run: Path, steps: int, kill_at: int | None = None) -> None:
    """Train a tiny matching net by the paper's objective; with `kill_at`, kill this process at that step."""
    from accelerate import PartialState
    from tiny_models import randomise
    from tiny_training import UNET, random_base

    from icportrait.training.commands.train import PATIENCE
    from icportrait.training.core.loop import train
    from icportrait.training.core.settings import LoopSettings
    from icportrait.training.stages.sample_sets import embed_samples, encode_samples, stored_samples
    from icportrait.training.tasks.matching import MatchingSettings, MatchingTask

    PartialState(cpu=True, timeout=PATIENCE)
    samples = stored_samples(run, sorted(data.glob("*.tar")), None)
    encode_samples(samples, Small())
    embed_samples(samples, random_base()[1])
    task = MatchingTask(samples, *random_base(), UNET, MatchingSettings(objective="paper", drop=0.5), seed=2)
    randomise(task.net, 3)
    if kill_at is not None:
        draw = task.items
        task.items = lambda step, batch: os.kill(os.getpid(), signal.SIGKILL) if step == kill_at else draw(step, batch)
    every_step = 0.0 if kill_at is not None else 3.0
    train(task, LoopSettings(steps=steps, batch=BATCH, lr=1e-4, checkpoint_minutes=every_step), run, "matching")


class Small:
    """Stands for the autoencoder: latents are the pictures, made small."""

    def to(self, _):
        return self

    def state_dict(self):
        return {}

    def encode(self, images):
        import torch

        small = torch.nn.functional.avg_pool2d(images, 8) * 3
        return torch.cat((small, small.mean(dim=1, keepdim=True).flip(-1)), dim=1)


def start(data: Path, run: Path, steps: int, kill_at: int = -1, rank: int = 0, world: int = 1, port: int = 0):
    """This file as a process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    if world > 1:
        # As on two machines: a local world of one each, and a run folder that the other does not see.
        run = run / f"machine{rank}"
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
        environment |= {"RANK": str(rank), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    arguments = [sys.executable, "-W", "ignore", __file__, str(data), str(run), str(steps), str(kill_at)]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run_to_the_end(data: Path, run: Path, steps: int) -> None:
    """One process like the others (threads decide the last bits), waited for."""
    worker = start(data, run, steps)
    output = worker.communicate(timeout=240)[0]
    assert worker.returncode == 0, output[-3000:]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    from tiny_training import write_shard

    folder = tmp_path_factory.mktemp("shards")
    write_shard(folder / "tiny.tar")
    return folder


def state(run: Path) -> dict:
    from icportrait.models.nets.files import read_tensors

    return read_tensors(run / "checkpoint.safetensors")[0]


@pytest.mark.slow
def test_two_processes_equal_one(data, tmp_path):
    import torch

    from icportrait.models.nets.files import read_tensors

    port = free_port()
    for steps in (2, 3):  # the second machine has no checkpoint to resume from: it gets the first one's
        workers = [start(data, tmp_path / "two", steps, rank=rank, world=2, port=port) for rank in (0, 1)]
        try:
            output = [worker.communicate(timeout=240)[0] for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
        assert [worker.returncode for worker in workers] == [0, 0], output[0][-3000:] + output[1][-3000:]
        assert "processes: 2" in output[0] and "processes: 2" in output[1]
    run_to_the_end(data, tmp_path / "one", 3)
    one, two = state(tmp_path / "one"), state(tmp_path / "two" / "machine0")
    assert not (
        tmp_path / "two" / "machine1" / "checkpoint.safetensors"
    ).exists()  # the first machine writes the results
    for kind in ("latents", "embeddings"):  # each machine has them all, half of them over the network
        files = [
            tmp_path / run / "samples_full" / f"tiny.{kind}.safetensors"
            for run in ("one", "two/machine0", "two/machine1")
        ]
        kept = [read_tensors(file)[0] for file in files]
        assert kept[0] and all(k.keys() == kept[0].keys() for k in kept)
        for name, tensor in kept[0].items():  # alone, a batch is larger, which moves the last bits
            assert torch.allclose(tensor.float(), kept[1][name].float(), rtol=1e-3, atol=1e-5)
            assert torch.equal(kept[1][name], kept[2][name])
    assert one.keys() == two.keys() and one["step"] == two["step"] == 3
    compared = total = 0
    for name in (name.removeprefix("weights/") for name in one if name.startswith("weights/")):
        gradients = [run[f"optimizer/exp_avg/{name}"] for run in (one, two)]
        assert (gradients[0] - gradients[1]).abs().max() < 1e-7, name
        # Adam divides by the gradient's size. Where that is rounding noise (before a norm, say) so is the step; elsewhere
        # weights agree to a tenth of a step of 1e-4, and nearly all of them to a fiftieth.
        real = one[f"optimizer/exp_avg_sq/{name}"].sqrt() > 2e-6
        difference = (one[f"weights/{name}"] - two[f"weights/{name}"]).abs()
        assert torch.all(difference[real] < 1e-5), name
        assert (difference[real] < 2e-6).sum() >= 0.999 * real.sum(), name
        compared, total = compared + int(real.sum()), total + real.numel()
    assert compared > 0.2 * total


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_kill_9_and_resume(data, tmp_path):
    import torch

    worker = start(data, tmp_path / "killed", 6, kill_at=4)
    try:
        output = worker.communicate(timeout=240)[0]
    finally:
        worker.kill()
    assert worker.returncode == -signal.SIGKILL, output[-3000:]
    assert state(tmp_path / "killed")["step"] == 4
    run_to_the_end(data, tmp_path / "killed", 6)
    run_to_the_end(data, tmp_path / "whole", 6)
    whole, resumed = state(tmp_path / "whole"), state(tmp_path / "killed")
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here), str(here.parent)]
    import conftest  # noqa: F401 (puts ComfyUI and this pack on the path)

    shards, folder, number, kill = sys.argv[1:5]
    train_tiny(Path(shards), Path(folder), int(number), None if kill == "-1" else int(kill))
    from accelerate import PartialState

    print("processes:", PartialState().num_processes)
