"""The demo's base UNet and vision encoder, trained together from nothing on single views and in-context pairs.

The SD1.5 recipe does not need this: there the artist's checkpoint and CLIP ViT-L/14 are the base.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as functional

from ..core.checks import at_least, shares
from ..core.diffusion import NUM_TIMESTEPS, add_noise, keyed_generator, min_snr_weights
from ..core.modules import DEMO_UNET, DEMO_VISION, embed_images, new_unet, new_vision
from ..data.samples import SampleSet, batch_of
from .drawing import DrawingTask


@dataclass(frozen=True)
class BaseSettings:
    """Settings of the stage `base`."""

    pair_share: float = 0.5
    """Share of steps on pairs side by side (eq. 2), the rest on single views."""
    drop: float = 0.1
    """Chance that the embedding is zero, for classifier-free guidance (the paper's nets: 0.1)."""
    contrast: float = 0.05
    """Weight of the term that pulls two views of a person together in the embedding."""
    min_snr: float = 0.0
    """Gamma of Min-SNR loss weighting (Hang et al. 2023; they use 5); 0 = off, as in the paper."""

    def __post_init__(self):
        shares(pair_share=self.pair_share, drop=self.drop)
        at_least(0, min_snr=self.min_snr, contrast=self.contrast)


class BaseTask(DrawingTask):
    """Epsilon prediction of a target given the image embedding of the same person's other view (the profile), alone or
    side by side with it; and a contrastive term that pulls two views of a person together in the embedding."""

    def __init__(
        self,
        samples: SampleSet,
        settings: BaseSettings = BaseSettings(),
        seed: int = 0,
        unet_config: dict = DEMO_UNET,
        vision_config: dict = DEMO_VISION,
    ):
        super().__init__()
        self.unet = new_unet(unet_config, keyed_generator(seed, "unet"))
        self.vision = new_vision(vision_config, keyed_generator(seed, "vision"))
        self.samples, self.settings, self.seed = samples, settings, seed

    def items(self, step: int, batch: int) -> list:
        """(position, sample) of a step's global batch."""
        return batch_of(self.samples.samples, batch, step, self.seed)

    def draw(self, step: int, items: list) -> dict:
        """Latents (of a pair side by side, or of the target), noise, timesteps, both pictures `[B, 3, H, W]`, who is shown."""
        shared = keyed_generator(self.seed, step, "batch")
        pair = torch.rand((), generator=shared).item() < self.settings.pair_share
        left = torch.rand((), generator=shared).item() < 0.5
        generators = [keyed_generator(self.seed, step, position) for position, _ in items]
        samples = [sample for _, sample in items]
        latents = torch.stack([self.samples.latents[s.target].float() for s in samples])
        keep = torch.tensor([torch.rand((), generator=g).item() >= self.settings.drop for g in generators])
        if pair:
            profile = torch.stack([self.samples.latents[s.profile].float() for s in samples])
            latents = torch.cat((latents, profile) if left else (profile, latents), dim=-1)
        return {
            "pair": pair,
            "latents": latents,
            "keep": keep,
            "timesteps": torch.tensor([int(torch.randint(0, NUM_TIMESTEPS, (), generator=g)) for g in generators]),
            "noise": torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators]),
            "profile_image": self.samples.images([s.profile for s in samples]),
            "target_image": self.samples.images([s.target for s in samples]),
            "identities": [s.identity for s in samples],
        }

    def loss(self, step: int, drawn: dict) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and figures of what was drawn."""
        device = next(self.unet.parameters()).device
        names = ("latents", "keep", "timesteps", "noise")
        latents, keep, timesteps, noise = (drawn[name].to(device) for name in names)
        profile_embedding = embed_images(self.vision, drawn["profile_image"].to(device))
        context = profile_embedding * keep[:, None, None].to(profile_embedding.dtype)
        predicted = self.unet(add_noise(latents, noise, timesteps), timesteps, context)
        error = (predicted.float() - noise).pow(2).flatten(1).mean(dim=1)
        loss = (error * min_snr_weights(timesteps, self.settings.min_snr)).mean()
        figures = {"pair_loss" if drawn["pair"] else "single_loss": loss.item()}
        if self.settings.contrast and len(latents) > 1:
            target_embedding = embed_images(self.vision, drawn["target_image"].to(device))
            term = identity_contrast(profile_embedding[:, 0], target_embedding[:, 0], drawn["identities"])
            loss = loss + self.settings.contrast * term
            figures["contrast"] = term.item()
        return loss, figures


def identity_contrast(
    first: torch.Tensor, second: torch.Tensor, identities: list[str], temperature: float = 0.1
) -> torch.Tensor:
    """InfoNCE between two views' embeddings `[B, D]`: each should be nearest to the same person's other view.
    Pairs of one identity that is in the batch twice are not counted as negatives."""
    scores = functional.normalize(first.float(), dim=-1) @ functional.normalize(second.float(), dim=-1).T / temperature
    same = torch.tensor([[a == b for b in identities] for a in identities], device=scores.device)
    scores = scores.masked_fill(
        same & ~torch.eye(len(identities), dtype=torch.bool, device=scores.device), float("-inf")
    )
    labels = torch.arange(len(identities), device=scores.device)
    return (functional.cross_entropy(scores, labels) + functional.cross_entropy(scores.T, labels)) / 2
