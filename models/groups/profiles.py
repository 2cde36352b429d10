"""Profiles from photographs: the face and embedding of each, several photographs a person, a check that they show one person."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..errors import UserError
from ..faces import detection, dlib_backend, identity
from ..faces.types import Faces
from .types import Person, Photograph, Profiles


def embedded(
    image: torch.Tensor, faces: Faces, on_face: Callable[[int, int], None] | None = None, *, required: bool = True
) -> Faces:
    """The faces with their embeddings; a face that cannot be read keeps None. About 0.1 s a face on one CPU core.

    Args:
        image: `[B, H, W, 3]`, the frames the faces were found in.
        on_face: called with (faces done, faces in all); may raise to cancel.
        required: without dlib raise ValueError; otherwise return the faces unchanged.
    """
    if dlib_backend.why_unavailable():
        if required:
            dlib_backend.require()
        return faces
    frames, done = [], 0
    for index, frame in enumerate(faces.frames):
        read = []
        for face in frame:
            if face.embedding is None:
                try:
                    face = replace(face, embedding=tuple(identity.embedding(image[index], face).tolist()))
                except ValueError:  # too small to align: no similarity, which is not an error
                    pass
            read.append(face)
            done += 1
            if on_face:
                on_face(done, faces.count)
        frames.append(tuple(read))
    return replace(faces, frames=tuple(frames))


def photographs_of(
    images: torch.Tensor,
    effort: str = "normal",
    on_photograph: Callable[[int, int], None] | None = None,
    insightface_folders: Sequence[str] = (),
) -> tuple[Photograph, ...]:
    """The largest face of each picture `[B, H, W, 3]`.

    Args:
        on_photograph, insightface_folders: see `detection.find_faces`.

    Raises:
        UserError: not one picture shows a face.
    """
    settings = detection.DetectionSettings(order="large-small", effort=effort)
    faces = detection.find_faces(images, settings, insightface_folders=insightface_folders, on_frame=on_photograph)
    if faces.count == 0:
        raise UserError(detection.no_face_sentence(faces, 0, 0))
    faces = replace(faces, frames=tuple(frame[:1] for frame in faces.frames))
    faces = embedded(images, faces, required=False)
    return tuple(
        Photograph(images[index : index + 1], frame[0] if frame else None) for index, frame in enumerate(faces.frames)
    )


def with_person(profiles: Profiles, name: str, photographs: tuple[Photograph, ...]) -> tuple[Profiles, int]:
    """Add a person, or photographs to the person of that name. Returns the profiles and the person's number.

    An empty name becomes "person N".

    Raises:
        UserError: a name that could not be written in pairs.
    """
    name = name.strip() or f"person {len(profiles.people)}"
    if re.search(r"[,;:=\n]", name) or name.isdigit():
        raise UserError(
            f"the name {name!r} cannot be written in pairs: use letters, without , ; : = and not only digits"
        )
    people = list(profiles.people)
    for number, person in enumerate(people):
        if person.name.lower() == name.lower():
            people[number] = replace(person, photographs=person.photographs + photographs)
            return Profiles(tuple(people)), number
    people.append(Person(name, photographs))
    return Profiles(tuple(people)), len(people) - 1


def doubtful_photographs(person: Person) -> list[str]:
    """A sentence for each pair of photographs that does not look like one person."""
    lines = []
    for second in range(len(person.photographs)):
        for first in range(second):
            value = identity.similarity(*(person.photographs[k].embedding for k in (first, second)))
            if value is not None and value < identity.SAME_PERSON_ON_PHOTOGRAPHS:
                lines.append(
                    f"photographs {first} and {second} of {person.name} look like different people (similarity {value:.3f})"
                )
    return lines
