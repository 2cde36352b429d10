"""A contact sheet of shards: target, profile, style, profile warped by the true flow, masks."""

import cv2
import numpy as np

from .shards import read_shards


def warp_profile(sample):
    """The profile warped onto the target by the true flow, grey where it is not visible: uint8 [H, W, 3]."""
    height, width = sample["visible"].shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    warped = cv2.remap(
        sample["profile"],
        x + sample["flow"][0],
        y + sample["flow"][1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.where(sample["visible"][..., None] > 0, warped, 96).astype(np.uint8)


def contact_sheet(shard_paths, out_png, rows=8, every=None):
    """Draw `rows` samples of the shards, every `every`-th (spread evenly over the first shards if None) into a PNG; returns its path."""
    strips = []
    skip = 7 if every is None else every
    for i, sample in enumerate(read_shards(shard_paths)):
        if i % skip:
            continue
        cells = [sample["target"], sample["profile"], sample.get("style", np.full_like(sample["target"], 96))]
        if "flow" in sample:
            cells.append(warp_profile(sample))
            masks = np.stack([sample["hair"], sample["face"], sample["visible"]], -1) * 255
            cells.append(masks.astype(np.uint8))
        strips.append(np.concatenate(cells, 1))
        if len(strips) >= rows:
            break
    cv2.imwrite(str(out_png), np.concatenate(strips)[..., ::-1])
    return out_png
