"""Fig. 5's refine mode: another method's output as the style reference. The other method is the plain paste by landmarks."""

import dataclasses

from .. import charts
from ..baselines import icportrait, paste_by_landmarks
from ..cases import Case, Shot
from ..results import Maker
from .common import Study

STRENGTHS = (0.3, 0.5, 0.7)


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    facts = dataclasses.asdict(study.settings)
    makers = {
        "other method": Maker(lambda case: paste_by_landmarks(study.models, case, study.settings), facts),
        "ic-portrait": study.maker(),
    }
    for strength in study.values or STRENGTHS:
        settings = dataclasses.replace(study.settings, noise_strength=strength)

        def make(case: Case, settings=settings):
            pasted = Shot(paste_by_landmarks(study.models, case, settings), case.style.face)
            return icportrait(study.models, dataclasses.replace(case, style=pasted), settings)

        makers[f"refined {strength:g}"] = Maker(make, dataclasses.asdict(settings))
    mean = study.means(study.run(makers))
    images = [
        charts.bar_chart({name: row[column] for name, row in mean.items()}, label, label)
        for column, label in ((study.likeness, study.likeness), ("shading_error", "scale-invariant shading error"))
    ]
    return {"means": mean}, charts.stacked([charts.stacked(images, 2), study.grid(list(makers))])
