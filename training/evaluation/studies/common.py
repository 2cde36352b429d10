"""What all studies share: models, held-out cases, cached results, and how figure and table are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from tyro.conf import Positional

from ....models.portrait import CropSettings
from ...core.checks import at_least
from ...core.paths import InputFolder, OutputFolder
from ...stages.sample_sets import shards_in
from ..baselines import icportrait
from ..cases import Case, heads_cases
from ..charts import png_bytes
from ..evaluate import Sampling, means
from ..models_used import ModelFiles, Models
from ..picture_grid import grid
from ..recognisers import recognisers
from ..result_cache import ResultCache, write_atomically, write_json
from ..results import Maker, run_results
from ..scoring import COLUMNS, Scorer, likeness_columns

GRID_CASES = 4


StudyName = Literal[
    "annealing",
    "flow-steps",
    "sampling",
    "noise",
    "sampler",
    "side",
    "tap",
    "extreme-light",
    "refine",
    "detail",
    "attention",
    "pair-every",
]


@dataclass(frozen=True, kw_only=True)
class StudySettings(Sampling, ModelFiles):
    """One of the paper's studies: a figure (PNG) and a table (JSON)."""

    name: Positional[StudyName]
    """Of the study."""
    data: InputFolder
    """Folder of held-out shards."""
    out: OutputFolder = Path("docs/measurements")
    """Folder of <name>.png and <name>.json."""
    work: OutputFolder = Path("study_work")
    """Results so far; a repeated run resumes."""
    identities: int = 6
    """Held-out identities."""
    values: list[float] = field(default_factory=list)
    """Override the values that are swept."""
    snapshots: InputFolder | None = None
    """flow-steps: folder of matching nets <step>.safetensors."""
    seeds: int = 3
    """sampling: seeds for the stability of a result."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, identities=self.identities, seeds=self.seeds)


@dataclass
class Study:
    """A study in the making."""

    options: StudySettings
    models: Models
    cases: list[Case]
    settings: CropSettings
    scorer: Scorer
    cache: ResultCache

    @property
    def values(self) -> list[float]:
        """The swept values that the command line gives; empty = the study's own."""
        return self.options.values

    @property
    def likeness(self) -> str:
        """The column of likeness to the held-out render, dlib's."""
        return f"sim_gt {self.scorer.recognisers[0].name}"

    def maker(self, **changes) -> Maker:
        """The method with some settings changed."""
        settings = dataclasses.replace(self.settings, **changes)
        return Maker(lambda case: icportrait(self.models, case, settings), dataclasses.asdict(settings))

    def run(self, makers: dict[str, Maker], cases: list[Case] | None = None) -> list[dict]:
        """Rows of `results.run_results`."""
        return run_results(self.models.files, cases or self.cases, makers, self.scorer, self.cache)

    def means(self, rows: list[dict]) -> dict[str, dict[str, float | None]]:
        """Mean figures by maker."""
        return means(rows, likeness_columns(self.scorer.recognisers) | COLUMNS)

    def grid(self, names: list[str], title: Callable[[str], str] = str) -> Image.Image:
        """Results of some makers beside profile, style and true render, a row a case."""
        rows = []
        for case in self.cases[:GRID_CASES]:
            row = [("profile", case.profile.picture), ("style", case.style.picture)]
            row += [(title(name), self.cache.stored_picture(case.key, name)) for name in names]
            rows.append([*row, ("true render", case.truth.picture)])
        return grid(rows)


def open_study(options: StudySettings) -> Study:
    """Load models and cases as the command line says.

    Raises:
        UserError: no shards, or too few identities.
    """
    models = options.load()
    cases = heads_cases(shards_in(options.data), options.identities)
    cache = ResultCache(options.work / options.name)
    return Study(options, models, cases, options.crop_settings, Scorer(recognisers()), cache)


def finish(study: Study, table: dict, figure: Image.Image) -> list[Path]:
    """Write `<name>.json` and `<name>.png`; returns the paths."""
    out = study.options.out
    facts = {
        "study": study.options.name,
        "identities": len({case.identity for case in study.cases}),
        "view_px": int(study.cases[0].style.picture.shape[2]),
        "settings": dataclasses.asdict(study.settings),
        "files": study.models.files,
        "training": study.models.training,
    }
    paths = [out / f"{study.options.name}.json", out / f"{study.options.name}.png"]
    write_json(paths[0], {**facts, **table})
    write_atomically(paths[1], png_bytes(figure))
    return paths


def face_spread(pictures: list[torch.Tensor], face: torch.Tensor) -> float:
    """Instability: standard deviation over the pictures, mean over the face's pixels and channels, sRGB in [0, 1].

    Args:
        pictures: at least two, `[1, H, W, 3]`, alike but for the seed.
        face: bool `[H, W]`.
    """
    return float(torch.cat(pictures).double().std(dim=0)[face].mean())
