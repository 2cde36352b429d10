"""`icportrait export`."""

from dataclasses import dataclass

from ..core.paths import InputFolder, OutputFolder
from ..stages.export import export_bundle
from .parsing import parse


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's nets as the demo bundle."""

    run: InputFolder
    """Folder of the run."""
    out: OutputFolder
    """Bundle folder."""
    matching: str = "matching"
    """Subfolder of the matching net."""
    appearance: str = "appearance"
    """Subfolder of the appearance net."""


def main(argv: list[str]) -> int:
    export = parse(Export, argv, "icportrait export")
    sizes = export_bundle(export.run, export.out, export.matching, export.appearance)
    for name, size in sizes.items():
        print(f"{name:28s} {size / 2**20:6.1f} MiB")
    print(f"{'total':28s} {sum(sizes.values()) / 2**20:6.1f} MiB")
    return 0
