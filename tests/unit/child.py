"""Processes started by tests."""

import os
from pathlib import Path

from icportrait.run import link_folder

PACK = Path(__file__).resolve().parents[2]


def child_environment(folder: Path) -> dict[str, str]:
    """Environment variables with which a new Python finds this clone as `icportrait`, through a link in `folder`."""
    link_folder(folder / "icportrait", PACK)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}
