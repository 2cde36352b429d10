"""Validation on held-out samples: losses with fixed noise, matching error, pictures.

A training loss is dominated by the noise and timesteps drawn. So every validation uses the same samples, noise,
timesteps and kept pixels, and the nets' loss is shown beside that of the UNet alone (`..._without`).
"""

import dataclasses
from collections.abc import Callable

import torch

from ...models.method.correspondence import FLOW_METHOD, match, warp
from ...models.method.pairs import target_and_profile
from ..core.diffusion import add_noise, denoised
from ..data.samples import SampleSet
from .appearance import AppearanceTask
from .conditioning import Batch, draw_inputs, ready
from .matching import MatchingTask, true_flow
from .portrait_figures import PortraitFigures

MATCH_TIMESTEP = 100  # where inference computes its flow


class Validator:
    """Call it to validate a task: `validator() -> (figures, pictures)`.

    Args:
        task: what is being trained; its weights are read at each call.
        samples: held-out samples with latents.
        decode: latents in model scale `[B, 4, h, w]` to pictures `[B, 3, H, W]` in [0, 1]; None = no painted pictures.
        count: samples used, the first ones of different people.
        draws: noise and timestep draws a sample.
        pictures: samples shown.
        steps: denoising steps of a shown picture.
    """

    def __init__(
        self,
        task: torch.nn.Module,
        samples: SampleSet,
        decode: Callable[[torch.Tensor], torch.Tensor] | None = None,
        count: int = 16,
        draws: int = 4,
        pictures: int = 4,
        steps: int = 12,
    ):
        self.task, self.samples, self.decode = task, samples, decode
        self.draws, self.steps = draws, steps
        self.items = list(enumerate(_of_different_people(samples, count)))
        self.shown = self.items[:pictures]
        self._without: dict[str, float] | None = None
        self._portrait_figures = PortraitFigures(samples, [sample for _, sample in self.items])

    @torch.no_grad()
    def __call__(self) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        own, self.task.samples = self.task.samples, self.samples
        try:
            figures = self._losses()
            pictures = {}
            if isinstance(self.task, MatchingTask):
                figures |= self._match_error()
                pictures["match"] = self._match_pictures()
            if isinstance(self.task, AppearanceTask) and self.decode is not None:
                results, pictures["portraits"] = self._portraits()
                figures |= self._portrait_figures(results)
            return figures, pictures
        finally:
            self.task.samples = own

    def _losses(self) -> dict[str, float]:
        figures = self._mean_figures()
        if isinstance(self.task, AppearanceTask) or getattr(self.task.settings, "objective", "") == "paper":
            # The loss of a frozen UNet alone is computed once; one that learns along changes.
            if self._without is None or getattr(self.task.settings, "base_share", 0):
                self._without = self._mean_figures(nets=False)
            figures |= {f"{name}_without": value for name, value in self._without.items()}
        return figures

    def _mean_figures(self, **options) -> dict[str, float]:
        """Mean over draws; steps below 0 are draws that training never makes."""
        found: dict[str, list[float]] = {}
        for draw in range(self.draws):
            for name, value in self.task(-1 - draw, self.items, **options)[1].items():
                found.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}

    def _batch(self, items: list, **changes) -> Batch:
        """A batch as inference has it: full embedding, the light condition's own latents, the matching timestep."""
        settings = dataclasses.replace(
            self.task.settings, drop=0.0, bridge=0.0, min_timestep=MATCH_TIMESTEP, max_timestep=MATCH_TIMESTEP + 1
        )
        settings = dataclasses.replace(settings, **changes)
        drawn = draw_inputs(self.samples, items, -1, self.task.seed, settings)
        return ready(drawn, next(self.task.net.parameters()).device, self.task.frozen.get("vision"))

    def _flow(self, items: list) -> tuple[torch.Tensor, Batch]:
        batch = self._batch(items)
        hint = self.task.net.encode_hint(batch.side_by_side(batch.sampled, batch.profile_image))
        return match(*(half.float() for half in self.task.features(batch, hint)), FLOW_METHOD)[0], batch

    def _match_error(self) -> dict[str, float]:
        """Median end-point error in px and PCK at 5 % of the width, over visible cells whose true flow is known."""
        items = [(i, sample) for i, sample in self.items if sample.flow is not None]
        if not items:
            return {}
        flow, batch = self._flow(items)
        width = batch.profile_image.shape[-1]
        truth, valid = true_flow([sample for _, sample in items], flow.shape[-2:], flow.device)
        errors = (flow * width / flow.shape[-1] - truth).norm(dim=1)[valid]
        if not len(errors):
            return {}
        return {"epe_px": errors.median().item(), "pck_0.05": (errors < 0.05 * width).float().mean().item() * 100}

    def _match_pictures(self) -> torch.Tensor:
        """Light condition | profile | profile brought over by the flow, `[B, H, 3W, 3]`."""
        flow, batch = self._flow(self.shown)
        style = self.samples.images([self._style(sample) for _, sample in self.shown]).to(flow.device)
        return torch.cat([style, batch.profile_image, warp(batch.profile_image, flow)], dim=-1).movedim(1, -1)

    def _style(self, sample) -> str:
        return sample.style if sample.style is not None and self.task.settings.triplets > 0 else sample.target

    def _portraits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Results of all people `[N, 3, H, W]` in [0, 1] and, of those shown, profile | kept pixels | result | truth `[B, H, 4W, 3]`.

        Painted as inference does, without guidance. The light condition is the style wherever there is one, whatever share of
        triplets is trained, so that runs can be compared.
        """
        results, columns = [], None
        for start in range(0, len(self.items), len(self.shown)):
            items = self.items[start : start + len(self.shown)]
            batch = self._batch(items, triplets=1.0)
            results.append(self.decode(paint(self.task, batch, self.steps)).float().clamp(0, 1).cpu())
            columns = columns or [batch.profile_image.cpu(), batch.sampled.cpu()]
        truth = self.samples.images([sample.target for _, sample in self.shown])
        return torch.cat(results), torch.cat([*columns, results[0], truth], dim=-1).movedim(1, -1)


def _of_different_people(samples: SampleSet, count: int) -> list:
    """The first samples of different people; more of the same only when people run out."""
    first = {sample.identity: sample for sample in reversed(samples.samples)}
    chosen = sorted(first.values(), key=lambda sample: sample.key)
    rest = [sample for sample in samples.samples if first[sample.identity] is not sample]
    return (chosen + rest)[:count]


def paint(task: AppearanceTask, batch: Batch, steps: int, start: int = 700) -> torch.Tensor:
    """The target's latents in model scale by DDIM (Song et al. 2020, eta = 0) from the style noised to `start`."""
    flow, confidence = task.flow(batch)
    hint = task.net.encode_hint(batch.side_by_side(batch.sampled, batch.profile_image))
    target_noise, profile_noise = batch.noise.chunk(2, dim=-1)
    times = torch.linspace(start, 0, steps + 1).round().long().tolist()
    times = [torch.full_like(batch.timesteps, time) for time in times]
    x = add_noise(batch.style, target_noise, times[0])
    for now, following in zip(times, times[1:], strict=False):
        noisy = batch.side_by_side(x, add_noise(batch.profile, profile_noise, now))
        predicted = task.predict(noisy, now, batch.context, hint, flow, confidence, batch.profile_side)
        epsilon, _ = target_and_profile(predicted.float(), batch.profile_side)
        clean = denoised(x, epsilon, now)
        x = add_noise(clean, epsilon, following)
    return clean
