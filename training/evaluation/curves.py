"""`icportrait curves`: figures of validation on held-out people (validation.jsonl), drawn against training steps.

Runs and variants share a chart, so it shows both what more steps would buy and which of several settings is better.
"""

import json
import os
from pathlib import Path

from ...models.errors import UserError
from .charts import line_chart, png_bytes, stacked
from .result_cache import write_atomically, write_json

FILE = "validation.jsonl"
LABELS = {
    "epe_px": "flow error, px",
    "pck_0.05": "PCK at 5 % of the width, %",
    "psnr_db": "PSNR in the face, dB",
    "similarity": "dlib similarity to the profile",
    "target_loss": "loss of the target half",
    "face_loss": "loss in the face",
}
# What a figure is to be compared with; it is drawn into the figure's own chart.
REFERENCES = {"without": "without the nets", "style": "untouched style", "ceiling": "ceiling"}

Line = list[tuple[int, float]]


def read_validation(folder: Path) -> dict[str, Line]:
    """Figure -> (step, value) in the order of steps; the last line of a step counts, as a resumed run may write it again.

    Raises:
        UserError: no such file, or a line that cannot be read.
    """
    path = Path(folder) / FILE
    if not path.exists():
        raise UserError(f"{folder} holds no {FILE}; train with --validation to have one.")
    looks: dict[int, dict] = {}
    for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            look = json.loads(text)
            step = int(look.pop("step"))
            looks[step] = {name: float(value) for name, value in look.items()}
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
            raise UserError(f"Line {number} of {path} is not a look at held-out samples: {error}") from error
    lines: dict[str, Line] = {}
    for step in sorted(looks):
        for name, value in looks[step].items():
            lines.setdefault(name, []).append((step, value))
    return lines


def short_names(folders: list[Path]) -> list[str]:
    """Each folder by as many of its last parts as tell them all apart."""
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise UserError("The same folder was given twice.")
    count = 1
    while len({part[-count:] for part in parts}) < len(parts):
        count += 1
    return ["/".join(part[-count:]) for part in parts]


def charts_of(runs: dict[str, dict[str, Line]]) -> dict[str, dict[str, Line]]:
    """Figure -> name in the legend -> line. `x_without`, `x_style` and `x_ceiling` come into the chart of `x`: one line where
    all runs agree about it, else one a run."""
    figures = list(dict.fromkeys(name for lines in runs.values() for name in lines))
    owners = {name: _owner(name, figures) for name in figures}
    charts: dict[str, dict[str, Line]] = {}
    for name, (owner, reference) in sorted(owners.items(), key=lambda item: item[1][1] is not None):
        lines = {run: found[name] for run, found in runs.items() if name in found}
        if reference is not None:
            common = _agreed(list(lines.values()))
            lines = {reference: common} if common else {f"{run}, {reference}": line for run, line in lines.items()}
        charts.setdefault(owner, {}).update(lines)
    return charts


def _owner(name: str, figures: list[str]) -> tuple[str, str | None]:
    """(figure in whose chart it is drawn, what it is called there or None for the figure itself)."""
    figure, _, ending = name.rpartition("_")
    return (figure, REFERENCES[ending]) if figure in figures and ending in REFERENCES else (name, None)


def _agreed(lines: list[Line]) -> Line | None:
    """All points of lines that never say two things about a step, else None."""
    points: dict[int, float] = {}
    for step, value in (point for line in lines for point in line):
        if abs(points.setdefault(step, value) - value) > 1e-6:
            return None
    return sorted(points.items())


def draw_curves(folders: list[Path], out: Path, data: Path | None = None) -> dict[str, dict[str, Line]]:
    """Draw every figure of these stage folders against steps into one PNG; `data` gets the numbers drawn as JSON.

    Returns:
        The numbers: figure -> name in the legend -> (step, value).
    """
    runs = dict(zip(short_names(folders), map(read_validation, folders), strict=True))
    charts = charts_of(runs)
    if not charts:
        raise UserError(f"The {FILE} of {', '.join(map(str, folders))} hold no figures.")
    only = f" of {next(iter(runs))}" if len(runs) == 1 else ""
    images = [line_chart(lines, name + only, "steps", LABELS.get(name, name)) for name, lines in charts.items()]
    write_atomically(out, png_bytes(stacked(images, columns=2)))
    if data is not None:
        write_json(data, charts)
    return charts
