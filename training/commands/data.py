"""`icportrait data`: make and inspect training data."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from ...models.errors import UserError
from ..core.checks import at_least
from ..core.paths import InputFile, InputFolder
from ..data.contact_sheet import contact_sheet
from ..data.folders.faces import FilterSettings
from ..data.folders.write import PairSettings, report_text, write_folders
from ..data.heads.generate import generate_shards
from ..data.samples import CELL
from ..data.shards import validate_shards
from .parsing import parse_choice


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How work is shared."""

    workers: int = 2
    """Local processes."""
    ray: str | None = None
    """Address of a running Ray cluster whose machines share the work (`auto`: the one this machine belongs to) instead of
    local processes; all must see --out under the same path."""

    def __post_init__(self):
        at_least(1, workers=self.workers)


@dataclass(frozen=True, kw_only=True)
class Heads(Workers):
    """Render synthetic heads: pairs and triplets with exact flow."""

    out: Path
    """Folder of the shards."""
    groups: int = 734
    """Groups to render; 734 x 48 samples = the paper's 35,200 pairs."""
    first_group: int = 0
    """First group; 1,000,000 and above are held out by convention."""
    identities: int = 6
    """Identities a group."""
    scenes: int = 4
    """Scenes (camera, light, expression) a group."""
    size: int = 256
    """Picture side in pixels."""
    seed: int = 0
    """Decides every person and scene."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, groups=self.groups, identities=self.identities, size=self.size)
        at_least(0, first_group=self.first_group, seed=self.seed)
        at_least(2, scenes=self.scenes)
        if self.size % CELL:
            raise UserError(f"--size must be a multiple of {CELL}; {self.size} was given.")

    def run(self) -> int:
        generate_shards(
            self.out,
            self.groups,
            self.first_group,
            self.identities,
            self.scenes,
            self.size,
            self.seed,
            self.workers,
            ray=self.ray,
        )
        return 0


@dataclass(frozen=True, kw_only=True)
class Folder(Workers):
    """Pairs from your own pictures: a folder a person, photographs and videos."""

    pictures: Positional[InputFolder]
    """Folder that holds a folder of pictures or videos for each person."""
    out: Path
    """Folder of the shards and of report.json."""
    filters: FilterSettings = FilterSettings()
    pairing: PairSettings = PairSettings()

    def run(self) -> int:
        report = write_folders(self.pictures, self.out, self.filters, self.pairing, self.workers, ray=self.ray)
        print(report_text(report))
        return 0


@dataclass(frozen=True, kw_only=True)
class Shards:
    """Some shards."""

    shards: Positional[list[InputFile]]
    """The .tar files."""

    def __post_init__(self):
        if not self.shards:
            raise UserError("Name at least one shard (.tar).")


@dataclass(frozen=True, kw_only=True)
class Sheet(Shards):
    """Contact sheet of some shards."""

    out: Path
    """PNG to write."""
    rows: int = 8
    """Samples shown, at most."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, rows=self.rows)

    def run(self) -> int:
        contact_sheet(self.shards, self.out, self.rows)
        return 0


@dataclass(frozen=True, kw_only=True)
class Validate(Shards):
    """Find truncated or corrupt shard members and name them."""

    def run(self) -> int:
        problems = validate_shards(self.shards)
        print("\n".join(problems) or f"{len(self.shards)} shards, no problem found.")
        return 1 if problems else 0


def main(argv: list[str]) -> int:
    kinds = {"heads": Heads, "folder": Folder, "sheet": Sheet, "validate": Validate}
    return parse_choice(kinds, argv, "icportrait data").run()
