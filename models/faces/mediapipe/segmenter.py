"""What each pixel of a portrait shows: hair, face, other skin, clothes, things worn, or background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .networks import Segmenter
from .weights import run


@dataclass(frozen=True, eq=False)
class Segments:
    """Probabilities of a portrait's classes, float32 `[H, W]` each, 1 in all."""

    background: np.ndarray
    hair: np.ndarray
    body: np.ndarray
    """Bare skin that is no face: neck, hands, mostly ears."""
    face: np.ndarray
    """Skin, eyes, mouth, brows, beard."""
    clothes: np.ndarray
    other: np.ndarray
    """What is worn or held: glasses, hats, jewellery."""


def segmented(picture: np.ndarray) -> Segments:
    """Segments of a portrait `[H, W, 3]`, sRGB in [0, 1]: best a head that fills half of it, upright and nearly square."""
    import cv2

    height, width = picture.shape[:2]
    way = cv2.INTER_AREA if max(height, width) > Segmenter.SIZE else cv2.INTER_LINEAR
    small = cv2.resize(np.ascontiguousarray(picture, np.float32), (Segmenter.SIZE,) * 2, interpolation=way)
    (logits,) = run("segmenter", torch.from_numpy(small.transpose(2, 0, 1).copy())[None])
    shares = logits.softmax(dim=1)[0].permute(1, 2, 0).numpy()
    shares = cv2.resize(shares, (width, height), interpolation=cv2.INTER_LINEAR)
    return Segments(*np.moveaxis(shares, -1, 0))
