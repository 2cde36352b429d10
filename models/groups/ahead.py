"""Faces painted as one batch before their turn comes, for painters whose batches are faster.

Pictures are those of one face after another: what was painted ahead counts only if the crop at the face's turn is the very one it
was painted from. Nothing is kept but the results of at most one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..faces.alignment import AlignmentSettings
from ..faces.types import Face, Placement
from ..painting import CropPair, CropResult, Painter, cut_pair
from .types import Photograph

_REACH = 64  # faces after the present one among which a batch is gathered


@dataclass(frozen=True, eq=False)
class Batches:
    """How several faces are painted at once."""

    at_once: int
    """The most faces of a batch; 1 = none."""
    kind_of: Callable[[int], Hashable]
    """Face number -> what the faces of one batch have in common."""
    paint: Callable[[Sequence[int], Sequence[CropPair]], Sequence[CropResult]]
    """(face numbers, their pairs) -> what each pair's `Painter` gives, in order. Raises as a `Painter` does."""


@dataclass(frozen=True, eq=False)
class Turn:
    """A face to be painted."""

    frame: int
    number: int
    """Of the face."""
    face: Face
    photograph: Photograph


class PaintedAhead:
    """What was painted before its turn."""

    def __init__(self, batches: Batches, turns: Sequence[Turn], alignment: AlignmentSettings):
        """
        Args:
            turns: all faces in painting order.
        """
        self._batches, self._turns, self._alignment = batches, turns, alignment
        self._at_once = batches.at_once
        self._kept: dict[int, tuple[CropPair, CropResult]] = {}  # by place in the order
        self._failed: set[int] = set()

    def painter(self, place: int, running: torch.Tensor, canvas: torch.Tensor, paint: Painter) -> Painter:
        """What paints the face whose turn it is: `paint`, or what was painted ahead.

        Args:
            place: of the face in the order.
            running: its frame, `[1, H, W, 3]`, with the faces before.
            canvas: all frames, `[B, H, W, 3]`, without any.

        Raises:
            InterruptProcessingException: Cancel was pressed. Failures are left to `paint`, face by face.
        """
        if place not in self._kept and place not in self._failed:
            self._paint_from(place, running, canvas)
        if place not in self._kept:
            return paint
        pair, result = self._kept.pop(place)
        return lambda now: result if torch.equal(now.style, pair.style) else paint(now)

    def _paint_from(self, place: int, running: torch.Tensor, canvas: torch.Tensor) -> None:
        chosen = self._gather(place, running, canvas)
        if len(chosen) < 2:
            return
        try:
            results = self._batches.paint([self._turns[one].number for one in chosen], list(chosen.values()))
        except (ValueError, RuntimeError):  # one of the faces failed, or memory ran out
            self._failed.update(chosen)
            self._at_once //= 2
        else:
            self._kept.update(zip(chosen, zip(chosen.values(), results, strict=True), strict=True))

    def _gather(self, place: int, running: torch.Tensor, canvas: torch.Tensor) -> dict[int, CropPair]:
        """Place -> pair of the faces for a batch: of the present one's kind, and showing no face that will be painted before them."""
        room, first = self._at_once - len(self._kept), self._turns[place]
        kind = self._batches.kind_of(first.number)
        chosen, before = {}, []
        for coming, turn in enumerate(self._turns[place : place + _REACH], place):
            if len(chosen) >= room or room < 2:
                break
            if coming not in self._kept and coming not in self._failed and self._batches.kind_of(turn.number) == kind:
                frame = running if turn.frame == first.frame else canvas[turn.frame : turn.frame + 1]
                photograph = turn.photograph
                try:
                    pair = cut_pair(frame, turn.face, photograph.image, photograph.face, self._alignment)
                except ValueError:  # it will be said when its turn comes
                    pair = None
                if pair and not any(turn.frame == f and _shows(pair.style_placement, face) for f, face in before):
                    chosen[coming] = pair
            before.append((turn.frame, turn.face))
        return chosen


def _shows(placement: Placement, face: Face) -> bool:
    """Whether a crop reaches into a face's box."""
    left, top, right, bottom = face.box
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    in_crop = corners @ placement.matrix[:, :2].T + placement.matrix[:, 2]
    return bool((in_crop.min(axis=0) < placement.crop_size).all() and (in_crop.max(axis=0) > 0).all())
