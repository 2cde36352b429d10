"""Fig. 4: the flow after 0, 50, 100, 150 and 200 training steps of the matching net.

Step 0 is made here, from the base UNet; the others are `<step>.safetensors` in --snapshots.
"""

from pathlib import Path

import numpy as np
import torch

from ....models.errors import UserError
from ....models.method.correspondence import METHODS, cost_volume, resize_flow, warp
from ....models.nets.loading import load_net
from ....models.nets.portrait_net import net_config
from ....models.pictures.flow import flow_to_color
from .. import charts
from ..match_bench import Draw, MatchBench, truth_of
from ..measure.matching import in_pixels, read_out
from ..metrics import flow as flow_metrics
from ..models_used import step0_net
from ..picture_grid import grid
from .common import GRID_CASES, Study


def snapshots(folder: Path | None) -> dict[int, Path]:
    """Training step -> net file, in order.

    Raises:
        UserError: no folder, or no file in it whose name is a number.
    """
    found = (
        {int(path.stem): path for path in Path(folder).glob("*.safetensors") if path.stem.isdigit()} if folder else {}
    )
    if not found:
        raise UserError(
            "The study flow-steps needs --snapshots FOLDER with matching nets named by their step, e.g. 50.safetensors, "
            "100.safetensors; docs/evaluation.md says how to make them."
        )
    return dict(sorted(found.items()))


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    config = study.models.nets.matching.config
    nets = {0: lambda: step0_net(study.models.model, net_config("matching", config["unet"], config["tap"]))}
    for step, path in snapshots(study.options.snapshots).items():
        nets[step] = lambda path=path: load_net(path, "matching")
    bench = MatchBench(study.models)
    methods = ("paper", METHODS[0])
    table: dict[str, dict[str, dict]] = {method: {} for method in methods}
    pictures: dict[str, list] = {}
    width = study.cases[0].record["flow"].shape[2]
    for step, make in nets.items():
        net = make()
        errors: dict[str, list[np.ndarray]] = {method: [] for method in methods}
        for number, case in enumerate(study.cases):
            pair = bench.net_features(net, case, Draw(noise=study.settings.seed))[net.config["tap"]]
            truth, scored = truth_of(case)
            for method in methods:
                flow, _ = read_out(cost_volume(*pair), tuple(pair[0].shape[-2:]), method)
                errors[method].append(flow_metrics.end_point_error(in_pixels(flow, case), truth)[scored])
                if method == "paper" and number < GRID_CASES:
                    pictures.setdefault(case.key, []).append((f"step {step}", *_shown(flow, case)))
        for method in methods:
            table[method][str(step)] = flow_metrics.flow_figures(np.concatenate(errors[method]), width)
    rows = []
    for case in study.cases[:GRID_CASES]:
        true = torch.from_numpy(truth_of(case)[0])[None]
        limit = float(np.abs(truth_of(case)[0]).max()) or 1.0
        colours = [(name, flow_to_color(px, max_flow=limit)) for name, px, _ in pictures[case.key]]
        rows.append([("target", case.truth.picture), *colours, ("true flow", flow_to_color(true, max_flow=limit))])
        warped = [(name, moved) for name, _, moved in pictures[case.key]]
        exact = warp(case.profile.picture.movedim(-1, 1), true).movedim(1, -1)
        rows.append([("profile", case.profile.picture), *warped, ("by true flow", exact)])
    lines = {method: [(int(s), row["epe_px"]) for s, row in by.items()] for method, by in table.items()}
    chart = charts.line_chart(lines, "flow error over training", "training steps", "median end-point error, px")
    return {"flow": table}, charts.stacked([chart, grid(rows, 128)])


def _shown(flow: torch.Tensor, case) -> tuple[torch.Tensor, torch.Tensor]:
    """(flow in px `[1, 2, H, W]`, the profile warped by it `[1, H, W, 3]`)."""
    height, width = case.record["flow"].shape[1:]
    return resize_flow(flow, height, width), warp(case.profile.picture.movedim(-1, 1), flow).movedim(1, -1)
