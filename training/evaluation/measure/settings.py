"""What the settings of all measurements have."""

from dataclasses import dataclass
from pathlib import Path

from ...core.paths import InputFolder


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measurement."""

    out: Path | None = None
    """JSON to write."""


@dataclass(frozen=True, kw_only=True)
class BundleSetting:
    """Which bundle."""

    bundle: InputFolder | None = None
    """Bundle folder; default: the one shipped."""
