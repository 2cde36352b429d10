"""Stage `recogniser`: the face recogniser of the identity loss."""

from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState

from ...models.errors import UserError
from ...models.nets.files import read_tensors, save_tensors
from ...models.nets.loading import load_strictly
from ..core.loop import train
from ..core.settings import LoopSettings
from ..data.samples import SampleSet
from ..tasks.recogniser import Recogniser, RecogniserSettings, RecogniserTask, build_recogniser, verification
from .facts import training_facts

FORMAT = "icportrait-recogniser-1"


def train_recogniser(
    run: Path,
    samples: SampleSet,
    loop: LoopSettings,
    settings: RecogniserSettings,
    held_out: SampleSet | None = None,
    net: dict | None = None,
) -> RecogniserTask:
    """Train the face recogniser of the identity loss; writes `recogniser/recogniser.safetensors`.

    Args:
        net: config of the net where it is not the default.
    """
    task = RecogniserTask(samples, settings, loop.seed, net)

    def look() -> dict[str, float]:
        return verification(task.net, held_out)

    validate = None if held_out is None else lambda: (look(), {})
    train(task, loop, run / "recogniser", "recogniser", {"config": task.net.config, **asdict(settings)}, validate)
    if PartialState().is_local_main_process:
        facts = training_facts(loop, samples, people=len(task.people))
        if held_out is not None:
            # Once more: of the running average that is saved, which no look while training saw.
            facts["held_out"] = look()
        metadata = {"format": FORMAT, "config": task.net.config, "training": facts}
        save_tensors(run / "recogniser" / "recogniser.safetensors", task.net.state_dict(), metadata)
    return task


def load_recogniser(run: Path) -> Recogniser:
    """The recogniser that `train_recogniser` wrote.

    Raises:
        UserError: there is none, or the file is not one.
    """
    path = run / "recogniser" / "recogniser.safetensors"
    if not path.exists():
        raise UserError(
            f"The identity loss (--identity-weight) needs {path}: train it first with `icportrait train recogniser --run "
            f"{run} --data ...`."
        )
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path} is not a recogniser of this project (its metadata lack format {FORMAT}).")
    net = build_recogniser(metadata["config"])
    load_strictly(lambda: net.load_state_dict(tensors, strict=False), path)
    return net.requires_grad_(False).eval()
