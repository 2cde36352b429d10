"""The lifter: tri-planes that give depth and albedo of heads from where the portrait was taken and from elsewhere.

Beyond the paper, whose encoder is not published. Heads have exact geometry and albedo, so no adversary and no light is needed. The net sees each
head as it will see photographs: with the outline of the segmenter and the solid that `models/views/photograph.py` lifts.
"""

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as functional

from ...models.views.cameras import PIVOT, project, rays
from ...models.views.lifter import REACH, Lifter, LifterConfig, TriPlane, march
from ..core.checks import at_least
from ..core.diffusion import keyed_generator
from ..data.samples import batch_of


@dataclass(frozen=True)
class LifterSettings:
    """Settings of the stage `lifter`."""

    rays: int = 192
    """Rays of the second view a head and step, half as many of the first; half of them where there is a head."""
    samples: int = 32
    """Along a ray, at random places."""
    surface_weight: float = 8.0
    """Of the error in where the solid begins and ends, in shares of the planes' reach."""
    depth_weight: float = 4.0
    """Of the error in the depth that rays meet, in the same."""
    outline_weight: float = 0.5
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
            views: of `stages.lifter.views_of`: what the net sees `[6, 128, 128]`; two cameras `[2, 25]`, albedo `[2, S, S, 3]` and depth
                `[2, S, S]` of both views; depth of the head's back `[S, S]` in the first.
        """
        super().__init__()
        # Torch's own draws, from a generator of this seed: the global one stays untouched.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=keyed_generator(seed, "lifter"))))
            self.net = Lifter(config)
        with torch.no_grad():
            self.net.decoder[-1].weight.mul_(0.1)
            self.net.to_picture.weight[:2] *= 0.1
            self.net.to_picture.bias[:2].zero_()
        self.views, self.settings, self.seed = views, settings, seed

    def items(self, step: int, batch: int) -> list:
        """(position, views) of a step's global batch."""
        return batch_of(self.views, batch, step, self.seed)

    def forward(self, step: int, items: list) -> tuple[torch.Tensor, dict[str, float]]:
        device = next(self.net.parameters()).device
        items = [(position, {key: value.to(device) for key, value in view.items()}) for position, view in items]
        seen = [
            recoloured(view["seen"].float(), keyed_generator(self.seed, step, position, "colour"))
            for position, view in items
        ]
        planes = self.net(torch.stack(seen))
        errors = []
        for number, (position, view) in enumerate(items):
            own = TriPlane(
                *(getattr(planes, field.name)[number : number + 1] for field in dataclasses.fields(TriPlane))
            )
            moved = surface_error(own, view)
            for side in (0, 1):
                errors.append((moved, *self._errors(own, view, side, keyed_generator(self.seed, step, position, side))))
        surface, colour, depth, outline = torch.stack([torch.stack(error) for error in errors]).mean(dim=0)
        weights = self.settings
        loss = (
            colour + weights.surface_weight * surface + weights.depth_weight * depth + weights.outline_weight * outline
        )
        return loss, {
            "loss": loss.item(),
            "albedo": colour.item(),
            "surface_mm": surface.item() * REACH * 1000,
            "depth_mm": depth.item() * REACH * 1000,
            "outline": outline.item(),
        }

    def _errors(self, planes: TriPlane, view: dict, side: int, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Mean errors in albedo, depth (in `REACH`) and outline along some rays of one view."""
        camera, depth = view["cameras"][side], view["depth"][side].float().flatten()
        head = (depth > 0).nonzero()[:, 0]
        number = self.settings.rays // (2 - side)
        half, width = number // 2, view["depth"].shape[-1]
        chosen = torch.randint(len(depth), (number - half,), generator=generator).to(depth.device)
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
        return colour, apart.sum() / there.sum().clamp_min(1), outline


def recoloured(seen: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What the net sees, its picture in another white balance: photographs have more of them than renders."""
    gain = torch.exp(0.2 * torch.randn(3, 1, 1, generator=generator)).to(seen.device)
    return torch.cat([((seen[:3] + 1) / 2 * gain).clamp(0, 1) * 2 - 1, seen[3:]])


def surface_error(planes: TriPlane, view: dict) -> torch.Tensor:
    """Mean error of where one head begins and ends in its own picture, in `REACH`, inside the outline that the net was given."""
    size = planes.surface.shape[-1]
    pivot = project(planes.surface.new_tensor(PIVOT), view["cameras"][0])[2]
    truth = torch.stack([view["depth"][0], view["back"]]).float()
    there = (truth[:1] > 0).float()
    share = functional.adaptive_avg_pool2d(there, size)
    # The mean over the head's own pixels of each cell.
    wanted = functional.adaptive_avg_pool2d(there * ((truth - pivot) / REACH).clamp(-1, 1), size) / share.clamp_min(
        1e-3
    )
    weight = (share > 0.5) * (planes.outline[0] > 0.3)
    return (weight * (planes.surface[0] - wanted).abs()).sum() / (2 * weight.sum()).clamp_min(1)
