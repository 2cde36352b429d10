"""`icportrait measure thresholds`: what the fixed limits of finding, reading, comparing and pasting faces rest on.

Two photographs that come with installed packages (`photographs.py`) and held-out rendered heads; no net is needed. Times are CPU
seconds of this process, so that other work on the machine hardly counts.
"""

import json
import time
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ....models.errors import UserError
from ....models.faces import dlib_backend, identity
from ....models.faces.alignment import AlignmentSettings, crop, head_of, placement_of
from ....models.faces.detection import EFFORTS, DetectionSettings, find_faces, overlap
from ....models.faces.landmarks import named_points
from ....models.faces.pixels import to_bytes
from ....models.faces.types import Box, Face
from ...core.checks import at_least
from ...data.folders.faces import SHARPNESS_SIDE, sharpness
from ...data.photographs import group_photograph, portrait_photograph
from ..face_scenes import MAX_YAW, PROFILE_FACE_PX, HeadMaker
from .faces import SAME_RENDERED_PERSON, measure_round_trip
from .settings import Measure

QUARTER_TURNS = (90, 180, -90)  # degrees
EYES_AGREE = 0.2  # eye distances: two predictors see the same face
BOXES_WITHOUT_FACE = 50
SMALLER_BOXES = (0.9, 0.8, 0.7, 0.6, 0.5)
LARGER_BOXES = (1.1, 1.2, 1.3, 1.4, 1.5)
POINTS_MAY_MOVE = 2.0  # pixels
CROP_SIZES = (256, 512)
CUT = 0.25  # share of the face's box that the frame cuts off
BLUR_SIGMA = 2.0  # pixels of the aligned 256-px crop


def measure_search(image: torch.Tensor, known: tuple[Face, ...]) -> dict:
    """Faces found and CPU seconds by effort of the search, and CPU seconds of one embedding; `known` are the picture's faces."""
    identity.embedding(image[0], known[0])  # opens the recogniser, which its time leaves out
    by_effort = {}
    for effort in EFFORTS:
        start = time.process_time()
        found = find_faces(image, DetectionSettings(backend="dlib", effort=effort)).count
        by_effort[effort] = {"faces": found, "cpu_seconds": time.process_time() - start}
    start = time.process_time()
    for face in known:
        identity.embedding(image[0], face)
    return {"by_effort": by_effort, "embedding_cpu_seconds": (time.process_time() - start) / len(known)}


def measure_predictors(rgb: np.ndarray, faces: tuple[Face, ...]) -> dict:
    """dlib's 68 points against its five, in eye distances: eyes directly, the mouth as the head fitted to the five has it.

    The mouth counts where the eyes agree.
    """
    eyes, mouths = [], []
    for face in faces:
        five, head = named_points(face), head_of(face)
        points, _ = dlib_backend.landmarks(rgb, face.box, 68)
        many = named_points(Face(face.box, tuple(map(tuple, points)), "ibug_68"))
        unit = np.linalg.norm(five["eye_right"] - five["eye_left"])
        eyes.append(_mean_distance(five, many, ("eye_left", "eye_right")) / unit)
        if eyes[-1] < EYES_AGREE:
            names = ("mouth_left", "mouth_right")
            mouths.append(_mean_distance({name: head.point(name) for name in names}, many, names) / unit)
    return {"eyes": _range(eyes), "mouth_where_eyes_agree": _range(mouths), "faces_where_eyes_agree": len(mouths)}


def _mean_distance(a: dict, b: dict, names: tuple[str, ...]) -> float:
    return float(np.mean([np.linalg.norm(a[name] - b[name]) for name in names]))


def _range(values: list[float]) -> dict:
    return {"least": min(values), "most": max(values)}


def boxes_without_face(shape: tuple[int, int], faces: tuple[Face, ...], count: int, seed: int) -> list[Box]:
    """Square boxes of 60 to 250 px inside a picture of (height, width) that share no pixel with a face's box."""
    rng = np.random.default_rng([seed, 11])
    boxes: list[Box] = []
    while len(boxes) < count:
        side = rng.uniform(60, 250)
        x, y = rng.uniform(0, shape[1] - side), rng.uniform(0, shape[0] - side)
        box = (x, y, x + side, y + side)
        if all(overlap(box, face.box) == 0 for face in faces):
            boxes.append(box)
    return boxes


def measure_scatter(pictures: list[tuple[np.ndarray, tuple[Face, ...]]], seed: int) -> dict:
    """Scatter of dlib's landmarks when the box is moved, in hundredths of its side: read the right way up, read lying or upside
    down, and, at the steadiest turn, where there is no face (in the first picture)."""
    upright, turned = [], []
    for rgb, faces in pictures:
        tensor = torch.from_numpy(rgb).permute(2, 0, 1)[None]
        for face in faces:
            scatter = {turn: dlib_backend.read_at_turn(tensor, face.box, turn, 5)[1] for turn in (0, *QUARTER_TURNS)}
            upright.append(scatter[0])
            turned += [scatter[turn] for turn in QUARTER_TURNS]
    rgb, faces = pictures[0]
    boxes = boxes_without_face(rgb.shape[:2], faces, BOXES_WITHOUT_FACE, seed)
    nothing = [dlib_backend.landmarks(rgb, box)[1] for box in boxes]
    return {
        "upright": _range(upright),
        "turned": _range(turned),
        "no_face": _range(nothing),
        "faces": len(upright),
        "boxes_without_face": len(boxes),
        "taken_for_a_face": sum(map(dlib_backend.is_steady, nothing)),
    }


def measure_box(pictures: list[tuple[np.ndarray, tuple[Face, ...]]]) -> dict:
    """How much smaller or larger a box may be (shares of its side) before a landmark of any face moves by more than
    `POINTS_MAY_MOVE`."""
    moved = {}
    for scale in (*SMALLER_BOXES, *LARGER_BOXES):
        distances = []
        for rgb, faces in pictures:
            for face in faces:
                (x, y), half = face.centre, scale * face.side / 2
                points, _ = dlib_backend.landmarks(rgb, (x - half, y - half, x + half, y + half))
                distances.append(float(np.linalg.norm(points - face.points, axis=1).max()))
        moved[scale] = max(distances)

    def reach(scales: tuple[float, ...]) -> float:
        reached = 1.0
        for scale in scales:
            if moved[scale] > POINTS_MAY_MOVE:
                break
            reached = scale
        return abs(reached - 1)

    return {
        "may_be_smaller_by": reach(SMALLER_BOXES),
        "may_be_larger_by": reach(LARGER_BOXES),
        "limit_px": POINTS_MAY_MOVE,
        "most_moved_px_by_scale": {f"{scale:g}": value for scale, value in sorted(moved.items())},
    }


def largest_face(image: torch.Tensor) -> Face | None:
    """The largest face of a picture `[1, H, W, 3]`, None where none is found."""
    faces = find_faces(image, DetectionSettings(backend="dlib", effort="fast", order="large-small")).frames[0]
    return faces[0] if faces else None


def measure_likeness(group: torch.Tensor, people: tuple[Face, ...], portrait: torch.Tensor, face: Face) -> dict:
    """dlib's similarity of the group's people to each other, and of the portrait to changed copies of itself."""
    found = [identity.embedding(group[0], one) for one in people]
    different = [identity.similarity(a, b) for k, a in enumerate(found) for b in found[:k]]
    own = identity.embedding(portrait[0], face)
    cut = round(CUT * (face.box[2] - face.box[0]))
    half = torch.nn.functional.interpolate(portrait.movedim(-1, 1), scale_factor=0.5, mode="area").movedim(1, -1)
    changed = {
        "mirrored": portrait.flip(2),
        "half size": half,
        "turned by 90 degrees": torch.rot90(portrait, 1, (1, 2)),
    }
    frames = {
        "left": portrait[:, :, round(face.box[0]) + cut :],
        "right": portrait[:, :, : round(face.box[2]) - cut],
    }

    def likeness(picture: torch.Tensor) -> float | None:
        again = largest_face(picture)
        return None if again is None else identity.similarity(own, identity.embedding(picture[0], again))

    return {
        "different_people": _range(different),
        "same_picture_changed": {name: likeness(picture) for name, picture in changed.items()},
        "same_picture_cut": {name: likeness(picture) for name, picture in frames.items()},
        "share_of_face_cut_off": CUT,
    }


def sharpness_of(image: torch.Tensor, face: Face) -> tuple[float, float]:
    """Sharpness of an aligned face as the filter of training pictures takes it, and after a blur of `BLUR_SIGMA`."""
    placement = placement_of(face, *image.shape[1:3], AlignmentSettings(crop_size=SHARPNESS_SIDE))
    aligned = to_bytes(crop(image.movedim(-1, 1), placement)[0].movedim(0, -1))
    return sharpness(aligned), sharpness(cv2.GaussianBlur(aligned, (0, 0), BLUR_SIGMA))


def _sharpness_ranges(pairs: list[tuple[float, float]]) -> dict:
    sharp, blurred = zip(*pairs, strict=True)
    return {"as_they_are": _range(sharp), "blurred": _range(blurred), "faces": len(pairs)}


def right_at(border: float, same: list[float], different: list[float]) -> float:
    """Mean of the shares of both kinds of pairs that a border puts on the right side."""
    return (np.mean(np.array(same) >= border) + np.mean(np.array(different) < border)).item() / 2


def best_border(same: list[float], different: list[float]) -> float:
    """The border between pairs of one person and of two that is right most often; the middle one of several, in hundredths."""
    borders = np.arange(100) / 100
    right = np.array([right_at(border, same, different) for border in borders])
    best = borders[right == right.max()]
    return float(best[len(best) // 2])


def measure_renders(people: int, seed: int) -> tuple[dict, dict]:
    """(likeness, sharpness) of held-out rendered people, each seen nearly from the front and turned."""
    maker, embeddings, sharp = HeadMaker(seed), {}, []
    for person in tqdm(range(people), desc="rendered heads", unit="person"):
        for view in (0, 1):
            image = torch.from_numpy(maker.head(person, view, PROFILE_FACE_PX).picture)[None]
            face = largest_face(image)
            if face is not None:
                embeddings[person, view] = identity.embedding(image[0], face)
                sharp.append(sharpness_of(image, face))
    same, different = [], []
    for (person, view), one in embeddings.items():
        for (other, turned), two in embeddings.items():
            if (view, turned) == (0, 1):
                (same if person == other else different).append(identity.similarity(one, two))
    border = best_border(same, different)
    likeness = {
        "same_person": {"mean": float(np.mean(same)), **_range(same)},
        "different_people": {"mean": float(np.mean(different)), **_range(different)},
        "best_border": border,
        "right_at_best_border": right_at(border, same, different),
        "right_at_photographs_border": right_at(identity.SAME_PERSON_ON_PHOTOGRAPHS, same, different),
        "right_at_renders_border": right_at(SAME_RENDERED_PERSON, same, different),
        "people": people,
        "max_yaw": MAX_YAW,
    }
    return likeness, _sharpness_ranges(sharp)


@dataclass(frozen=True, kw_only=True)
class ThresholdsMeasure(Measure):
    """What the fixed limits of finding, comparing and pasting faces rest on."""

    identities: int = 24
    """Held-out rendered people; 4 for a quick check."""
    seed: int = 0
    """Decides the people and the scatter."""

    def __post_init__(self):
        at_least(1, identities=self.identities)


def measure_thresholds(options: ThresholdsMeasure) -> dict:
    """All figures; see `icportrait measure thresholds --help`.

    Raises:
        UserError: a package with one of the photographs is not installed.
    """
    group, portrait = group_photograph(), portrait_photograph()
    if group is None or portrait is None:
        raise UserError("The photographs come with the packages insightface and scikit-image; install both.")
    people, (face,) = (find_faces(image, DetectionSettings(backend="dlib")).frames[0] for image in (group, portrait))
    pictures = [(to_bytes(group[0]), people), (to_bytes(portrait[0]), (face,))]
    photographed = [sharpness_of(group, one) for one in people] + [sharpness_of(portrait, face)]
    figures = {
        "search": measure_search(group, people),
        "68_against_5_points": measure_predictors(*pictures[0]),
        "scatter": measure_scatter(pictures, options.seed),
        "box": measure_box(pictures),
        "paste": {str(size): measure_round_trip(group, people, size) for size in CROP_SIZES},
        "likeness": {"photographs": measure_likeness(group, people, portrait, face)},
        "sharpness": {"photographs": _sharpness_ranges(photographed)},
        "seed": options.seed,
    }
    likeness, sharpness_of_heads = measure_renders(options.identities, options.seed)
    figures["likeness"]["rendered_heads"] = likeness
    figures["sharpness"]["rendered_heads"] = sharpness_of_heads
    return figures


def print_figures(figures: dict) -> None:
    """The figures for people."""
    print(json.dumps(figures, indent=2))
