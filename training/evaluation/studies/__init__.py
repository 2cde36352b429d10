"""The paper's studies: `icportrait study NAME` writes `<name>.png` and `<name>.json`. One study a file."""

from pathlib import Path

import torch

from . import (
    annealing,
    attention,
    detail,
    extreme_light,
    flow_steps,
    noise,
    pair_every,
    refine,
    sampler,
    sampling,
    side,
    tap,
)
from .common import StudySettings, finish, open_study

STUDIES = {
    "annealing": annealing.study,
    "flow-steps": flow_steps.study,
    "sampling": sampling.study,
    "noise": noise.study,
    "sampler": sampler.study,
    "side": side.study,
    "tap": tap.study,
    "extreme-light": extreme_light.study,
    "refine": refine.study,
    "detail": detail.study,
    "attention": attention.study,
    "pair-every": pair_every.study,
}


def run(options: StudySettings) -> list[Path]:
    """Run a study; returns the paths written.

    Raises:
        UserError: data that do not do.
    """
    with torch.inference_mode():
        study = open_study(options)
        table, figure = STUDIES[options.name](study)
    return finish(study, table, figure)
