"""The lifter: a portrait's tri-plane by a small encoder, and the volume rendering of its density and albedo.

The encoder sees what `photograph.py` knows without a net: the picture, the person's outline, and where the lifted solid begins and ends. It moves
those two surfaces; the outline stays as it was given. The planes lie in the frustum of the portrait's own camera, along picture x, picture y
and depth (E. Chan et al., 2022, place them in the head's axes), so the first keeps the picture's pixels. Light is no part of it: density and
albedo only, which `light.py` shades.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from ..errors import UserError
from ..nets.files import read_tensors
from .cameras import PIVOT, project, rays

FORMAT = "icportrait-lifter-2"
INPUT = 128
"""Pixels of the portrait that the encoder sees."""
SEEN_CHANNELS = 6
"""Picture in [-1, 1] (3), outline in 0 .. 1, where the solid begins and where it ends, in `REACH` from the pivot: see `volume.seen_by_net`."""
_FURTHEST = 0.5
"""By how much a surface can be moved, in `REACH`."""
REACH = 0.17
"""Metres before and behind the middle of the head that the planes span."""
SAMPLES = 48
"""Along a ray."""
POINTS = 2**18
"""Points of rays decoded at once: about 0.4 GB."""
_DENSE = 50.0
"""Density a metre of a decoded 1."""
_SATURATED, _SHARP, _AHEAD = 6.0, 60.0, 0.04
"""How solid the inside is, how fast it becomes so from the surface inwards, and how far (in `REACH`) before it already, so that what is met lies
at the surface on average; before the decoder's own part."""


@dataclass(frozen=True)
class LifterConfig:
    """Sizes of the net; in the file's metadata."""

    width: int = 32
    """Channels of the encoder's first level; doubled twice."""
    channels: int = 24
    """Of each plane."""
    depth: int = 32
    """Cells of the planes along depth."""
    hidden: int = 64
    """Of the decoder."""


@dataclass(frozen=True, eq=False)
class TriPlane:
    """Features of portraits."""

    picture: torch.Tensor
    """`[B, C, 64, 64]`: along picture y and x."""
    across: torch.Tensor
    """`[B, C, D, 64]`: along depth and picture x."""
    down: torch.Tensor
    """`[B, C, D, 64]`: along depth and picture y."""
    surface: torch.Tensor
    """`[B, 2, 64, 64]`, `REACH` from the pivot: where the solid begins and where it ends, as given and then moved."""
    outline: torch.Tensor
    """`[B, 1, 64, 64]` in 0 .. 1: the person, as given."""


def _block(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, stride, 1),
        nn.GroupNorm(8, outer),
        nn.SiLU(),
        nn.Conv2d(outer, outer, 3, 1, 1),
        nn.SiLU(),
    )


class Lifter(nn.Module):
    """Encoder and decoder."""

    def __init__(self, config: LifterConfig = LifterConfig()):
        super().__init__()
        self.config = config
        w, c = config.width, config.channels
        self.first = nn.Sequential(nn.Conv2d(SEEN_CHANNELS, w, 5, 2, 2), nn.SiLU())  # 64
        self.level1, self.level2, self.level3 = _block(w, w), _block(w, 2 * w, 2), _block(2 * w, 4 * w, 2)  # 64, 32, 16
        self.level4 = _block(4 * w, 4 * w, 2)  # 8: the whole head is seen
        self.up3, self.up2, self.up1 = _block(8 * w, 4 * w), _block(6 * w, 2 * w), _block(3 * w, 2 * w)
        self.to_picture = nn.Conv2d(2 * w, c + 2, 3, 1, 1)
        self.to_across, self.to_down = (nn.Conv1d(4 * w, c * config.depth, 3, 1, 1) for _ in range(2))
        self.decoder = nn.Sequential(
            nn.Linear(3 * c + 10, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, 4),
        )

    def forward(self, seen_bchw: torch.Tensor) -> TriPlane:
        """The tri-planes of portraits `[B, 6, 128, 128]`, see `SEEN_CHANNELS`."""
        one = self.level1(self.first(seen_bchw))
        two = self.level2(one)
        three = self.level3(two)
        four = self.level4(three)
        three = self.up3(torch.cat([F.interpolate(four, scale_factor=2), three], dim=1))
        two = self.up2(torch.cat([F.interpolate(three, scale_factor=2), two], dim=1))
        one = self.up1(torch.cat([F.interpolate(two, scale_factor=2), one], dim=1))
        picture = self.to_picture(one)
        size = picture.shape[-1]
        whole = F.interpolate(three, size=(size, size), mode="bilinear", align_corners=False)
        across, down = (
            make(whole.mean(dim=dim)).unflatten(1, (self.config.channels, self.config.depth))
            for make, dim in ((self.to_across, 2), (self.to_down, 3))
        )
        given = F.adaptive_avg_pool2d(seen_bchw[:, 3:], size)
        surface = given[:, 1:] + _FURTHEST * torch.tanh(picture[:, :2])
        return TriPlane(picture[:, 2:], across, down, surface, given[:, :1])

    def decode(self, planes: TriPlane, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Density `[B, N]` (a metre) and albedo `[B, N, 3]` (linear) at places `[B, N, 3]`: x, y in picture widths, depth in `REACH`."""
        x, y, z = (places[..., 0] * 2 - 1), (places[..., 1] * 2 - 1), places[..., 2]

        def at(plane, first, second):
            grid = torch.stack([first, second], dim=-1)[:, None]
            return F.grid_sample(plane, grid, mode="bilinear", padding_mode="border", align_corners=False)[:, :, 0].mT

        begins, ends = at(planes.surface, x, y).unbind(dim=-1)
        behind, before = z - begins, ends - z
        features = [at(planes.picture, x, y), at(planes.across, x, z), at(planes.down, y, z)]
        waves = [f(k * torch.pi * behind) for k in (1, 2, 4) for f in (torch.sin, torch.cos)]
        made = self.decoder(torch.cat([*features, torch.stack([x, z, behind, before, *waves], dim=-1)], dim=-1))
        inside = torch.minimum(behind, before) + _AHEAD
        solid = _SATURATED * torch.tanh(_SHARP * inside / _SATURATED) + made[..., 0]
        # Nothing stands where the portrait shows its background: the visual hull of one view.
        there = ((at(planes.outline, x, y)[..., 0] - 0.3) / 0.4).clamp(0, 1)
        return _DENSE * F.softplus(solid) * there, torch.sigmoid(made[..., 1:])


@dataclass(frozen=True, eq=False)
class Seen:
    """What rays meet; N rays."""

    albedo: torch.Tensor
    """`[N, 3]`, linear; black where nothing is met."""
    depth: torch.Tensor
    """`[N]`, metres, of what is met."""
    met: torch.Tensor
    """`[N]` in 0 .. 1: share of the light that something stops."""
    thickness: torch.Tensor
    """`[N]`, optical: -log(1 - met), without its rounding."""


def march(
    net: Lifter,
    planes: TriPlane,
    source: torch.Tensor,
    origin: torch.Tensor,
    directions: torch.Tensor,
    middle: float,
    generator: torch.Generator | None = None,
    samples: int = SAMPLES,
) -> Seen:
    """Volume rendering of one portrait along rays (N. Max, Optical models for direct volume rendering, 1995).

    Args:
        planes: of one portrait.
        source: `[25]`, its camera.
        origin, directions: `[3]`, `[N, 3]`: rays of `cameras.rays`.
        middle: depth of the head's middle for these rays, metres.
        generator: shifts the samples of each ray at random, for training.
        samples: along a ray.
    """
    step = 2 * REACH / samples
    # Drawn on the CPU, so that the draws do not depend on the device.
    shift = 0.5 if generator is None else torch.rand(len(directions), 1, generator=generator).to(directions.device)
    t = middle - REACH + (torch.arange(samples, device=directions.device) + shift) * step
    t = t.expand(len(directions), samples)
    points = origin + directions[:, None] * t[..., None]
    seen = project(points, source)
    pivot = project(points.new_tensor(PIVOT), source)[2]
    places = torch.cat([seen[..., :2], ((seen[..., 2:] - pivot) / REACH)], dim=-1)
    density, albedo = net.decode(planes, places.view(1, -1, 3))
    through = -density.view(t.shape) * step
    share = torch.exp(torch.cumsum(through, dim=1) - through) * (1 - torch.exp(through))
    met = share.sum(dim=1)
    depth = (share * t).sum(dim=1) / met.clamp_min(1e-4)
    return Seen((share[..., None] * albedo.view(*t.shape, 3)).sum(dim=1), depth, met, -through.sum(dim=1))


@torch.inference_mode()
def render_volume(
    net: Lifter,
    planes: TriPlane,
    source: torch.Tensor,
    target: torch.Tensor,
    size: int,
    points: int = POINTS,
    chosen: torch.Tensor | None = None,
) -> Seen:
    """The rays of a camera's picture of `size` x `size` pixels, in portions of `points` samples, which bounds the memory.

    Args:
        chosen: bool `[size * size]`, only these; None: all.
    """
    origin, directions = rays(target, size)
    directions = directions if chosen is None else directions[chosen]
    middle = float(project(directions.new_tensor(PIVOT), target)[2])
    parts = [march(net, planes, source, origin, some, middle) for some in directions.split(max(1, points // SAMPLES))]
    return Seen(
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("albedo", "depth", "met", "thickness"))
    )


def load_lifter(path) -> Lifter:
    """A lifter from its file, float32.

    Raises:
        UserError: not such a file, or tensors that do not fit its config.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") == "icportrait-lifter-1":
        raise UserError(f"{path} is a lifter of an older kind; train it again with `icportrait train lifter`")
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path} is not a lifter (its metadata lack format {FORMAT}); `icportrait train lifter` makes one"
        )
    net = Lifter(LifterConfig(**metadata["config"]))
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise UserError(f"{path} does not fit its own config: {str(error).splitlines()[0]}") from error
    return net.eval().requires_grad_(False)
