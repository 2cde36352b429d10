"""What is measured on: identities x style references, from held-out heads or from a folder of photographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ...models.errors import UserError
from ...models.faces import alignment, detection
from ...models.faces.types import Face
from ..data.photographs import read_picture
from ..data.shards import read_shards

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
IDENTITIES_A_GROUP = 6  # of `icportrait data heads` by default
# dlib's box against the FFHQ crop, as in models/faces/alignment.py.
_CROP_PER_BOX, _BOX_BELOW = 1.5, 0.05


@dataclass(frozen=True, eq=False)
class Shot:
    """One aligned picture and the face in it."""

    picture: torch.Tensor
    """float32 `[1, H, W, 3]` in [0, 1]."""
    face: Face


@dataclass(frozen=True, eq=False)
class Case:
    """One result to make and measure."""

    key: str
    """Fit for a file name, unique in a set."""
    identity: str
    profile: Shot
    style: Shot
    photos: tuple[Shot, ...]
    """All profile photos of the person, `profile` among them; never the ground truth."""
    truth: Shot | None = None
    """The person in the style's pose and light, never shown to a method; only renders have it."""
    record: dict = field(default_factory=dict)
    """The shard's record (flow, masks, meta) for renders."""


def face_from_five(points: np.ndarray) -> Face:
    """A face from five known landmarks `[5, 2]` (eye, eye, nose tip, mouth corner, mouth corner), with dlib's kind of box."""
    face = Face((0, 0, 1, 1), tuple(map(tuple, np.asarray(points, float).tolist())), "insightface_5", backend="truth")
    placement = alignment.placement_of(face, 1, 1)
    matrix = placement.matrix
    side = placement.crop_size / placement.scale
    centre = np.linalg.solve(matrix[:, :2], np.full(2, placement.crop_size / 2) - matrix[:, 2])
    box_side = side / _CROP_PER_BOX
    x, y = centre + (0, _BOX_BELOW * box_side)
    half = box_side / 2
    return Face((x - half, y - half, x + half, y + half), face.landmarks, face.layout, backend="truth")


def _shot(pixels: np.ndarray, landmarks) -> Shot:
    return Shot(torch.from_numpy(pixels)[None].float() / 255, face_from_five(np.asarray(landmarks)))


def heads_cases(shards: Sequence[Path], identities: int | None = None, styles: int = 1) -> list[Case]:
    """Cases of held-out heads: the first `identities` people, each with `styles` style references in different scenes.

    A person's photos are all pictures of that person in the shards but the ground truth's scene.

    Raises:
        UserError: fewer identities or styles than asked for.
    """
    pictures: dict[tuple[str, str], Shot] = {}
    records: dict[str, list[dict]] = {}
    for record in read_shards(list(shards)):
        meta = record["meta"]
        if "style" not in record or "flow" not in record:
            continue
        person = meta["identity"]["target"]
        for role in ("target", "profile"):
            key = (person, meta["scene"][role])
            if key not in pictures:
                pictures[key] = _shot(record[role], meta["landmarks5"][role])
        records.setdefault(person, []).append(record)
    people = list(records)[:identities]
    if identities is not None and len(people) < identities:
        raise UserError(
            f"The shards hold {len(people)} identities with style and flow; {identities} are wanted. Render more groups."
        )
    cases = []
    for person in people:
        chosen, scenes = [], set()
        for record in records[person]:
            if record["meta"]["scene"]["target"] not in scenes and len(chosen) < styles:
                scenes.add(record["meta"]["scene"]["target"])
                chosen.append(record)
        if len(chosen) < styles:
            raise UserError(f"{person} has only {len(chosen)} style references in the shards; {styles} are wanted.")
        for record in chosen:
            meta = record["meta"]
            scene = meta["scene"]
            photos = tuple(s for (who, at), s in pictures.items() if who == person and at != scene["target"])
            cases.append(
                Case(
                    record["key"],
                    person,
                    pictures[person, scene["profile"]],
                    _shot(record["style"], meta["landmarks5"]["style"]),
                    photos,
                    pictures[person, scene["target"]],
                    record,
                )
            )
    return cases


def held_out_cases(data: Path | None, work: Path, identities: int, styles: int = 1) -> list[Case]:
    """`heads_cases` of the shards in the folder `data`; without one, held-out groups enough are rendered into `work` first."""
    if data is None:
        from ..data.heads.generate import HELD_OUT, generate_shards

        data = work / "held_out"
        groups = -(-identities // IDENTITIES_A_GROUP)
        generate_shards(data, groups=groups, first_group=HELD_OUT, groups_per_shard=1)
    return heads_cases(sorted(data.glob("*.tar")), identities, styles)


def aligned(path: Path, size: int) -> Shot | None:
    """The largest face of a photograph as an FFHQ crop of `size` px, or None when no face is found. Raises UserError for no picture."""
    picture = read_picture(path)
    found = detection.find_faces(picture, detection.DetectionSettings(order="large-small", max_faces=1)).frames[0]
    if not found:
        return None
    placement = alignment.placement_of(found[0], *picture.shape[1:3], alignment.AlignmentSettings(crop_size=size))
    crop = alignment.crop(picture.movedim(-1, 1), placement).movedim(1, -1)
    matrix, box = placement.matrix, np.array(found[0].box).reshape(2, 2)
    middle = matrix[:, :2] @ box.mean(axis=0) + matrix[:, 2]
    half = placement.scale * (box[1] - box[0]).mean() / 2
    corner = (*(middle - half).tolist(), *(middle + half).tolist())
    return Shot(crop, Face(corner, tuple(map(tuple, placement.landmarks.tolist())), found[0].layout, backend="crop"))


def _pictures_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_ENDINGS)


def photo_cases(
    folder: Path, size: int, identities: int | None = None, styles: int | None = None
) -> tuple[list[Case], list[str]]:
    """Cases of `folder/profiles/<person>/*.jpg` x `folder/styles/*.jpg`; a person's first readable photo is the profile.

    Returns:
        (cases, sentences about pictures without a face).

    Raises:
        UserError: the folder has not this form, or a person or the styles have no readable face.
    """
    profiles, styles_folder = folder / "profiles", folder / "styles"
    if not profiles.is_dir() or not styles_folder.is_dir():
        raise UserError(
            f"{folder} must hold `profiles/<person>/` with each person's photos and `styles/` with the style references."
        )
    notes: list[str] = []

    def shots(paths: list[Path]) -> list[tuple[str, Shot]]:
        found = [(path.stem, aligned(path, size)) for path in paths]
        notes.extend(f"no face found in {path}" for path, (_, shot) in zip(paths, found, strict=True) if shot is None)
        return [(name, shot) for name, shot in found if shot is not None]

    references = shots(_pictures_in(styles_folder)[:styles])
    if not references:
        raise UserError(f"No picture in {styles_folder} shows a face.")
    people = sorted(path for path in profiles.iterdir() if path.is_dir())[:identities]
    if not people:
        raise UserError(f"{profiles} holds no folder of a person.")
    cases = []
    for person in people:
        photos = tuple(shot for _, shot in shots(_pictures_in(person)))
        if not photos:
            raise UserError(f"No picture in {person} shows a face.")
        cases += [Case(f"{person.name}--{name}", person.name, photos[0], shot, photos) for name, shot in references]
    return cases, notes
