"""Fig. 7: the share of sampled style pixels against shading alignment and stability; random against checkerboard."""

import numpy as np
import torch

from .. import charts
from .common import Study, face_spread

SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
PATTERNS = ("random", "checkerboard")


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    shares = tuple(study.values or SHARES)
    seeds = [study.settings.seed + k for k in range(max(2, study.options.seeds))]
    names = {
        (pattern, share, seed): f"{pattern} {share:g} seed {seed}"
        for pattern in PATTERNS
        for share in shares
        for seed in seeds
    }
    makers = {name: study.maker(pattern=p, share=s, seed=seed) for (p, s, seed), name in names.items()}
    rows = study.run(makers)
    mean = study.means(rows)
    table: dict[str, dict[str, dict]] = {pattern: {} for pattern in PATTERNS}
    for pattern in PATTERNS:
        for share in shares:
            mine = [names[pattern, share, seed] for seed in seeds]
            figures = {column: _mean([mean[name][column] for name in mine]) for column in mean[mine[0]]}
            spreads = []
            for case in study.cases:
                face = torch.from_numpy(np.asarray(case.record["face"]) > 0)
                spreads.append(face_spread([study.cache.stored_picture(case.key, name) for name in mine], face))
            table[pattern][f"{share:g}"] = figures | {"instability": float(np.mean(spreads))}

    def lines(column):
        return {p: [(float(s), row[column]) for s, row in by.items()] for p, by in table.items()}

    label = "share of style pixels kept"
    parts = [
        charts.line_chart(lines("shading_error"), "shading against the true render", label, "scale-invariant error"),
        charts.line_chart(lines("sh_light_distance"), "light against the true render", label, "SH light distance"),
        charts.line_chart(
            lines("instability"), "instability over seeds", label, "standard deviation in the face, sRGB"
        ),
        charts.line_chart(lines(study.likeness), "likeness", label, study.likeness),
    ]
    shown = [names["random", share, seeds[0]] for share in shares] + [names["checkerboard", shares[-2], seeds[0]]]
    figure = charts.stacked([charts.stacked(parts, 2), study.grid(shown, lambda name: name.rsplit(" seed", 1)[0])])
    return {"seeds": seeds, "by_pattern_and_share": table}, figure


def _mean(values):
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
