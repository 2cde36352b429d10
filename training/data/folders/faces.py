"""The faces of one person's pictures: found, aligned, and filtered, every drop with its reason."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch

from ....models.errors import UserError
from ....models.faces.alignment import AlignmentSettings, crop, head_of, placement_of
from ....models.faces.detection import DetectionSettings, find_faces
from ....models.faces.identity import SAME_PERSON_ON_PHOTOGRAPHS, embedding, similarity
from ....models.faces.landmarks import named_points
from ....models.faces.pixels import to_bytes
from ...core.checks import picture_sides
from .pictures import Picture

SHARPNESS_SIDE = 256  # sharpness is compared at one size


@dataclass(frozen=True)
class FilterSettings:
    """What a picture must be to become training data."""

    size: int = 256
    """Side of the aligned pictures in pixels, a multiple of 64: 256 for the demo, 512 for SD1.5."""
    min_side: int = 0
    """Least side, in the picture's own pixels, of the square an aligned face is cut from; 0 = half of size."""
    min_sharpness: float = 0.02
    """Least sharpness (see `sharpness`); 0 keeps blurred pictures."""
    max_yaw: float = 60.0
    """Faces turned further than this, in degrees, are dropped: landmarks and embedding are unreliable there."""
    same_person: float = SAME_PERSON_ON_PHOTOGRAPHS
    """Least similarity to the folder's central picture (0.4 suits photographs, 0.5 rendered heads)."""
    effort: str = "normal"
    """How hard faces are searched for: fast, normal or small faces."""

    def __post_init__(self):
        picture_sides(size=self.size)
        if not 0 < self.max_yaw <= 90:
            raise UserError(f"--max-yaw must lie between 0 and 90 degrees; {self.max_yaw} came.")

    @property
    def least_side(self) -> float:
        """`min_side` with its default filled in."""
        return self.min_side or self.size / 2


@dataclass(frozen=True)
class AlignedFace:
    """A face that may be used."""

    name: str
    picture: np.ndarray  # uint8 [size, size, 3] sRGB, FFHQ framing
    landmarks: np.ndarray  # [5, 2] px in `picture`: eye, eye, nose, mouth corner, mouth corner; the viewer's left first
    pose: tuple[float, float, float]  # yaw, pitch, roll in degrees before alignment, as `head_shape.HeadFit` has them
    sharpness: float
    embedding: np.ndarray = field(repr=False)  # [128]


@dataclass(frozen=True)
class Drop:
    """A picture that was left out, and why."""

    name: str
    reason: str
    """One of: unreadable, no face, too small, blurred, turned too far, another person, no partner."""
    detail: str


def sharpness(picture: np.ndarray) -> float:
    """How much fine detail the middle of an aligned picture has, free of its contrast.

    Variance of the Laplacian over variance of the grey values of the middle half, at 256 px. Of a picture that was enlarged
    or is out of focus it falls by an order of magnitude.

    Args:
        picture: uint8 `[S, S, 3]`.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    if grey.shape[0] != SHARPNESS_SIDE:
        way = cv2.INTER_AREA if grey.shape[0] > SHARPNESS_SIDE else cv2.INTER_CUBIC
        grey = cv2.resize(grey, (SHARPNESS_SIDE, SHARPNESS_SIDE), interpolation=way)
    quarter = SHARPNESS_SIDE // 4
    middle = grey[quarter:-quarter, quarter:-quarter]
    return float(cv2.Laplacian(middle, cv2.CV_32F).var() / max(1.0, middle.var()))


def _aligned(frame: torch.Tensor, placement) -> np.ndarray:
    """uint8 crop `[S, S, 3]` of a frame `[H, W, 3]` in [0, 1]."""
    return to_bytes(crop(frame.permute(2, 0, 1)[None], placement)[0].permute(1, 2, 0))


def _candidates(picture: Picture, settings: FilterSettings) -> tuple[list[AlignedFace], Drop | None]:
    """The usable faces of one picture, or why it has none."""
    if picture.rgb is None:
        return [], Drop(picture.name, "unreadable", picture.problem)
    frame = torch.from_numpy(picture.rgb).float() / 255
    faces = find_faces(frame[None], DetectionSettings(effort=settings.effort, order="large-small")).frames[0]
    if not faces:
        return [], Drop(picture.name, "no face", "no face was found")
    found, drop = [], None
    for face in faces:
        head = head_of(face)
        placement = placement_of(face, *frame.shape[:2], AlignmentSettings(crop_size=settings.size))
        side = settings.size / placement.scale
        if side < settings.least_side:
            reason = "too small", f"the aligned square covers {side:.0f} px, {settings.least_side:.0f} are needed"
        elif head is None or abs(head.yaw) > settings.max_yaw:
            turn = "unknown" if head is None else f"{head.yaw:.0f}"
            reason = "turned too far", f"yaw {turn} degrees, at most {settings.max_yaw:.0f} are used"
        else:
            aligned = _aligned(frame, placement)
            judged = aligned
            if settings.size < SHARPNESS_SIDE:  # enlarging a small crop would look like blur
                at_full = AlignmentSettings(crop_size=SHARPNESS_SIDE)
                judged = _aligned(frame, placement_of(face, *frame.shape[:2], at_full))
            detail = sharpness(judged)
            if detail < settings.min_sharpness:
                reason = "blurred", f"sharpness {detail:.4f}, at least {settings.min_sharpness:.4f} is needed"
            else:
                points = named_points(face)
                names = ("eye_left", "eye_right", "nose_tip", "mouth_left", "mouth_right")
                marks = np.array([points[n] if n in points else head.point(n) for n in names])
                marks = marks @ placement.matrix[:, :2].T + placement.matrix[:, 2]
                pose = (head.yaw, head.pitch, head.roll)
                found.append(AlignedFace(picture.name, aligned, marks, pose, detail, embedding(frame, face)))
                continue
        drop = drop or Drop(picture.name, *reason)  # of the largest face
    return found, drop if not found else None


def usable_faces(
    pictures: Iterable[Picture], settings: FilterSettings = FilterSettings(), progress=None
) -> tuple[list[AlignedFace], list[Drop]]:
    """One aligned face a picture, all of one person; and everything that was dropped.

    The person is the one on most pictures: the face that resembles faces on the most other pictures is the centre, and each
    picture gives its face that resembles the centre most.

    Args:
        progress: called without arguments after each picture.
    """
    candidates: list[list[AlignedFace]] = []
    drops: list[Drop] = []
    for picture in pictures:
        found, drop = _candidates(picture, settings)
        if drop is not None:
            drops.append(drop)
        if found:
            candidates.append(found)
        if progress is not None:
            progress()
    centre = _centre(candidates, settings.same_person)
    kept = []
    for found in candidates:
        likeness = [similarity(face.embedding, centre.embedding) for face in found]
        best = int(np.argmax(likeness))
        if likeness[best] >= settings.same_person:
            kept.append(found[best])
        else:
            text = f"similarity {likeness[best]:.2f} to {centre.name}, at least {settings.same_person:.2f} is needed"
            drops.append(Drop(found[0].name, "another person", text))
    return kept, drops


def _centre(candidates: list[list[AlignedFace]], threshold: float) -> AlignedFace | None:
    """The face that resembles a face on the most other pictures; of equals the one that resembles them most."""
    best, best_score = None, (-1, -np.inf)
    for i, found in enumerate(candidates):
        for face in found:
            nearest = [
                max(similarity(face.embedding, other.embedding) for other in others)
                for j, others in enumerate(candidates)
                if j != i
            ]
            score = (sum(value >= threshold for value in nearest), sum(nearest))
            if score > best_score:
                best, best_score = face, score
    return best


def counts(drops: Iterable[Drop]) -> dict[str, int]:
    """Drops by reason."""
    return dict(Counter(drop.reason for drop in drops))
