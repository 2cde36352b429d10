"""`icportrait evaluate`: the paper's protocol (section 4.3, Table 1) on photographs or held-out heads, with baselines.

Identities x style references; the similarity of each result to all profile photos of its identity; the upper bound from
pairs of real pictures. Results lie in `OUT/cases`; an interrupted run goes on where it stopped, and the same command gives
the same numbers.
"""

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np
import torch

from ...models.errors import UserError
from ...models.portrait import CropSettings
from . import charts
from .baselines import METHODS
from .cases import Case, heads_cases, photo_cases
from .metrics.pictures import why_no_lpips, why_no_ssim
from .models_used import load_models
from .picture_grid import grid
from .recognisers import Recogniser, recognisers
from .report import Page
from .result_cache import ResultCache, write_atomically, write_json
from .results import Maker, run_results
from .scoring import COLUMNS, Scorer, likeness_columns
from .statistics import summary

GRID_ROWS = 12


def settings_from(arguments) -> CropSettings:
    """The node's defaults with the options that were given."""
    names = ("seed", "share", "steps", "cfg", "noise_strength", "rounds", "flow_timestep", "flow_method", "strength")
    given = {name: getattr(arguments, name, None) for name in names}
    return CropSettings(**{name: value for name, value in given.items() if value is not None})


def load_cases(arguments) -> tuple[list[Case], list[str]]:
    """The cases the options ask for, and notes on what could not be used.

    Raises:
        UserError: neither or both of --data and --photos; unreadable data.
    """
    if (arguments.data is None) == (arguments.photos is None):
        raise UserError("Give either --data (a folder of held-out shards) or --photos (a folder of photographs).")
    if arguments.photos is not None:
        return photo_cases(arguments.photos, arguments.size, arguments.identities, arguments.styles)
    shards = sorted(arguments.data.glob("*.tar"))
    if not shards:
        raise UserError(
            f"No .tar shards in {arguments.data}; render held-out heads with "
            f"`icportrait data heads --first-group 1000000 --groups 4 --out {arguments.data}`."
        )
    return heads_cases(shards, arguments.identities, arguments.styles or 1), []


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


def evaluate(arguments) -> dict:
    """Run everything; see `icportrait evaluate --help`. Writes report.html, evaluation.json, cases.csv and cases/ into --out."""
    out = Path(arguments.out)
    settings = settings_from(arguments)
    methods = METHODS if not arguments.methods else {name: METHODS[name] for name in arguments.methods}
    with torch.inference_mode():
        models = load_models(arguments.bundle, arguments.base, arguments.vision, arguments.nets)
        cases, notes = load_cases(arguments)
        found = recognisers(arguments.insightface)
        scorer = Scorer(found, arguments.landmarks_68, light=arguments.photos is None)
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
    if not arguments.landmarks_68:
        notes.append("Expression error not measured: --landmarks-68 was not given (non-commercial landmark model).")
    notes += [f"{reason}." for reason in (why_no_ssim(), why_no_lpips()) if reason]
    figures = {
        "source": "photographs" if arguments.photos is not None else "held-out heads",
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
