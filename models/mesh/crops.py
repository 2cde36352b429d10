"""Pairs of crops for the mesh's functions, from crops that an artist cut: with their placements, or with the faces found in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..errors import UserError
from ..faces import detection
from ..faces.alignment import AlignmentSettings, placement_of
from ..faces.resampling import resample
from ..faces.types import Face, Placement, Placements
from ..painting import CropPair

SMALLEST_FACE = 24
"""Pixels. Of two photographs made smaller, the mesh is off by 3 to 4 % of the eye distance at 24 pixels, by up to 6 % at 16."""
OWN_SIZES = (512, 1024)
"""Least and greatest side at which a face is painted at its own resolution."""


def own_crop_size(face: Face, height: int, width: int, alignment: AlignmentSettings = AlignmentSettings()) -> int:
    """The side of the face's crop in the picture's own pixels, a multiple of 64 within `OWN_SIZES`.

    Raises:
        UserError: see `placement_of`.
    """
    placement = placement_of(face, height, width, alignment)
    side = 64 * round(placement.crop_size / placement.scale / 64)
    return min(max(side, OWN_SIZES[0]), OWN_SIZES[1])


def check_pair(pair: CropPair) -> None:
    """Raises UserError for a face too small to read a mesh on, naming it, its size and the size needed."""
    for what, placement in (("profile", pair.profile_placement), ("style reference", pair.style_placement)):
        side = placement.face.side
        if side < SMALLEST_FACE:
            raise UserError(
                f"the face of the {what} is {side:.0f} pixels wide; at least {SMALLEST_FACE} are needed, 200 or more are better"
            )


def crop_pair(
    profile: torch.Tensor, style: torch.Tensor, profile_placement: Placement, style_placement: Placement
) -> CropPair:
    """Two square crops `[1, S', S', 3]` and `[1, S, S, 3]` as a pair of the style crop's size."""
    size = style.shape[1]
    if profile.shape[1] != size:
        scale = np.diag([size / profile.shape[1]] * 2)
        profile = (
            resample(profile.movedim(-1, 1), np.column_stack([scale, (0, 0)]), size, size).movedim(1, -1).clamp(0, 1)
        )
    return CropPair(profile, style, profile_placement.at_size(size), style_placement.at_size(size))


def placements_of_crops(
    crops: torch.Tensor, placements: Placements | None, what: str
) -> tuple[tuple[Placement | None, ...], list[str]]:
    """Where each crop lies in its picture, and sentences for the report.

    Args:
        crops: `[B, S, S, 3]` in [0, 1].
        placements: from alignment, one a crop; None: the largest face of each crop is looked for, and the crop is its own picture.
        what: names the crops in sentences.

    Returns:
        one placement a crop, None where alignment passed the crop through.

    Raises:
        UserError: crops that are not square, another number of placements, a crop without a face.
    """
    count, height, width = crops.shape[:3]
    if height != width:
        raise UserError(f"the {what} is {width}x{height}; it must be square, as 'Align Face' cuts it")
    if placements is not None:
        if len(placements.items) != count:
            raise UserError(f"{count} crops of the {what} came with {len(placements.items)} placements of 'Align Face'")
        return tuple(place and place.at_size(width) for place in placements.items), []
    faces = detection.find_faces(crops, detection.DetectionSettings(order="large-small"))
    found, notes = [], []
    for number, frame in enumerate(faces.frames):
        if not frame:
            raise UserError(f"in the {what}, {detection.no_face_sentence(faces, number, 0)}")
        if len(frame) > 1:
            notes.append(f"The {what} shows {len(frame)} faces: the largest is taken.")
        found.append(Placement(height, width, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), width, replace(frame[0], frame=number)))
    return tuple(found), notes
