"""Group pictures painted face after face on the running canvas.

The paper's section 4.4: a face is painted from its own crop and one profile, so identities cannot mix; the next face's crop is cut
from the canvas that already holds the faces before it.

What is computed for a face (latents, flow, patched model) is freed before the next one; kept are pictures. With `Batches`, kept are
also the results of the faces painted ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..errors import UserError
from ..faces.alignment import AlignmentSettings
from ..faces.stitching import StitchSettings
from ..painting import PaintedFace, Painter, paint_face
from ..pictures.panels import labelled_panel
from .ahead import Batches, PaintedAhead, Turn
from .assignment import check_frames
from .types import AssignedFace, GroupAssignment

ON_ERROR = ("error", "skip")

# The panel is for looking: a clip would otherwise make one of thousands of rows.
_PANEL_FACES, _PANEL_PX = 16, 160

PainterOf = Callable[[int], Painter]
"""Face number -> what paints that face; numbers as in `GroupAssignment.numbers`."""


@dataclass(frozen=True, eq=False)
class GroupResult:
    """Canvas, masks and crops of all faces."""

    image: torch.Tensor
    """float32 `[B, H, W, 3]` in [0, 1], as many frames as came in, in order."""
    mask: torch.Tensor
    """float32 `[B, H, W]`, where a face was pasted; where 0, no bit differs."""
    crops: torch.Tensor
    """`[N, S, S, 3]`, the painted crops in their order; one black picture when there is none."""
    panel: torch.Tensor
    """Photograph, before and after of the first faces."""
    status: str
    """A line a frame, and one for each face that was skipped."""


def paint_group(
    canvas: torch.Tensor,
    assignment: GroupAssignment,
    painter_of: PainterOf,
    crop_size: int,
    settings: StitchSettings = StitchSettings(),
    *,
    occlusion: torch.Tensor | None = None,
    on_error: str = ON_ERROR[0],
    on_face: Callable[[int], None] | None = None,
    batches: Batches | None = None,
) -> GroupResult:
    """Paint the assigned faces one after another, each on the canvas that holds the ones before.

    Args:
        canvas: `[B, H, W, 3]`; not modified.
        crop_size: side of the painted crops in pixels, a multiple of 64.
        occlusion: `[1 or B, H, W]`, 1 = in front of the faces, never painted.
        on_error: one of `ON_ERROR`; "skip" leaves a face that fails as it is and says so. Cancel always ends the run.
        on_face: called with the number of faces done, also after a skipped one; may raise to cancel.
        batches: paints coming faces at once, across frames too; a face whose crop changes until its turn is painted anew.

    Raises:
        UserError: sizes that do not fit; a face that fails (on_error "error"), named by frame and number.
    """
    check_frames(canvas, assignment.height, assignment.width, len(assignment.frames), "assignment is for")
    if occlusion is not None and len(occlusion) not in (1, len(canvas)):
        raise UserError(f"{len(occlusion)} occlusion masks came for {len(canvas)} frames: give one, or one each")
    alignment = AlignmentSettings(crop_size=crop_size)
    images, masks, crops, tiles, lines = [], [], [], [], []
    ahead = PaintedAhead(batches, _turns(assignment), alignment) if batches and batches.at_once > 1 else None
    done = 0
    for number, entries in enumerate(assignment.frames):
        running = canvas[number : number + 1]
        pasted = torch.zeros(running.shape[:3])
        hidden = None if occlusion is None else occlusion[min(number, len(occlusion) - 1)]
        painted, skipped, remarks = [], [], []
        for index, entry in zip(assignment.numbers(number), entries, strict=True):
            if entry.person is None:
                continue
            person = assignment.profiles.people[entry.person]
            photo = person.photographs[entry.photograph]
            place = f"face {index} ({person.name})" + (f" of frame {number}" if len(canvas) > 1 else "")
            try:
                paint = painter_of(index)
                if ahead:
                    paint = ahead.painter(done, running, canvas, paint)
                face = paint_face(running, entry.face, photo.image, photo.face, paint, alignment, settings, hidden)
            except (ValueError, RuntimeError) as error:
                # Cancel is neither of the two in any ComfyUI; programming errors are not swallowed either.
                if on_error != "skip":
                    if isinstance(error, ValueError):
                        raise UserError(f"{place}: {error}") from error
                    raise
                skipped.append(f"{place} was skipped: {(str(error) or type(error).__name__).splitlines()[0]}")
            else:
                running, pasted = face.canvas, torch.maximum(pasted, face.mask)
                painted.append(f"{index} {person.name}")
                remarks += [f"{place}: {note}" for note in face.crop.notes]
                crops.append(face.crop.image)
                if len(tiles) < 3 * _PANEL_FACES:
                    tiles += _tiles(face, f"{person.name}, photograph {entry.photograph}", index)
                del face, paint  # its flow and crops would live on while the next face is painted
            done += 1
            if on_face:
                on_face(done)
        images.append(running)
        masks.append(pasted)
        lines += [_status(number, entries, painted, skipped), *skipped, *remarks]
    black = torch.zeros(1, crop_size, crop_size, 3)
    return GroupResult(
        torch.cat(images).contiguous(),
        torch.cat(masks),
        torch.cat(crops) if crops else black,
        labelled_panel(tiles or [("nothing was painted", black)], _PANEL_PX, columns=6 if len(tiles) > 3 else 3),
        "\n".join(lines),
    )


def _turns(assignment: GroupAssignment) -> list[Turn]:
    """All faces with a person, in painting order."""
    people = assignment.profiles.people
    return [
        Turn(frame, number, entry.face, people[entry.person].photographs[entry.photograph])
        for frame, entries in enumerate(assignment.frames)
        for number, entry in zip(assignment.numbers(frame), entries, strict=True)
        if entry.person is not None
    ]


def _tiles(face: PaintedFace, photograph: str, number: int) -> list[tuple[str, torch.Tensor]]:
    return [
        (photograph, _small(face.pair.profile)),
        (f"face {number} before", _small(face.pair.style)),
        (f"face {number} after", _small(face.crop.image)),
    ]


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
