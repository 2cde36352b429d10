"""A contact sheet of shards: target, profile, style, profile warped by the true flow, masks."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from .shards import read_shards

GREY = 96  # where there is nothing to show


def warp_profile(sample: dict) -> np.ndarray:
    """The profile warped onto the target by the true flow of a decoded sample: uint8 `[H, W, 3]`, grey if hidden."""
    height, width = sample["visible"].shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    warped = cv2.remap(
        sample["profile"],
        x + sample["flow"][0],
        y + sample["flow"][1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.where(sample["visible"][..., None] > 0, warped, GREY).astype(np.uint8)


def contact_sheet(
    shard_paths: Iterable[Path | str] | Path | str, out_png: Path | str, rows: int = 8, every: int = 7
) -> Path:
    """Draw every `every`-th sample of the shards, at most `rows`, into a PNG and return its path.

    The masks are red hair, green face, blue visible. 7 has no factor in common with the samples of a default identity
    or scene, so that a sheet shows several of both.

    Raises:
        ShardError: a shard is damaged.
        OSError: the PNG cannot be written.
    """
    strips = []
    for i, sample in enumerate(read_shards(shard_paths)):
        if i % every:
            continue
        nothing = np.full_like(sample["target"], GREY)
        cells = [sample["target"], sample["profile"], sample.get("style", nothing)]
        if "flow" in sample:
            masks = np.stack([sample["hair"], sample["face"], sample["visible"]], -1) * 255
            cells += [warp_profile(sample), masks.astype(np.uint8)]
        else:
            cells += [nothing, nothing]
        strips.append(np.concatenate(cells, 1))
        if len(strips) >= rows:
            break
    if not cv2.imwrite(str(out_png), np.concatenate(strips)[..., ::-1]):
        raise OSError(f"could not write {out_png}")
    return Path(out_png)
