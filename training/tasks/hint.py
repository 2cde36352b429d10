"""A start for the nets' hint block (beyond the paper): it learns to give what the UNet's first layer gives for clean latents.

The hint block reads pixels and is the only part of a ControlNet that starts from nothing. The paper's 20,000 steps teach
it along the way. Taught first, which needs neither UNet nor noise, it gives the copied encoder the condition in the form of
its own input: noisy latents plus the clean ones.
"""

from dataclasses import dataclass

import torch

from ...models.method.pixel_sampling import sample_pixels
from ...models.nets.portrait_net import PortraitNet, build_net, initialise_from_unet, net_config
from ..core.checks import shares
from ..core.diffusion import keyed_generator, uniform
from ..data.samples import CELL, SampleSet, batch_of
from .drawing import DrawingTask


@dataclass(frozen=True)
class HintSettings:
    """Settings of the stage `hint`."""

    sampled: float = 0.5
    """Share of crops that are pixel-sampled (eq. 1), as the target half of the condition is; the rest stay whole, as its
    profile half is."""
    max_share: float = 0.2
    """n of eq. 1: the kept share of pixels is uniform in (0, n)."""

    def __post_init__(self):
        shares(sampled=self.sampled, max_share=self.max_share)


class HintTask(DrawingTask):
    """Regress the UNet's first convolution of a picture's clean latents from its pixels, whole or sampled (eq. 1).

    Args:
        crop: side of the crops in pixels, a multiple of 8.
    """

    def __init__(
        self,
        samples: SampleSet,
        unet: torch.nn.Module,
        unet_config: dict,
        settings: HintSettings = HintSettings(),
        seed: int = 0,
        crop: int = 128,
    ):
        super().__init__()
        net = build_net(net_config("matching", unet_config))
        initialise_from_unet(net, unet, keyed_generator(seed, "hint"))
        self.net = torch.nn.ModuleDict({"input_hint_block": net.input_hint_block})
        self.kernel = unet.input_blocks[0][0].weight.detach().float().cpu()
        self.samples, self.keys = samples, sorted(samples.pictures)
        self.settings, self.seed, self.crop = settings, seed, crop

    def items(self, step: int, batch: int) -> list:
        """(position, picture id) of a step's global batch."""
        return batch_of(self.keys, batch, step, self.seed)

    def draw(self, step: int, items: list) -> tuple[torch.Tensor, torch.Tensor]:
        """(pixels `[B, 3, crop, crop]` in [0, 1], features of the clean latents `[B, C, crop / 8, crop / 8]`)."""
        pixels, wanted = [], []
        cells = min(self.crop, min(self.samples.pictures[self.keys[0]].shape[:2])) // CELL
        for position, key in items:
            generator = keyed_generator(self.seed, step, position)
            picture, latent = self.samples.pictures[key], self.samples.latents[key].float()
            y, x = (int(torch.randint(0, side - cells + 1, (), generator=generator)) for side in latent.shape[1:])
            crop = picture[y * CELL : (y + cells) * CELL, x * CELL : (x + cells) * CELL][None].float() / 255
            if uniform(generator) < self.settings.sampled:
                crop, _ = sample_pixels(crop, uniform(generator, 0.0, self.settings.max_share), generator)
            pixels.append(crop[0])
            # The whole latent goes through the layer, so that the crop's border is like any other place.
            features = torch.nn.functional.conv2d(latent[None], self.kernel, padding=1)
            wanted.append(features[0, :, y : y + cells, x : x + cells])
        return torch.stack(pixels).movedim(-1, 1), torch.stack(wanted)

    def loss(self, step: int, drawn: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and figures of what was drawn."""
        device = next(self.net.parameters()).device
        pixels, wanted = (tensor.to(device) for tensor in drawn)
        features = PortraitNet.encode_hint(self.net, pixels).float()
        error = (features - wanted).pow(2)
        loss = error.mean() / wanted.pow(2).mean()
        return loss, {"unexplained": loss.item()}
