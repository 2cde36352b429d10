"""`icportrait measure matching`: flow of a matching net on held-out heads, each part's gain, baselines, and sweeps.

All read-outs are taken from the same noisy pairs. `paper` is the plain argmax of eq. 6, `default` what the nodes do.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as functional
from tqdm import tqdm

from ....models.method.correspondence import METHODS, cost_volume, cycle_confidence, match_costs, resize_flow
from ....models.method.matching import FLOW_TIMESTEP
from ...core.checks import at_least
from ...core.paths import InputFolder, OutputFolder
from ..cases import Case, held_out_cases
from ..match_bench import Draw, MatchBench, dis_flow, mean_cost, pixel_features, truth_of
from ..metrics import flow as flow_metrics
from ..models_used import ModelFiles, step0_net
from .settings import Measure

TIMESTEPS = (20, 50, 100, 200, 400, 600)
BASE_TIMESTEPS = (0, 50, 100, 261)  # DIFT's 0 and 261, GeoAware's 50
BASE_TAPS = (*(f"input {i}" for i in (4, 5, 7, 8)), *(f"output {i}" for i in (3, 4, 5, 6, 7, 8)))
DRAWS = 4
SWEEP = {
    "window": (1, 2, 3, 5),
    "temperature": (0.02, 0.05, 0.1),
    "prior": (0.0, 0.03, 1 / 16, 0.125),
    "smoothness": (0.0, 1.0, 1.5, 2.5),
}


class Errors:
    """End-point errors of named flows, gathered over cases."""

    def __init__(self, width: int):
        self.width = width
        self._errors: dict[str, list[np.ndarray]] = {}
        self._motions: dict[str, list[np.ndarray]] = {}

    def add(self, name: str, flow_px: np.ndarray, case: Case) -> np.ndarray:
        """Errors `[N]` of the scored pixels of a flow `[2, H, W]` in px, which are also kept under the name."""
        truth, scored = truth_of(case)
        errors = flow_metrics.end_point_error(flow_px, truth)[scored].astype(np.float32)
        self._errors.setdefault(name, []).append(errors)
        self._motions.setdefault(name, []).append(flow_metrics.motion_moments(flow_px[:, scored], truth[:, scored]))
        return errors

    def table(self) -> dict[str, dict]:
        """Figures of every name."""
        return {
            name: flow_metrics.flow_figures(np.concatenate(parts), self.width)
            | {"motion_correlation": flow_metrics.motion_correlation(sum(self._motions[name]))}
            for name, parts in self._errors.items()
        }


def in_pixels(offsets: torch.Tensor, case: Case) -> np.ndarray:
    """A flow `[1, 2, h, w]` in cells as `[2, H, W]` in px."""
    height, width = case.record["flow"].shape[1:]
    return resize_flow(offsets.float(), height, width)[0].numpy()


def at_pixels(confidence: torch.Tensor, case: Case) -> np.ndarray:
    """A confidence `[1, 1, h, w]` at the scored pixels `[N]`."""
    _, scored = truth_of(case)
    return functional.interpolate(confidence, size=scored.shape, mode="bilinear", align_corners=False)[0, 0].numpy()[
        scored
    ]


def read_out(cost: torch.Tensor, size: tuple[int, int], method: str, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """(flow, confidence) of a cost volume on a grid of `size`."""
    return match_costs(cost, *size, method, **options)


class Confidences:
    """Confidences and errors of the same pixels, for the ranking."""

    def __init__(self):
        self._parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(self, name: str, errors: np.ndarray, confidence: np.ndarray) -> None:
        """Another case's pixels."""
        self._parts.setdefault(name, []).append((errors, confidence))

    def table(self) -> dict[str, dict]:
        """By name: median errors of the tenths from unsure to sure, whether they fall, Spearman's rank correlation of confidence
        and error (-1 is best), and the median error of the surer half."""
        from scipy.stats import spearmanr

        table = {}
        for name, parts in self._parts.items():
            errors, confidence = (np.concatenate(column) for column in zip(*parts, strict=True))
            deciles = flow_metrics.error_by_confidence(errors, confidence)
            rank = spearmanr(confidence, errors).statistic if confidence.std() > 0 else None
            table[name] = {
                "epe_by_decile": deciles,
                "falls": flow_metrics.falls_monotonically(deciles),
                "rank_correlation": None if rank is None else float(rank),
                "epe_surer_half": float(np.median(errors[np.argsort(-confidence, kind="stable")[: len(errors) // 2]])),
            }
        return table


def four_draws(timestep: int = FLOW_TIMESTEP) -> list[Draw]:
    """Two noises, the profile on both sides."""
    return [Draw(timestep, noise, side) for noise in (0, 1) for side in ("right", "left")]


def measure_case(
    bench: MatchBench, step0, case: Case, errors: Errors, ranking: Confidences, regions: dict, cycles: list
):
    """All read-outs of one case."""
    net = bench.models.nets.matching
    tap = net.config["tap"]
    size = None
    for lit_by, suffix in (("target", ""), ("style", ", another person's light")):
        pair = bench.net_features(net, case, Draw(FLOW_TIMESTEP), lit_by)[tap]
        size, cost = tuple(pair[0].shape[-2:]), cost_volume(*pair)
        for name, method in (("paper", "paper"), ("window", "window"), ("default", METHODS[0])):
            flow, confidence = read_out(cost, size, method)
            found = errors.add(name + suffix, in_pixels(flow, case), case)
            if suffix:
                continue
            ranking.add(name, found, at_pixels(confidence, case))
            if name != "window":
                _regions(regions, name, in_pixels(flow, case), case)
            if name == "default":
                backward, _ = read_out(cost.transpose(1, 2), size, method)
                cycle = flow_metrics.cycle_error(in_pixels(flow, case), in_pixels(backward, case))
                cycles.append(cycle[truth_of(case)[1]])
        if not suffix:
            _ladder(cost, size, case, errors, ranking)
            for factor in (2, 4):
                dense = (size[0] * factor, size[1] * factor)
                if dense[0] > 64:  # a volume of gigabytes
                    continue
                upsampled = mean_cost([pair], factor)
                for method in ("paper", "window"):
                    flow, _ = read_out(upsampled, dense, method, window=2 * factor)
                    errors.add(f"features x {factor}, {method}", in_pixels(flow, case), case)
        draws = [bench.net_features(net, case, draw, lit_by)[tap] for draw in four_draws()]
        cost = mean_cost(draws)
        for name, method in (("paper", "paper"), ("default", METHODS[0])):
            errors.add(f"{name}, {DRAWS} draws{suffix}", in_pixels(read_out(cost, size, method)[0], case), case)
    _taps_and_timesteps(bench, case, errors)
    _baselines(bench, step0, case, errors)


def _regions(regions: dict, name: str, flow_px: np.ndarray, case: Case) -> None:
    record = case.record
    error = flow_metrics.end_point_error(flow_px, record["flow"])
    landmarks = np.asarray(record["meta"]["landmarks5"]["target"])
    for region, mask in flow_metrics.regions(landmarks, record["visible"], record["face"], record["hair"]).items():
        regions.setdefault(name, {}).setdefault(region, []).append(error[mask])


def _ladder(cost, size, case: Case, errors: Errors, ranking: Confidences) -> None:
    """From the paper's argmax to `smooth`, one part after the other."""
    steps = {
        "1 argmax": ("paper", {}),
        "2 + window soft-argmax": ("window", {}),
        "3 + prior on the motion": ("smooth", {"smoothness": 0.0}),
        "4 + robust affine smoothing": ("smooth", {}),
        "smoothing without the prior": ("smooth", {"prior": 0.0}),
    }
    for name, (method, options) in steps.items():
        flow, confidence = read_out(cost, size, method, **options)
        found = errors.add(f"ladder {name}", in_pixels(flow, case), case)
        if method == "smooth":
            # The same flow under the cycle error alone shows what rejecting rival matches adds.
            backward, _ = read_out(cost.transpose(1, 2), size, method, **options)
            ranking.add(f"{name}: cycle error alone", found, at_pixels(cycle_confidence(flow, backward), case))
            ranking.add(f"{name}: with left-right rejection", found, at_pixels(confidence, case))


def _taps_and_timesteps(bench: MatchBench, case: Case, errors: Errors) -> None:
    net = bench.models.nets.matching
    tap = net.config["tap"]
    for timestep in TIMESTEPS:
        found = {"as trained": bench.net_features(net, case, Draw(timestep))[tap]}
        if timestep == FLOW_TIMESTEP:
            found |= bench.net_features(net, case, Draw(timestep), taps=tuple(range(1, tap + 1)))
        for index, pair in found.items():
            size = tuple(pair[0].shape[-2:])
            if size[0] > 32:  # full-resolution cells: a volume of 16 times the memory, and no meaning
                continue
            for method in ("paper", METHODS[0]):
                flow, _ = read_out(cost_volume(*pair), size, method)
                errors.add(f"t={timestep} tap {index} {method}", in_pixels(flow, case), case)


def _baselines(bench: MatchBench, step0, case: Case, errors: Errors) -> None:
    truth, _ = truth_of(case)
    errors.add("zero motion", np.zeros_like(truth), case)
    errors.add("optical flow (DIS)", dis_flow(case), case)
    pair = pixel_features(case)
    methods = (("paper", ""), (METHODS[0], ", read like default"))
    for method, suffix in methods:
        size = tuple(pair[0].shape[-2:])
        errors.add(f"raw pixels{suffix}", in_pixels(read_out(cost_volume(*pair), size, method)[0], case), case)
    pair = bench.net_features(step0, case, Draw(FLOW_TIMESTEP))[step0.config["tap"]]
    for method, suffix in methods:
        size = tuple(pair[0].shape[-2:])
        errors.add(
            f"matching net at step 0{suffix}", in_pixels(read_out(cost_volume(*pair), size, method)[0], case), case
        )
    for timestep in BASE_TIMESTEPS:
        for tap, pair in bench.base_features(case, Draw(timestep), list(BASE_TAPS)).items():
            size = tuple(pair[0].shape[-2:])
            for method, suffix in methods:
                flow, _ = read_out(cost_volume(*pair), size, method)
                errors.add(f"base UNet t={timestep} {tap}{suffix}", in_pixels(flow, case), case)


def sweep(bench: MatchBench, cases: list[Case]) -> list[dict]:
    """Median error and PCK of `smooth` over all combinations of `SWEEP`, and of draws 1 and 4; best first."""
    net = bench.models.nets.matching
    grids = list(itertools.product(*SWEEP.values()))
    found: dict[tuple, list[np.ndarray]] = {}
    width = cases[0].record["flow"].shape[2]
    for case in tqdm(cases, desc="sweep"):
        pairs = [bench.net_features(net, case, draw)[net.config["tap"]] for draw in four_draws()]
        size = tuple(pairs[0][0].shape[-2:])
        truth, scored = truth_of(case)
        for draws in (1, DRAWS):
            cost = mean_cost(pairs[:draws])
            for values in grids:
                flow, _ = read_out(cost, size, "smooth", **dict(zip(SWEEP, values, strict=True)))
                error = flow_metrics.end_point_error(in_pixels(flow, case), truth)[scored].astype(np.float32)
                found.setdefault((*values, draws), []).append(error)
    rows = [
        dict(zip((*SWEEP, "draws"), key, strict=True)) | flow_metrics.flow_figures(np.concatenate(parts), width)
        for key, parts in found.items()
    ]
    return sorted(rows, key=lambda row: row["epe_px"])


def best_of(table: dict, prefix: str, suffix: str = "") -> dict:
    """The row of smallest median error among those that begin and end so, with its name as `which`."""
    names = [n for n in table if n.startswith(prefix) and (n.endswith(suffix) if suffix else "read like" not in n)]
    best = min(names, key=lambda name: table[name]["epe_px"])
    return {**table[best], "which": best}


@dataclass(frozen=True, kw_only=True)
class MatchingMeasure(ModelFiles, Measure):
    """Flow of the matching net on held-out heads: gains, baselines, sweeps."""

    data: InputFolder | None = None
    """Held-out shards; default: rendered into --work."""
    work: OutputFolder = Path("measure_work")
    """Folder for held-out renders."""
    identities: int = 24
    """Held-out identities."""
    styles: int = 1
    """Pairs an identity, in different scenes."""
    sweep: bool = False
    """Also sweep window, temperature, prior, smoothness, draws."""

    def __post_init__(self):
        at_least(1, identities=self.identities, styles=self.styles)


def measure_matching(options: MatchingMeasure) -> dict:
    """All figures; see `icportrait measure matching --help`."""
    cases = held_out_cases(options.data, options.work, options.identities, options.styles)
    with torch.inference_mode():
        models = options.load()
        bench = MatchBench(models)
        config = models.nets.matching.config
        step0 = step0_net(models.model, config)
        errors, ranking, regions, cycles = Errors(cases[0].record["flow"].shape[2]), Confidences(), {}, []
        for case in tqdm(cases, desc="matching"):
            measure_case(bench, step0, case, errors, ranking, regions, cycles)
        swept = sweep(bench, cases) if options.sweep else None
    table, ranks = errors.table(), ranking.table()
    base = best_of(table, "base UNet")
    main = {
        **{name: table[name] for name in ("paper", "window", "default")},
        "paper_other_person": table["paper, another person's light"],
        "default_other_person": table["default, another person's light"],
        "paper_4_draws": table[f"paper, {DRAWS} draws"],
        "default_4_draws": table[f"default, {DRAWS} draws"],
        "zero_motion": table["zero motion"],
        "step0": table["matching net at step 0"],
        "base_unet": base,
        "raw_pixels": table["raw pixels"],
        "dis_optical_flow": table["optical flow (DIS)"],
    }
    figures = {
        "identities": len({case.identity for case in cases}),
        "pairs": len(cases),
        "view_width_px": errors.width,
        "default_method": METHODS[0],
        "timestep": FLOW_TIMESTEP,
        "epe_px": {name: row["epe_px"] for name, row in main.items()},
        "epe_default_over_paper": table["default"]["epe_px"] / table["paper"]["epe_px"],
    }
    for name in ("pck_0.01", "pck_0.05", "pck_0.10"):
        figures[name] = {key: row[name] for key, row in main.items()}
    figures["motion_correlation"] = {name: row["motion_correlation"] for name, row in main.items()}
    figures |= {
        "base_unet_which": base["which"],
        "cycle_error_px_median": float(np.median(np.concatenate(cycles))),
        "epe_by_confidence_decile": ranks["default"]["epe_by_decile"],
        "confidence_ranks_rightly": ranks["default"]["falls"],
        "regions": {
            name: {
                region: flow_metrics.flow_figures(np.concatenate(parts), errors.width) for region, parts in by.items()
            }
            for name, by in regions.items()
        },
        "confidence": ranks,
        "all": table,
        "files": models.files,
        "training": models.training.get("matching.safetensors", {}),
    }
    if swept is not None:
        figures["sweep"] = swept
    return figures


def print_table(figures: dict) -> None:
    """The figures for people."""
    print(
        f"\n{figures['pairs']} pairs of {figures['identities']} held-out identities, {figures['view_width_px']} px wide"
    )
    print(f"  {'visible, not hair':58s}{'median px':>10s}{'@0.01 %':>9s}{'@0.05 %':>9s}{'@0.10 %':>9s}")

    def row(name: str, one: dict) -> None:
        shares = "".join(f"{one[k]:9.1f}" for k in ("pck_0.01", "pck_0.05", "pck_0.10"))
        print(f"  {name:58s}{one['epe_px']:10.2f}{shares}")

    for name, one in figures["all"].items():
        if not name.startswith("base UNet"):
            row(name, one)
    row(f"best {figures['base_unet_which']}", figures["all"][figures["base_unet_which"]])
    read = best_of(figures["all"], "base UNet", "read like default")
    row(f"best {read['which']}", read)
    told = {n: figures["motion_correlation"][n] for n in ("paper", "default", "base_unet")}
    print(
        "\n  correlation of found and true motion: "
        + ", ".join(f"{n} {'–' if v is None else f'{v:.2f}'}" for n, v in told.items())
    )
    print(f"  default / paper: {figures['epe_default_over_paper']:.2f} (goal: at most 0.50)")
    deciles = " ".join(f"{v:.1f}" for v in figures["epe_by_confidence_decile"])
    print(
        f"  median px by tenth of confidence, unsure to sure: {deciles}; falls: {figures['confidence_ranks_rightly']}"
    )
    for name, one in figures["confidence"].items():
        rank = "–" if one["rank_correlation"] is None else f"{one['rank_correlation']:+.3f}"
        print(f"    {name:56s} rank correlation {rank}, surer half {one['epe_surer_half']:.2f} px")
    for name, by in figures["regions"].items():
        print(f"  {name}: " + ", ".join(f"{r} {v['epe_px']:.2f} px" for r, v in by.items() if v["epe_px"] is not None))
    for one in figures.get("sweep", [])[:10]:
        print(
            "  sweep "
            + " ".join(f"{k}={v:g}" for k, v in one.items() if k in (*SWEEP, "draws"))
            + f": {one['epe_px']:.2f} px"
        )
