"""Scenes of held-out rendered heads whose people, landmarks and sizes are known: what finding and assigning faces is measured on.

Identities come from a group index that is never trained on. Face size means the side of a detector's box: two thirds of the FFHQ
crop's side (`models/faces/alignment.py`).
"""

import dataclasses

import numpy as np
import torch

from ...models.errors import UserError
from ...models.faces import detection
from ...models.faces.types import Face, Faces

HELD_OUT_GROUP = 1_000_900
MAX_YAW = 35.0
CROP_PER_FACE = 1.5
HEAD_SCALE = 0.72  # of the rendered square: hair and shoulders are inside
PROFILE_FACE_PX = 200
PEOPLE_A_SCENE = 6
ROW_STEP = 0.62  # between rows of an overlapping group, in largest squares
OVERLAPPING = (0.37, 0.4, 0.43)  # steps between neighbours in largest squares, tried one after another


@dataclasses.dataclass(frozen=True)
class Head:
    """One rendered head, cut out."""

    person: int
    picture: np.ndarray  # float32 [S, S, 3] sRGB in [0, 1]
    alpha: np.ndarray  # float32 [S, S], 0 in the background
    landmarks: np.ndarray  # [5, 2] pixels: eyes, nose tip, mouth corners; the viewer's left first
    face_px: float

    def moved(self, x: int, y: int) -> np.ndarray:
        """The landmarks when the square's corner is at (x, y)."""
        return self.landmarks + (x, y)


class HeadMaker:
    """Renders held-out people; a person is made once."""

    def __init__(self, seed: int):
        self._seed, self._people = seed, {}

    def head(self, person: int, view: int, face_px: float, as_in: int | None = None) -> Head:
        """Deterministic from the arguments and the seed.

        Args:
            as_in: somebody else, whose camera, light and expression of this view are taken; None = the person's own.
        """
        from ..data.heads.camera import portrait_camera
        from ..data.heads.cutout import coverage
        from ..data.heads.generate import seed_of
        from ..data.heads.identity import make_person
        from ..data.heads.render import render
        from ..data.heads.scene import random_scene

        if person not in self._people:
            self._people[person] = make_person(seed_of(self._seed, HELD_OUT_GROUP, 0, person))
        place = person if as_in is None else as_in
        rng = np.random.default_rng([self._seed, HELD_OUT_GROUP, place, view])
        # The profile (view 0) is nearly frontal; all other views turn as far as the paper's heads do.
        yaw = rng.uniform(-12, 12) if view == 0 else rng.uniform(-MAX_YAW, MAX_YAW)
        camera = portrait_camera(
            yaw, rng.uniform(-8, 10), rng.uniform(-6, 6), rng.uniform(14, 30), HEAD_SCALE, (0.0, 0.0)
        )
        scene = dataclasses.replace(
            random_scene(seed_of(self._seed, HELD_OUT_GROUP, 1, 100 * place + view)), camera=camera
        )
        shown = render(self._people[person], scene, max(64, round(CROP_PER_FACE * face_px / HEAD_SCALE)))
        marks = np.asarray(shown.landmarks, np.float64)
        return Head(person, shown.picture.astype(np.float32) / 255, coverage(shown), marks, float(face_px))


@dataclasses.dataclass(frozen=True)
class Scene:
    """Heads pasted on one canvas."""

    image: torch.Tensor  # float32 [1, H, W, 3]
    people: tuple[int, ...]
    landmarks: tuple[np.ndarray, ...]
    face_px: tuple[float, ...]


def backdrop(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth wall, float32 `[height, width, 3]`."""
    coarse = torch.from_numpy(np.random.default_rng([seed, 7]).uniform(0.25, 0.75, (1, 3, 4, 5)))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    return smooth[0].movedim(0, -1).clamp(0, 1).float().numpy()


def paste_heads(heads: list[Head], across: float, down: float, seed: int, columns: int = 3) -> Scene:
    """Heads in rows, from the back (top) to the front, so many largest squares apart; below 1 the squares overlap."""
    side = max(len(head.picture) for head in heads)
    columns = min(columns, len(heads))
    rows = -(-len(heads) // columns)
    step_x, step_y = round(across * side), round(down * side)
    height, width = side + (rows - 1) * step_y, side + (columns - 1) * step_x
    canvas = backdrop(height, width, seed)
    landmarks = []
    for number, head in enumerate(heads):
        row, column = divmod(number, columns)
        margin = (side - len(head.picture)) // 2
        x, y = column * step_x + margin, row * step_y + side - len(head.picture)
        place = canvas[y : y + len(head.picture), x : x + len(head.picture)]
        place += head.alpha[..., None] * (head.picture - place)
        landmarks.append(head.moved(x, y))
    return Scene(
        torch.from_numpy(canvas)[None],
        tuple(head.person for head in heads),
        tuple(landmarks),
        tuple(head.face_px for head in heads),
    )


def matched(scene: Scene, faces: tuple[Face, ...]) -> dict[int, int]:
    """{head: number of its face}: the nearest whose centre lies within half a box of the head's landmarks."""
    pairs = sorted(
        (float(np.hypot(*(np.array(face.centre) - marks.mean(axis=0)))), head, k)
        for head, marks in enumerate(scene.landmarks)
        for k, face in enumerate(faces)
    )
    found: dict[int, int] = {}
    used: set[int] = set()
    for distance, head, k in pairs:
        if head not in found and k not in used and distance < faces[k].side / 2:
            found[head] = k
            used.add(k)
    return found


def overlapping_group(maker: HeadMaker, face_px: float, first_person: int, seed: int) -> tuple[Scene, Faces, float]:
    """Six held-out people whose detector boxes overlap, their faces in the people's order, and the step between neighbours.

    Raises:
        UserError: the detector does not see all six, or no boxes overlap, for several sets of people.
    """
    for first in range(first_person, first_person + 4 * PEOPLE_A_SCENE, PEOPLE_A_SCENE):
        heads = [maker.head(first + k, 1, face_px) for k in range(PEOPLE_A_SCENE)]
        # The detector's box is up to 0.48 of a square: nearer than that, neighbours' boxes overlap. Rows leave the chins free.
        for across in OVERLAPPING:
            scene = paste_heads(heads, across, ROW_STEP, seed)
            faces = detection.find_faces(scene.image)
            hits = matched(scene, faces.frames[0])
            if len(hits) < PEOPLE_A_SCENE:
                continue
            ordered = tuple(dataclasses.replace(faces.frames[0][hits[k]], number=k) for k in range(PEOPLE_A_SCENE))
            if overlapping_pairs(ordered):
                return scene, dataclasses.replace(faces, frames=(ordered,)), across
    raise UserError("no scene of six overlapping heads showed the detector all six: try another --seed")


def overlapping_pairs(faces: tuple[Face, ...]) -> int:
    """Pairs of boxes that share a pixel."""
    return sum(detection.overlap(faces[a].box, faces[b].box) > 0 for b in range(len(faces)) for a in range(b))
