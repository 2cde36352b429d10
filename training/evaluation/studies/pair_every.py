"""The setting `fast`: how often the whole pair has to run, and what running the target half alone in between changes."""

from .. import charts
from .common import Study

EVERY = (1, 2, 3, 4, 6)
SAMPLING = {"6 steps": {}, "20 steps": {"sampler": "dpmpp_2m", "steps": 20}}
COLUMNS = ("shading_error", "sh_light_distance", "light_angle_error")


def study(study: Study) -> tuple[dict, object]:
    """(table, figure). `change` in the table is each mean over that of the exact picture, less 1."""
    every = tuple(int(value) for value in study.values or EVERY)
    makers = {
        f"{name}, every {n}": study.maker(pair_every=n, **settings)
        for name, settings in SAMPLING.items()
        for n in every
    }
    mean = study.means(study.run(makers))
    columns = (study.likeness.replace("sim_gt", "sim_ref"), study.likeness, *COLUMNS)
    change = {
        f"{name}, every {n}": {
            column: mean[f"{name}, every {n}"][column] / mean[f"{name}, every {every[0]}"][column] - 1
            for column in columns
        }
        for name in SAMPLING
        for n in every[1:]
    }
    images = [
        charts.line_chart(
            {name: [(n, mean[f"{name}, every {n}"][column]) for n in every] for name in SAMPLING},
            column,
            "the pair at every n-th step",
            column,
        )
        for column in (*columns, "psnr_face")
    ]
    figure = charts.stacked([charts.stacked(images, 2), study.grid(list(makers))])
    return {"means": mean, "change": change}, figure
