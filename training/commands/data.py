"""`icportrait data`: make and inspect training data."""

from dataclasses import dataclass

from tyro.conf import Positional

from ...models.errors import UserError
from ..core.checks import at_least, picture_sides
from ..core.paths import InputFile, InputFolder, OutputFile, OutputFolder
from ..data.contact_sheet import contact_sheet
from ..data.folders.faces import FilterSettings
from ..data.folders.write import PairSettings, report_text, write_folders
from ..data.heads.generate import generate_shards
from ..data.shards import validate_shards
from ..data.views import IDENTITIES, PaintSettings, ViewSettings, descriptions, paint_portraits, write_views
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

    out: OutputFolder
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
    """Picture side in pixels, a multiple of 64."""
    seed: int = 0
    """Decides every person and scene."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, groups=self.groups, identities=self.identities)
        picture_sides(size=self.size)
        at_least(0, first_group=self.first_group, seed=self.seed)
        at_least(2, scenes=self.scenes)

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
    out: OutputFolder
    """Folder of the shards and of report.json."""
    filters: FilterSettings = FilterSettings()
    pairing: PairSettings = PairSettings()

    def run(self) -> int:
        report = write_folders(self.pictures, self.out, self.filters, self.pairing, self.workers, ray=self.ray)
        print(report_text(report))
        return 0


@dataclass(frozen=True, kw_only=True)
class Views(Workers):
    """Pairs from single portraits: each lifted and seen twice from random cameras in random light (the paper's section 3.2)."""

    out: OutputFolder
    """Folder of the shards; painted portraits go into its folder `portraits`."""
    portraits: InputFolder | None = None
    """Folder of portraits, one a person."""
    checkpoint: InputFile | None = None
    """Instead of --portraits: checkpoint (.safetensors) that ComfyUI paints them with."""
    prompts: InputFile | None = None
    """Text file for --checkpoint, a prompt a line; default: descriptions of people who do not exist."""
    identities: int = IDENTITIES
    """Default prompts to paint (the paper: 206 people)."""
    lifter: InputFile | None = None
    """Lifter of `icportrait train lifter` to take depth from; default: the face mesh."""
    views: ViewSettings = ViewSettings()
    painting: PaintSettings = PaintSettings()

    def __post_init__(self):
        super().__post_init__()
        at_least(1, identities=self.identities)
        if (self.portraits is None) == (self.checkpoint is None):
            raise UserError("Give either --portraits (a folder) or --checkpoint (to paint them).")

    def run(self) -> int:
        portraits = self.portraits
        if portraits is None:
            prompts = descriptions(self.identities)
            if self.prompts is not None:
                prompts = [line.strip() for line in self.prompts.read_text("utf-8").splitlines() if line.strip()]
            portraits = self.out / "portraits"
            paint_portraits(self.checkpoint, prompts, portraits, self.painting, self.views.seed)
        report = write_views(portraits, self.out, self.views, self.lifter, self.workers, self.ray)
        print(f"{report['shards']} shards of {report['portraits']} portraits")
        print("\n".join(f"left out {name}: {why}" for name, why in report["left_out"].items()))
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

    out: OutputFile
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
    kinds = {"heads": Heads, "folder": Folder, "views": Views, "sheet": Sheet, "validate": Validate}
    return parse_choice(kinds, argv, "icportrait data").run()
