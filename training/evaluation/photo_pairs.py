"""Photographs of people in pairs: those that packages bring, or a folder of the user's; and what is read off them."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...models.errors import UserError
from ...models.faces import detection, dlib_backend
from ...models.faces.pixels import to_bytes
from ...models.faces.types import Face
from ...models.mesh.geometry import yaw_pitch_roll
from ..data.photographs import packaged_portraits, read_picture

PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True, eq=False)
class Portrait:
    """One face of one photograph."""

    name: str
    person: str
    """Photographs of one person have one."""
    image: torch.Tensor
    """float32 `[1, H, W, 3]` in [0, 1]."""
    face: Face

    @property
    def yaw(self) -> float:
        """Degrees to the viewer's right."""
        return yaw_pitch_roll(self.face.points_3d)[0]


def with_mesh(image: torch.Tensor) -> tuple[Face, ...]:
    """The faces of a picture `[1, H, W, 3]` that have a dense mesh, the largest first."""
    settings = detection.DetectionSettings(order="large-small", backend="mediapipe")
    return detection.find_faces(image, settings).frames[0]


def packaged() -> list[Portrait]:
    """The six faces of insightface's t1.jpg, scikit-image's astronaut and matplotlib's Grace Hopper.

    Raises:
        UserError: a package is not installed.
    """
    found = []
    for name, image in packaged_portraits().items():
        if image is None:
            raise UserError(
                f"the photograph {name} comes with a package that is not installed; see requirements-test.txt"
            )
        faces = with_mesh(image)
        found += [Portrait(f"{name} {i}", f"{name} {i}", image, face) for i, face in enumerate(faces)]
    return found


def in_folder(folder: Path) -> list[Portrait]:
    """The largest face of each picture of a folder; ANNA_1.jpg and ANNA_2.jpg are photographs of one person.

    Raises:
        UserError: fewer than two pictures show a face.
    """
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES):
        image = read_picture(path)
        faces = with_mesh(image)
        if faces:
            found.append(Portrait(path.stem, re.sub(r"[_-]\d+$", "", path.stem), image, faces[0]))
        else:
            print(f"{path.name}: no face was found, left out")
    if len(found) < 2:
        raise UserError(f"{folder} holds {len(found)} pictures with a face; two are needed at least")
    return found


def pairs_of(portraits: list[Portrait], most: int, seed: int) -> list[tuple[Portrait, Portrait]]:
    """Ordered pairs (profile, style) of different people, at most so many, drawn evenly from yaw differences of 0, 10, 20 and 30 degrees on."""
    every = [(a, b) for a, b in itertools.permutations(portraits, 2) if a.person != b.person]
    random.Random(seed).shuffle(every)
    if len(every) <= most:
        return every
    bins: list[list] = [[], [], [], []]
    for a, b in every:
        if abs(a.yaw - b.yaw) <= 40:
            bins[min(3, int(abs(a.yaw - b.yaw) // 10))].append((a, b))
    mixed = [pair for row in itertools.zip_longest(*bins) for pair in row if pair is not None]
    return mixed[:most]


def judge(crop: torch.Tensor, mesh: np.ndarray) -> np.ndarray:
    """dlib's 68 landmarks on a crop `[1, S, S, 3]`, float64 `[68, 2]`; the mesh only says where the face is.

    Raises:
        UserError: dlib or its weights are missing.
    """
    dlib_backend.require()
    left, right = mesh[[33, 133], :2].mean(axis=0), mesh[[362, 263], :2].mean(axis=0)
    eyes, apart = (left + right) / 2, float(np.linalg.norm(right - left))
    down = np.array([-(right - left)[1], (right - left)[0]])
    x, y = eyes + 0.3 * down
    half = 1.25 * apart
    # Aligned crops stand upright.
    picture = torch.from_numpy(to_bytes(crop[0])).permute(2, 0, 1)[None]
    return dlib_backend.read_at_turn(picture, (x - half, y - half, x + half, y + half), 0, 68)[0]
