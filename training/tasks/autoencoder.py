"""The demo's 8x autoencoder: what the latents can hold caps everything after it."""

import torch
import torch.nn.functional as functional

from ..core.diffusion import LATENT_SCALE, keyed_generator
from ..core.modules import new_vae
from ..data.samples import SampleSet, batch_of
from .drawing import DrawingTask


class AutoencoderTask(DrawingTask):
    """Reconstruct random crops.

    Loss: L1 and squared error on pixels, L1 on their gradients (keeps edges), and a pull of each latent channel to mean
    0 and standard deviation 1, as the UNet expects. Noise on the latents makes neighbouring latents decode alike.
    """

    def __init__(self, samples: SampleSet, seed: int = 0, crop: int = 64, latent_noise: float = 0.05):
        super().__init__()
        self.vae = new_vae(LATENT_SCALE, keyed_generator(seed, "vae"))
        self.samples, self.keys = samples, sorted(samples.pictures)
        self.seed, self.crop, self.latent_noise = seed, crop, latent_noise

    def items(self, step: int, batch: int) -> list:
        """(position, picture id) of a step's global batch."""
        return batch_of(self.keys, batch, step, self.seed)

    def draw(self, step: int, items: list) -> tuple[torch.Tensor, torch.Tensor]:
        """(crops uint8 `[B, crop, crop, 3]`, noise `[B, 4, crop / 8, crop / 8]`)."""
        crops, noises = [], []
        for position, key in items:
            generator = keyed_generator(self.seed, step, position)
            picture = self.samples.pictures[key]
            y, x = (int(torch.randint(0, size - self.crop + 1, (), generator=generator)) for size in picture.shape[:2])
            crop = picture[y : y + self.crop, x : x + self.crop]
            crops.append(crop.flip(1) if torch.rand((), generator=generator) < 0.5 else crop)
            noises.append(torch.randn(4, self.crop // 8, self.crop // 8, generator=generator))
        return torch.stack(crops), torch.stack(noises)

    def loss(self, step: int, drawn: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and figures of what was drawn."""
        device = next(self.vae.parameters()).device
        crops, noise = (tensor.to(device) for tensor in drawn)
        # channels_last: convolutions without norms are several times as fast in it on a CPU.
        images = (crops.float() / 255).movedim(-1, 1)
        latents = self.vae.taesd_encoder(images)
        out = self.vae.taesd_decoder(latents + (self.latent_noise * noise).to(latents.dtype)).float()
        pixel = functional.l1_loss(out, images) + 4 * functional.mse_loss(out, images)
        edges = sum(functional.l1_loss(out.diff(dim=dim), images.diff(dim=dim)) for dim in (-1, -2))
        spread, mean = torch.std_mean(latents.float(), dim=(0, 2, 3))
        loss = pixel + 0.5 * edges + 0.01 * (mean.pow(2) + (spread - 1).pow(2)).sum()
        psnr = -10 * torch.log10(functional.mse_loss(out.detach(), images))
        return loss, {"loss": loss.item(), "psnr_db": psnr.item(), "latent_std": spread.mean().item()}
