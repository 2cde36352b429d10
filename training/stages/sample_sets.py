"""A stage's samples: shards decoded once a machine, pictures encoded once a run.

Everything lies in `samples_<size>/` of the run's folder, a file a shard. Processes share nothing but the network and the shards'
path: each encodes its part of every shard, and hands it to the others over the network; the first process of each machine writes.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather, gather_object
from tqdm import tqdm

from ...models.errors import UserError
from ...models.nets.files import digest, read_metadata, save_tensors
from ..core.diffusion import LATENT_SCALE
from ..data.samples import Part, SampleSet
from ..data.tensor_files import Spread, TensorFile

BATCH = 8  # pictures a process encodes at a time


def shards_in(folder: str | Path) -> list[Path]:
    """The data shards of a folder in name order.

    Raises:
        UserError: there are none.
    """
    shards = sorted(Path(folder).glob("*.tar"))
    if not shards:
        raise UserError(f"No .tar shards in {folder}; make some with `icportrait data heads --out {folder}`.")
    return shards


def stored_samples(
    run: Path, shards: list[Path], size: int | None, limit: int | None = None, name: str = "samples"
) -> SampleSet:
    """The samples of some shards, decoded to files in the run's folder so that memory does not grow with them."""
    folder = run / f"{name}_{size or 'full'}"
    return SampleSet(shards, size, limit, folder, write=PartialState().is_local_main_process)


def encode_samples(samples: SampleSet, vae: torch.nn.Module) -> None:
    """Latents of all pictures, kept with the encoder's fingerprint and each picture's digest."""
    if not samples.pictures.keys() - samples.latents.keys():
        return
    device = device_of_frozen()
    vae.to(device)
    if samples.parts and samples.parts[0].file is not None:
        facts = {"format": "icportrait-latents-2", "encoder": fingerprint(vae), "scale": LATENT_SCALE}
        samples.latents = _kept(
            samples, "latents", facts, lambda ids: samples.encoded(ids, vae, LATENT_SCALE, device), None
        )
    else:
        samples.encode_latents(vae, LATENT_SCALE, device=device)
    vae.to("cpu")


def embed_samples(samples: SampleSet, vision: torch.nn.Module) -> None:
    """Embeddings of all profiles by a frozen encoder, kept likewise."""
    device = device_of_frozen()
    vision.to(device)
    if samples.parts and samples.parts[0].file is not None:
        facts = {"format": "icportrait-embeddings-2", "encoder": fingerprint(vision)}
        work = lambda ids: samples.embedded(ids, vision, device)  # noqa: E731
        samples.embeddings = _kept(samples, "embeddings", facts, work, samples.profiles)
    else:
        samples.embed_profiles(vision, device=device)
    vision.to("cpu")


def device_of_frozen() -> str:
    """Where frozen encoders run before training."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _kept(
    samples: SampleSet, kind: str, facts: dict, compute: Callable[[list[str]], torch.Tensor], only: set[str] | None
) -> Spread:
    """Tensors of every part's pictures (those of `only`) from `<part>.<kind>.safetensors`; what a machine lacks is computed anew."""
    state = PartialState()
    wanted = [_ids_and_facts(part, facts, only) for part in samples.parts]
    files = [part.file.with_suffix(f".{kind}.safetensors") for part in samples.parts]
    lacking = [i for i, (file, (_, said)) in enumerate(zip(files, wanted, strict=True)) if not _says(file, said)]
    lacking = sorted(set(gather_object(lacking)))
    total = sum(len(wanted[i][0]) for i in lacking)
    with tqdm(total=total, desc=kind, mininterval=5, disable=not total or not state.is_main_process) as bar:
        for i in lacking:
            ids, said = wanted[i]
            rows = dict(zip(ids, computed_together(ids, compute, bar), strict=True))
            if state.is_local_main_process:
                save_tensors(files[i], rows, said)
    state.wait_for_everyone()
    return Spread([(TensorFile(file), ids) for file, (ids, _) in zip(files, wanted, strict=True)])


def _ids_and_facts(part: Part, facts: dict, only: set[str] | None) -> tuple[list[str], dict]:
    ids = [key for key in part.ids if only is None or key in only]
    return ids, facts | {"pictures": {key: part.facts["digests"][key] for key in ids}}


def _says(file: Path, facts: dict) -> bool:
    """Whether a file's metadata are these, and it holds these pictures."""
    return file.exists() and facts.items() <= read_metadata(file).items()


def computed_together(ids: list[str], compute: Callable[[list[str]], torch.Tensor], bar=None) -> torch.Tensor:
    """`compute(ids)` on the CPU, each process computing its share and all getting everything.

    Args:
        compute: ids to `[len(ids), ...]` on the process's device.
    """
    state = PartialState()
    world, found = state.num_processes, []
    for start in range(0, len(ids), BATCH * world):
        part = ids[start : start + BATCH * world]
        padded = part + part[-1:] * (-len(part) % world)  # equal shares
        own = compute(padded[state.process_index :: world])
        rows = gather(own).unflatten(0, (world, -1)).transpose(0, 1).flatten(0, 1) if world > 1 else own
        found.append(rows[: len(part)].cpu())
        if bar is not None:
            bar.update(len(part))
    return torch.cat(found) if found else torch.empty(0)


def fingerprint(module: torch.nn.Module) -> str:
    """A digest of a module's weights: equal digests mean equal weights."""
    return digest(module.state_dict())
