"""What the settings of all measurements have."""

from dataclasses import dataclass

from ...core.paths import InputFolder, OutputFile


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measurement."""

    out: OutputFile | None = None
    """JSON to write."""


@dataclass(frozen=True, kw_only=True)
class BundleSetting:
    """Which bundle."""

    bundle: InputFolder | None = None
    """Bundle folder; default: the one shipped."""
