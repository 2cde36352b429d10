"""Detail transfer (beyond the paper): how much of the profile's detail, how coarse, and only where both pictures agree."""

import dataclasses
import math

from ....models.method.detail import RADIUS, STRENGTH, TOLERANCE, transfer_detail
from ....models.painting import CropResult
from ....models.portrait import paint_crop
from .. import charts
from ..cases import Case
from ..results import Maker
from .common import Study

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
RADII = (0.004, 0.007, 0.01, 0.014, 0.02, 0.04)
TOLERANCES = (0.05, 0.1, 0.15, 0.3, math.inf)
FIGURES = (
    ("shading_error", "scale-invariant shading error"),
    ("psnr_face", "PSNR in the face, dB"),
    ("copy_paste dlib", "copy-paste"),
)


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    painted: dict[str, CropResult] = {}

    def with_detail(case: Case, strength: float, radius: float, tolerance: float):
        if case.key not in painted:
            painted.clear()  # cases come one after another
            models, crops = study.models, (case.profile.picture, case.style.picture)
            painted[case.key] = paint_crop(models.model, models.vae, models.vision, models.nets, *crops, study.settings)
        result = painted[case.key]
        return transfer_detail(result.image, case.profile.picture, result.flow, strength, radius, tolerance)[0]

    sweeps = {
        "strength": {f"strength {s:g}": (s, RADIUS, TOLERANCE) for s in study.values or STRENGTHS},
        "radius": {f"radius {r:g}": (STRENGTH, r, TOLERANCE) for r in RADII},
        "tolerance": {f"tolerance {t:g}": (STRENGTH, RADIUS, t) for t in TOLERANCES},
    }
    makers = {
        "style unchanged": Maker(lambda case: case.style.picture, {}),
        "true render": Maker(lambda case: case.truth.picture, {}),
    }
    for name, how in (item for sweep in sweeps.values() for item in sweep.items()):
        facts = dataclasses.asdict(study.settings) | dict(
            zip(("detail", "radius", "tolerance"), map(str, how), strict=True)
        )
        makers[name] = Maker(lambda case, how=how: with_detail(case, *how), facts)
    mean = study.means(study.run(makers))
    images = []
    for knob, sweep in sweeps.items():
        for column, label in ((study.likeness, "likeness to the true render"), *FIGURES):
            bars = {name.removeprefix(f"{knob} "): mean[name][column] for name in sweep}
            images.append(charts.bar_chart(bars, f"{label} by {knob}", label, (320, 300)))
    shown = ["strength 0", "strength 1", "radius 0.02", "tolerance inf"]
    figure = charts.stacked([charts.stacked(images, 1 + len(FIGURES)), study.grid(shown)])
    return {"means": mean}, figure
