"""What all studies share: models, held-out cases, cached results, and how figure and table are written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from ....models.errors import UserError
from ....models.portrait import CropSettings
from ..baselines import icportrait
from ..cases import Case, heads_cases
from ..charts import png_bytes
from ..evaluate import means, settings_from
from ..models_used import Models, load_models
from ..picture_grid import grid
from ..recognisers import recognisers
from ..result_cache import ResultCache, write_atomically, write_json
from ..results import Maker, run_results
from ..scoring import COLUMNS, Scorer, likeness_columns

GRID_CASES = 4


@dataclass
class Study:
    """A study in the making."""

    arguments: object
    """The command line's."""
    models: Models
    cases: list[Case]
    settings: CropSettings
    scorer: Scorer
    cache: ResultCache

    @property
    def values(self) -> list[float] | None:
        """The swept values when the command line gives them."""
        return self.arguments.values

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


def open_study(arguments) -> Study:
    """Load models and cases as the command line says.

    Raises:
        UserError: no shards, or too few identities.
    """
    shards = sorted(Path(arguments.data).glob("*.tar"))
    if not shards:
        raise UserError(f"No .tar shards in {arguments.data}; render held-out heads with `icportrait data heads`.")
    models = load_models(arguments.bundle, arguments.base, arguments.vision, arguments.nets)
    cases = heads_cases(shards, arguments.identities)
    cache = ResultCache(Path(arguments.work) / arguments.name)
    return Study(arguments, models, cases, settings_from(arguments), Scorer(recognisers()), cache)


def finish(study: Study, table: dict, figure: Image.Image) -> list[Path]:
    """Write `<name>.json` and `<name>.png`; returns the paths."""
    out = Path(study.arguments.out)
    facts = {
        "study": study.arguments.name,
        "identities": len({case.identity for case in study.cases}),
        "view_px": int(study.cases[0].style.picture.shape[2]),
        "settings": dataclasses.asdict(study.settings),
        "files": study.models.files,
        "training": study.models.training,
    }
    paths = [out / f"{study.arguments.name}.json", out / f"{study.arguments.name}.png"]
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
