"""`icportrait measure files`: how large a bundle is, file by file."""

from dataclasses import dataclass

from ....models.nets import bundle as bundles
from ....models.nets.files import read_tensors
from .settings import BundleSetting, Measure


@dataclass(frozen=True, kw_only=True)
class FilesMeasure(BundleSetting, Measure):
    """Size and number of weights of a bundle's files."""


def measure_files(options: FilesMeasure) -> dict:
    """Mebibytes and millions of weights of each model of the bundle, and all mebibytes.

    Raises:
        UserError: a file is missing.
    """
    folder = options.bundle or bundles.FOLDER
    bundles.check_bundle(folder)
    figures = {}
    for name in bundles.FILES:
        path = folder / name
        if path.suffix == ".safetensors":
            weights = sum(tensor.numel() for tensor in read_tensors(path)[0].values())
            figures[path.stem] = {"mib": path.stat().st_size / 2**20, "million_weights": weights / 1e6}
    return {"mib": sum(part["mib"] for part in figures.values()), "files": figures}


def print_figures(figures: dict) -> None:
    """The figures for people."""
    for name, part in figures["files"].items():
        print(f"{name:12s} {part['mib']:7.1f} MiB {part['million_weights']:7.1f} M weights")
    print(f"{'total':12s} {figures['mib']:7.1f} MiB")
