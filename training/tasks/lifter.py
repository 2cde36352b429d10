"""The lifter: tri-planes that give depth, outline and albedo of heads from where the portrait was taken and from elsewhere.

Beyond the paper, whose encoder is not published. Heads have exact geometry and albedo, so no adversary and no light is needed.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as functional

from ...models.views.cameras import PIVOT, project, rays
from ...models.views.lifter import INPUT, REACH, Lifter, LifterConfig, TriPlane, march
from ..core.checks import at_least
from ..core.diffusion import keyed_generator
from ..data.samples import batch_of


@dataclass(frozen=True)
class LifterSettings:
    """Settings of the stage `lifter`."""

    rays: int = 192
    """Rays a view and step: half of them where there is a head."""
    samples: int = 32
    """Along a ray, at random places."""
    depth_weight: float = 4.0
    """Of the error in depth, in shares of the planes' reach."""
    outline_weight: float = 1.0
    """Of the error in how much a ray meets."""

    def __post_init__(self):
        at_least(2, rays=self.rays, samples=self.samples)


class LifterTask(torch.nn.Module):
    """Both views of a head along random rays, from the portrait of the first."""

    def __init__(
        self,
        views: list[dict[str, torch.Tensor]],
        settings: LifterSettings = LifterSettings(),
        seed: int = 0,
        config: LifterConfig = LifterConfig(),
    ):
        """
        Args:
            views: of `stages.lifter.views_of`: two cameras `[2, 25]`, pictures `[S, S, 3]`, albedo `[2, S, S, 3]` and depth `[2, S, S]`.
        """
        super().__init__()
        # Torch's own draws, from a generator of this seed: the global one stays untouched.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=keyed_generator(seed, "lifter"))))
            self.net = Lifter(config)
        with torch.no_grad():
            self.net.decoder[-1].weight.mul_(0.1)
            self.net.to_picture.weight[:2] *= 0.1
        self.views, self.settings, self.seed = views, settings, seed

    def items(self, step: int, batch: int) -> list:
        """(position, views) of a step's global batch."""
        return batch_of(self.views, batch, step, self.seed)

    def forward(self, step: int, items: list) -> tuple[torch.Tensor, dict[str, float]]:
        device = next(self.net.parameters()).device
        items = [(position, {key: value.to(device) for key, value in view.items()}) for position, view in items]
        planes = self.net(torch.stack([portrait(view["picture"]) for _, view in items]))
        errors = []
        for number, (position, view) in enumerate(items):
            own = TriPlane(
                *(x[number : number + 1] for x in (planes.picture, planes.across, planes.down, planes.outline))
            )
            for side in (0, 1):
                errors.append(self._errors(own, view, side, keyed_generator(self.seed, step, position, side)))
        colour, depth, outline = torch.stack([torch.stack(error) for error in errors]).mean(dim=0)
        loss = colour + self.settings.depth_weight * depth + self.settings.outline_weight * outline
        return loss, {
            "loss": loss.item(),
            "albedo": colour.item(),
            "depth_mm": depth.item() * REACH * 1000,
            "outline": outline.item(),
        }

    def _errors(self, planes: TriPlane, view: dict, side: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Mean errors in albedo, depth (in `REACH`) and outline along some rays of one view."""
        camera, depth = view["cameras"][side], view["depth"][side].float().flatten()
        head = (depth > 0).nonzero()[:, 0]
        half, width = self.settings.rays // 2, view["depth"].shape[-1]
        chosen = torch.randint(len(depth), (self.settings.rays - half,), generator=generator).to(depth.device)
        if len(head):
            chosen = torch.cat([chosen, head[torch.randint(len(head), (half,), generator=generator).to(depth.device)]])
        origin, directions = rays(camera, width)
        middle = float(project(directions.new_tensor(PIVOT), camera)[2])
        seen = march(
            self.net, planes, view["cameras"][0], origin, directions[chosen], middle, generator, self.settings.samples
        )
        depth = depth[chosen]
        # What lies beyond the planes' reach (shoulders far behind) cannot be met.
        there = ((depth > 0) & ((depth - middle).abs() < REACH)).float()
        albedo = (view["albedo"][side].view(-1, 3)[chosen].float() / 255) ** 2
        colour = (there[:, None] * (seen.albedo.clamp_min(1e-6).sqrt() - albedo.sqrt()).abs()).mean()
        apart = there * (seen.depth - depth).abs() / REACH
        known = (depth == 0) | (there > 0)
        # Cross-entropy of what a ray meets; beside a head the thickness itself, which a solid block does not make blind.
        missed = -torch.log(-torch.expm1(-seen.thickness.clamp_min(1e-4)))
        outline = (known * torch.where(there > 0, missed, torch.log1p(seen.thickness))).mean()
        if side == 0:
            at = torch.stack([chosen % width, chosen // width], dim=-1) * 2 / width - 1 + 1 / width
            logits = functional.grid_sample(
                planes.outline[:, 1:], at[None, None], padding_mode="border", align_corners=False
            )
            outline = outline + functional.binary_cross_entropy_with_logits(
                logits.flatten(), there, weight=known.float()
            )
        return colour, apart.sum() / there.sum().clamp_min(1), outline


def portrait(picture: torch.Tensor) -> torch.Tensor:
    """A picture uint8 `[S, S, 3]` as the encoder takes it, `[3, 128, 128]`."""
    x = picture.movedim(-1, 0).float()[None] / 255
    return functional.interpolate(x, size=(INPUT, INPUT), mode="bilinear", antialias=True, align_corners=False)[0]
