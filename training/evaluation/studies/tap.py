"""Where the flow is read: encoder block (tap) and timestep of the matching net, on held-out pairs.

The net is trained up to its own tap only (flow supervision), so later blocks are left out and earlier ones show what they know.
"""

import numpy as np

from ....models.method.correspondence import METHODS, cost_volume
from .. import charts
from ..match_bench import Draw, MatchBench, truth_of
from ..measure.matching import TIMESTEPS, in_pixels, read_out
from ..metrics import flow as flow_metrics
from .common import Study

LARGEST_GRID = 40  # cells a side; a finer volume costs memory with the fourth power


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    net = study.models.nets.matching
    own = net.config["tap"]
    timesteps = tuple(int(v) for v in study.values or TIMESTEPS)
    bench = MatchBench(study.models)
    errors: dict[tuple[str, int, int], list[np.ndarray]] = {}
    for case in study.cases:
        truth, scored = truth_of(case)
        for timestep in timesteps:
            draw = Draw(timestep, study.settings.seed)
            for tap, pair in bench.net_features(net, case, draw, taps=tuple(range(1, own + 1))).items():
                size = tuple(pair[0].shape[-2:])
                if max(size) > LARGEST_GRID:
                    continue
                for method in ("paper", METHODS[0]):
                    flow, _ = read_out(cost_volume(*pair), size, method)
                    error = flow_metrics.end_point_error(in_pixels(flow, case), truth)[scored]
                    errors.setdefault((method, tap, timestep), []).append(error)
    width = study.cases[0].record["flow"].shape[2]
    table: dict = {}
    for (method, tap, timestep), parts in errors.items():
        figures = flow_metrics.flow_figures(np.concatenate(parts), width)
        table.setdefault(method, {}).setdefault(f"tap {tap}", {})[str(timestep)] = figures
    images = [
        charts.line_chart(
            {tap: [(int(t), row["epe_px"]) for t, row in by.items()] for tap, by in taps.items()},
            f"flow error, method {method}",
            "timestep",
            "median end-point error, px",
        )
        for method, taps in table.items()
    ]
    return {"own_tap": own, "flow": table}, charts.stacked(images)
