"""Command-line options made from dataclasses and presets, so that each number is written once and its help cannot be stale."""

import argparse
import dataclasses
import inspect
import re

from . import presets

# Options of a stage that are not fields of a settings class: (type or choices, what it is in terms of the paper).
_MIN_SNR = (float, "gamma of Min-SNR loss weighting (Hang et al. 2023; they use 5); 0 = off, as in the paper")
TASK_OPTIONS = {
    "autoencoder": {},
    "base": {
        "pair_share": (float, "share of steps on pairs side by side (eq. 2), the rest on single views"),
        "drop": (float, "chance that the embedding is zero, for classifier-free guidance (the paper's nets: 0.1)"),
        "contrast": (float, "weight of the term that pulls two views of a person together in the embedding"),
        "min_snr": _MIN_SNR,
    },
    "recogniser": {
        "temperature": (float, "of the contrast (InfoNCE): cosines are divided by it"),
        "light": (float, "greatest change of a channel's gain, and of the logarithm of gamma, in augmentation"),
        "blur": (
            float,
            "greatest blur in augmentation, sigma in pixels of the 96-px face: makes it bear the autoencoder's",
        ),
        "shift": (int, "greatest shift of the face in augmentation, pixels"),
    },
    "hint": {
        "sampled": (float, "share of crops that are pixel-sampled (eq. 1), the rest whole"),
        "max_share": (float, "n of eq. 1: the kept share of pixels is uniform in (0, n)"),
    },
    "matching": {
        "objective": (
            ("paper", "flow"),
            "paper: eq. 3, predict the pair's noise; flow: beyond the paper, exact flow supervises the cost volume (eq. 5)",
        ),
        "tap": (
            int,
            "encoder block that feeds the cost volume (the paper: an intermediate layer); default: the last block at the "
            "second resolution",
        ),
        "fine_tap": (int, "beyond the paper: earlier encoder block that refines the match; -1 = none"),
        "sigma_start": (
            float,
            "objective flow: width of the Gaussian around the true cell at the first step, in cells",
        ),
        "sigma_end": (float, "objective flow: its width at the last step, in cells"),
        "min_snr": _MIN_SNR,
    },
    "appearance": {
        "alpha": (float, "annealing rate of eq. 7 (the paper gives no number)"),
        "beta": (float, "base weight of eq. 7 (the paper gives no number)"),
        "gate": (bool, "beyond the paper: scale warped features by how well the flow comes back to itself"),
        "flow_timestep": (int, "timestep whose features give the flow, 0 to 999 (the paper computes it at each step)"),
        "true_flow": (
            float,
            "beyond the paper: share of steps that warp by the exact flow where shards hold it, not the matching net's",
        ),
        "profile_weight": (float, "loss weight of the profile half; 1 = eq. 3 as written"),
        "base_share": (
            float,
            "0: the UNet is frozen (the paper). Beyond the paper, for the demo's half-trained base: it learns along, and this "
            "share of steps shows it single pictures without nets",
        ),
        "face_weight": (float, "loss weight of face cells, where shards hold a face mask; 1 = eq. 3 as written"),
        "min_snr": _MIN_SNR,
        "identity_weight": (
            float,
            "beyond the paper: weight of 1 - cosine between the predicted and the true face, of the run's recogniser; 0 = off",
        ),
        "identity_timestep": (int, "only samples below this timestep have the identity loss"),
    },
}


def field_help(owner: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, by field name."""
    pairs = re.findall(
        r"^    (\w+):[^\n]*\n    \"\"\"(.+?)\"\"\"", inspect.getsource(owner), flags=re.MULTILINE | re.DOTALL
    )
    return {name: " ".join(text.split()) for name, text in pairs}


def add_field_options(parser: argparse.ArgumentParser, owner: type) -> None:
    """One option a dataclass field, with the field's own default."""
    texts = field_help(owner)
    for field in dataclasses.fields(owner):
        text = texts.get(field.name, "").replace("%", "%%") or " "  # without a help text no default is shown
        parser.add_argument(_option(field.name), type=type(field.default), default=field.default, help=text)


def add_settings_options(parser: argparse.ArgumentParser, settings) -> None:
    """Options that override the fields of a settings object; help tells what it says."""
    texts = field_help(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        _add(parser, field.name, type(value), texts.get(field.name, ""), {"default": value})


def from_fields(owner: type, arguments: argparse.Namespace):
    """The dataclass made of the options of `add_field_options`."""
    return owner(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(owner)})


def add_preset_options(parser: argparse.ArgumentParser, stage: str) -> None:
    """Options that override the preset of a stage; help tells what each preset says."""
    for table in (presets.LOOP, presets.CONDITIONING):
        values = {name: stages[stage] for name, stages in table.items() if stage in stages}
        if values:
            owner = type(next(iter(values.values())))
            texts = field_help(owner)
            for field in dataclasses.fields(owner):
                kind = {"int": int, "float": float, "bool": bool}.get(getattr(field.type, "__name__", field.type), str)
                told = {name: getattr(settings, field.name) for name, settings in values.items()}
                _add(parser, field.name, kind, texts.get(field.name, ""), told)
    for name, (kind, text) in TASK_OPTIONS[stage].items():
        stages = {key: table[stage] for key, table in presets.TASK.items() if stage in table}
        _add(parser, name, kind, text, {key: _task_value(stage, table, name) for key, table in stages.items()})


def _task_value(stage: str, table: dict, name: str):
    """What a preset says, or the task's own default."""
    if name in table:
        return table[name]
    if stage == "base":
        from .tasks.base import BaseTask as task
    elif stage == "recogniser":
        from .tasks.recogniser import RecogniserTask as task
    elif stage == "hint":
        from .tasks.hint import HintTask as task
    elif stage == "matching":
        from .tasks.matching import MatchingTask as task
    else:
        from .tasks.appearance import AppearanceTask as task
    return inspect.signature(task.__init__).parameters[name].default


def _add(parser: argparse.ArgumentParser, name: str, kind, text: str, told: dict) -> None:
    shown = ", ".join(f"{preset} {value}" for preset, value in told.items() if value is not None)
    text = " ".join(filter(None, (text, f"[{shown}]" if shown else ""))).replace("%", "%%")
    more = {"type": kind}
    if kind is bool:
        more = {"action": argparse.BooleanOptionalAction}
    elif isinstance(kind, tuple):
        more = {"choices": kind}
    parser.add_argument(_option(name), default=argparse.SUPPRESS, help=text, **more)


def overridden(settings, arguments: argparse.Namespace):
    """The preset's settings with the options that were given."""
    names = {field.name for field in dataclasses.fields(settings)}
    return dataclasses.replace(settings, **{k: v for k, v in vars(arguments).items() if k in names and v is not None})


def overridden_task_options(stage: str, options: dict, arguments: argparse.Namespace) -> dict:
    """The preset's task options with those that were given."""
    return options | {name: getattr(arguments, name) for name in TASK_OPTIONS[stage] if hasattr(arguments, name)}


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
