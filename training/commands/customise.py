"""`icportrait customise`."""

import dataclasses
from dataclasses import dataclass

import tyro
from tyro.conf import Positional

from ...models.nets import bundle as bundles
from ..core.checks import at_least
from ..core.paths import InputFile, InputFolder, Output, OutputFolder
from ..core.settings import LoopSettings
from ..data.folders.faces import FilterSettings
from ..data.samples import SampleSet
from ..stages.customise import customise
from ..stages.sample_sets import shards_in
from ..tasks.customise import LORA_LR, PAPER, CustomiseSettings
from .parsing import parse


@dataclass(frozen=True, kw_only=True)
class Customise:
    """Train the UNet on photographs of one person (the paper's DreamBooth phase: whole UNet, lr 2e-6, batch 1).

    Two defaults follow the task: --lr of a LoRA (--rank above 0) is 1e-4, and --size with --base is 512.
    """

    photos: Positional[InputFolder]
    """Folder of photographs or videos of the person."""
    out: Output
    """Checkpoint or LoRA to write (.safetensors); for the demo base without --rank, folder of the new bundle."""
    base: InputFile | None = None
    """SD1.5 checkpoint (.safetensors); default: the demo's."""
    vision: InputFile | None = None
    """CLIP ViT-L/14 vision model, with --base."""
    bundle: InputFolder | None = None
    """Bundle to customise; default: the one shipped."""
    run: OutputFolder | None = None
    """Folder of the training's checkpoints; default: beside --out."""
    prior: InputFolder | None = None
    """Shards of other people, to keep what the base can do."""
    prior_limit: int = 500
    """Use so many samples of --prior."""
    training: LoopSettings = PAPER
    settings: CustomiseSettings = CustomiseSettings()
    photographs: FilterSettings = FilterSettings()

    def __post_init__(self):
        at_least(1, prior_limit=self.prior_limit)


def parse_customise(argv: list[str]) -> Customise:
    """The settings; the defaults of lr and size depend on other options, so these are read first."""
    defaults = Customise(photos=tyro.MISSING, out=tyro.MISSING)
    first = parse(Customise, argv, "icportrait customise", defaults)
    if first.settings.rank:
        defaults = dataclasses.replace(defaults, training=dataclasses.replace(PAPER, lr=LORA_LR))
    if first.base is not None:
        defaults = dataclasses.replace(defaults, photographs=FilterSettings(size=512))
    return parse(Customise, argv, "icportrait customise", defaults)


def main(argv: list[str]) -> int:
    given = parse_customise(argv)
    prior = None
    if given.prior is not None:
        prior = SampleSet(shards_in(given.prior), given.photographs.size, given.prior_limit)
    places = (given.photos, given.out, given.base, given.vision, given.bundle or bundles.FOLDER)
    made, drops = customise(*places, given.photographs, given.training, given.settings, prior, given.run)
    print("\n".join([*(f"left out {d.name}: {d.reason} ({d.detail})" for d in drops), str(made)]))
    return 0
