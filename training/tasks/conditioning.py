"""How a training batch of the matching and appearance nets is drawn: eq. 1, 2 and the inputs of eq. 3.

The paper's self-supervised *pairs* use the target itself, pixel-sampled, as the light condition. *Triplets* (beyond the
paper; only sources that can render one person in another's pose and light have them) use the picture that inference
will really see: the style, another person in the target's view and light.
"""

from dataclasses import dataclass, fields

import torch

from ...models.errors import UserError
from ...models.method import pairs
from ...models.method.pixel_sampling import sample_pixels
from ..core.diffusion import NUM_TIMESTEPS, keyed_generator, uniform
from ..core.modules import embed_images
from ..data.samples import Sample, SampleSet


@dataclass(frozen=True)
class ConditioningSettings:
    """What is drawn, and how often."""

    max_share: float = 0.2
    """n of eq. 1: the kept share of pixels is uniform in (0, n) (the paper: about 80 % masked)."""
    drop: float = 0.1
    """Chance that the embedding is zero, for classifier-free guidance (the paper: 10 %)."""
    triplets: float = 0.0
    """Share of samples trained as triplets where they have a style (beyond the paper, which has pairs only: 0)."""
    bridge: float = 0.0
    """Share of triplets whose noisy latents start partly from the style's latents, as inference does (paper: 0)."""
    bridge_timestep: int = NUM_TIMESTEPS
    """Timestep from which on they may start from the style's alone, as inference's first step does (beyond the paper)."""
    min_timestep: int = 0
    """Least timestep drawn (the paper: 0)."""
    max_timestep: int = NUM_TIMESTEPS
    """Timesteps are uniform in [min_timestep, max_timestep) (the paper: all 1000)."""

    def __post_init__(self):
        if not 0 <= self.min_timestep < self.max_timestep <= NUM_TIMESTEPS:
            raise UserError(
                f"--min-timestep must lie below --max-timestep, both from 0 to {NUM_TIMESTEPS}; "
                f"{self.min_timestep} and {self.max_timestep} were given."
            )


@dataclass(frozen=True)
class Batch:
    """One drawn batch; halves in target, profile order (not yet side by side)."""

    target: torch.Tensor  # latents in model scale [B, 4, h, w]: what is to be predicted
    style: torch.Tensor  # latents of the light condition [B, 4, h, w]: the target itself for pairs
    start: torch.Tensor  # latents that get the noise on the target half [B, 4, h, w]
    profile: torch.Tensor  # latents [B, 4, h, w]
    sampled: torch.Tensor  # F(z, n) [B, 3, H, W]
    profile_image: torch.Tensor  # z' [B, 3, H, W]
    context: torch.Tensor  # [B, 1, 768], zero where dropped
    timesteps: torch.Tensor  # [B]
    noise: torch.Tensor  # [B, 4, h, 2w], target half left
    profile_left: bool  # which side the profile lies on in this step
    generators: list  # one a sample, for further draws

    def side_by_side(self, target: torch.Tensor, profile: torch.Tensor) -> torch.Tensor:
        """Eq. 1 and 2's concatenation along the width, in this step's order."""
        return pairs.side_by_side(target, profile, self.profile_side)

    def to(self, device) -> "Batch":
        """The same batch on a device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return Batch(
            **{name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in moved.items()}
        )

    @property
    def profile_side(self) -> str:
        """`left` or `right`."""
        return "left" if self.profile_left else "right"


def draw_batch(
    samples: SampleSet,
    items: list[tuple[int, Sample]],
    step: int,
    seed: int,
    vision: torch.nn.Module,
    settings: ConditioningSettings,
) -> Batch:
    """Draw a batch; everything is decided by (seed, step, position in the global batch)."""
    profile_left = torch.rand((), generator=keyed_generator(seed, step, "side")).item() < 0.5
    generators = [keyed_generator(seed, step, position) for position, _ in items]
    styles, starts, sampled, keep, timesteps, noises = [], [], [], [], [], []
    for (_, sample), generator in zip(items, generators, strict=True):
        triplet = sample.style is not None and uniform(generator) < settings.triplets
        style = sample.style if triplet else sample.target
        share = uniform(generator, 0.0, settings.max_share)
        picture = samples.pictures[style][None].float() / 255
        sampled.append(sample_pixels(picture, share, generator)[0][0])
        keep.append(uniform(generator) >= settings.drop)
        timestep = int(torch.randint(settings.min_timestep, settings.max_timestep, (), generator=generator))
        timesteps.append(timestep)
        target = samples.latents[sample.target].float()
        start = target
        if triplet and uniform(generator) < settings.bridge:
            # Inference starts from the noised style, so at high noise its latents still show through.
            weight = uniform(generator) * min(1.0, timestep / settings.bridge_timestep)
            start = torch.lerp(target, samples.latents[style].float(), weight)
        styles.append(samples.latents[style].float())
        starts.append(start)
        height, width = target.shape[-2:]
        noises.append(torch.randn(4, height, 2 * width, generator=generator))
    device = next(vision.parameters()).device
    profile_image = samples.images([sample.profile for _, sample in items])
    if samples.embeddings:  # the frozen encoder was run once for all pictures
        embedding = torch.stack([samples.embeddings[sample.profile] for _, sample in items])[:, None]
    else:
        with torch.no_grad():
            embedding = embed_images(vision, profile_image.to(device)).float().cpu()
    batch = Batch(
        target=torch.stack([samples.latents[sample.target].float() for _, sample in items]),
        style=torch.stack(styles),
        start=torch.stack(starts),
        profile=torch.stack([samples.latents[sample.profile].float() for _, sample in items]),
        sampled=torch.stack(sampled).movedim(-1, 1).contiguous(),
        profile_image=profile_image,
        context=embedding * torch.tensor(keep)[:, None, None],
        timesteps=torch.tensor(timesteps),
        noise=torch.stack(noises),
        profile_left=profile_left,
        generators=generators,
    )
    return batch.to(device)
