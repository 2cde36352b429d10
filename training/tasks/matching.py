"""The matching net: 100 to 200 steps tune copied UNet features for in-context matching (paper, section 3.3).

Two objectives. `paper` is eq. 3, self-supervised: predict the pair's noise with the net's residuals. `flow` goes beyond
the paper where the exact flow is known: cross-entropy of the cost volume's rows against a Gaussian around the true cell.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as functional

from ...models.errors import UserError
from ...models.method.correspondence import cell_grid, cost_volume
from ...models.method.pairs import target_and_profile
from ...models.nets.portrait_net import build_net, initialise_from_unet, net_config, taps
from ..core.acceleration import in_own_precision
from ..core.checks import at_least
from ..core.diffusion import add_noise, keyed_generator, min_snr_weights, noise_for
from ..data.samples import SampleSet, batch_of
from .conditioning import Batch, ConditioningSettings, draw_inputs, ready, truth_of
from .drawing import DrawingTask

Objective = Literal["paper", "flow"]
OBJECTIVES = get_args(Objective)


def flow_loss(
    target_features: torch.Tensor,
    profile_features: torch.Tensor,
    flow_px: torch.Tensor,
    valid: torch.Tensor,
    cell_px: float,
    sigma: float = 1.0,
    temperature: float = 0.05,
) -> torch.Tensor:
    """Cross-entropy of each valid target cell's match distribution against a Gaussian around the true position.

    Args:
        target_features, profile_features: `[B, C, h, w]`.
        flow_px: exact flow at these cells' centres `[B, 2, h, w]` in pixels, target <- profile.
        valid: bool `[B, h, w]`.
        cell_px: pixels a cell.
        sigma: of the Gaussian, in cells (MARCO and ImCorr anneal it from 3 to 1).
        temperature: of the softmax over cosine similarities.
    """
    height, width = target_features.shape[-2:]
    grid = cell_grid(height, width, flow_px.device)
    truth = (grid + flow_px / cell_px).flatten(2)  # [B, 2, N], in cells
    inside = ((truth >= -0.5) & (truth <= truth.new_tensor([width - 0.5, height - 0.5])[None, :, None])).all(dim=1)
    valid = valid.flatten(1) & inside
    with torch.autocast(target_features.device.type, enabled=False):
        logits = cost_volume(target_features, profile_features)[valid] / temperature  # [M, N]
        positions = truth.transpose(1, 2)[valid]  # [M, 2]
        squared = (positions[:, :, None] - grid.flatten(1)[None]).pow(2).sum(dim=1)
        wanted = torch.softmax(-squared / (2 * sigma**2), dim=-1)
        if not len(logits):
            return (target_features.sum() + profile_features.sum()).float() * 0
        return -(wanted * logits.log_softmax(dim=-1)).sum(dim=-1).mean()


@dataclass(frozen=True)
class MatchingSettings(ConditioningSettings):
    """Settings of the stage `matching`."""

    objective: Objective = "flow"
    """paper: eq. 3, predict the pair's noise; flow: beyond the paper, exact flow supervises the cost volume (eq. 5)."""
    tap: int | None = None
    """Encoder block that feeds the cost volume (the paper: an intermediate layer); default: the last block at the second
    resolution."""
    fine_tap: int | None = None
    """Beyond the paper: earlier encoder block that refines the match (objective flow only; eq. 5 knows one block); -1 = none."""
    sigma_start: float = 3.0
    """Objective flow: width of the Gaussian around the true cell at the first step, in cells."""
    sigma_end: float = 1.0
    """Objective flow: its width at the last step, in cells; equal to the first for a net that goes on from another run."""
    min_snr: float = 0.0
    """Objective paper: gamma of Min-SNR loss weighting (Hang et al. 2023; they use 5); 0 = off, as in the paper."""

    def __post_init__(self):
        super().__post_init__()
        at_least(0.01, sigma_start=self.sigma_start, sigma_end=self.sigma_end)
        at_least(0, tap=self.tap, min_snr=self.min_snr)
        at_least(-1, fine_tap=self.fine_tap)
        if self.objective not in OBJECTIVES:
            raise UserError(f"Unknown --objective {self.objective!r}; choose one of {', '.join(OBJECTIVES)}.")


class MatchingTask(DrawingTask):
    """The matching net over a frozen UNet and a frozen vision encoder."""

    def __init__(
        self,
        samples: SampleSet,
        unet: torch.nn.Module,
        vision: torch.nn.Module,
        unet_config: dict,
        settings: MatchingSettings = MatchingSettings(),
        seed: int = 0,
        steps: int = 200,
    ):
        """
        Args:
            steps: over which the Gaussian of the objective `flow` narrows.

        Raises:
            UserError: the objective `flow` and samples none of which has an exact flow.
        """
        super().__init__()
        supervised = settings.objective == "flow"
        fine_tap = settings.fine_tap if supervised and settings.fine_tap != -1 else None
        self.config = net_config("matching", unet_config, settings.tap, fine_tap=fine_tap)
        self.net = build_net(self.config)
        initialise_from_unet(self.net, unet, keyed_generator(seed, "matching"))
        frozen = {"unet": unet} | ({} if samples.embeddings else {"vision": vision})
        self.frozen = {name: module.requires_grad_(False).eval() for name, module in frozen.items()}
        self.samples, self.settings, self.seed, self.steps = samples, settings, seed, steps
        if supervised and all(sample.flow is None for sample in samples.samples):
            raise UserError(
                "The flow objective needs samples with exact flow (`icportrait data heads` makes them); for pictures of your "
                "own use --objective paper, or put shards of both into one folder."
            )
        if supervised:  # what lies behind the tap gets no gradient
            self.net.requires_grad_(False)
            for module in (
                self.net.time_embed,
                self.net.input_hint_block,
                *self.net.input_blocks[: self.config["tap"] + 1],
            ):
                module.requires_grad_(True)

    def items(self, step: int, batch: int) -> list:
        """(position, sample) of a step's global batch."""
        return batch_of(self.samples.samples, batch, step, self.seed)

    def draw(self, step: int, items: list) -> dict:
        """A part of the batch, drawn."""
        return draw_inputs(self.samples, items, step, self.seed, self.settings)

    def loss(self, step: int, drawn: dict, nets: bool = True) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and figures; `nets=False` gives the paper's loss of the UNet alone, to compare with."""
        batch = ready(drawn, next(self.net.parameters()).device, self.frozen.get("vision"))
        hint = self.net.encode_hint(batch.side_by_side(batch.sampled, batch.profile_image))
        if self.settings.objective == "paper":
            noise = batch.side_by_side(*batch.noise.chunk(2, dim=-1))
            noisy = add_noise(batch.side_by_side(batch.start, batch.profile), noise, batch.timesteps)
            # The noise that leads to the target: the added one, except where a bridge starts elsewhere.
            wanted = noise_for(noisy, batch.side_by_side(batch.target, batch.profile), batch.timesteps)
            control = as_control(self.net.residuals(noisy, batch.timesteps, batch.context, hint)) if nets else None
            predicted = in_own_precision(self.frozen["unet"])(noisy, batch.timesteps, batch.context, control=control)
            error = (predicted.float() - wanted).pow(2).flatten(1).mean(dim=1)
            loss = (error * min_snr_weights(batch.timesteps, self.settings.min_snr)).mean()
            return loss, {"loss": loss.item()}
        features = self.features(batch, hint)
        cell_px = batch.profile_image.shape[-1] / features[0].shape[-1]
        flow, valid = coarse_flow(batch.truth, features[0].shape[-2:])
        progress = min(1.0, max(0, step) / max(1, self.steps))  # validation's steps lie below 0
        first, last = self.settings.sigma_start, self.settings.sigma_end
        sigma = first + (last - first) * progress
        loss = flow_loss(*features, flow, valid, cell_px, sigma)
        return loss, {"loss": loss.item()}

    def features(self, batch: Batch, hint: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tap features of the (target, profile) halves. The target half is the noised *style*: what inference has."""
        noise = batch.side_by_side(*batch.noise.chunk(2, dim=-1))
        noisy = add_noise(batch.side_by_side(batch.style, batch.profile), noise, batch.timesteps)
        features = self.net.features(noisy, batch.timesteps, batch.context, hint, *taps(self.config))
        return target_and_profile(features, batch.profile_side)


def true_flow(samples: list, size: tuple[int, int], device=None) -> tuple[torch.Tensor, torch.Tensor]:
    """`coarse_flow` of samples that are not drawn; of those without an exact flow no cell is valid."""
    known = next((sample for sample in samples if sample.flow is not None), None)
    cells = size if known is None else known.flow.shape[-2:]
    return coarse_flow(torch.stack([truth_of(sample, *cells) for sample in samples]).to(device), size)


def coarse_flow(truth: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Exact flow in pixels `[B, 2, *size]` and validity `[B, *size]` on a coarser grid than `truth`'s (`Batch.truth`)."""
    flow, visible = truth[:, :2], truth[:, 2:3]
    weight = functional.adaptive_avg_pool2d(visible, size)
    # Averaging a locally linear flow over the valid part of a cell would shift it, so only full cells count.
    mean = functional.adaptive_avg_pool2d(flow * visible, size) / weight.clamp_min(1e-6)
    return mean, weight[:, 0] > 0.99


def as_control(residuals: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
    """Residuals in the form ComfyUI's UNet takes; fresh lists, because it empties them."""
    return {"output": list(residuals[:-1]), "middle": [residuals[-1]]}
