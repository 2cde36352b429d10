"""From arguments to checked settings, with tyro."""

import contextlib
import io
import json
import os
import sys
import typing
from pathlib import Path
from typing import Annotated

import tyro

from ...models.errors import UserError
from ..core.paths import Mark

CONFIG = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.PositionalMetavarFromFieldName,
    tyro.conf.DisallowNone,
    tyro.conf.HelptextFromCommentsOff,
)


def parse(kind, argv: list[str], prog: str, default=None):
    """The settings of type `kind` that the arguments say. Wrong arguments and --help end the program, as argparse does.

    Args:
        default: an instance whose values are the defaults, or None.

    Raises:
        UserError: a value that the settings refuse, or a file or folder that does not exist.
    """
    options = {} if default is None else {"default": default}
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            settings = tyro.cli(kind, args=argv, prog=prog, config=CONFIG, **options)
    except SystemExit as end:
        # tyro frames what a settings class refuses in a box with names of classes; people get our sentence alone.
        cause: BaseException | None = end
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__context__
        if cause is not None:
            raise cause from None
        sys.stderr.write(told.getvalue())
        raise
    check_paths(settings)
    return settings


def parse_choice(kinds: dict[str, type], argv: list[str], prog: str, defaults: dict[str, object] | None = None):
    """The same for the settings class that the first argument names; a class's docstring is its help.

    Args:
        defaults: name -> an instance whose values are the defaults.
    """
    defaults = defaults or {}
    if argv and argv[0] in kinds:
        return parse(kinds[argv[0]], argv[1:], f"{prog} {argv[0]}", defaults.get(argv[0]))
    parts = [Annotated[kind, tyro.conf.subcommand(name)] for name, kind in kinds.items()]
    return parse(typing.Union[tuple(parts)], argv, prog)  # noqa: UP007 (made at run time): help, or an error


def check_paths(settings) -> None:
    """Every path with a `Mark` is there and can be read, or can be written.

    Raises:
        UserError: one is not; the message names option and path.
    """
    for name, hint in typing.get_type_hints(type(settings), include_extras=True).items():
        mark, value = _mark(hint), getattr(settings, name)
        positional = tyro.conf.Positional in getattr(hint, "__metadata__", ())
        label = name.upper() if positional else f"--{name.replace('_', '-')}"
        for path in value if isinstance(value, list) else [value]:
            if mark is not None and path is not None:
                (_check_input if mark in (Mark.INPUT_FILE, Mark.INPUT_FOLDER) else _check_output)(label, path, mark)


def _check_input(label: str, path: Path, mark: Mark) -> None:
    there = path.is_file() if mark is Mark.INPUT_FILE else path.is_dir()
    if not there:
        raise UserError(f"{label}: there is no {mark.value} {path}.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{label}: the {mark.value} {path} cannot be read.")


def _check_output(label: str, path: Path, mark: Mark) -> None:
    """Before hours of work, not after them; makes nothing."""
    if (
        path.is_dir()
        if mark is Mark.OUTPUT_FILE
        else mark is Mark.OUTPUT_FOLDER and path.exists() and not path.is_dir()
    ):
        raise UserError(f"{label}: {path} must be {mark.value}, but is none.")
    above = path if path.is_dir() else path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir():
        raise UserError(f"{label}: {path} cannot be made, as {above} is a file.")
    if not os.access(above, os.W_OK):
        raise UserError(f"{label}: {path} cannot be written: there is no permission to write in {above}.")


def _mark(hint) -> Mark | None:
    """The mark inside a type such as `list[InputFile] | None`."""
    for mark in getattr(hint, "__metadata__", ()):
        if isinstance(mark, Mark):
            return mark
    return next(filter(None, map(_mark, typing.get_args(hint))), None)


def write_json(figures: dict, path: Path | None) -> None:
    """The figures as JSON, where a path is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
