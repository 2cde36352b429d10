"""The data of a stage: which shards, and latents and embeddings of their pictures, computed once a run and kept in its folder."""

from pathlib import Path

import torch
from accelerate import PartialState
from tqdm import tqdm

from ...models.errors import UserError
from ...models.nets.files import digest, read_tensors, save_tensors
from ..core.diffusion import LATENT_SCALE
from ..data.samples import SampleSet


def shards_in(folder: str | Path) -> list[Path]:
    """The data shards of a folder in name order.

    Raises:
        UserError: there are none.
    """
    shards = sorted(Path(folder).glob("*.tar"))
    if not shards:
        raise UserError(f"No .tar shards in {folder}; make some with `icportrait data heads --out {folder}`.")
    return shards


def encode_samples(run: Path, samples: SampleSet, vae: torch.nn.Module, prefix: str = "") -> None:
    """Latents of all pictures, kept in `<prefix>latents_<size>.safetensors` so that they are encoded once a run.

    Each process encodes its share and hands it to the others through a file of its own.
    """
    path = run / f"{prefix}latents_{samples.size or 'full'}.safetensors"
    state = PartialState()
    if path.exists():
        samples.latents.update({key: value for key, value in read_tensors(path)[0].items() if key in samples.pictures})
    missing = sorted(samples.pictures.keys() - samples.latents.keys())
    if missing:
        share = missing[state.process_index :: state.num_processes]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with tqdm(total=len(share), desc="encoding latents", mininterval=5, disable=not state.is_main_process) as bar:
            samples.encode_latents(vae.to(device), LATENT_SCALE, share, device=device, progress=bar)
        vae.to("cpu")
        part = {key: samples.latents[key] for key in share}
        save_tensors(_part(path, state.process_index), part, {"format": "icportrait-latents-1"})
        state.wait_for_everyone()
        for index in range(state.num_processes):
            samples.latents.update(read_tensors(_part(path, index))[0])
        if state.is_main_process:
            save_tensors(path, samples.latents, {"format": "icportrait-latents-1"})
        state.wait_for_everyone()
        _part(path, state.process_index).unlink()


def embed_samples(run: Path, samples: SampleSet, vision: torch.nn.Module) -> None:
    """Embeddings of all profiles by a frozen encoder, kept in `embeddings_<size>.safetensors` with the encoder's fingerprint.

    The first process embeds, the others read.
    """
    path = run / f"embeddings_{samples.size or 'full'}.safetensors"
    facts = {"format": "icportrait-embeddings-1", "encoder": fingerprint(vision)}
    with PartialState().main_process_first():
        if path.exists():
            tensors, found = read_tensors(path)
            if found == facts:
                samples.embeddings.update({key: value for key, value in tensors.items() if key in samples.pictures})
        missing = {sample.profile for sample in samples.samples} - samples.embeddings.keys()
        if missing:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            with tqdm(total=len(missing), desc="embedding profiles", mininterval=5) as bar:
                samples.embed_profiles(vision.to(device), device=device, progress=bar)
            vision.to("cpu")
            save_tensors(path, samples.embeddings, facts)


def fingerprint(module: torch.nn.Module) -> str:
    """A digest of a module's weights: equal digests mean equal weights."""
    return digest(module.state_dict())


def _part(path: Path, index: int) -> Path:
    return path.with_suffix(f".{index}.safetensors")
