"""The demo's models: what training runs equals what ComfyUI runs."""

import comfy.clip_vision
import comfy.sd
import torch
from tiny_models import randomise
from tiny_training import UNET, VISION

from icportrait.training.core import modules
from icportrait.training.core.diffusion import LATENT_SCALE, keyed_generator


def pictures(count: int = 2, size: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(4))


class TestVision:
    def test_preprocessing_is_comfyuis(self):
        for size in (64, 224, 256):
            images = pictures(size=size)
            wanted = comfy.clip_vision.clip_preprocess(images.movedim(1, -1))
            assert torch.allclose(modules.vision_pixels(images), wanted, atol=1e-6)

    @torch.no_grad()
    def test_embedding_is_that_of_comfyuis_forward(self):
        vision = randomise(modules.build_vision(VISION), 3)
        images = pictures()
        wanted = vision(modules.vision_pixels(images))[2]
        ours = modules.embed_images(vision, images)
        assert ours.shape == (2, 1, VISION["projection_dim"])
        assert not torch.allclose(wanted[0], wanted[1], atol=1e-2)
        assert torch.allclose(ours[:, 0], wanted, rtol=1e-4, atol=1e-5)

    def test_every_weight_learns(self):
        """ComfyUI's own forward adds in place, which autograd refuses; ours must reach every weight."""
        vision = randomise(modules.build_vision(VISION), 3)
        modules.embed_images(vision, pictures()).square().sum().backward()
        for name, parameter in vision.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


class TestStart:
    def test_everything_is_drawn_and_the_key_decides(self):
        torch.manual_seed(1)
        state = torch.get_rng_state()
        for new, config in ((modules.new_unet, UNET), (modules.new_vae, LATENT_SCALE), (modules.new_vision, VISION)):
            first, second = new(config, keyed_generator(3)), new(config, keyed_generator(3))
            other = new(config, keyed_generator(4))
            differs = False
            for (name, a), b, c in zip(first.named_parameters(), second.parameters(), other.parameters(), strict=True):
                assert torch.isfinite(a).all() and torch.equal(a, b), name
                differs |= not torch.equal(a, c)
            assert differs
        assert torch.equal(torch.get_rng_state(), state)

    @torch.no_grad()
    def test_a_new_unet_predicts_nothing(self):
        """Its last layer starts at zero, so the first loss is that of predicting no noise."""
        unet = modules.new_unet(UNET, keyed_generator(3))
        x = torch.randn(2, 4, 8, 16, generator=keyed_generator(1))
        context = torch.randn(2, 1, UNET["context_dim"], generator=keyed_generator(2))
        assert torch.count_nonzero(unet(x, torch.tensor([1, 500]), context)) == 0


class TestAutoencoder:
    """SD1.5's latent interface: VAE-scale latents times 0.18215 are what the UNet sees, here the encoder's raw output."""

    @torch.no_grad()
    def test_latents_are_scaled_for_the_unet_and_back(self):
        vae = randomise(modules.build_vae(LATENT_SCALE), 6)
        with torch.no_grad():
            vae.vae_scale.fill_(LATENT_SCALE)
            vae.vae_shift.zero_()
        images = pictures(size=32)
        raw = vae.taesd_encoder(images)
        latents = vae.encode(images * 2 - 1)
        assert latents.shape == (2, 4, 4, 4)
        assert torch.allclose(latents * LATENT_SCALE, raw, rtol=1e-4, atol=1e-5 * raw.abs().max().item())
        assert torch.allclose((vae.decode(latents) + 1) / 2, vae.taesd_decoder(raw), rtol=1e-3, atol=1e-3)

    @torch.no_grad()
    def test_comfyuis_own_loader_gives_the_same(self):
        """What is trained is what ComfyUI runs, found by its keys alone."""
        vae = modules.new_vae(LATENT_SCALE, keyed_generator(5)).eval()
        theirs = comfy.sd.VAE(sd=vae.state_dict())
        images = pictures(1).movedim(1, -1)  # ComfyUI's IMAGE
        latents = theirs.encode(images)
        assert torch.allclose(latents, vae.encode(images.movedim(-1, 1) * 2 - 1), rtol=1e-3, atol=1e-3)
        decoded = (vae.decode(latents).movedim(1, -1) + 1) / 2
        assert torch.allclose(theirs.decode(latents), decoded.clamp(0, 1), rtol=1e-3, atol=1e-3)

    def test_the_scale_is_not_trained(self):
        vae = modules.new_vae(LATENT_SCALE, keyed_generator(5))
        fixed = {name for name, parameter in vae.named_parameters() if not parameter.requires_grad}
        assert fixed == {"vae_scale", "vae_shift"}
        assert vae.vae_scale.item() == torch.tensor(LATENT_SCALE) and vae.vae_shift.item() == 0
