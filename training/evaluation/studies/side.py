"""Side of the profile: the pair as (style, profile), which is what the nodes do, or as (profile, style).

Training draws the side at random, so both are known to the nets. Shown for the flow and for the painting.
"""

import dataclasses

import numpy as np
import torch
from comfy.patcher_extension import WrappersMP

from ....models.method import encoding
from ....models.method.aggregation import aggregate_residuals
from ....models.method.correspondence import METHODS, cost_volume
from ....models.method.injection import KEY, PortraitPatch, Settings, apply_portrait
from ....models.method.matching import estimate_flow, noised
from ....models.method.pixel_sampling import sample_pixels
from ....models.portrait import CropSettings, sample_crop
from .. import charts
from ..cases import Case
from ..match_bench import Draw, MatchBench, mean_cost, truth_of
from ..measure.matching import in_pixels, read_out
from ..metrics import flow as flow_metrics
from ..models_used import Models
from ..results import Maker
from .common import Study


class LeftPatch(PortraitPatch):
    """`PortraitPatch` with the profile on the left; without other ControlNets, which a study does not have."""

    def apply_model(
        self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs
    ):
        """As `PortraitPatch.apply_model`, both halves changed over."""
        base = executor.class_obj
        self._check(x, c_concat)
        self._prepare(base, x)
        rows, width = x.shape[0], x.shape[-1]
        chunks = list(transformer_options.get("cond_or_uncond") or [0])
        profile_half = noised(base.model_sampling, self.run.latent, self.run.noise, t).to(x.dtype)
        pair = torch.cat((profile_half.expand(rows, -1, -1, -1), x), dim=-1)
        offsets, confidence = (part.to(x.device) for part in (self.flow.offsets, self.flow.confidence))
        residuals = aggregate_residuals(
            self._residuals(base, pair, t, chunks, c_crossattn),
            offsets.repeat(rows, 1, 1, 1),
            self.alpha,
            self.beta,
            confidence.repeat(rows, 1, 1, 1) if self.gate else None,
            profile_side="left",
        )
        residuals = [residual * self.settings.strength for residual in residuals]
        merged = {"input": [], "middle": residuals[-1:], "output": residuals[:-1]}
        out = executor(pair, t, c_concat, c_crossattn, merged, transformer_options, **kwargs)
        return out[..., width:]


def paint(models: Models, case: Case, settings: CropSettings, left: bool) -> torch.Tensor:
    """`portrait.paint_crop` with the profile on one side; the flow is the same for both, so that only the painting differs."""
    profile = encoding.encode_profile(case.profile.picture, models.vae, models.vision)
    latent = encoding.encode_picture(models.vae, case.style.picture, "style crop")
    generator = torch.Generator().manual_seed(settings.seed)
    sampled, _ = sample_pixels(case.style.picture, settings.share, generator, settings.pattern)
    flow = estimate_flow(
        models.model, models.nets, profile, latent, sampled, settings.flow_timestep, settings.flow_method, settings.seed
    )
    apply = Settings(strength=settings.strength, seed=settings.seed)
    patched = apply_portrait(models.model, models.nets, profile, sampled, apply, flow)
    if left:
        patched = models.model.clone()
        hint = torch.cat((profile.image, sampled), dim=2).movedim(-1, 1)
        patch = LeftPatch(models.nets, profile, hint, apply, flow)
        for kind, wrapper in (
            (WrappersMP.OUTER_SAMPLE, patch.outer_sample),
            (WrappersMP.PREPARE_SAMPLING, patch.prepare_sampling),
            (WrappersMP.APPLY_MODEL, patch.apply_model),
        ):
            patched.add_wrapper_with_key(kind, KEY, wrapper)
        patched.set_additional_models(KEY, [net.patcher for net in patch.used_nets])
    return models.vae.decode(sample_crop(patched, profile, latent, settings))


def flow_by_side(study: Study) -> dict[str, dict]:
    """Flow figures with the profile right, left, and with both cost volumes averaged."""
    bench, net = MatchBench(study.models), study.models.nets.matching
    errors: dict[str, list[np.ndarray]] = {}
    for case in study.cases:
        truth, scored = truth_of(case)
        pairs = {
            side: bench.net_features(net, case, Draw(noise=study.settings.seed, profile_side=side))[net.config["tap"]]
            for side in ("right", "left")
        }
        costs = {side: cost_volume(*pair) for side, pair in pairs.items()}
        costs["both"] = mean_cost(list(pairs.values()))
        for side, cost in costs.items():
            for method in ("paper", METHODS[0]):
                flow, _ = read_out(cost, tuple(pairs["right"][0].shape[-2:]), method)
                error = flow_metrics.end_point_error(in_pixels(flow, case), truth)[scored]
                errors.setdefault(f"{side}, {method}", []).append(error)
    width = study.cases[0].record["flow"].shape[2]
    return {name: flow_metrics.flow_figures(np.concatenate(parts), width) for name, parts in errors.items()}


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    flow = flow_by_side(study)
    facts = dataclasses.asdict(study.settings)
    makers = {
        f"profile {side}": Maker(
            lambda case, side=side: paint(study.models, case, study.settings, side == "left"), facts | {"side": side}
        )
        for side in ("right", "left")
    }
    mean = study.means(study.run(makers))
    images = [
        charts.bar_chart({name: row["epe_px"] for name, row in flow.items()}, "flow", "median end-point error, px"),
        charts.bar_chart({name: row[study.likeness] for name, row in mean.items()}, "likeness", study.likeness),
    ]
    return {"flow": flow, "means": mean}, charts.stacked([charts.stacked(images, 2), study.grid(list(makers))])
