"""Where curves and pictures of a run go: TensorBoard, Weights & Biases, or nowhere."""

import importlib.util
import json
from pathlib import Path

import torch

from ...models.errors import UserError

TRACKERS = ("tensorboard", "wandb", "none")


def check_tracker(name: str) -> None:
    """Raises UserError when the tracker is unknown or its package is missing."""
    if name not in TRACKERS:
        raise UserError(f"Unknown tracker {name!r}; choose one of {', '.join(TRACKERS)}.")
    if name != "none" and importlib.util.find_spec(name) is None:
        raise UserError(
            f"--tracker {name} needs the package {name}, which is not installed: `pip install {name}`, or choose another."
        )


def start_tracking(accelerator, name: str, folder: Path) -> None:
    """Open the tracker: TensorBoard files in `folder/log`, or a W&B run named after the folder."""
    if name == "wandb":
        run = {"name": f"{folder.parent.name}/{folder.name}", "dir": str(folder)}
        accelerator.init_trackers("icportrait", init_kwargs={"wandb": run})
    elif name == "tensorboard":
        accelerator.init_trackers("log")


def log_validation(
    accelerator, folder: Path, step: int, figures: dict[str, float], pictures: dict[str, torch.Tensor]
) -> None:
    """Figures to the tracker and to `validation.jsonl`, pictures (float `[B, H, W, 3]` in [0, 1]) to the tracker and as PNG.

    A resumed run may write a step again: the last line of a step counts.
    """
    from PIL import Image

    accelerator.log({f"validation/{name}": value for name, value in figures.items()}, step=step)
    with (folder / "validation.jsonl").open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"step": step, **figures}) + "\n")
    for name, batch in pictures.items():
        frames = (batch.clamp(0, 1) * 255).round().byte().cpu().numpy()
        Image.fromarray(frames.reshape(-1, *frames.shape[2:])).save(folder / f"validation_{name}.png")
        for tracker in accelerator.trackers:
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({f"validation/{name}": frames}, step=step, **layout)
