"""The options of training: a preset's numbers, each of which an option overrides and help explains."""

import dataclasses

import pytest

from icportrait.models.errors import UserError
from icportrait.training.commands.train import parse_training
from icportrait.training.stages.presets import PRESETS, preset

FILES = {True: ("--base", __file__, "--vision", __file__), False: ()}
STAGES = [(name, stage) for name, stages in PRESETS.items() for stage in stages]


@pytest.fixture
def parsed(tmp_path):
    return lambda stage, *more: parse_training([stage, "--run", "r", "--data", str(tmp_path), *more])


@pytest.mark.parametrize("name,stage", STAGES)
def test_without_options_a_stage_is_its_preset(name, stage, parsed):
    given = parsed(stage, "--preset", name, *FILES[name == "sd15" and stage not in ("recogniser", "lifter")])
    assert given.loop == preset(name, stage).loop and getattr(given, "task", None) == preset(name, stage).task


@pytest.mark.parametrize("name,stage", STAGES)
def test_help_explains_every_number_and_shows_the_presets(name, stage, capsys):
    with pytest.raises(SystemExit) as end:
        parse_training([stage, "--preset", name, "--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("\u2502", " ").replace("|", " ").split())
    for settings in filter(None, (preset(name, stage).loop, preset(name, stage).task)):
        for field in dataclasses.fields(settings):
            option = f"--{field.name.replace('_', '-')}" + (", --no-" if field.type is bool else " ")
            assert option in text, option
            told, _, value = text.split(option)[-1].partition("(default: ")
            assert len(told) > 15 and value.split(")")[0] == str(getattr(settings, field.name)), option


def test_sd15_is_the_papers_recipe():
    matching, appearance = preset("sd15", "matching"), preset("sd15", "appearance")
    loop = {"lr": 1e-5, "batch": 16, "schedule": "constant", "warmup": 0, "ema": 0.0}
    paper = {"drop": 0.1, "max_share": 0.2, "triplets": 0.0, "bridge": 0.0, "min_timestep": 0, "max_timestep": 1000}
    for stage, steps in ((matching, 200), (appearance, 20_000)):
        assert stage.loop.steps == steps and stage.shares == ((None, 1.0),)
        assert loop.items() <= dataclasses.asdict(stage.loop).items()
        assert paper.items() <= dataclasses.asdict(stage.task).items()
    assert matching.task.objective == "paper"
    beyond = {"gate": False, "true_flow": 0.0, "base_share": 0.0, "identity_weight": 0.0, "min_snr": 0.0}
    plain = {"face_weight": 1.0, "profile_weight": 1.0}
    assert (beyond | plain).items() <= dataclasses.asdict(appearance.task).items()


def test_what_is_given_overrides_and_the_rest_stays(parsed):
    said = preset("demo", "appearance")
    given = parsed("appearance", "--lr", "3e-5", "--no-gate", "--checkpointing", "--face-weight", "2", "--drop", "0.2")
    assert given.loop == dataclasses.replace(said.loop, lr=3e-5, checkpointing=True)
    assert given.task == dataclasses.replace(said.task, gate=False, face_weight=2.0, drop=0.2)
    assert parsed("appearance", "--gate").task.gate is True
    assert parsed("matching", "--fine-tap", "-1", "--preset=sd15", *FILES[True]).task.fine_tap == -1


def test_shares_of_the_phases_are_kept_with_other_steps():
    assert preset("demo", "appearance").phases(4000) == [(128, 2600), (256, 4000)]
    assert preset("demo", "appearance").phases(100) == [(128, 65), (256, 100)]


def test_a_stage_that_the_preset_lacks_is_refused(parsed):
    with pytest.raises(UserError, match="The preset sd15 has no stage base: its base is a checkpoint of yours"):
        parsed("base", "--preset", "sd15")
