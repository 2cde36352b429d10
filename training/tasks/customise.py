"""Customisation, the paper's DreamBooth phase: a UNet learns one person from some photographs.

"We align the faces of the profile images first. Then, we train the whole UNet ... at learning rate 2e-6 and batch size 1"
(section 4). As in all of the paper's training, the prompt is the CLIP embedding of a profile picture instead of text, zero in 10 %
of the draws. What the paper leaves open is decided here: the profile is another photograph of the person, and a share of
the steps sees both side by side, as the UNet does under the nets.
"""

from dataclasses import dataclass

import torch

from ..core.checks import at_least, shares
from ..core.diffusion import NUM_TIMESTEPS, add_noise, keyed_generator, min_snr_weights
from ..core.lora import Lora
from ..core.settings import LoopSettings
from ..data.samples import Sample, SampleSet, batch_indices
from .drawing import DrawingTask

PAPER = LoopSettings(steps=800, batch=1, lr=2e-6)
LORA_LR = 1e-4  # customary for rank 16; the paper has no LoRA


@dataclass(frozen=True)
class CustomiseSettings:
    """What is trained, and on what."""

    rank: int = 0
    """0 trains the whole UNet (the paper); above 0 trains a LoRA of this rank instead (16 is customary)."""
    pair_share: float = 0.5
    """Share of steps on two photographs side by side, as the UNet sees them under the nets; the rest on single ones."""
    drop: float = 0.1
    """Chance that the embedding is zero (the paper: 10 %)."""
    prior_weight: float = 1.0
    """Weight of the prior-preservation loss (Ruiz et al. 2022, arXiv 2208.12242) when --prior gives pictures of others."""
    min_snr: float = 0.0
    """Gamma of Min-SNR loss weighting; 0 = off."""

    def __post_init__(self):
        shares(pair_share=self.pair_share, drop=self.drop)
        at_least(0, min_snr=self.min_snr, rank=self.rank, prior_weight=self.prior_weight)


class CustomiseTask(DrawingTask):
    """Eps prediction of a person's photographs, by the whole UNet or by a LoRA on it."""

    def __init__(
        self,
        samples: SampleSet,
        unet: torch.nn.Module,
        settings: CustomiseSettings = CustomiseSettings(),
        seed: int = 0,
        prior: SampleSet | None = None,
    ):
        super().__init__()
        self.samples, self.settings, self.seed, self.prior = samples, settings, seed, prior
        self.lora = None
        if settings.rank:
            self.frozen = {"unet": unet.requires_grad_(False)}
            self.lora = Lora(unet, settings.rank, keyed_generator(seed, "lora"))
        else:
            self.trained = unet.requires_grad_(True)

    @property
    def unet(self) -> torch.nn.Module:
        """The UNet, trained or frozen under a LoRA."""
        return self.trained if self.lora is None else self.frozen["unet"]

    def items(self, step: int, batch: int) -> list:
        """(position, the person's sample, a sample of others or None) of a step's global batch."""
        own = batch_indices(len(self.samples), batch, step, self.seed)
        others = [None] * batch
        if self.prior is not None:
            chosen = batch_indices(len(self.prior), batch, step, self.seed + 1)
            others = [self.prior.samples[k] for k in chosen]
        return [(i, self.samples.samples[k], other) for i, (k, other) in enumerate(zip(own, others, strict=True))]

    def draw(self, step: int, items: list) -> tuple:
        """(the person's latents, contexts, timesteps and noise; those of others or None)."""
        own = self._draw(self.samples, step, [(position, sample) for position, sample, _ in items], "person")
        if self.prior is None:
            return own, None
        return own, self._draw(self.prior, step, [(position, other) for position, _, other in items], "prior")

    def loss(self, step: int, drawn: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and figures of what was drawn."""
        loss = self._loss(drawn[0])
        figures = {"loss": loss.item()}
        if drawn[1] is not None:
            prior = self._loss(drawn[1])
            figures["prior_loss"] = prior.item()
            loss = loss + self.settings.prior_weight * prior
        return loss, figures

    def _draw(self, source: SampleSet, step: int, items: list, key: str) -> tuple:
        shared = keyed_generator(self.seed, step, key)
        pair = torch.rand((), generator=shared).item() < self.settings.pair_share
        left = torch.rand((), generator=shared).item() < 0.5
        generators = [keyed_generator(self.seed, step, position, key) for position, _ in items]
        samples = [sample for _, sample in items]
        latents = torch.stack([source.latents[s.target].float() for s in samples])
        if pair:
            profile = torch.stack([source.latents[s.profile].float() for s in samples])
            latents = torch.cat((profile, latents) if left else (latents, profile), dim=-1)
        keep = torch.tensor([torch.rand((), generator=g).item() >= self.settings.drop for g in generators])
        context = torch.stack([source.embeddings[s.profile] for s in samples])[:, None] * keep[:, None, None]
        timesteps = torch.tensor([int(torch.randint(0, NUM_TIMESTEPS, (), generator=g)) for g in generators])
        noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators])
        return latents, context, timesteps, noise

    def _loss(self, drawn: tuple) -> torch.Tensor:
        device = next(self.unet.parameters()).device
        latents, context, timesteps, noise = (x.to(device) for x in drawn)
        predicted = self.unet(add_noise(latents, noise, timesteps), timesteps, context)
        error = (predicted.float() - noise).pow(2).flatten(1).mean(dim=1)
        return (error * min_snr_weights(timesteps, self.settings.min_snr)).mean()


def photo_samples(pictures: dict[str, torch.Tensor], person: str = "person") -> SampleSet:
    """Every photograph with every other as its profile; a lone one with itself.

    Args:
        pictures: id -> uint8 `[S, S, 3]`, aligned.
    """
    names = sorted(pictures)
    pairs = [(a, b) for a in names for b in names if a != b] or [(names[0], names[0])]
    samples = [Sample(f"{a}<-{b}", a, b, None, person, None, None, None) for a, b in pairs]
    return SampleSet.of_pictures(pictures, samples)
