"""The demo's 8x autoencoder: what the latents can hold caps everything after it."""

import torch
import torch.nn.functional as functional

from .diffusion import keyed_generator
from .modules import DEMO_VAE, new_vae
from .samples import SampleSet, batch_indices


class AutoencoderTask(torch.nn.Module):
    """Reconstruct random crops. Loss: L1 on pixels and on their gradients (keeps edges), and a weak pull of the
    latents to unit size; noise on the latents makes neighbouring latents decode alike, which diffusion needs."""

    def __init__(
        self,
        samples: SampleSet,
        seed: int = 0,
        crop: int = 128,
        latent_noise: float = 0.05,
        vae_config: dict = DEMO_VAE,
    ):
        super().__init__()
        self.vae = new_vae(vae_config, keyed_generator(seed, "vae"))
        self.samples, self.keys = samples, sorted(samples.pictures)
        self.seed, self.crop, self.latent_noise = seed, crop, latent_noise

    def items(self, step: int, batch: int) -> list:
        """(position, picture id) of a step's global batch."""
        return [(i, self.keys[k]) for i, k in enumerate(batch_indices(len(self.keys), batch, step, self.seed))]

    def forward(self, step: int, items: list) -> tuple[torch.Tensor, dict[str, float]]:
        crops, noises = [], []
        for position, key in items:
            generator = keyed_generator(self.seed, step, position)
            picture = self.samples.pictures[key]
            y, x = (int(torch.randint(0, size - self.crop + 1, (), generator=generator)) for size in picture.shape[:2])
            crop = picture[y : y + self.crop, x : x + self.crop]
            crops.append(crop.flip(1) if torch.rand((), generator=generator) < 0.5 else crop)
            noises.append(torch.randn(4, self.crop // 8, self.crop // 8, generator=generator))
        device = next(self.vae.parameters()).device
        # contiguous: in channels_last the backward pass of GroupNorm takes ten times as long on a CPU.
        images = torch.stack(crops).to(device).movedim(-1, 1).contiguous().float() / 127.5 - 1
        latents = self.vae.encode(images).float()
        noisy = latents + self.latent_noise * torch.stack(noises).to(device)
        out = self.vae.decode(noisy).float()
        pixel = functional.l1_loss(out, images)
        edges = functional.l1_loss(out.diff(dim=-1), images.diff(dim=-1)) + functional.l1_loss(out.diff(dim=-2), images.diff(dim=-2))
        loss = pixel + edges + 1e-3 * latents.pow(2).mean()
        psnr = -10 * torch.log10(functional.mse_loss(out.detach(), images) / 4)
        return loss, {"loss": loss.item(), "psnr_db": psnr.item()}


@torch.no_grad()
def normalise_latents(vae: torch.nn.Module, latents: torch.Tensor, scale: float) -> None:
    """Fold mean and spread of the latents into the autoencoder's 1x1 convolutions, so that VAE-scale latents times
    `scale` have mean 0 and standard deviation 1 a channel, as SD1.5's sampler expects.

    Args:
        latents: raw VAE outputs `[N, 4, h, w]` of typical pictures.
    """
    mean = latents.mean(dim=(0, 2, 3))
    gain = 1 / (latents.std(dim=(0, 2, 3)) * scale)
    moments = vae.quant_conv
    moments.weight[:4] *= gain[:, None, None, None]
    moments.bias[:4] = (moments.bias[:4] - mean) * gain
    # The decoder sees gain * (z - mean): undo it before its own 1x1 convolution.
    decode = vae.post_quant_conv
    decode.bias += (decode.weight[:, :, 0, 0] @ mean).to(decode.bias)
    decode.weight /= gain[None, :, None, None]
