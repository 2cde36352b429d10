"""`icportrait curves`."""

from dataclasses import dataclass

from tyro.conf import Positional

from ...models.errors import UserError
from ..core.paths import InputFolder, OutputFile
from ..evaluation.curves import draw_curves
from .parsing import parse


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Draw what training with --validation found against steps, several runs or variants in one chart."""

    folders: Positional[list[InputFolder]]
    """Stage folders with a validation.jsonl, e.g. runs/demo/appearance runs/demo/appearance_t08."""
    out: OutputFile
    """PNG to write."""
    json: OutputFile | None = None
    """JSON to write: the numbers drawn."""

    def __post_init__(self):
        if not self.folders:
            raise UserError("Name at least one stage folder.")


def main(argv: list[str]) -> int:
    curves = parse(Curves, argv, "icportrait curves")
    draw_curves(curves.folders, curves.out, curves.json)
    print(curves.out)
    return 0
