"""Types of settings that name a file or folder; the command line checks them before anything runs."""

from enum import Enum
from pathlib import Path
from typing import Annotated


class Mark(Enum):
    """What a path must be: there and readable, or a place that can be written."""

    INPUT_FILE = "file"
    INPUT_FOLDER = "folder"
    OUTPUT_FILE = "a file"
    OUTPUT_FOLDER = "a folder"
    OUTPUT = "a file or folder"


InputFile = Annotated[Path, Mark.INPUT_FILE]
InputFolder = Annotated[Path, Mark.INPUT_FOLDER]
OutputFile = Annotated[Path, Mark.OUTPUT_FILE]
OutputFolder = Annotated[Path, Mark.OUTPUT_FOLDER]
Output = Annotated[Path, Mark.OUTPUT]
