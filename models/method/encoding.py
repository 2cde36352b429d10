"""Pictures to latents, embeddings and conditionings, through ComfyUI's VAE and CLIP vision objects."""

import torch

from ..errors import UserError
from ..faces.pixels import checked_image
from ..types import Profile

GRID = 64
"""Sides must be multiples of 64 px: then both halves are whole cells at all four resolutions of the UNet."""


def check_picture(image: torch.Tensor, what: str) -> torch.Tensor:
    """One picture as RGB `[1, H, W, 3]`, its sides fitting the grid.

    Raises:
        UserError: not a picture, a batch, or sides that are no multiples of 64.
    """
    image = checked_image(image, f"the {what}")
    if image.shape[0] != 1:
        raise UserError(
            f"The {what} must be one picture; got a batch of {image.shape[0]}. Choose one with 'ImageFromBatch'."
        )
    height, width = image.shape[1:3]
    if height % GRID or width % GRID:
        raise UserError(
            f"The sides of the {what} must be multiples of {GRID} pixels; got {width} x {height}. "
            "Use the crop of 'Align face', or scale the picture first."
        )
    return image


def encode_picture(vae, image: torch.Tensor, what: str) -> torch.Tensor:
    """Latent `[1, 4, H / 8, W / 8]` (float32, VAE scale) of one picture `[1, H, W, 3]`.

    Raises:
        UserError: see `check_picture`; or a VAE that is not of SD1.5's kind, or makes NaN.
    """
    image = check_picture(image, what)
    latent = vae.encode(image).float()
    wanted = [1, 4, image.shape[1] // 8, image.shape[2] // 8]
    if list(latent.shape) != wanted:
        raise UserError(
            f"The VAE must be SD1.5's (4 channels, 8 x smaller); it made {list(latent.shape)} where {wanted} is needed."
        )
    if not torch.isfinite(latent).all():
        raise UserError(f"The VAE made NaN values of the {what}; run it in full precision, or load its file anew.")
    return latent


def embed_picture(clip_vision, image: torch.Tensor) -> torch.Tensor:
    """CLIP image embedding `[1, 1, 768]` (float32) of one picture `[1, H, W, 3]`.

    Raises:
        UserError: an encoder whose embedding is not 768 wide, or NaN.
    """
    embedding = clip_vision.encode_image(image, crop=True)["image_embeds"]
    width = embedding.shape[-1] if embedding is not None else 0
    if width != 768:
        raise UserError(
            f"The CLIP vision must be ViT-L/14 with its projection (an embedding 768 wide); this one gives {width}. "
            "Load SD1.5's image encoder, e.g. clip-vit-large-patch14."
        )
    embedding = embedding.float().reshape(1, 1, 768)
    if not torch.isfinite(embedding).all():
        raise UserError(
            "The CLIP vision made NaN values of the picture; run it in full precision, or load its file anew."
        )
    return embedding


def encode_profile(image: torch.Tensor, vae, clip_vision) -> Profile:
    """All forms of one aligned profile picture `[1, H, W, 3]`.

    Raises:
        UserError: see `encode_picture` and `embed_picture`.
    """
    image = check_picture(image, "profile picture")
    return Profile(image, encode_picture(vae, image, "profile picture"), embed_picture(clip_vision, image))


def encode_prompt(clip, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(prompt, no prompt) as SD1.5's text encoder reads them: each float32 `[1, T, 768]`, T a multiple of 77.

    Args:
        clip: ComfyUI's CLIP object of an SD1.5 checkpoint.

    Raises:
        UserError: a text encoder of another model.
    """
    texts = []
    for text in (prompt, ""):
        encoded = clip.encode_from_tokens(clip.tokenize(text))
        if encoded.ndim != 3 or encoded.shape[-1] != 768:
            raise UserError(
                f"The CLIP must be SD1.5's text encoder (768 wide); this one gives {encoded.shape[-1]}. "
                "Connect the CLIP of the SD1.5 checkpoint."
            )
        texts.append(encoded.float().cpu())
    prompt_text, no_text = texts
    # A long prompt takes several blocks of 77 tokens; both sides must be as long, so that ComfyUI runs them as one batch.
    return prompt_text, no_text.repeat(1, prompt_text.shape[1] // no_text.shape[1], 1)


def conditionings(profile: Profile, prompt: tuple[torch.Tensor, torch.Tensor] | None = None) -> tuple[list, list]:
    """(positive, negative) CONDITIONING: the image embedding instead of text, and zeros for classifier-free guidance.

    Both are equally long, so that ComfyUI runs them as one batch: one token, or with a prompt the embedding's and the text's after it.
    The paper has no prompts; the nets never see them.

    Args:
        prompt: from `encode_prompt`; its first part goes after the embedding, its second after the zeros.
    """
    positive, negative = profile.embedding, torch.zeros_like(profile.embedding)
    if prompt is not None:
        positive, negative = (
            torch.cat([part, text.to(part).expand(len(part), -1, -1)], dim=1)
            for part, text in zip((positive, negative), prompt, strict=True)
        )
    return [[positive, {}]], [[negative, {}]]
