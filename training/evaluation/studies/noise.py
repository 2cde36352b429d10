"""Progressive inference: too little and too much noise, and one round against several."""

from .. import charts
from .common import Study

STRENGTHS = (0.2, 0.35, 0.5, 0.6, 0.7, 0.85, 1.0)
ROUNDS = (1, 2, 3)
ROUND_STRENGTHS = (0.5, 0.7)  # several rounds make sense with less noise each


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    strengths = tuple(study.values or STRENGTHS)
    single = {f"strength {s:g}": (s, 1) for s in strengths}
    several = {f"strength {s:g} rounds {r}": (s, r) for s in ROUND_STRENGTHS for r in ROUNDS}
    makers = {
        name: study.maker(noise_strength=strength, rounds=rounds)
        for name, (strength, rounds) in (single | several).items()
    }
    mean = study.means(study.run(makers))
    charts_ = []
    for column, label in (
        (study.likeness, "likeness"),
        ("shading_error", "scale-invariant shading error"),
        ("psnr_face", "PSNR in the face, dB"),
        ("pose_error", "pose error, degrees"),
    ):
        line = {"one round": [(s, mean[name][column]) for name, (s, _) in single.items()]}
        if any(y is not None for _, y in line["one round"]):
            charts_.append(charts.line_chart(line, label, "noise strength", label))
    rounds = {
        f"strength {s:g}": [(r, mean[f"strength {s:g} rounds {r}"][study.likeness]) for r in ROUNDS]
        for s in ROUND_STRENGTHS
    }
    charts_.append(charts.line_chart(rounds, "likeness over rounds", "rounds", study.likeness))
    figure = charts.stacked([charts.stacked(charts_, 2), study.grid(list(single)), study.grid(list(several))])
    return {"means": mean}, figure
