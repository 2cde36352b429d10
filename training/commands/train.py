"""`icportrait train`: train a stage; repeating the command resumes it.

Each option overrides one number of the preset, whose values the help of `--preset NAME --help` shows.
"""

import argparse
import dataclasses
import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
import tyro
from accelerate import PartialState

from ...models.errors import UserError
from ...models.method.encoding import GRID
from ..core.checks import at_least, picture_sides
from ..core.paths import InputFile, InputFolder, OutputFolder
from ..core.settings import LoopSettings
from ..data.samples import SampleSet
from ..stages.appearance import train_appearance
from ..stages.autoencoder import train_autoencoder
from ..stages.base import train_base
from ..stages.base_models import Base, load_demo_base, load_sd15_base
from ..stages.hint import train_hint
from ..stages.lifter import train_lifter
from ..stages.matching import train_matching
from ..stages.presets import PRESETS, preset
from ..stages.recogniser import train_recogniser
from ..stages.sample_sets import shards_in, stored_samples
from ..tasks.appearance import AppearanceSettings
from ..tasks.base import BaseSettings
from ..tasks.hint import HintSettings
from ..tasks.lifter import LifterSettings
from ..tasks.matching import MatchingSettings
from ..tasks.recogniser import RecogniserSettings
from .parsing import parse_choice

PATIENCE = datetime.timedelta(hours=2)  # torch's own: 10 minutes
HELD_OUT_SAMPLES = 128  # read for validation: eight a person


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all stages have."""

    stage: ClassVar[str]

    run: OutputFolder
    """Folder of the run: checkpoints, logs, finished stages."""
    data: InputFolder
    """Folder of shards."""
    preset: Literal["demo", "sd15"] = "demo"
    """demo: the small bundle; sd15: the paper's recipe (section 4). Each option below overrides one number of it; the
    defaults shown are those of the preset that is given."""
    limit: int | None = None
    """Use only the first so many samples."""
    size: int | None = None
    """Train on pictures of this side only, in pixels, a multiple of 64; default: the preset's phases."""
    threads: int = 0
    """CPU threads; 0 = torch's choice."""
    loop: LoopSettings

    def __post_init__(self):
        at_least(0, threads=self.threads)
        at_least(1, limit=self.limit)
        picture_sides(size=self.size)

    def start(self) -> int:
        """Train all phases; returns the exit code."""
        # The first mention of the processes decides: without `cpu`, several on machines without a GPU would each run alone.
        # The limit covers what one process does while others wait, e.g. decoding shards or looking at validation samples.
        PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
        if self.threads:
            torch.set_num_threads(self.threads)
        shards = shards_in(self.data)
        self.prepare(shards)
        steps = self.loop.steps
        phases = [(self.size, steps)] if self.size else preset(self.preset, self.stage).phases(steps)
        for size, last_step in phases:
            samples = load(self.run, shards, size, self.limit)
            held_out = self.held_out(size)
            schedule_steps = self.loop.schedule_steps or steps
            self.train(
                samples, dataclasses.replace(self.loop, steps=last_step, schedule_steps=schedule_steps), held_out
            )
        return 0

    def prepare(self, shards: list[Path]) -> None:
        """What comes before the first phase."""

    def held_out(self, size: int | None) -> SampleSet | None:
        """Samples for validation, None = no validation."""
        return None

    def train(self, samples: SampleSet, loop: LoopSettings, held_out: SampleSet | None) -> None:
        """One phase."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Validated(Training):
    """A stage with validation."""

    validation: InputFolder | None = None
    """Folder of held-out shards for validation while training."""

    def held_out(self, size):
        return (
            None
            if self.validation is None
            else load(self.run, shards_in(self.validation), size, HELD_OUT_SAMPLES, "held_out")
        )


@dataclass(frozen=True, kw_only=True)
class OnBase(Training):
    """A stage that builds on frozen models."""

    base: InputFile | None = None
    """SD1.5 checkpoint (sd15 preset)."""
    vision: InputFile | None = None
    """CLIP ViT-L/14 vision model (sd15 preset)."""

    def __post_init__(self):
        super().__post_init__()
        given = (self.base, self.vision)
        if self.preset == "sd15" and None in given and tyro.MISSING not in given and self.run is not tyro.MISSING:
            raise UserError(
                "The sd15 preset needs --base (an SD1.5 checkpoint) and --vision (a CLIP ViT-L/14 vision model)."
            )
        if self.preset != "sd15" and given != (None, None):
            raise UserError("--base and --vision belong to --preset sd15, which is not given.")

    def base_models(self) -> Base:
        """The demo's base of this run, or the checkpoints given."""
        if self.preset != "sd15":
            return load_demo_base(self.run)
        return load_sd15_base(self.base, self.vision)


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Training):
    """The demo's 8x autoencoder (`train base` runs it first when it is missing)."""

    stage: ClassVar[str] = "autoencoder"

    def train(self, samples, loop, held_out):
        train_autoencoder(self.run, samples, loop)


@dataclass(frozen=True, kw_only=True)
class BaseStage(Validated):
    """The demo's UNet and vision encoder from nothing (SD1.5 runs skip this)."""

    stage: ClassVar[str] = "base"
    task: BaseSettings

    def prepare(self, shards):
        if not (self.run / "autoencoder" / "vae.safetensors").exists():
            train_autoencoder(
                self.run, load(self.run, shards, None, self.limit), preset(self.preset, "autoencoder").loop
            )

    def train(self, samples, loop, held_out):
        train_base(self.run, samples, loop, self.task, held_out)


@dataclass(frozen=True, kw_only=True)
class Recogniser(Validated):
    """The face recogniser of the identity loss (beyond the paper; before `train appearance --identity-weight`)."""

    stage: ClassVar[str] = "recogniser"
    task: RecogniserSettings

    def train(self, samples, loop, held_out):
        train_recogniser(self.run, samples, loop, self.task, held_out)


@dataclass(frozen=True, kw_only=True)
class LifterStage(Training):
    """The lifter of novel views, on shards of `icportrait data heads` (the paper takes a published encoder; docs/novel_views.md)."""

    stage: ClassVar[str] = "lifter"
    task: LifterSettings

    def train(self, samples, loop, held_out):
        train_lifter(self.run, samples, loop, self.task)


@dataclass(frozen=True, kw_only=True)
class Hint(OnBase):
    """A start for the hint block of both nets (beyond the paper; optional, before `train matching`)."""

    stage: ClassVar[str] = "hint"
    task: HintSettings

    def train(self, samples, loop, held_out):
        train_hint(self.run, samples, self.base_models(), loop, self.task)


@dataclass(frozen=True, kw_only=True)
class NetStage(OnBase, Validated):
    """A stage that trains one of the two nets."""

    init: InputFile | None = None
    """Net file of this stage to begin with (for the same UNet, also a bundle's) instead of the UNet's copy."""


@dataclass(frozen=True, kw_only=True)
class Matching(NetStage):
    """The matching net (paper: 200 steps, lr 1e-5, batch 16)."""

    stage: ClassVar[str] = "matching"
    name: str = "matching"
    """Subfolder of the run, for variants side by side."""
    task: MatchingSettings

    def train(self, samples, loop, held_out):
        base = self.base_models()
        train_matching(self.run, self.name, samples, base, loop, self.task, held_out, self.init)


@dataclass(frozen=True, kw_only=True)
class Appearance(NetStage):
    """The appearance net (paper: 20,000 steps, lr 1e-5, batch 16), matching net frozen."""

    stage: ClassVar[str] = "appearance"
    name: str = "appearance"
    """Subfolder of the run, for variants side by side."""
    matching: str = "matching"
    """Subfolder of the matching net to use."""
    task: AppearanceSettings

    def train(self, samples, loop, held_out):
        base = self.base_models()
        train_appearance(self.run, self.name, self.matching, samples, base, loop, self.task, held_out, self.init)


STAGES = {kind.stage: kind for kind in (Autoencoder, BaseStage, Recogniser, LifterStage, Hint, Matching, Appearance)}


def load(run: Path, shards: list[Path], size: int | None, limit: int | None, name: str = "samples") -> SampleSet:
    """The samples of some shards, decoded in the run's folder, and a line about them.

    Raises:
        UserError: their pictures have a side the nets cannot take.
    """
    samples = stored_samples(run, shards, size, limit, name)
    side = next(iter(samples.pictures.values())).shape[0]
    if side % GRID:
        raise UserError(
            f"The pictures of {shards[0].parent} are {side} px: training needs a multiple of {GRID}, see --size."
        )
    people = len({sample.identity for sample in samples.samples})
    print(
        f"{len(samples)} samples, {len(samples.pictures)} pictures of {size or 'full'} px, {people} identities",
        flush=True,
    )
    return samples


def parse_training(argv: list[str]) -> Training:
    """The stage and its settings: the preset's, but for the options given."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset")
    name = first.parse_known_args(argv)[0].preset
    name = name if name in PRESETS else "demo"  # what is wrong is told below
    if argv and argv[0] in STAGES:
        preset(name, argv[0])
    defaults = {stage: _defaults(name, stage) for stage in PRESETS[name]}
    return parse_choice(STAGES, argv, "icportrait train", defaults)


def _defaults(name: str, stage: str) -> Training:
    said = preset(name, stage)
    task = {} if said.task is None else {"task": said.task}
    return STAGES[stage](run=tyro.MISSING, data=tyro.MISSING, preset=name, loop=said.loop, **task)


def main(argv: list[str]) -> int:
    return parse_training(argv).start()
