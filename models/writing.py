"""Files that appear whole or not at all, also when the writer is killed."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

# Two machines may share the folder, and a number of a process means something on its own machine only.
_MACHINE = re.sub(r"[^A-Za-z0-9_-]", "_", platform.node())
_LEFT = re.compile(rf"\..+\.(?:{re.escape(_MACHINE)}-)?(\d+)\.part")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """The path of a file in a hidden folder that takes the place of `path` when the block ends without an error, and else is removed.

    A folder, because libraries write files of other names beside the one they are asked for. What writers that were killed have left is
    removed first.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path.parent)
    folder = path.with_name(f".{path.name}.{_MACHINE}-{os.getpid()}.part")
    try:
        folder.mkdir(exist_ok=True)
        yield folder / path.name
        os.replace(folder / path.name, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left_over(folder: Path) -> None:
    """Remove the unfinished files of writers of this machine that run no more."""
    for left in folder.glob(".*.part"):
        found = _LEFT.fullmatch(left.name)
        if found and int(found[1]) != os.getpid() and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
