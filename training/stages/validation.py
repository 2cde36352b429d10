"""Validation while a stage trains."""

from pathlib import Path

import torch

from ..core.diffusion import LATENT_SCALE
from ..data.samples import SampleSet
from ..tasks.validation import Validator
from .sample_sets import encode_samples


def validator(run: Path, task: torch.nn.Module, held_out: SampleSet | None, vae: torch.nn.Module) -> Validator | None:
    """Looks at `held_out` while `task` trains; None without held-out samples."""
    if held_out is None:
        return None
    encode_samples(run, held_out, vae, "held_out_")

    def decode(latents: torch.Tensor) -> torch.Tensor:
        home = next(vae.parameters()).device  # the identity loss keeps it on the GPU
        pictures = vae.to(latents.device).decode(latents / LATENT_SCALE)
        vae.to(home)
        return (pictures.float() + 1) / 2

    return Validator(task, held_out, decode)
