"""Types of settings that name a file or folder which must exist; the command line checks them before anything runs."""

from enum import Enum
from pathlib import Path
from typing import Annotated


class Existing(Enum):
    """What a path must be."""

    FILE = "file"
    FOLDER = "folder"


InputFile = Annotated[Path, Existing.FILE]
InputFolder = Annotated[Path, Existing.FOLDER]
