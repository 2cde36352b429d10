"""`icportrait study`."""

from ..evaluation.studies import StudySettings, run
from .parsing import parse


def main(argv: list[str]) -> int:
    for path in run(parse(StudySettings, argv, "icportrait study")):
        print(path)
    return 0
