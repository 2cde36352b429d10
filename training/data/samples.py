"""Training samples: decoded pictures by id, so that a picture used by many samples is held once.

A sample is a target, a profile of the same person in another view, optionally a style (another person in the target's
view and light), and where the source knows it the exact flow target <- profile.
"""

import functools
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from ...models.errors import UserError
from ...models.nets.files import read_metadata, save_tensors
from .shards import REMEMBERED, ShardError, decode_picture, decode_sample, raw_samples
from .tensor_files import Spread, TensorFile

PART_FORMAT = "icportrait-samples-1"
CELL = 8  # flow is kept at latent resolution


@dataclass(frozen=True)
class Sample:
    """One sample; pictures by id into `SampleSet.pictures`."""

    key: str
    target: str
    profile: str
    style: str | None
    identity: str
    flow: (
        torch.Tensor | None
    )  # float32 [2, H/8, W/8], in pixels of the full picture, at cell centres, target <- profile
    visible: torch.Tensor | None  # bool [H/8, W/8]: flow valid (visible in both views), hair excluded
    face: torch.Tensor | None  # float32 [H/8, W/8]: share of face in the cell


def _at_cell_centres(values: np.ndarray, cell: int) -> np.ndarray:
    """Mean of the four pixels around each cell centre: `[..., H, W]` -> `[..., H / cell, W / cell]`."""
    half = cell // 2
    parts = [values[..., half - 1 + dy :: cell, half - 1 + dx :: cell] for dy in (0, 1) for dx in (0, 1)]
    return sum(part.astype(np.float32) for part in parts) / 4


@dataclass
class Part:
    """One shard, decoded.

    Attributes:
        tensors: `picture/<id>` uint8 `[side, side, 3]`; `truth/<sample>` float32 `[4, side / 8, side / 8]`: dx, dy, visible, face.
        facts: JSON-ready: `samples` (key, target, profile, style, identity, whether there is a truth), `landmarks` and
            `digests` by picture id, `generators`, `side`.
        file: where `tensors` lie, None = in memory.
        ids: pictures that the chosen samples use.
    """

    tensors: Mapping[str, torch.Tensor]
    facts: dict
    file: Path | None = None
    ids: list[str] = field(default_factory=list)


def decode_shard(path: Path, size: int | None) -> Part:
    """Read, check and scale a shard; see `SampleSet` for `size` and the errors."""
    tensors: dict[str, torch.Tensor] = {}
    facts: dict = {"samples": [], "landmarks": {}, "digests": {}, "generators": [], "side": None}
    decode = functools.lru_cache(REMEMBERED)(decode_picture)
    encoded: dict[str, int] = {}
    for key, members in raw_samples(path):
        sample = decode_sample(path, key, members, decode)
        meta, ids = sample["meta"], {}
        for role in ("target", "profile", "style"):
            if role not in sample:
                continue
            ids[role] = picture_id(meta, role)
            digest = zlib.crc32(members[f"{role}.webp"])
            if encoded.setdefault(ids[role], digest) != digest:
                raise ShardError(f"{path}: {key}.{role}.webp: another picture of this shard is {ids[role]}, too")
            if ids[role] in facts["digests"]:
                continue
            stored = sample[role]
            picture = _scaled(stored, size)
            side = facts["side"] = facts["side"] or picture.shape[0]
            if picture.shape[:2] != (side, side) or side % CELL:
                raise ShardError(
                    f"{path}: {key}.{role}.webp: {picture.shape[1]} x {picture.shape[0]} px; training needs squares of one size, "
                    f"a multiple of {CELL} (the first is {side} px)."
                )
            tensors[f"picture/{ids[role]}"] = torch.from_numpy(picture.copy())  # equal bytes are decoded once
            facts["digests"][ids[role]] = zlib.crc32(np.ascontiguousarray(picture).tobytes())
            if role in meta.get("landmarks5", {}):
                points = np.asarray(meta["landmarks5"][role], np.float64) * (side / stored.shape[0])
                facts["landmarks"][ids[role]] = points.tolist()
        if "flow" in sample:
            tensors[f"truth/{key}"] = _truth(sample, facts["side"])
        name = str(meta.get("generator", "unknown"))
        facts["generators"] = sorted({*facts["generators"], name})
        record = [
            key,
            ids["target"],
            ids["profile"],
            ids.get("style"),
            str(meta["identity"]["target"]),
            "flow" in sample,
        ]
        facts["samples"].append(record)
    return Part(tensors, facts)


def kept_part(path: Path, size: int | None, folder: Path, write: bool) -> Part:
    """A shard's content from its file in `folder`, made first where it is missing or of another shard."""
    file = folder / f"{path.stem}.safetensors"
    stat = path.stat() if path.exists() else None
    if stat is None:
        raise ShardError(f"{path}: no such shard")
    wanted = {"format": PART_FORMAT, "shard": [path.name, stat.st_size, stat.st_mtime_ns], "size": size}
    while not (file.exists() and wanted.items() <= (facts := read_metadata(file)).items()):
        if write:
            part = decode_shard(path, size)
            save_tensors(file, part.tensors, wanted | part.facts)
        else:
            time.sleep(0.2)
    return Part(TensorFile(file), facts, file)


class _Samples(Sequence[Sample]):
    """Samples made when asked for, from records (tensors, key, target, profile, style, identity, whether there is a truth)."""

    def __init__(self, records: list[tuple]):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        tensors, key, target, profile, style, identity, known = self._records[index]
        flow = visible = face = None
        if known:
            truth = tensors[f"truth/{key}"]
            flow, visible, face = truth[:2], truth[2] > 0, truth[3]
        return Sample(key, target, profile, style, identity, flow, visible, face)

    def profiles(self) -> set[str]:
        return {record[3] for record in self._records}


def _truth(sample: dict, side: int) -> torch.Tensor:
    """Flow, validity and face at cell centres, see `Part`."""
    height, width = sample["face"].shape
    scale = width // side
    cell = CELL * scale
    flow = _at_cell_centres(sample["flow"], cell) / scale
    scored = (sample["visible"] > 0) & ~(sample["hair"] > 0)
    visible = _at_cell_centres(scored, cell) > 0.99
    blocks = (sample["face"] > 0).reshape(height // cell, cell, width // cell, cell)
    face = blocks.mean(axis=(1, 3))
    return torch.from_numpy(np.concatenate([flow, visible[None], face[None]]).astype(np.float32))


def _scaled(picture: np.ndarray, size: int | None) -> np.ndarray:
    if size is None or picture.shape[0] == size:
        return picture
    if picture.shape[0] % size:
        raise UserError(f"Pictures of {picture.shape[0]} px cannot be scaled to {size} px: choose a whole fraction.")
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


class SampleSet:
    """All samples of some shards with their pictures.

    Args:
        size: side in pixels to scale the (square) pictures down to; None = as stored. Small pictures train several
            times as fast, so the demo's stages begin with them.
        limit: keep only the first so many samples.
        folder: where each shard's decoded content is kept as a file beside which latents and embeddings lie; memory then
            does not grow with the pictures. None = all in memory.
        write: make the files that `folder` lacks; otherwise wait for whoever does.

    Attributes:
        pictures: id -> uint8 `[size, size, 3]`.
        samples: sequence of `Sample`.
        landmarks: id -> float64 `[5, 2]` in pixels of the picture (eyes, nose tip, mouth corners), where the shards hold them.
        latents: id -> float16 `[4, size / 8, size / 8]` in model scale, filled by `encode_latents`.
        embeddings: id -> float32 `[768]`, filled by `embed_profiles`; empty = embeddings are computed when drawn.
        generators: what made the shards, e.g. `heads`, `folders`.
        parts: the shards' contents, one `Part` a shard.

    Raises:
        ShardError: a shard, sample or member that cannot be read or makes no sense, by name.
        UserError: no samples, or a size that does not divide the stored one.
    """

    def __init__(
        self,
        shards: Iterable[str | Path],
        size: int | None = None,
        limit: int | None = None,
        folder: Path | None = None,
        write: bool = True,
    ):
        self.size = size
        self.parts: list[Part] = []
        records, sides, digests = [], {}, {}
        for path in map(Path, shards):
            if limit is not None and len(records) >= limit:
                break
            part = decode_shard(path, size) if folder is None else kept_part(path, size, folder, write)
            sides.setdefault(part.facts["side"], path)
            if len(sides) > 1:
                (first, one), (second, other) = sides.items()
                raise UserError(
                    f"Pictures of one training must have one size: {one} has {first} px, {other} {second} px."
                )
            for name, digest in part.facts["digests"].items():
                if digests.setdefault(name, digest) != digest:
                    raise ShardError(f"{path}: another shard has another picture that is {name}, too")
            self.parts.append(part)
            records += [(part.tensors, *record) for record in part.facts["samples"]]
        self.samples: Sequence[Sample] = _Samples(records[:limit])
        if not self.samples:
            raise UserError("No samples were found in the given shards.")
        if folder is None:
            self.samples = list(self.samples)
        used = {key for _, *record in records[:limit] for key in record[1:4] if key is not None}
        for part in self.parts:
            part.ids = [key for key in part.facts["digests"] if key in used]
        self.pictures: Mapping[str, torch.Tensor] = Spread(
            [(part.tensors, part.ids) for part in self.parts], "picture/"
        )
        self.landmarks = {
            key: np.asarray(points, np.float64)
            for part in self.parts
            for key, points in part.facts["landmarks"].items()
            if key in used
        }
        self.generators = sorted({name for part in self.parts for name in part.facts["generators"]})
        self.latents: Mapping[str, torch.Tensor] = {}
        self.embeddings: Mapping[str, torch.Tensor] = {}

    @classmethod
    def of_pictures(cls, pictures: dict[str, torch.Tensor], samples: list[Sample]) -> "SampleSet":
        """A set of pictures that are in memory already, uint8 `[S, S, 3]` by id, all of one size."""
        made = cls.__new__(cls)
        made.pictures, made.samples, made.latents, made.embeddings = dict(pictures), list(samples), {}, {}
        made.landmarks, made.size, made.parts, made.generators = {}, None, [], ["folders"]
        return made

    @property
    def profiles(self) -> set[str]:
        """Ids of the profile pictures."""
        if isinstance(self.samples, _Samples):
            return self.samples.profiles()
        return {sample.profile for sample in self.samples}

    def __len__(self) -> int:
        return len(self.samples)

    @torch.no_grad()
    def encode_latents(
        self,
        vae: torch.nn.Module,
        scale: float,
        only: list[str] | None = None,
        batch: int = 8,
        device="cpu",
        progress=None,
    ) -> None:
        """Encode pictures that have no latents yet (or those of `only`): `latents[id]` = VAE mode * scale, float16."""
        todo = [key for key in self.pictures if key not in self.latents] if only is None else only
        for start in range(0, len(todo), batch):
            keys = todo[start : start + batch]
            for key, latent in zip(keys, self.encoded(keys, vae, scale, device), strict=True):
                self.latents[key] = latent.cpu()
            if progress is not None:
                progress.update(len(keys))

    @torch.no_grad()
    def embed_profiles(self, vision: torch.nn.Module, batch: int = 16, device="cpu", progress=None) -> None:
        """Embed every profile picture that has no embedding yet, in the order of their ids."""
        todo = sorted(self.profiles - self.embeddings.keys())
        for start in range(0, len(todo), batch):
            keys = todo[start : start + batch]
            self.embeddings |= dict(zip(keys, self.embedded(keys, vision, device).cpu(), strict=True))
            if progress is not None:
                progress.update(len(keys))

    @torch.no_grad()
    def encoded(self, ids: list[str], vae: torch.nn.Module, scale: float, device="cpu") -> torch.Tensor:
        """Latents of pictures `[B, 4, size / 8, size / 8]`: VAE mode * scale, float16, on the device."""
        images = torch.stack([self.pictures[key] for key in ids]).to(device).movedim(-1, 1).float() / 127.5 - 1
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            latents = vae.encode(images)
        return (latents.float() * scale).half()

    @torch.no_grad()
    def embedded(self, ids: list[str], vision: torch.nn.Module, device="cpu") -> torch.Tensor:
        """Embeddings of pictures float32 `[B, 768]`, on the device."""
        from ..core.modules import embed_images

        return embed_images(vision, self.images(ids).to(device)).float()[:, 0]

    def images(self, ids: list[str]) -> torch.Tensor:
        """Pictures as float `[B, 3, H, W]` in [0, 1]."""
        return torch.stack([self.pictures[key] for key in ids]).movedim(-1, 1).contiguous().float() / 255


def picture_id(meta: dict, role: str) -> str:
    """What identifies a rendered picture: identity and scene. Equal ids mean equal pictures."""
    identity = meta["identity"]["style" if role == "style" else "target"]
    return f"{identity}@{meta['scene'][role]}"


def batch_indices(num_samples: int, batch: int, step: int, seed: int) -> list[int]:
    """Which samples the global batch of a step holds: shuffled epochs without replacement, decided by (seed, step)."""
    from ..core.diffusion import keyed_generator

    indices = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, offset = divmod(position, num_samples)
        if not indices or offset == 0:
            order = torch.randperm(num_samples, generator=keyed_generator(seed, "epoch", epoch))
        indices.append(int(order[offset]))
    return indices


def batch_of(things: Sequence, batch: int, step: int, seed: int) -> list[tuple]:
    """(position, thing) of the global batch of a step: what a task's `items` gives."""
    return [(i, things[k]) for i, k in enumerate(batch_indices(len(things), batch, step, seed))]
