"""`icportrait evaluate`: the paper's protocol (section 4.3, Table 1) on photographs or held-out heads, with baselines.

Identities x style references; the similarity of each result to all profile photos of its identity; the upper bound from
pairs of real pictures. Results lie in `OUT/cases`; an interrupted run goes on where it stopped, and the same command gives
the same numbers.
"""

import csv
import dataclasses
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ...models.errors import UserError
from ...models.portrait import CropSettings
from ..core.checks import at_least, picture_sides
from ..core.paths import InputFolder, OutputFolder
from ..stages.sample_sets import shards_in
from . import charts
from .baselines import METHODS
from .cases import Case, heads_cases, photo_cases
from .metrics.pictures import why_no_lpips, why_no_ssim
from .models_used import ModelFiles
from .picture_grid import grid
from .recognisers import Recogniser, recognisers
from .report import Page
from .result_cache import ResultCache, write_atomically, write_json
from .results import Maker, run_results
from .scoring import COLUMNS, Scorer, likeness_columns
from .statistics import summary

GRID_ROWS = 12


Method = Literal["style unchanged", "paste by landmarks", "paste by flow", "embedding only", "ic-portrait"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How portraits are painted."""

    seed: int = 0
    """Decides kept pixels and all noise."""
    steps: int | None = None
    """Sampling steps a round; default: the node's."""
    cfg: float | None = None
    """Classifier-free guidance; default: the node's."""
    noise_strength: float | None = None
    """How far the style crop is noised; default: the node's."""
    share: float | None = None
    """Kept share of style pixels; default: the node's."""
    rounds: int | None = None
    """Rounds of progressive inference; default: the node's."""

    def __post_init__(self):
        at_least(1, steps=self.steps, rounds=self.rounds)

    @property
    def crop_settings(self) -> CropSettings:
        """The node's defaults with the options that were given."""
        given = {item.name: getattr(self, item.name) for item in dataclasses.fields(Sampling)}
        return CropSettings(**{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Sampling, ModelFiles):
    """The paper's protocol on held-out heads or photographs: similarity, light, pose, baselines, one HTML report."""

    data: InputFolder | None = None
    """Folder of held-out shards."""
    photos: InputFolder | None = None
    """Folder with profiles/<person>/*.jpg and styles/*.jpg."""
    out: OutputFolder
    """Folder of the report; also what a repeated run resumes from."""
    identities: int | None = None
    """Use the first so many people; default: all."""
    styles: int | None = None
    """Style references a person; default: all photographs, 1 for heads."""
    methods: list[Method] = field(default_factory=list)
    """Default: all."""
    size: int = 256
    """Crop side of photographs in px; 512 for SD1.5."""
    landmarks_68: bool = False
    """Measure expression too (landmark model for non-commercial use)."""
    insightface: list[InputFolder] | None = None
    """Folders of insightface packs; default: models/insightface."""

    def __post_init__(self):
        super().__post_init__()
        at_least(1, identities=self.identities, styles=self.styles)
        picture_sides(size=self.size)


def load_cases(options: EvaluationSettings) -> tuple[list[Case], list[str]]:
    """The cases the options ask for, and notes on what could not be used.

    Raises:
        UserError: neither or both of --data and --photos; unreadable data.
    """
    if (options.data is None) == (options.photos is None):
        raise UserError("Give either --data (a folder of held-out shards) or --photos (a folder of photographs).")
    if options.photos is not None:
        return photo_cases(options.photos, options.size, options.identities, options.styles)
    return heads_cases(shards_in(options.data), options.identities, options.styles or 1), []


def pictures_of_people(cases: list[Case]) -> dict[str, list]:
    """Identity -> all real pictures of that person: photos and ground truths, each once."""
    people: dict[str, dict[int, object]] = {}
    for case in cases:
        for shot in (*case.photos, *([case.truth] if case.truth else [])):
            people.setdefault(case.identity, {})[id(shot)] = shot
    return {who: list(shots.values()) for who, shots in people.items()}


def table1(rows: list[dict], cases: list[Case], scorer: Scorer, recogniser: Recogniser) -> dict[str, dict]:
    """The paper's Table 1: min, max, median and mean of the similarities of every result to every profile photo of its person;
    the upper bound is the same over all pairs of different real pictures of a person."""
    bound = []
    for shots in pictures_of_people(cases).values():
        bound += scorer.upper_bound(recogniser, shots)
    table = {"upper bound": summary(bound)}
    for method in dict.fromkeys(row["method"] for row in rows):
        values = [v for row in rows if row["method"] == method for v in row["similarities"][recogniser.name]]
        table[method] = summary(values)
    ceiling = table["upper bound"]["mean"]
    for figures in table.values():
        figures["share_of_upper_bound"] = figures["mean"] / ceiling if ceiling and figures["mean"] is not None else None
    return table


def means(rows: list[dict], columns: dict) -> dict[str, dict[str, float | None]]:
    """Mean of every column over a method's cases, None where it was never measured."""
    table = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == method]
        table[method] = {name: summary(row.get(name) for row in mine)["mean"] for name in columns}
    return table


def csv_text(rows: list[dict], columns: dict) -> str:
    """One line a case and method."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["case", "identity", "method", *columns])
    for row in rows:
        writer.writerow([row["case"], row["identity"], row["method"], *(row.get(name) for name in columns)])
    return stream.getvalue()


def write_report(out: Path, figures: dict, cases: list[Case], rows: list[dict], cache: ResultCache) -> None:
    """`report.html`: everything in one file."""
    columns = figures["columns"]
    page = Page("IC-Portrait: evaluation")
    page.text(
        f"{figures['cases']} results a method: {figures['identities']} identities, {figures['source']}. "
        "Similarities of different recognisers have different units and are never mixed."
    )
    for name, table in figures["table1"].items():
        page.heading(f"Similarity to all profile photos: {name}")
        page.text(f"Unit: {figures['units'][name]}. Layout of the paper's Table 1.")
        names = ("min", "max", "median", "mean", "share_of_upper_bound", "count")
        page.table(["method", *names], [[method, *(row[n] for n in names)] for method, row in table.items()])
        page.picture(charts.bar_chart({m: row["mean"] for m, row in table.items()}, "mean similarity", name), "means")
    page.heading("All metrics, mean over cases")
    measured = [c for c in columns if any(row[c] is not None for row in figures["means"].values())]
    page.table(
        ["method", *(f"{c} [{columns[c][0]}]" for c in measured)],
        [[method, *(row[c] for c in measured)] for method, row in figures["means"].items()],
        [0, *(columns[c][1] for c in measured)],
    )
    for note in figures["notes"]:
        page.text(note)
    page.heading("Pictures")
    methods = list(figures["means"])
    lines = []
    for case in cases[:GRID_ROWS]:
        line = [("profile", case.profile.picture), ("style", case.style.picture)]
        line += [(m, cache.stored_picture(case.key, m)) for m in methods if m != "style unchanged"]
        lines.append(line + ([("true render", case.truth.picture)] if case.truth else []))
    page.picture(grid(lines), "profile, style reference, results")
    page.heading("Settings and nets")
    page.facts(figures["settings"] | {f"sha256 {name}": value for name, value in figures["files"].items()})
    page.facts({name: facts for name, facts in figures["training"].items() if facts})
    page.write(out / "report.html")


def evaluate(options: EvaluationSettings) -> dict:
    """Run everything; see `icportrait evaluate --help`. Writes report.html, evaluation.json, cases.csv and cases/ into --out."""
    out, settings = options.out, options.crop_settings
    methods = METHODS if not options.methods else {name: METHODS[name] for name in options.methods}
    with torch.inference_mode():
        models = options.load()
        cases, notes = load_cases(options)
        found = recognisers(options.insightface)
        scorer = Scorer(found, options.landmarks_68, light=options.photos is None)
        cache = ResultCache(out / "cases")
        facts = dataclasses.asdict(settings)
        makers = {
            name: Maker(lambda case, method=method: method(models, case, settings), facts)
            for name, method in methods.items()
        }
        rows = run_results(models.files, cases, makers, scorer, cache)
        tables = {one.name: table1(rows, cases, scorer, one) for one in found}
    columns = likeness_columns(found) | COLUMNS
    if len(found) == 1:
        notes.append("ArcFace not measured: no insightface model pack was found.")
    if not options.landmarks_68:
        notes.append("Expression error not measured: --landmarks-68 was not given (non-commercial landmark model).")
    notes += [f"{reason}." for reason in (why_no_ssim(), why_no_lpips()) if reason]
    figures = {
        "source": "photographs" if options.photos is not None else "held-out heads",
        "identities": len({case.identity for case in cases}),
        "cases": len(cases),
        "table1": tables,
        "means": means(rows, columns),
        "columns": columns,
        "units": {one.name: one.unit for one in found},
        "notes": notes,
        "settings": {**dataclasses.asdict(settings), "view_px": int(np.max(cases[0].style.picture.shape[1:3]))},
        "files": models.files,
        "training": models.training,
    }
    write_json(out / "evaluation.json", figures)
    write_atomically(out / "cases.csv", csv_text(rows, columns).encode())
    write_report(out, figures, cases, rows, cache)
    return figures


def print_table(figures: dict) -> None:
    """The figures for people."""
    for name, table in figures["table1"].items():
        print(f"\nsimilarity to all profile photos, {name} ({figures['units'][name]})")
        print(f"  {'':22s}{'min':>8s}{'max':>8s}{'median':>8s}{'mean':>8s}   of the upper bound")
        for method, row in table.items():
            cells = "".join(
                "       –" if row[k] is None else f"{row[k]:8.3f}" for k in ("min", "max", "median", "mean")
            )
            share = row["share_of_upper_bound"]
            print(f"  {method:22s}{cells}   {'–' if share is None else f'{share:.2f}'}")
    print("\nmean over cases")
    methods = list(figures["means"])
    print(f"  {'':34s}" + "".join(f"{m:>20s}" for m in methods))
    for column, (unit, _) in figures["columns"].items():
        values = [figures["means"][m][column] for m in methods]
        if any(value is not None for value in values):
            cells = "".join("                   –" if v is None else f"{v:20.3f}" for v in values)
            print(f"  {f'{column} [{unit}]'[:34]:34s}{cells}")
    for note in figures["notes"]:
        print(note)
