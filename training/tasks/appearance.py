"""The appearance net: its profile residuals, warped by the matching net's flow and blended by eq. 7, steer the frozen UNet."""

from dataclasses import dataclass

import numpy as np
import torch

from ...models.errors import UserError
from ...models.method.aggregation import aggregate_residuals
from ...models.method.correspondence import FLOW_METHOD, match
from ...models.method.pairs import target_and_profile
from ...models.nets.portrait_net import build_net, initialise_from_unet, net_config, taps
from ..core.acceleration import in_own_precision
from ..core.checks import at_least, shares
from ..core.diffusion import NUM_TIMESTEPS, add_noise, denoised, keyed_generator, min_snr_weights, noise_for, uniform
from ..data.samples import SampleSet, batch_of
from .conditioning import Batch, ConditioningSettings, draw_inputs, ready
from .drawing import DrawingTask
from .identity_loss import IdentityLoss
from .matching import as_control, coarse_flow


@dataclass(frozen=True)
class AppearanceSettings(ConditioningSettings):
    """Settings of the stage `appearance`."""

    alpha: float = 1.0
    """Annealing rate of eq. 7 (the paper gives no number)."""
    beta: float = 0.0
    """Base weight of eq. 7 (the paper gives no number)."""
    gate: bool = False
    """Beyond the paper: scale warped features by the flow's cycle confidence."""
    flow_timestep: int = 100
    """Timestep whose features give the flow, 0 to 999 (the paper computes it at each step). Matching is good at small
    timesteps and useless above 600."""
    true_flow: float = 0.0
    """Beyond the paper: share of steps that warp by the exact flow where shards hold it, not the matching net's: cheaper, and
    good at picture sizes that net was not trained on."""
    profile_weight: float = 1.0
    """Loss weight of the profile half, which is easy and teaches little; 1 = eq. 3 as written."""
    base_share: float = 0.0
    """0: the UNet is frozen (the paper). Beyond the paper, for the demo's half-trained base: it learns along, and this share
    of steps shows it single pictures without nets, so that it stays a base of its own."""
    face_weight: float = 1.0
    """Loss weight of face cells, where shards hold a face mask; 1 = eq. 3 as written."""
    min_snr: float = 0.0
    """Gamma of Min-SNR loss weighting (Hang et al. 2023; they use 5); 0 = off, as in the paper."""
    identity_weight: float = 0.0
    """Beyond the paper: weight of 1 - cosine between the predicted and the true face, of the run's recogniser; 0 = off. A
    sample without such a loss counts as 0 in its mean."""
    identity_timestep: int = 400
    """Only samples below this timestep have the identity loss: above, one prediction says little about the face."""

    def __post_init__(self):
        super().__post_init__()
        shares(true_flow=self.true_flow, base_share=self.base_share)
        at_least(0, profile_weight=self.profile_weight, face_weight=self.face_weight, min_snr=self.min_snr)
        at_least(0, identity_weight=self.identity_weight, identity_timestep=self.identity_timestep)
        if not 0 <= self.flow_timestep < NUM_TIMESTEPS:
            raise UserError(f"--flow-timestep must lie from 0 to {NUM_TIMESTEPS - 1}; {self.flow_timestep} was given.")


class AppearanceTask(DrawingTask):
    """The appearance net over a frozen UNet, vision encoder and matching net."""

    def __init__(
        self,
        samples: SampleSet,
        unet: torch.nn.Module,
        vision: torch.nn.Module,
        matching: torch.nn.Module,
        matching_config: dict,
        unet_config: dict,
        settings: AppearanceSettings = AppearanceSettings(),
        seed: int = 0,
        identity: IdentityLoss | None = None,
    ):
        """
        Args:
            identity: needed where the settings' `identity_weight` is not 0.

        Raises:
            UserError: an identity loss without a recogniser or without landmarks.
        """
        super().__init__()
        self.config = net_config(
            "appearance", unet_config, alpha=settings.alpha, beta=settings.beta, gate=settings.gate
        )
        self.net = build_net(self.config)
        initialise_from_unet(self.net, unet, keyed_generator(seed, "appearance"))
        self.tuned = torch.nn.ModuleDict({"unet": unet.requires_grad_(True)} if settings.base_share else {})
        frozen = {"matching": matching} | ({} if settings.base_share else {"unet": unet})
        frozen |= {} if samples.embeddings else {"vision": vision}
        if settings.identity_weight:
            if identity is None:
                raise UserError("The identity loss needs a recogniser; `icportrait train recogniser` makes one.")
            if all(sample.target not in samples.landmarks for sample in samples.samples):
                raise UserError(
                    "The identity loss needs landmarks, and none of these samples has any: make shards with `icportrait data "
                    "heads` or `icportrait data folder`, or leave out --identity-weight."
                )
            frozen["identity"] = identity
        self.frozen = {name: module.requires_grad_(False).eval() for name, module in frozen.items()}
        self.taps = taps(matching_config)
        self.samples, self.settings, self.seed = samples, settings, seed

    @property
    def unet(self) -> torch.nn.Module:
        """The UNet, frozen or learning along."""
        return self.tuned["unet"] if self.settings.base_share else self.frozen["unet"]

    def items(self, step: int, batch: int) -> list:
        """(position, sample) of a step's global batch."""
        return batch_of(self.samples.samples, batch, step, self.seed)

    @torch.no_grad()
    def flow(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Flow and confidence from the matching net, as inference computes them: lightly noised style beside the profile."""
        net = self.frozen["matching"]
        timesteps = torch.full_like(batch.timesteps, self.settings.flow_timestep)
        noisy = add_noise(batch.side_by_side(batch.style, batch.profile), batch.flow_noise, timesteps)
        hint = in_own_precision(net, net.encode_hint)(batch.side_by_side(batch.sampled, batch.profile_image))
        features = in_own_precision(net, net.features)(noisy, timesteps, batch.context, hint, *self.taps)
        with torch.autocast(features.device.type, enabled=False):  # half precision would round the positions
            return match(*target_and_profile(features.float(), batch.profile_side), FLOW_METHOD)

    def predict(self, noisy, timesteps, context, hint, flow, confidence, profile_side: str) -> torch.Tensor:
        """The UNet's eps of a noisy pair `[B, 4, h, 2w]`, steered by the warped and blended residuals (eq. 7)."""
        residuals = self.net.residuals(noisy, timesteps, context, hint)
        gate = confidence if self.config["gate"] else None
        residuals = aggregate_residuals(
            residuals, flow, self.config["alpha"], self.config["beta"], gate, profile_side=profile_side
        )
        if self.settings.base_share:
            options = out_of_place()
            return self.unet(noisy, timesteps, context, control=as_control(residuals), transformer_options=options)
        return in_own_precision(self.unet)(noisy, timesteps, context, control=as_control(residuals))

    def draw(self, step: int, items: list) -> dict:
        """A part of the batch, drawn; with an identity loss also the true pictures and their landmarks (NaN: unknown)."""
        drawn = draw_inputs(self.samples, items, step, self.seed, self.settings)
        if self.settings.identity_weight:
            unknown, known = np.full((5, 2), np.nan), self.samples.landmarks
            points = [known.get(sample.target, unknown) for _, sample in items]
            drawn["landmarks"] = torch.from_numpy(np.stack(points))
            drawn["true_image"] = torch.stack([self.samples.pictures[sample.target] for _, sample in items])
        return drawn

    def loss(self, step: int, drawn: dict, nets: bool = True) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and figures; `nets=False` gives those of the UNet alone, to compare with."""
        batch = ready(drawn, next(self.net.parameters()).device, self.frozen.get("vision"))
        if nets and self.is_base_step(step):
            return self.base_step(batch)
        exact = uniform(keyed_generator(self.seed, step, "exact flow")) < self.settings.true_flow
        if exact and all(batch.known):
            flow, confidence = exact_flow(batch)
        else:
            flow, confidence = self.flow(batch)  # also without nets: the draws stay the same
        noise = batch.side_by_side(*batch.noise.chunk(2, dim=-1))
        noisy = add_noise(batch.side_by_side(batch.start, batch.profile), noise, batch.timesteps)
        wanted = noise_for(noisy, batch.side_by_side(batch.target, batch.profile), batch.timesteps)
        hint = self.net.encode_hint(batch.side_by_side(batch.sampled, batch.profile_image))
        if nets:
            predicted = self.predict(noisy, batch.timesteps, batch.context, hint, flow, confidence, batch.profile_side)
        else:
            predicted = self.unet(noisy, batch.timesteps, batch.context)
        error = (predicted.float() - wanted).pow(2).mean(dim=1)
        error = error * min_snr_weights(batch.timesteps, self.settings.min_snr)[:, None, None]
        target_error, profile_error = target_and_profile(error, batch.profile_side)
        faces = batch.truth[:, 3]
        weight = 1 + (self.settings.face_weight - 1) * faces
        target_loss = (target_error * weight).sum() / weight.sum()
        loss = (target_loss + self.settings.profile_weight * profile_error.mean()) / (1 + self.settings.profile_weight)
        figures = {
            "target_loss": target_loss.item(),
            "face_loss": ((target_error * faces).sum() / faces.sum().clamp_min(1e-6)).item(),
        }
        if self.settings.identity_weight:
            cosines = self.identity_cosines(noisy, predicted.float(), batch, drawn)
            if len(cosines):
                loss = loss + self.settings.identity_weight * (1 - cosines).sum() / len(batch.known)
                figures["identity"] = cosines.mean().item()
        return loss, figures

    def identity_cosines(self, noisy, predicted, batch: Batch, drawn: dict) -> torch.Tensor:
        """Cosine between the faces that an eps `[B, 4, h, 2w]` implies and the true ones, of the samples that have this loss."""
        low = drawn["timesteps"] < self.settings.identity_timestep
        chosen = (low & drawn["landmarks"].isfinite().all(dim=(1, 2))).nonzero()[:, 0].tolist()
        if not chosen:
            return predicted.new_zeros(0)
        z_t, epsilon = (target_and_profile(pair, batch.profile_side)[0][chosen] for pair in (noisy, predicted))
        images = (drawn["true_image"][chosen].movedim(-1, 1).float() / 255).contiguous()
        clean = denoised(z_t, epsilon, batch.timesteps[chosen])
        return self.frozen["identity"](clean, images.to(clean), list(drawn["landmarks"][chosen].cpu().numpy()))

    def is_base_step(self, step: int) -> bool:
        """Whether a step is for the UNet alone; those of validation (steps below 0) never are."""
        return step >= 0 and uniform(keyed_generator(self.seed, step, "base")) < self.settings.base_share

    def base_step(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Eq. 3 for the UNet alone on the targets alone: what keeps a UNet that learns along a base of its own."""
        noise = batch.noise.chunk(2, dim=-1)[0]
        predicted = self.unet(add_noise(batch.target, noise, batch.timesteps), batch.timesteps, batch.context)
        error = (predicted.float() - noise).pow(2).flatten(1).mean(dim=1)
        loss = (error * min_snr_weights(batch.timesteps, self.settings.min_snr)).mean()
        unused = sum(parameter.sum() for parameter in self.net.parameters())  # processes wait for every gradient
        return loss + 0 * unused, {"single_loss": loss.item()}


def out_of_place() -> dict:
    """ComfyUI's UNet adds residuals to its skip connections in place. While it learns, the later encoder blocks' backward
    needs them as they were, so these go on with a copy."""
    return {"patches": {"input_block_patch_after_skip": [lambda h, _: h.clone()]}}


def exact_flow(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(flow `[B, 2, h, w]` in latent cells, confidence `[B, 1, h, w]`: 1 where the flow is valid, else 0)."""
    size = batch.target.shape[-2:]
    flow, valid = coarse_flow(batch.truth, size)
    return flow * (size[1] / batch.profile_image.shape[-1]), valid[:, None].float()
