"""Table 1's last rows: with and without annealed aggregation (eq. 7), and a sweep of alpha and beta at inference.

`without aggregation` has W = 0 at all levels, `without annealing` the same mean weight at all levels. The net is the one
trained with its own alpha and beta; a net trained without annealing (`train appearance --alpha 0 --beta ...`) is another `--nets`.
"""

from ....models.method.aggregation import annealed_weights
from .. import charts
from ..evaluate import table1
from .common import Study

ALPHAS = (0.0, 0.5, 1.0, 1.5)
BETAS = (0.0, 0.2, 0.5)


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    config = study.models.nets.appearance.config
    alpha, beta = config["alpha"], config["beta"]
    unet = config["unet"]
    blocks = len(unet["channel_mult"]) + sum(unet["num_res_blocks"])  # encoder blocks: 12 for SD1.5
    flat = sum(annealed_weights(blocks, alpha, beta)) / (blocks + 1)
    named = {
        "with annealing": (alpha, beta),
        "without annealing": (0.0, flat),
        "without aggregation": (0.0, 0.0),
    }
    alphas = tuple(study.values or ALPHAS)
    swept = {f"alpha {a:g} beta {b:g}": (a, b) for a in alphas for b in BETAS}
    makers = {name: study.maker(alpha=a, beta=b) for name, (a, b) in (named | swept).items()}
    rows = study.run(makers)
    mean = study.means(rows)
    tables = {
        one.name: table1([r for r in rows if r["method"] in named], study.cases, study.scorer, one)
        for one in study.scorer.recognisers
    }
    lines = {f"alpha {a:g}": [(b, mean[f"alpha {a:g} beta {b:g}"][study.likeness]) for b in BETAS] for a in alphas}
    bars = {name: row["mean"] for name, row in tables[study.scorer.recognisers[0].name].items()}
    figure = charts.stacked(
        [
            charts.bar_chart(bars, "similarity to all profile photos (mean)", "dlib similarity"),
            charts.line_chart(lines, "likeness to the held-out render", "beta", study.likeness),
            study.grid(list(named)),
        ]
    )
    return {
        "trained_with": {"alpha": alpha, "beta": beta},
        "flat_weight": flat,
        "table1": tables,
        "means": mean,
    }, figure
