"""The identity loss: does the picture a prediction implies show the true person, at the place where the true face is?

The face is aligned by the *true* landmarks of the target, never by a detector's: a detector has no gradient, and on a bad
picture it would move the crop so that the loss looks better. Only the latents around the face are decoded.
"""

import numpy as np
import torch

from ...models.faces.alignment import arcface_transform
from ...models.faces.resampling import invert, transform
from ..core.diffusion import LATENT_SCALE
from ..data.samples import CELL
from .recogniser import Recogniser, face_crops

MARGIN = 2  # latent cells round the face that are decoded too: a decoded pixel depends on its neighbours


class IdentityLoss(torch.nn.Module):
    """Cosines between predicted and true faces; the autoencoder and the recogniser are frozen.

    Args:
        vae: `decode` takes VAE-scale latents `[B, 4, h, w]` to pictures `[B, 3, 8h, 8w]` in [-1, 1].
    """

    def __init__(self, recogniser: Recogniser, vae: torch.nn.Module):
        super().__init__()
        self.recogniser, self.vae = recogniser, vae

    def forward(self, latents: torch.Tensor, truths: torch.Tensor, landmarks: list[np.ndarray]) -> torch.Tensor:
        """Cosine `[B]` of each predicted face to the true one; has a gradient in `latents`.

        Args:
            latents: predicted clean latents in model scale `[B, 4, h, w]`.
            truths: true pictures `[B, 3, 8h, 8w]` in [0, 1].
            landmarks: of the true pictures, `[5, 2]` px each.
        """
        side = self.recogniser.side
        to_crop = [arcface_transform(points, side) for points in landmarks]
        corners, height, width = face_windows(to_crop, side, tuple(latents.shape[-2:]))
        windows = [z[:, y : y + height, x : x + width] for z, (y, x) in zip(latents, corners, strict=True)]
        pictures = (self.vae.decode(torch.stack(windows) / LATENT_SCALE).float() + 1) / 2
        found = self.recogniser(
            face_crops(pictures, [_moved(*pair) for pair in zip(to_crop, corners, strict=True)], side)
        )
        with torch.no_grad():
            wanted = self.recogniser(face_crops(truths, to_crop, side))
        return (found * wanted).sum(dim=1)


def face_windows(to_crop: list[np.ndarray], side: int, size: tuple[int, int]) -> tuple[list[tuple[int, int]], int, int]:
    """The parts of the latents that cover each face's crop with a margin, all of one size.

    Args:
        to_crop: similarities `[2, 3]` from the picture to the crop of `side` pixels.
        size: (h, w) of the latents.

    Returns:
        ((top, left) in cells of each, height, width); inside the latents.
    """
    square = np.array([[0, 0], [side, 0], [0, side], [side, side]])
    spots = [transform(square, invert(matrix)) / CELL for matrix in to_crop]  # (x, y) in cells
    first = np.array([np.floor(spot.min(axis=0)) - MARGIN for spot in spots]).astype(int)
    last = np.array([np.ceil(spot.max(axis=0)) + MARGIN for spot in spots]).astype(int)
    height, width = (min(int((last - first).max()), n) for n in size)
    corners = np.clip(first[:, ::-1], 0, np.array(size) - (height, width))
    return [(int(y), int(x)) for y, x in corners], height, width


def _moved(matrix: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """The similarity for a picture whose first pixel is that of latent cell `corner` = (top, left)."""
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (CELL * corner[1], CELL * corner[0])
    return matrix
