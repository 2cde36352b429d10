"""`icportrait evaluate`."""

from ..evaluation.evaluate import EvaluationSettings, evaluate, print_table
from .parsing import parse


def main(argv: list[str]) -> int:
    settings = parse(EvaluationSettings, argv, "icportrait evaluate")
    print_table(evaluate(settings))
    print(f"\n{settings.out / 'report.html'}")
    return 0
