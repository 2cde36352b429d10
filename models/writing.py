"""Files that appear whole or not at all, also when the writer is killed."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

# Two machines may share the folder, and a number of a process means something on its own machine only.
_MACHINE = re.sub(r"[^A-Za-z0-9_-]", "_", platform.node())
_LEFT = re.compile(rf"\..+\.(?:{re.escape(_MACHINE)}-)?(\d+)\.part")


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """The path of a hidden file that takes the place of `path` when the block ends without an error, and else is removed.

    What writers that were killed have left in the folder is removed first.

    Raises:
        OSError: the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_left_over(path.parent)
    temporary = path.with_name(f".{path.name}.{_MACHINE}-{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_left_over(folder: Path) -> None:
    """Remove the unfinished files of writers of this machine that run no more."""
    for left in folder.glob(".*.part"):
        found = _LEFT.fullmatch(left.name)
        if found and int(found[1]) != os.getpid() and not psutil.pid_exists(int(found[1])):
            left.unlink(missing_ok=True)
