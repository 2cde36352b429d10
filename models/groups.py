"""Group pictures: several people, each on their own face, one face after another on the running canvas.

The paper's section 4.4: a face is painted from its own crop and one profile, so identities cannot mix; the next face's crop is cut
from the canvas that already holds the faces before it.

What is computed for a face (latents, flow, patched model) lives only inside `paint`; kept are pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from .faces import assignment as rules
from .faces import detection, dlib_backend, identity
from .faces.alignment import AlignmentSettings, crop, placement_of
from .faces.stitching import StitchSettings, stitch
from .faces.types import Face, Faces, number_of
from .pictures import labelled_panel

METHODS = ("order", "pairs", "similarity")
PHOTOGRAPHS = ("nearest pose", "first")
ON_ERROR = ("error", "skip")

# The panel is for looking: a clip would otherwise make one of thousands of rows.
_PANEL_FACES, _PANEL_PX = 16, 160


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
    """A face of the group picture and who goes onto it."""

    face: Face
    person: int | None
    """Index into the profiles; None: left alone."""
    photograph: int | None
    """Index into that person's photographs."""
    score: float | None
    """Similarity to that person (or, left alone, to the nearest); None when it was not asked for or could not be told."""
    reason: str
    """Why this person, and why this photograph."""


@dataclass(frozen=True, eq=False)
class GroupAssignment:
    """Who goes onto which face of each frame; wire type ICPORTRAIT_ASSIGNMENT."""

    height: int
    width: int
    frames: tuple[tuple[AssignedFace, ...], ...]
    """In painting order; the number of a face is `numbers`."""
    profiles: Profiles

    @property
    def count(self) -> int:
        """Faces that get somebody, over all frames."""
        return sum(entry.person is not None for frame in self.frames for entry in frame)

    def numbers(self, frame: int) -> tuple[int, ...]:
        """The numbers of one frame's faces, as drawn on every preview."""
        return tuple(number_of(entry.face, place) for place, entry in enumerate(self.frames[frame]))

    @property
    def places(self) -> int:
        """One more than the greatest number of a face: how many places a list of numbers by face needs."""
        return max((max(self.numbers(frame), default=-1) for frame in range(len(self.frames))), default=-1) + 1


def embedded(
    image: torch.Tensor, faces: Faces, on_face: Callable[[int, int], None] | None = None, *, required: bool = True
) -> Faces:
    """The faces with their embeddings; a face that cannot be read keeps None. About 0.1 s a face on one CPU core.

    Args:
        image: `[B, H, W, 3]`, the frames the faces were found in.
        on_face: called with (faces done, faces in all); may raise to cancel.
        required: without dlib raise ValueError; otherwise hand the faces back as they are.
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
        ValueError: not one picture shows a face.
    """
    settings = detection.DetectionSettings(order="large-small", effort=effort)
    faces = detection.find_faces(images, settings, insightface_folders=insightface_folders, on_frame=on_photograph)
    if faces.count == 0:
        raise ValueError(detection.no_face_sentence(faces, 0, 0))
    faces = replace(faces, frames=tuple(frame[:1] for frame in faces.frames))
    faces = embedded(images, faces, required=False)
    return tuple(
        Photograph(images[index : index + 1], frame[0] if frame else None) for index, frame in enumerate(faces.frames)
    )


def with_person(profiles: Profiles, name: str, photographs: tuple[Photograph, ...]) -> tuple[Profiles, int]:
    """A person more, or more photographs of one of that name. Returns the profiles and the person's number.

    An empty name becomes "person N".

    Raises:
        ValueError: a name that could not be written in pairs.
    """
    name = name.strip() or f"person {len(profiles.people)}"
    if re.search(r"[,;:=\n]", name) or name.isdigit():
        raise ValueError(
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


def person_scores(faces: Sequence[Face], profiles: Profiles) -> np.ndarray:
    """Similarity face x person, `[faces, people]`; NaN where it cannot be told. The faces need embeddings."""
    photographs = [[photo.embedding for photo in person.photographs] for person in profiles.people]
    return rules.score_matrix([face.embedding for face in faces], photographs)


def assign(
    image: torch.Tensor,
    faces: Faces,
    profiles: Profiles,
    method: str,
    pairs: str = "",
    threshold: float = identity.SAME_PERSON_ON_PHOTOGRAPHS,
    photograph: str = PHOTOGRAPHS[0],
    on_face: Callable[[int, int], None] | None = None,
) -> tuple[GroupAssignment, list[np.ndarray]]:
    """Who goes onto which face, frame by frame.

    Args:
        image: `[B, H, W, 3]`, the frames the faces were found in.
        method: one of `METHODS`.
        pairs: for "pairs": "0:Anna, 2:1", face number and a person's name or number.
        threshold: for "similarity": the least one.
        photograph: one of `PHOTOGRAPHS`.

    Returns:
        The assignment, and for "similarity" each frame's score matrix (otherwise an empty list).

    Raises:
        ValueError: sizes that do not fit, bad pairs, no people, or similarity without dlib.
    """
    check_frames(image, faces.height, faces.width, len(faces.frames), "faces were found on")
    if not profiles.people:
        raise ValueError("there are no profiles: connect 'Add Profile'")
    matrices: list[np.ndarray] = []
    wanted: dict[int, int] = {}
    if method == "similarity":
        faces = embedded(image, faces, on_face)
    elif method == "pairs":
        known = [number for frame in range(len(faces.frames)) for number in faces.numbers(frame)]
        wanted = rules.parse_pairs(pairs, known, profiles.names)
    frames = []
    for index, frame in enumerate(faces.frames):
        if method == "order":
            found = rules.by_order(len(frame), len(profiles.people))
        elif method == "pairs":
            found = [
                rules.Assignment(
                    place, wanted.get(k), None, f"pair {k}:{wanted[k]}" if k in wanted else "left alone: not named"
                )
                for place, k in enumerate(faces.numbers(index))
            ]
        else:
            matrices.append(person_scores(frame, profiles))
            found = rules.by_similarity(matrices[-1], threshold)
        frames.append(tuple(_with_photograph(frame[one.face], one, profiles, photograph) for one in found))
    return GroupAssignment(faces.height, faces.width, tuple(frames), profiles), matrices


def _with_photograph(face: Face, found: rules.Assignment, profiles: Profiles, rule: str) -> AssignedFace:
    reason = re.sub(r"person (\d+)", lambda match: profiles.names[int(match[1])], found.reason)
    if found.person is None:
        return AssignedFace(face, None, None, found.score, reason)
    photographs = profiles.people[found.person].photographs
    if rule == "first" or len(photographs) == 1:
        index = next(k for k, photo in enumerate(photographs) if photo.face is not None)
        why = f"photograph {index}: " + ("the only one" if len(photographs) == 1 else "the first with a face")
    else:
        choice = rules.best_photograph(face, [(photo.face, *photo.image.shape[1:3]) for photo in photographs])
        index, why = choice.index, choice.reason
    return AssignedFace(face, found.person, index, found.score, f"{reason}; {why}")


def report(assignment: GroupAssignment, matrices: Sequence[np.ndarray] = ()) -> str:
    """A line for each face, and the scores as a table, for people."""
    lines, clip = [], len(assignment.frames) > 1
    names = assignment.profiles.names
    total = sum(map(len, assignment.frames))
    lines.append(f"{assignment.count} of {total} faces get a person, {total - assignment.count} are left alone")
    for number, frame in enumerate(assignment.frames):
        before = f"frame {number}, " if clip else ""
        if not frame:
            lines.append(f"{before}no face: passed through" if clip else "no face")
        numbers = assignment.numbers(number)
        for index, entry in zip(numbers, frame, strict=True):
            who = "" if entry.person is None else f"{names[entry.person]}, "
            lines.append(f"{before}face {index}: {who}{entry.reason}")
        if number < len(matrices) and len(frame):
            lines.append(f"{before}similarity to " + ", ".join(names) + ":")
            lines += [
                f"  face {index}: " + "  ".join("no face" if np.isnan(value) else f"{value:.3f}" for value in row)
                for index, row in zip(numbers, matrices[number], strict=True)
            ]
    return "\n".join(lines)


def labels(assignment: GroupAssignment) -> dict[tuple[int, int], str]:
    """What to write beside each face's number on a preview, by (frame, place in the frame)."""
    texts = {}
    for frame, entries in enumerate(assignment.frames):
        for index, entry in enumerate(entries):
            who = "left alone" if entry.person is None else assignment.profiles.names[entry.person]
            texts[frame, index] = who + (f" {entry.score:.2f}" if entry.score is not None else "")
    return texts


def faces_of_assignment(assignment: GroupAssignment) -> Faces:
    """The assignment's faces alone, for drawing."""
    frames = tuple(tuple(entry.face for entry in frame) for frame in assignment.frames)
    return Faces(assignment.height, assignment.width, frames)


def check_frames(image: torch.Tensor, height: int, width: int, frames: int, found: str) -> None:
    """Raises ValueError when a picture is not the one the faces come from."""
    if tuple(image.shape[1:3]) != (height, width):
        raise ValueError(
            f"the image is {image.shape[2]}x{image.shape[1]}, the {found} {width}x{height}: connect the same picture to both nodes"
        )
    if image.shape[0] != frames:
        raise ValueError(
            f"the image has {image.shape[0]} frames, the {found} {frames}: connect the same batch to both nodes"
        )


def numbers_for_faces(
    given: Sequence[float], text: str, faces: int, name: str, low: float, high: float, *, step: int = 0
) -> list:
    """A number for each face.

    Args:
        faces: how many places are needed, see `GroupAssignment.places`.
        given: one number for all, or a list with one for each; the last one also holds for the faces after it.
        text: "1, , 0.5" goes before `given`; an empty place keeps `given`'s. Numbers beyond the faces are not used.
        step: added for each face when one number stands for all: seeds differ from face to face then.

    Raises:
        ValueError: something that is no number, or out of range.
    """
    if len(given) == 1:
        span = int(high) + 1 if step else 0
        values = [(given[0] + step * face) % span if step else given[0] for face in range(faces)]
    else:
        values = [given[min(face, len(given) - 1)] for face in range(faces)]
    kind = int if step else float
    for face, part in enumerate(re.split(r"[,;\n]", text)):
        if not part.strip():
            continue
        try:
            value = kind(part)
        except ValueError:
            what = "a whole number" if step else "a number"
            raise ValueError(
                f'{name}: "{part.strip()}" is not {what}; write one for each face, for example 1, , 2'
            ) from None
        if face < faces:
            values[face] = value
    for face, value in enumerate(values):
        if not low <= value <= high:
            raise ValueError(f"{name}: face {face} has {value:g}, it must lie between {low:g} and {high:g}")
    return values


def prompts_for_faces(given: Sequence[str], faces: int) -> list[str]:
    """Words for each face; "" for none.

    Args:
        given: a list with one for each (the last one also holds for the faces after it), or one text: a single line holds for all
            faces, of several lines each goes to one face number, and the faces after the last get none.
        faces: how many places are needed, see `GroupAssignment.places`.
    """
    if len(given) == 1 and len(given[0].splitlines()) > 1:
        lines = given[0].splitlines()
        return [lines[face].strip() if face < len(lines) else "" for face in range(faces)]
    return [given[min(face, len(given) - 1)].strip() for face in range(faces)]


@dataclass(frozen=True, eq=False)
class GroupResult:
    """What came of all faces."""

    image: torch.Tensor
    """`[B, H, W, 3]`, as many frames as came in, in order."""
    mask: torch.Tensor
    """`[B, H, W]`, where a face was pasted; where 0, no bit differs."""
    crops: torch.Tensor
    """`[N, S, S, 3]`, the painted crops in their order; one black picture when there is none."""
    panel: torch.Tensor
    """Photograph, before and after of the first faces."""
    status: str
    """A line a frame, and one for each face that was skipped."""


Paint = Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor]


def paint_group(
    canvas: torch.Tensor,
    assignment: GroupAssignment,
    paint: Paint,
    crop_size: int,
    settings: StitchSettings = StitchSettings(),
    *,
    occlusion: torch.Tensor | None = None,
    on_error: str = ON_ERROR[0],
    on_face: Callable[[int], None] | None = None,
) -> GroupResult:
    """Paint the assigned faces one after another, each on the canvas that holds the ones before.

    Args:
        canvas: `[B, H, W, 3]`; not modified.
        paint: (profile crop, style crop, frame, face number) -> painted crop, pictures `[1, S, S, 3]`.
        occlusion: `[1 or B, H, W]`, 1 = in front of the faces, never painted.
        on_error: one of `ON_ERROR`; "skip" leaves a face that fails as it is and says so. Cancel always ends the run.
        on_face: called with the number of faces done, also after a skipped one; may raise to cancel.

    Raises:
        ValueError: sizes that do not fit; a face that fails (on_error "error"), named by frame and number.
    """
    check_frames(canvas, assignment.height, assignment.width, len(assignment.frames), "assignment is for")
    if occlusion is not None and len(occlusion) not in (1, len(canvas)):
        raise ValueError(f"{len(occlusion)} occlusion masks came for {len(canvas)} frames: give one, or one each")
    frame_settings = AlignmentSettings(crop_size=crop_size)
    images, masks, crops, tiles, lines = [], [], [], [], []
    done = 0
    for number, entries in enumerate(assignment.frames):
        running = canvas[number].movedim(-1, 0)
        pasted = torch.zeros(running.shape[1:])
        painted, skipped = [], []
        for index, entry in zip(assignment.numbers(number), entries, strict=True):
            if entry.person is None:
                continue
            person = assignment.profiles.people[entry.person]
            photo = person.photographs[entry.photograph]
            place = f"face {index} ({person.name})" + (f" of frame {number}" if len(canvas) > 1 else "")
            try:
                source = placement_of(photo.face, *photo.image.shape[1:3], frame_settings)
                target = placement_of(entry.face, assignment.height, assignment.width, frame_settings)
                profile_crop = crop(photo.image.movedim(-1, 1), source).movedim(1, -1)
                style_crop = crop(running[None], target).movedim(1, -1)
                result = paint(profile_crop, style_crop, number, index).float().cpu()
                if not torch.isfinite(result).all():
                    raise ValueError("the painted crop holds NaN pixels; run the model or VAE in full precision")
                hidden = None if occlusion is None else occlusion[min(number, len(occlusion) - 1)]
                running, mask = stitch(running, result[0].movedim(-1, 0), target, settings, occlusion=hidden)
            except (ValueError, RuntimeError) as error:
                # Cancel is neither of the two in any ComfyUI; programming errors are not swallowed either.
                if on_error != "skip":
                    if isinstance(error, ValueError):
                        raise ValueError(f"{place}: {error}") from error
                    raise
                skipped.append(f"{place} was skipped: {(str(error) or type(error).__name__).splitlines()[0]}")
            else:
                pasted = torch.maximum(pasted, mask)
                painted.append(f"{index} {person.name}")
                crops.append(result)
                if len(tiles) < 3 * _PANEL_FACES:
                    tiles += [
                        (f"{person.name}, photograph {entry.photograph}", _small(profile_crop)),
                        (f"face {index} before", _small(style_crop)),
                        (f"face {index} after", _small(result)),
                    ]
            done += 1
            if on_face:
                on_face(done)
        images.append(running.movedim(0, -1))
        masks.append(pasted)
        lines += [_status(number, entries, painted, skipped), *skipped]
    black = torch.zeros(1, crop_size, crop_size, 3)
    return GroupResult(
        torch.stack(images).contiguous(),
        torch.stack(masks),
        torch.cat(crops) if crops else black,
        labelled_panel(tiles or [("nothing was painted", black)], _PANEL_PX, columns=6 if len(tiles) > 3 else 3),
        "\n".join(lines),
    )


def _small(picture: torch.Tensor) -> torch.Tensor:
    """For the panel, so that it keeps little."""
    return torch.nn.functional.interpolate(
        picture.movedim(-1, 1), size=(_PANEL_PX, _PANEL_PX), mode="bilinear", antialias=True, align_corners=False
    ).movedim(1, -1)


def _status(frame: int, entries: Sequence[AssignedFace], painted: list[str], skipped: list[str]) -> str:
    alone = sum(entry.person is None for entry in entries)
    if not entries:
        return f"frame {frame}: no face, passed through unchanged"
    if not painted and not skipped:
        return f"frame {frame}: no face has a person, passed through unchanged ({alone} left alone)"
    parts = [f"{len(painted)} painted" + (f" ({', '.join(painted)})" if painted else "")]
    parts += [f"{alone} left alone"] * bool(alone) + [f"{len(skipped)} skipped"] * bool(skipped)
    return f"frame {frame}: " + ", ".join(parts)
