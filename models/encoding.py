"""Pictures to latents, embeddings and conditionings, through ComfyUI's VAE and CLIP vision objects."""

import torch

from .faces.pixels import checked_image
from .types import Profile

GRID = 64
"""Sides must be multiples of 64 px: then both halves are whole cells at all four resolutions of the UNet."""


def check_picture(image: torch.Tensor, what: str) -> torch.Tensor:
    """One picture as RGB `[1, H, W, 3]`, its sides fitting the grid.

    Raises:
        ValueError: not a picture, a batch, or sides that are no multiples of 64.
    """
    image = checked_image(image, f"the {what}")
    if image.shape[0] != 1:
        raise ValueError(
            f"The {what} must be one picture; got a batch of {image.shape[0]}. Choose one with 'ImageFromBatch'."
        )
    height, width = image.shape[1:3]
    if height % GRID or width % GRID:
        raise ValueError(
            f"The sides of the {what} must be multiples of {GRID} pixels; got {width} x {height}. "
            "Use the crop of 'Align face', or scale the picture first."
        )
    return image


def encode_picture(vae, image: torch.Tensor, what: str) -> torch.Tensor:
    """Latent `[1, 4, H / 8, W / 8]` (float32, VAE scale) of one picture `[1, H, W, 3]`.

    Raises:
        ValueError: see `check_picture`; or a VAE that is not of SD1.5's kind.
    """
    image = check_picture(image, what)
    latent = vae.encode(image).float()
    wanted = [1, 4, image.shape[1] // 8, image.shape[2] // 8]
    if list(latent.shape) != wanted:
        raise ValueError(
            f"The VAE must be SD1.5's (4 channels, 8 x smaller); it made {list(latent.shape)} where {wanted} is needed."
        )
    return latent


def embed_picture(clip_vision, image: torch.Tensor) -> torch.Tensor:
    """CLIP image embedding `[1, 1, 768]` (float32) of one picture `[1, H, W, 3]`.

    Raises:
        ValueError: an encoder whose embedding is not 768 wide.
    """
    embedding = clip_vision.encode_image(image, crop=True)["image_embeds"]
    width = embedding.shape[-1] if embedding is not None else 0
    if width != 768:
        raise ValueError(
            f"The CLIP vision must be ViT-L/14 with its projection (an embedding 768 wide); this one gives {width}. "
            "Load SD1.5's image encoder, e.g. clip-vit-large-patch14."
        )
    return embedding.float().reshape(1, 1, 768)


def encode_profile(image: torch.Tensor, vae, clip_vision) -> Profile:
    """All forms of one aligned profile picture `[1, H, W, 3]`.

    Raises:
        ValueError: see `encode_picture` and `embed_picture`.
    """
    image = check_picture(image, "profile picture")
    return Profile(image, encode_picture(vae, image, "profile picture"), embed_picture(clip_vision, image))


def conditionings(profile: Profile) -> tuple[list, list]:
    """(positive, negative) CONDITIONING: the image embedding instead of text, and zeros for classifier-free guidance.

    Both are one token long, so that ComfyUI runs them as one batch.
    """
    return [[profile.embedding, {}]], [[torch.zeros_like(profile.embedding), {}]]
