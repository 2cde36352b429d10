"""Wire types of the face nodes: frozen, made of plain tuples, so they hash, compare and can never be changed in a cache.

Coordinates are continuous picture pixels (see the package's docstring).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

Point = tuple[float, float]
Box = tuple[float, float, float, float]

GIVEN = ("FACE_LANDMARKS", "BOUNDING_BOX", "MASK")
"""Backends of faces that were handed in."""


def number_of(face: Face, place: int) -> int:
    """The face's number: its own, or its place in its frame when it has none."""
    return place if face.number is None else face.number


@dataclass(frozen=True)
class Face:
    """One face in one frame."""

    box: Box
    """x0, y0, x1, y1 in pixels; may reach outside the picture."""
    landmarks: tuple[Point, ...] = ()
    """Points in pixels, in the order of `layout`; empty when only a box is known."""
    layout: str = "none"
    """One of `landmarks.LAYOUTS`."""
    score: float = 1.0
    """The backend's own confidence. dlib: about 0 to 1.5; insightface and MediaPipe: 0 to 1; given boxes: as given, else 1."""
    backend: str = ""
    """Who found it: "mediapipe", "dlib", "insightface", "FACE_LANDMARKS", "BOUNDING_BOX", "MASK"."""
    frame: int = 0
    """Index of the frame in the batch."""
    depth: tuple[float, ...] | None = None
    """One number a landmark, in the unit of x, smaller is nearer to the camera; None where the layout or its maker has no depth."""
    embedding: tuple[float, ...] | None = field(default=None, compare=False)
    """128 numbers of dlib's recogniser (unit length), or None when it was not asked for or the face could not be read."""

    number: int | None = field(default=None, compare=False)
    """The number drawn on previews and typed into nodes, from 0; it stays with the face when others are left out. None: its place."""

    @property
    def given(self) -> bool:
        """Whether an artist or another node said where it is; nobody's confidence counts then."""
        return self.backend in GIVEN

    @property
    def points(self) -> np.ndarray:
        """The landmarks as float64 `[N, 2]`, a fresh array."""
        return np.asarray(self.landmarks, dtype=np.float64).reshape(-1, 2)

    @property
    def points_3d(self) -> np.ndarray | None:
        """The landmarks with their depth as float64 `[N, 3]`, a fresh array; None without depth."""
        return None if self.depth is None else np.column_stack([self.points, self.depth])

    @property
    def centre(self) -> Point:
        """Centre of the box in pixels."""
        return ((self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2)

    @property
    def side(self) -> float:
        """Side in pixels of the square that has the box's area: the size used for ordering and messages."""
        width, height = self.box[2] - self.box[0], self.box[3] - self.box[1]
        return float(max(0.0, width) * max(0.0, height)) ** 0.5


@dataclass(frozen=True)
class Faces:
    """All faces of a batch of frames of one size; wire type ICPORTRAIT_FACES."""

    height: int
    width: int
    frames: tuple[tuple[Face, ...], ...]
    """One tuple a frame, in the stated order; a frame without faces has an empty tuple."""
    order: str = "left-right"
    message: str = ""
    """What ran, what did not and why; lines for the artist."""

    @property
    def count(self) -> int:
        """Number of faces over all frames."""
        return sum(len(frame) for frame in self.frames)

    def numbers(self, frame: int) -> tuple[int, ...]:
        """The numbers of one frame's faces, in their order."""
        return tuple(number_of(face, place) for place, face in enumerate(self.frames[frame]))

    def numbered(self) -> Faces:
        """The same faces, each with its number of its own, so that leaving some out renumbers nobody."""
        frames = tuple(
            tuple(replace(face, number=number) for face, number in zip(frame, self.numbers(index), strict=True))
            for index, frame in enumerate(self.frames)
        )
        return replace(self, frames=frames)


@dataclass(frozen=True)
class Placement:
    """Where one square crop lies on its canvas: everything stitching needs, and no pixels."""

    canvas_height: int
    canvas_width: int
    crop_from_canvas: tuple[float, float, float, float, float, float]
    """Rows of the 2x3 matrix: crop_xy = A @ canvas_xy + b, as (a, b, tx, c, d, ty). A similarity: turn, scale, shift."""
    crop_size: int
    """Side of the crop in pixels."""
    face: Face
    """The face on the canvas (its coordinates are the canvas's)."""
    template: str = "ffhq"

    @property
    def matrix(self) -> np.ndarray:
        """`crop_from_canvas` as float64 `[2, 3]`, a fresh array."""
        return np.asarray(self.crop_from_canvas, dtype=np.float64).reshape(2, 3)

    @property
    def scale(self) -> float:
        """Crop pixels per canvas pixel: above 1 the crop magnifies the face."""
        a, b, _, c, d, _ = self.crop_from_canvas
        return abs(a * d - b * c) ** 0.5

    def at_size(self, crop_size: int) -> Placement:
        """The same square of the canvas with more or fewer pixels: for a crop that was scaled after it was cut."""
        factor = crop_size / self.crop_size
        return replace(
            self, crop_size=crop_size, crop_from_canvas=tuple(factor * value for value in self.crop_from_canvas)
        )

    @property
    def landmarks(self) -> np.ndarray:
        """The face's landmarks in the crop, float64 `[N, 2]`."""
        matrix = self.matrix
        return self.face.points @ matrix[:, :2].T + matrix[:, 2]


@dataclass(frozen=True)
class Placements:
    """One placement a frame, None where the frame had no such face; wire type ICPORTRAIT_STITCH."""

    items: tuple[Placement | None, ...]
    message: str = ""
    """One line a frame that was passed through, and why."""
