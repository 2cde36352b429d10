"""The command line of training: every preset value has an option, and help explains it."""

import dataclasses
import inspect

import pytest

from icportrait.training import cli, options, presets, stages
from icportrait.training.tasks.appearance import AppearanceTask
from icportrait.training.tasks.base import BaseTask
from icportrait.training.tasks.matching import MatchingTask
from icportrait.training.tasks.recogniser import RecogniserTask

STAGES = ("autoencoder", "base", "recogniser", "matching", "appearance")


def parsed(stage: str, *more: str):
    return cli.build_parser().parse_args(["train", stage, "--run", "r", "--data", "d", *more])


def help_of(stage: str, capsys) -> str:
    with pytest.raises(SystemExit):
        cli.build_parser().parse_args(["train", stage, "--help"])
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("stage", STAGES)
def test_help_explains_every_preset_value(stage, capsys):
    text = help_of(stage, capsys)
    for table in (presets.LOOP, presets.CONDITIONING):
        for preset, of_stage in table.items():
            if stage not in of_stage:
                continue
            texts = options.field_help(type(of_stage[stage]))
            for field in dataclasses.fields(of_stage[stage]):
                assert f"--{field.name.replace('_', '-')}" in text, field.name
                assert len(texts[field.name]) > 15, f"{field.name} is not explained"
                assert f"{preset} {getattr(of_stage[stage], field.name)}" in text, field.name
    for name in options.TASK_OPTIONS[stage]:
        assert f"--{name.replace('_', '-')}" in text


def test_every_number_of_a_task_has_an_option():
    given_elsewhere = {"self", "samples", "unet", "vision", "matching", "matching_config", "unet_config", "settings"}
    given_elsewhere |= {"seed", "steps", "vision_config", "sigma", "net", "identity"}
    tasks = {"base": BaseTask, "recogniser": RecogniserTask, "matching": MatchingTask, "appearance": AppearanceTask}
    for stage, task in tasks.items():
        names = set(inspect.signature(task.__init__).parameters) - given_elsewhere
        assert names == set(options.TASK_OPTIONS[stage]), stage


def test_sd15_is_the_papers_recipe():
    matching, conditioning, options_of = stages.preset("sd15", "matching")
    assert (matching.steps, matching.lr, matching.batch, matching.schedule, matching.warmup) == (
        200,
        1e-5,
        16,
        "constant",
        0,
    )
    assert (conditioning.drop, conditioning.max_share, conditioning.triplets) == (0.1, 0.2, 0.0)
    assert options_of == {"objective": "paper"}
    appearance, conditioning, options_of = stages.preset("sd15", "appearance")
    assert (appearance.steps, appearance.lr, appearance.batch, appearance.schedule) == (20_000, 1e-5, 16, "constant")
    assert (conditioning.drop, conditioning.max_share, conditioning.bridge, options_of) == (0.1, 0.2, 0.0, {})


def test_what_is_given_overrides_and_the_rest_stays():
    arguments = parsed(
        "appearance", "--lr", "3e-5", "--no-gate", "--checkpointing", "--face-weight", "2", "--drop", "0.2"
    )
    loop, conditioning, of_task = stages.preset("demo", "appearance")
    changed = options.overridden(loop, arguments)
    assert changed == dataclasses.replace(loop, lr=3e-5, checkpointing=True)
    assert options.overridden(conditioning, arguments) == dataclasses.replace(conditioning, drop=0.2)
    wanted = of_task | {"gate": False, "face_weight": 2.0}
    assert options.overridden_task_options("appearance", of_task, arguments) == wanted
    assert options.overridden(loop, parsed("appearance")) == loop
    assert options.overridden_task_options("appearance", of_task, parsed("appearance", "--gate"))["gate"] is True
