"""Validation while a stage trains."""

import torch

from ..core.diffusion import LATENT_SCALE
from ..data.samples import SampleSet
from ..tasks.validation import Validator
from .sample_sets import embed_samples, encode_samples


def validator(
    task: torch.nn.Module, held_out: SampleSet | None, vae: torch.nn.Module, vision: torch.nn.Module | None = None
) -> Validator | None:
    """Looks at `held_out` while `task` trains; None without held-out samples.

    Args:
        vision: the frozen encoder of the embeddings; None where it learns.
    """
    if held_out is None:
        return None
    encode_samples(held_out, vae)
    if vision is not None:
        embed_samples(held_out, vision)

    def decode(latents: torch.Tensor) -> torch.Tensor:
        home = next(vae.parameters()).device  # the identity loss keeps it on the GPU
        pictures = vae.to(latents.device).decode(latents / LATENT_SCALE)
        vae.to(home)
        return (pictures.float() + 1) / 2

    return Validator(task, held_out, decode)
