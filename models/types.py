"""Wire types: what travels between nodes. Frozen, never modified after they are made.

Their ComfyUI names are `ICPORTRAIT_NETS`, `ICPORTRAIT_PROFILE` and `ICPORTRAIT_FLOW`. `VAE scale` is what a VAE node
returns; multiply by 0.18215 (SD1.5) for `model scale`.
"""

from dataclasses import dataclass
from typing import Any

import torch

from .errors import UserError


@dataclass(frozen=True)
class LoadedNet:
    """One matching or appearance net, ready for ComfyUI to move between devices."""

    patcher: Any
    """ComfyUI ModelPatcher around a `nets.PortraitNet`."""
    config: dict
    """The config of `nets.net_config` it was built from."""
    dtype: torch.dtype
    """Computing dtype: inputs are cast to it (weights may be stored in another one)."""
    data: str = ""
    """What its file says it was trained on; empty when it says nothing."""

    @property
    def module(self):
        """The `nets.PortraitNet` itself."""
        return self.patcher.model


@dataclass(frozen=True)
class PortraitNets:
    """`ICPORTRAIT_NETS`: the two nets of the method."""

    matching: LoadedNet
    appearance: LoadedNet


@dataclass(frozen=True)
class Profile:
    """`ICPORTRAIT_PROFILE`: aligned profile pictures in every form the method needs; on a wire B is 1."""

    image: torch.Tensor
    """float32 `[B, H, W, 3]`, sRGB in [0, 1]; H and W multiples of 64."""
    latent: torch.Tensor
    """float32 `[B, 4, H / 8, W / 8]`, VAE scale."""
    embedding: torch.Tensor
    """float32 `[B, 1, 768]`: CLIP ViT-L/14 image embedding as one context token."""

    def __post_init__(self):
        batch, height, width, channels = self.image.shape
        if channels != 3:
            raise UserError(f"A profile is RGB pictures [B, H, W, 3]; got {list(self.image.shape)}.")
        if list(self.latent.shape) != [batch, 4, height // 8, width // 8]:
            raise UserError(
                f"The profile latent must be [{batch}, 4, {height // 8}, {width // 8}]; got {list(self.latent.shape)}."
            )
        if list(self.embedding.shape) != [batch, 1, 768]:
            raise UserError(
                f"The profile's image embedding must be [{batch}, 1, 768]; got {list(self.embedding.shape)}."
            )


@dataclass(frozen=True)
class Flow:
    """`ICPORTRAIT_FLOW`: dense correspondence target <- profile (eq. 6)."""

    offsets: torch.Tensor
    """float32 `[B, 2, h, w]`, channel 0 = dx, 1 = dy, in cells of its own grid: target cell (x, y) takes its content
    from profile cell (x + dx, y + dy)."""
    confidence: torch.Tensor
    """float32 `[B, 1, h, w]` in [0, 1]."""
    height: int
    """Height of one view in pixels."""
    width: int
    """Width of one view in pixels."""

    def __post_init__(self):
        batch, channels, *cells = self.offsets.shape
        if channels != 2 or list(self.confidence.shape) != [batch, 1, *cells]:
            raise UserError(
                f"A flow needs offsets [B, 2, h, w] and a confidence [B, 1, h, w]; "
                f"got {list(self.offsets.shape)} and {list(self.confidence.shape)}."
            )
