"""The people of a group picture and their assignment to its faces. Profiles and GroupAssignment are wire types of the nodes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..faces.types import Face, number_of


@dataclass(frozen=True, eq=False)
class Photograph:
    """One picture of a person."""

    image: torch.Tensor
    """float32 `[1, H, W, 3]` in [0, 1]."""
    face: Face | None
    """The person's face in it; its embedding is None when dlib is missing or could not read it."""

    @property
    def embedding(self) -> tuple[float, ...] | None:
        """The face's, None when there is none."""
        return None if self.face is None else self.face.embedding


@dataclass(frozen=True, eq=False)
class Person:
    """A name and at least one photograph with a face."""

    name: str
    photographs: tuple[Photograph, ...]


@dataclass(frozen=True, eq=False)
class Profiles:
    """The people of a group picture, numbered from 0; wire type ICPORTRAIT_PROFILES."""

    people: tuple[Person, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """In their order."""
        return tuple(person.name for person in self.people)


@dataclass(frozen=True)
class AssignedFace:
    """A face of the group picture and the person assigned to it."""

    face: Face
    person: int | None
    """Index into the profiles; None: left alone."""
    photograph: int | None
    """Index into that person's photographs."""
    score: float | None
    """Similarity to that person (or, left alone, to the nearest); None when it was not computed or a face could not be read."""
    reason: str
    """Why this person, and why this photograph."""


@dataclass(frozen=True, eq=False)
class GroupAssignment:
    """The person assigned to each face of each frame; wire type ICPORTRAIT_ASSIGNMENT."""

    height: int
    width: int
    frames: tuple[tuple[AssignedFace, ...], ...]
    """In painting order; the number of a face is `numbers`."""
    profiles: Profiles

    @property
    def count(self) -> int:
        """Faces with a person, over all frames."""
        return sum(entry.person is not None for frame in self.frames for entry in frame)

    def numbers(self, frame: int) -> tuple[int, ...]:
        """The numbers of one frame's faces, as drawn on every preview."""
        return tuple(number_of(entry.face, place) for place, entry in enumerate(self.frames[frame]))

    @property
    def places(self) -> int:
        """One more than the greatest number of a face: how many places a list of numbers by face needs."""
        return max((max(self.numbers(frame), default=-1) for frame in range(len(self.frames))), default=-1) + 1
