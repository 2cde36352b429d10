"""How a training batch of the matching and appearance nets is drawn: eq. 1, 2 and the inputs of eq. 3.

The paper's self-supervised *pairs* use the target itself, pixel-sampled, as the light condition. *Triplets* (beyond the
paper; only sources that can render one person in another's pose and light have them) use the picture that inference
will really see: the style, another person in the target's view and light.
"""

from dataclasses import dataclass

import torch

from ...models.errors import UserError
from ...models.method import pairs
from ...models.method.pixel_sampling import sample_pixels
from ..core.checks import at_least, shares
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
        shares(max_share=self.max_share, drop=self.drop, triplets=self.triplets, bridge=self.bridge)
        at_least(1, bridge_timestep=self.bridge_timestep)
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
    flow_noise: torch.Tensor  # [B, 4, h, 2w], for the pair from which the flow is computed
    truth: torch.Tensor  # [B, 4, h, w]: exact flow in px (dx, dy), where it is valid, share of face; 0 where unknown
    known: list[bool]  # of which samples the exact flow is known
    profile_left: bool  # which side the profile lies on in this step

    def side_by_side(self, target: torch.Tensor, profile: torch.Tensor) -> torch.Tensor:
        """Eq. 1 and 2's concatenation along the width, in this step's order."""
        return pairs.side_by_side(target, profile, self.profile_side)

    @property
    def profile_side(self) -> str:
        """`left` or `right`."""
        return "left" if self.profile_left else "right"


def draw_inputs(
    samples: SampleSet, items: list[tuple[int, Sample]], step: int, seed: int, settings: ConditioningSettings
) -> dict:
    """What `ready` makes a batch of, on the CPU, pictures as uint8; decided by (seed, step, position in the global batch)."""
    rows: dict[str, list] = {name: [] for name in ("target", "style", "start", "profile", "sampled", "profile_image")}
    rows |= {name: [] for name in ("keep", "timesteps", "noise", "flow_noise", "truth", "known", "embedding")}
    for position, sample in items:
        generator = keyed_generator(seed, step, position)
        triplet = sample.style is not None and uniform(generator) < settings.triplets
        style = sample.style if triplet else sample.target
        share = uniform(generator, 0.0, settings.max_share)
        rows["sampled"].append(sample_pixels(samples.pictures[style][None], share, generator)[0][0])
        rows["keep"].append(uniform(generator) >= settings.drop)
        timestep = int(torch.randint(settings.min_timestep, settings.max_timestep, (), generator=generator))
        rows["timesteps"].append(timestep)
        target = samples.latents[sample.target].float()
        start = target
        if triplet and uniform(generator) < settings.bridge:
            # Inference starts from the noised style, so at high noise its latents still show through.
            weight = uniform(generator) * min(1.0, timestep / settings.bridge_timestep)
            start = torch.lerp(target, samples.latents[style].float(), weight)
        height, width = target.shape[-2:]
        rows["target"].append(target)
        rows["style"].append(samples.latents[style].float())
        rows["start"].append(start)
        rows["profile"].append(samples.latents[sample.profile].float())
        rows["profile_image"].append(samples.pictures[sample.profile])
        rows["noise"].append(torch.randn(4, height, 2 * width, generator=generator))
        rows["flow_noise"].append(torch.randn(4, height, 2 * width, generator=generator))
        rows["truth"].append(truth_of(sample, height, width))
        rows["known"].append(sample.flow is not None)
        if samples.embeddings:  # the frozen encoder was run once for all pictures
            rows["embedding"].append(samples.embeddings[sample.profile])
    numbers = ("keep", "timesteps", "known")
    drawn = {name: torch.tensor(row) if name in numbers else torch.stack(row) for name, row in rows.items() if row}
    return drawn | {"profile_left": uniform(keyed_generator(seed, step, "side")) < 0.5}


def truth_of(sample: Sample, height: int, width: int) -> torch.Tensor:
    """Exact flow, its validity and the share of face float32 `[4, height, width]`; 0 where the sample does not know."""
    truth = torch.zeros(4, height, width)
    if sample.flow is not None:
        truth[:2], truth[2] = sample.flow, sample.visible
    if sample.face is not None:
        truth[3] = sample.face
    return truth


def ready(drawn: dict, device, vision: torch.nn.Module | None = None) -> Batch:
    """What was drawn as a batch on the device.

    Args:
        vision: embeds the profiles where no embeddings were drawn.
    """
    on = {name: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for name, v in drawn.items()}
    sampled, profile = ((on[name].movedim(-1, 1).float() / 255).contiguous() for name in ("sampled", "profile_image"))
    if "embedding" in on:
        embedding = on["embedding"][:, None]
    else:
        with torch.no_grad():
            embedding = embed_images(vision, profile).float()
    return Batch(
        target=on["target"],
        style=on["style"],
        start=on["start"],
        profile=on["profile"],
        sampled=sampled,
        profile_image=profile,
        context=embedding * on["keep"][:, None, None],
        timesteps=on["timesteps"],
        noise=on["noise"],
        flow_noise=on["flow_noise"],
        truth=on["truth"],
        known=drawn["known"].tolist(),
        profile_left=drawn["profile_left"],
    )


def draw_batch(
    samples: SampleSet,
    items: list[tuple[int, Sample]],
    step: int,
    seed: int,
    vision: torch.nn.Module,
    settings: ConditioningSettings,
) -> Batch:
    """Draw a batch on the encoder's device; everything is decided by (seed, step, position in the global batch)."""
    return ready(draw_inputs(samples, items, step, seed, settings), next(vision.parameters()).device, vision)
