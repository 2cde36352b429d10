"""The networks, in torch: two face detectors, the face mesh, the iris and the segmenter.

Sources of the architectures:
- short range: V. Bazarevsky et al., BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs, 2019;
- full range: MediaPipe's face_detection_full_range, double blocks and a feature pyramid;
- mesh: Y. Kartynnik et al., Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs, 2019;
- iris: A. Ablavatski et al., Real-time Pupil Tracking from Monocular Video for Digital Puppetry, 2020;
- segmenter: MediaPipe's selfie_multiclass_256x256, after S. Mehta and M. Rastegari, Separable Self-attention for Mobile Vision
  Transformers, 2022.
Channel counts are those of the published model files. `tools/convert_mediapipe.py` fills in the weights layer by layer, in the
order in which the layers are defined here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Convolution(nn.Conv2d):
    """TensorFlow's "same" padding for sizes that are multiples of the stride: an odd pixel goes to the right and the bottom."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        lack = max(kernel - stride, 0)
        super().__init__(channels_in, channels_out, kernel, stride, padding=lack // 2, groups=groups)
        self.odd = lack % 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.odd else x)


def depthwise(channels: int, stride: int = 1) -> Convolution:
    """3x3, each channel for itself."""
    return Convolution(channels, channels, 3, stride, groups=channels)


def short_way(x: torch.Tensor, stride: int, channels: int) -> torch.Tensor:
    """What a block's result is added to: pooled where the block halves the size, with empty channels where it adds some."""
    if stride == 2:
        x = F.max_pool2d(x, 2)
    return F.pad(x, (0, 0, 0, 0, 0, channels - x.shape[1])) if channels > x.shape[1] else x


class Block(nn.Module):
    """Depthwise, pointwise. ReLU in the detector, a learned slope (PReLU) in the mesh."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, activation=nn.PReLU):
        super().__init__()
        self.body = nn.Sequential(depthwise(channels_in, stride), Convolution(channels_in, channels_out))
        self.stride, self.channels = stride, channels_out
        self.activation = nn.PReLU(channels_out) if activation is nn.PReLU else activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.body(x) + short_way(x, self.stride, self.channels))


class DoubleBlock(nn.Module):
    """Depthwise, pointwise to fewer channels, depthwise, pointwise back."""

    def __init__(self, channels_in: int, between: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            depthwise(channels_in, stride),
            Convolution(channels_in, between),
            nn.ReLU(),
            depthwise(between),
            Convolution(between, channels_out),
        )
        self.stride, self.channels = stride, channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.body(x) + short_way(x, self.stride, self.channels))


class NarrowBlock(nn.Module):
    """To fewer channels (and half the size, where the stride is 2), depthwise, pointwise back."""

    def __init__(self, channels_in: int, between: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            Convolution(channels_in, between, stride, stride),
            nn.PReLU(between),
            depthwise(between),
            Convolution(between, channels_out),
        )
        self.stride, self.channels = stride, channels_out
        self.activation = nn.PReLU(channels_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.body(x) + short_way(x, self.stride, self.channels))


def _listed(maps: torch.Tensor, numbers: int) -> torch.Tensor:
    """`[B, anchors a cell * numbers, H, W]` as `[B, anchors, numbers]`, cell after cell, row after row."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, numbers)


class ShortRange(nn.Module):
    """BlazeFace for large faces: float `[B, 3, 128, 128]` in [-1, 1] to `[B, 896, 16]` boxes and `[B, 896]` logits."""

    SIZE = 128
    CELLS = ((16, 2), (8, 6))
    """(cells along a side, anchors a cell), in the order of the anchors."""

    def __init__(self):
        super().__init__()

        def blocks(*sizes: tuple[int, int, int]) -> nn.Sequential:
            return nn.Sequential(*(Block(*size, activation=nn.ReLU) for size in sizes))

        self.stem = Convolution(3, 24, 5, 2)
        self.to_16 = blocks(
            (24, 24, 1), (24, 28, 1), (28, 32, 2), (32, 36, 1), (36, 42, 1),
            (42, 48, 2), (48, 56, 1), (56, 64, 1), (64, 72, 1), (72, 80, 1), (80, 88, 1),
        )  # fmt: skip
        self.to_8 = blocks((88, 96, 2), (96, 96, 1), (96, 96, 1), (96, 96, 1), (96, 96, 1))
        self.box_16, self.box_8 = Convolution(88, 32), Convolution(96, 96)
        self.score_16, self.score_8 = Convolution(88, 2), Convolution(96, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fine = self.to_16(F.relu(self.stem(x)))
        coarse = self.to_8(fine)
        boxes = torch.cat([_listed(self.box_16(fine), 16), _listed(self.box_8(coarse), 16)], dim=1)
        scores = torch.cat([_listed(self.score_16(fine), 1), _listed(self.score_8(coarse), 1)], dim=1)
        return boxes, scores[..., 0]


class _Level(nn.Module):
    """One step down a feature pyramid: the coarser map, enlarged, plus the finer map, then blocks."""

    def __init__(self, coarse: int, fine: int, channels: int, blocks: int):
        super().__init__()
        self.from_coarse, self.from_fine = Convolution(coarse, channels), Convolution(fine, channels)
        self.blocks = nn.Sequential(*(DoubleBlock(channels, channels // 2, channels) for _ in range(blocks)))

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        larger = F.interpolate(F.relu(self.from_coarse(coarse)), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.blocks(F.relu(self.from_fine(fine)) + larger)


class FullRange(nn.Module):
    """For small faces too: float `[B, 3, 192, 192]` in [-1, 1] to `[B, 2304, 16]` boxes and `[B, 2304]` logits."""

    SIZE = 192
    CELLS = ((48, 1),)

    def __init__(self):
        super().__init__()

        def blocks(*sizes: tuple[int, ...]) -> nn.Sequential:
            return nn.Sequential(*(DoubleBlock(*size) for size in sizes))

        self.stem = Convolution(3, 32, 3, 2)
        self.to_96 = blocks((32, 8, 32), (32, 8, 32))
        self.to_48 = blocks((32, 12, 48, 2), (48, 12, 48), (48, 16, 64))
        self.to_24 = blocks((64, 24, 96, 2), (96, 32, 128), (128, 32, 128))
        self.to_12 = blocks((128, 36, 144, 2), (144, 48, 192), (192, 64, 256))
        self.to_6 = blocks((256, 96, 384, 2), (384, 96, 384), (384, 96, 384), (384, 96, 384))
        self.back_12, self.back_24, self.back_48 = (
            _Level(384, 256, 96, 2),
            _Level(96, 128, 64, 2),
            _Level(64, 64, 48, 1),
        )
        self.box, self.score = Convolution(48, 16), Convolution(48, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at_48 = self.to_48(self.to_96(F.relu(self.stem(x))))
        at_24 = self.to_24(at_48)
        at_12 = self.to_12(at_24)
        x = self.back_12(self.to_6(at_12), at_12)
        x = self.back_48(self.back_24(x, at_24), at_48)
        return _listed(self.box(x), 16), _listed(self.score(x), 1)[..., 0]


class Mesh(nn.Module):
    """An upright face, float `[B, 3, 192, 192]` in [0, 1], to its points `[B, 468, 3]` (pixels of this square) and `[B]` logits.

    The logit says whether a face was there. Depth z counts in the same pixels, smaller is nearer to the camera.
    """

    SIZE = 192

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            Convolution(3, 16, 3, 2), nn.PReLU(16), Block(16, 16), Block(16, 16),
            Block(16, 32, 2), Block(32, 32), Block(32, 32),
            Block(32, 64, 2), Block(64, 64), Block(64, 64),
            Block(64, 128, 2), Block(128, 128), Block(128, 128),
            Block(128, 128, 2), Block(128, 128), Block(128, 128),
        )  # fmt: skip
        self.points = nn.Sequential(
            Block(128, 128, 2), Block(128, 128), Block(128, 128),
            Convolution(128, 32), nn.PReLU(32), Block(32, 32), Convolution(32, 3 * 468, 3, 3),
        )  # fmt: skip
        self.presence = nn.Sequential(
            Block(128, 128, 2), Convolution(128, 32), nn.PReLU(32), Block(32, 32), Convolution(32, 1, 3, 3)
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.trunk(x)
        return self.points(x).reshape(-1, 468, 3), self.presence(x).reshape(-1)


class Iris(nn.Module):
    """An eye, float `[B, 3, 64, 64]` in [0, 1], to `[B, 71, 3]` points round it and `[B, 5, 3]` of its iris, in pixels of this square.

    It expects the eye that is on the viewer's left in an upright picture; the other one is mirrored first.
    """

    SIZE = 64

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            Convolution(3, 64, 3, 2), nn.PReLU(64), *(NarrowBlock(64, 32, 64) for _ in range(4)),
            NarrowBlock(64, 64, 128, 2), *(NarrowBlock(128, 64, 128) for _ in range(4)),
            NarrowBlock(128, 64, 128, 2),
        )  # fmt: skip
        self.eye, self.iris = self._branch(71), self._branch(5)

    @staticmethod
    def _branch(points: int) -> nn.Sequential:
        def pair() -> tuple[NarrowBlock, NarrowBlock]:
            return NarrowBlock(128, 64, 128), NarrowBlock(128, 64, 128)

        half = (NarrowBlock(128, 64, 128, 2) for _ in range(2))
        return nn.Sequential(*pair(), next(half), *pair(), next(half), *pair(), Convolution(128, 3 * points, 2, 2))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.trunk(x)
        return self.eye(x).reshape(-1, 71, 3), self.iris(x).reshape(-1, 5, 3)


class Inverted(nn.Module):
    """Pointwise to more channels, depthwise, pointwise back; added to its input where the shape stays."""

    def __init__(self, channels_in: int, between: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            Convolution(channels_in, between),
            nn.ReLU(),
            depthwise(between, stride),
            nn.ReLU(),
            Convolution(between, channels_out),
        )
        self.added = stride == 1 and channels_in == channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x) + x if self.added else self.body(x)


def affine(channels: int) -> Convolution:
    """A normalisation as it is when nothing is trained any more: a factor and a shift for each channel."""
    return Convolution(channels, channels, groups=channels)


class SeparableAttention(nn.Module):
    """Self-attention at linear cost: one score a place weighs what all places say to each. `[B, C, positions in a patch, patches]`."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = affine(channels)
        self.mixed = nn.Sequential(Convolution(channels, 2 * channels), Convolution(2 * channels, channels))
        self.score, self.key = Convolution(channels, 1), Convolution(channels, channels)
        self.value, self.result = Convolution(channels, channels), Convolution(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed = self.norm(x)
        context = (self.key(normed) * self.score(normed).softmax(dim=-1)).sum(dim=-1, keepdim=True)
        return x + self.result(F.relu(self.value(normed)) * context) + self.mixed(normed)


class Attending(nn.Module):
    """Blocks of attention between the patches of 4 x 4 cells, each cell with those at its place in the other patches."""

    PATCH = 4

    def __init__(self, channels: int, between: int, blocks: int):
        super().__init__()
        self.near = nn.Sequential(
            Convolution(channels, between, 3), nn.ReLU(), Convolution(between, between), nn.ReLU()
        )
        self.far = nn.Sequential(*(SeparableAttention(between) for _ in range(blocks)))
        self.back = Convolution(between, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, p = self.near(x), self.PATCH
        batch, channels, height, width = x.shape
        cells = x.reshape(batch, channels, height // p, p, width // p, p).permute(0, 1, 3, 5, 2, 4)
        attended = self.far(cells.reshape(batch, channels, p * p, -1)).reshape(cells.shape)
        return self.back(attended.permute(0, 1, 4, 2, 5, 3).reshape(x.shape))


class Segmenter(nn.Module):
    """A portrait, float `[B, 3, 256, 256]` in [0, 1], to logits `[B, 6, 256, 256]` of `CLASSES`."""

    SIZE = 256
    CLASSES = ("background", "hair", "body", "face", "clothes", "other")
    """`body` and `face` are bare skin, the face with its eyes, mouth and beard; `other` is what is worn: glasses, hats, jewellery."""

    def __init__(self):
        super().__init__()

        def across(channels: int) -> nn.Sequential:
            return nn.Sequential(affine(channels), Convolution(channels, 64))

        def smoothed() -> nn.Sequential:
            return nn.Sequential(depthwise(64), Convolution(64, 64))

        def separable(channels_in: int) -> tuple[nn.Module, ...]:
            return depthwise(channels_in), nn.ReLU(), Convolution(channels_in, 32), nn.ReLU()

        self.to_128 = nn.Sequential(Convolution(3, 16, 3, 2), nn.ReLU())
        self.across_128 = across(16)
        self.to_64 = nn.Sequential(Inverted(16, 96, 64), Inverted(64, 384, 128, 2), Inverted(128, 768, 128))
        self.across_64 = across(128)
        self.to_32 = nn.Sequential(Inverted(128, 768, 256, 2), Attending(256, 128, 2))
        self.across_32 = across(256)
        self.to_16 = nn.Sequential(Inverted(256, 1536, 384, 2), Attending(384, 192, 4))
        self.across_16 = across(384)
        self.smoothed = nn.ModuleList(smoothed() for _ in range(4))
        self.result = nn.Sequential(
            *separable(64), *(layer for _ in range(4) for layer in separable(32)),
            nn.ConvTranspose2d(32, 32, 2, 2), Convolution(32, len(self.CLASSES)),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        at_128 = self.to_128(x)
        at_64 = self.to_64(at_128)
        at_32 = self.to_32(at_64)
        x = self.across_16(self.to_16(at_32))
        total = F.interpolate(self.smoothed[0](x), scale_factor=8, mode="bilinear")
        levels = ((self.across_32, at_32, 4), (self.across_64, at_64, 2), (self.across_128, at_128, 1))
        for (across, finer, factor), smoothed in zip(levels, self.smoothed[1:]):
            x = F.interpolate(x, scale_factor=2) + across(finer)
            total = total + F.interpolate(smoothed(x), scale_factor=factor, mode="bilinear")
        return (self.result(total),)


NETWORKS: dict[str, type[nn.Module]] = {
    "short_range": ShortRange,
    "full_range": FullRange,
    "mesh": Mesh,
    "iris": Iris,
    "segmenter": Segmenter,
}
