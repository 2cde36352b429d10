"""Training samples in memory: decoded pictures by id, so that a picture used by many samples is held once.

A sample is a target, a profile of the same person in another view, optionally a style (another person in the target's
view and light), and where the source knows it the exact flow target <- profile.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from ...models.errors import UserError
from .shards import decode_picture, decode_truth, raw_samples

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


class SampleSet:
    """All samples of some shards with their pictures, in memory.

    Args:
        size: side in pixels to scale the (square) pictures down to; None = as stored. Small pictures train several
            times as fast, so the demo's stages begin with them.
        limit: keep only the first so many samples.

    Attributes:
        pictures: id -> uint8 `[size, size, 3]`.
        samples: list of `Sample`.
        landmarks: id -> float64 `[5, 2]` in pixels of the picture (eyes, nose tip, mouth corners), where the shards hold them.
        latents: id -> float16 `[4, size / 8, size / 8]` in model scale, filled by `encode_latents`.
        embeddings: id -> float32 `[768]`, filled by `embed_profiles`; empty = embeddings are computed when drawn.

    Raises:
        ShardError: a shard or member that cannot be read, by name.
        UserError: no samples, or a size that does not divide the stored one.
    """

    def __init__(self, shards: Iterable[str | Path], size: int | None = None, limit: int | None = None):
        self.pictures: dict[str, torch.Tensor] = {}
        self.samples: list[Sample] = []
        self.landmarks: dict[str, np.ndarray] = {}
        self.latents: dict[str, torch.Tensor] = {}
        self.embeddings: dict[str, torch.Tensor] = {}
        self.size = size
        for path in shards:
            for key, members in raw_samples(path):
                if limit is not None and len(self.samples) >= limit:
                    break
                self._add(key, members)
        if not self.samples:
            raise UserError("No samples were found in the given shards.")

    @classmethod
    def of_pictures(cls, pictures: dict[str, torch.Tensor], samples: list[Sample]) -> "SampleSet":
        """A set of pictures that are in memory already, uint8 `[S, S, 3]` by id, all of one size."""
        made = cls.__new__(cls)
        made.pictures, made.samples, made.latents, made.embeddings = dict(pictures), list(samples), {}, {}
        made.landmarks, made.size = {}, None
        return made

    def _add(self, key: str, members: dict[str, bytes]) -> None:
        meta = json.loads(members["meta.json"])
        ids = {}
        for role in ("target", "profile", "style"):
            if f"{role}.webp" in members:
                ids[role] = picture_id(meta, role)
                if ids[role] not in self.pictures:  # decoding is most of the work, and pictures recur
                    stored = decode_picture(members[f"{role}.webp"])
                    picture = self.pictures[ids[role]] = torch.from_numpy(self._scaled(stored))
                    if role in meta.get("landmarks5", {}):
                        points = np.asarray(meta["landmarks5"][role], np.float64)
                        self.landmarks[ids[role]] = points * (picture.shape[0] / stored.shape[0])
        flow = visible = face = None
        if "truth.npz" in members:
            truth = decode_truth(members["truth.npz"])
            scale = truth["face"].shape[1] // self.pictures[ids["target"]].shape[1]
            cell = CELL * scale
            flow = torch.from_numpy(_at_cell_centres(truth["flow"], cell) / scale)
            scored = (truth["visible"] > 0) & ~(truth["hair"] > 0)
            visible = torch.from_numpy(_at_cell_centres(scored, cell) > 0.99)
            height, width = truth["face"].shape
            blocks = (truth["face"] > 0).reshape(height // cell, cell, width // cell, cell)
            face = torch.from_numpy(blocks.mean(axis=(1, 3)).astype(np.float32))
        identity = str(meta["identity"]["target"])
        self.samples.append(Sample(key, ids["target"], ids["profile"], ids.get("style"), identity, flow, visible, face))

    def _scaled(self, picture: np.ndarray) -> np.ndarray:
        if self.size is None or picture.shape[0] == self.size:
            return picture
        if picture.shape[0] % self.size:
            raise UserError(
                f"Pictures of {picture.shape[0]} px cannot be scaled to {self.size} px: choose a whole fraction."
            )
        return cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)

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
            images = torch.stack([self.pictures[key] for key in keys]).to(device).movedim(-1, 1).float() / 127.5 - 1
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                latents = vae.encode(images)
            for key, latent in zip(keys, latents, strict=True):
                self.latents[key] = (latent.float() * scale).half().cpu()
            if progress is not None:
                progress.update(len(keys))

    @torch.no_grad()
    def embed_profiles(self, vision: torch.nn.Module, batch: int = 16, device="cpu", progress=None) -> None:
        """Embed every profile picture that has no embedding yet, in the order of their ids."""
        from ..core.modules import embed_images

        todo = sorted({sample.profile for sample in self.samples} - self.embeddings.keys())
        for start in range(0, len(todo), batch):
            keys = todo[start : start + batch]
            found = embed_images(vision, self.images(keys).to(device)).float().cpu()
            self.embeddings |= {key: embedding[0] for key, embedding in zip(keys, found, strict=True)}
            if progress is not None:
                progress.update(len(keys))

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
