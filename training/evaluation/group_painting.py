"""Group pictures of held-out heads painted face by face: who is taken for whom, time and memory. A part of `icportrait measure faces`."""

import dataclasses
import functools
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ...models.faces.types import Faces
from ...models.groups.assignment import assign, person_scores
from ...models.groups.painting import paint_group
from ...models.groups.profiles import embedded, photographs_of
from ...models.groups.rules import by_similarity
from ...models.groups.types import GroupAssignment, Person, Profiles
from ...models.nets import bundle as bundles
from ...models.painting import CropResult, Painter
from ...models.portrait import CropSettings, paint_crop
from .face_scenes import (
    PEOPLE_A_SCENE,
    PROFILE_FACE_PX,
    ROW_STEP,
    HeadMaker,
    Scene,
    overlapping_group,
    overlapping_pairs,
    paste_heads,
)

GROUP_FACE_PX = 200.0
GROUPS = 4  # sets of people; the first is measured in full
FACE_COUNTS = (1, 2, 3, 6)  # how many of the six are painted when time and memory are taken
SAME_RENDERED_PERSON = 0.5  # similarity, see docs/faces.md


class Peak:
    """Peak memory of a block in bytes: the GPU's allocations where there is one, else this process's resident memory."""

    def __enter__(self) -> "Peak":
        self.bytes, self._stop = 0, threading.Event()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        else:
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def _watch(self) -> None:
        import psutil

        process = psutil.Process()
        while not self._stop.wait(0.005):
            self.bytes = max(self.bytes, process.memory_info().rss)

    def __exit__(self, *_) -> None:
        if torch.cuda.is_available():
            self.bytes = torch.cuda.max_memory_allocated()
        else:
            self._stop.set()
            self._thread.join()


@dataclasses.dataclass(frozen=True)
class _GroupCase:
    """Six overlapping faces, and six other people to put there."""

    scene: Scene
    faces: Faces
    people: Profiles
    truth: torch.Tensor
    """`[1, H, W, 3]`: the scene with the six other people rendered in it."""

    def first(self, count: int) -> GroupAssignment:
        """Person k onto face k, for the first so many."""
        pairs = ",".join(f"{k}:{k}" for k in range(count))
        return assign(self.scene.image, self.faces, self.people, "pairs", pairs)[0]


def _group_case(maker: HeadMaker, first_person: int, seed: int) -> _GroupCase:
    scene, faces, across = overlapping_group(maker, GROUP_FACE_PX, first_person, seed)
    people, heads = [], []
    for k, shown in enumerate(scene.people):
        who = first_person + 4 * PEOPLE_A_SCENE + k  # nobody of the scene
        picture = torch.from_numpy(maker.head(who, 0, PROFILE_FACE_PX).picture)[None]
        people.append(Person(f"person {k}", photographs_of(picture, "fast")))
        heads.append(maker.head(who, 1, GROUP_FACE_PX, as_in=shown))
    return _GroupCase(scene, faces, Profiles(tuple(people)), paste_heads(heads, across, ROW_STEP, seed).image)


def _who_is_who(image: torch.Tensor, case: _GroupCase) -> dict:
    """Similarity face x person of a painted group, how many faces are nearest to another's person, and the least lead of the own."""
    unread = tuple(dataclasses.replace(face, embedding=None) for face in case.faces.frames[0])
    after = embedded(image, dataclasses.replace(case.faces, frames=(unread,))).frames[0]
    matrix = person_scores(after, case.people)
    own, others = np.diag(matrix), np.where(np.eye(len(matrix)), -np.inf, matrix)
    lead = own - np.nanmax(others, axis=1)
    found = by_similarity(matrix, SAME_RENDERED_PERSON)
    return {
        "group_identity": [[None if np.isnan(v) else round(float(v), 4) for v in row] for row in matrix],
        "mixed_identities": int(sum(not value > 0 for value in lead)),  # a face that cannot be read counts
        "least_lead": float(np.nanmin(lead)),
        "found_again_at_0.5": sum(entry.person == entry.face for entry in found),
    }


def measure_group(
    maker: HeadMaker, first_person: int, seed: int, bundle: Path, settings: CropSettings, crop_size: int, work: Path
) -> dict:
    """Six overlapping faces, each replaced by another person: who is who, peak memory and time by the number of faces.

    `without_detail` is the paper's method alone, `true_renders` the right people rendered in their places: a recogniser
    mistakes some of these too. `more_groups` does the same with other people.

    Without a bundle the profile's crop itself is pasted (`painter` says so): that shows what the pasting does to identities, and
    nothing about the nets.
    """
    case = _group_case(maker, first_person, seed)
    parts = {count: case.first(count) for count in FACE_COUNTS}
    painter, painter_of = bundle_painter(bundle, settings)
    with torch.inference_mode():
        # Once for what the first run alone allocates, of all six because memory in pieces is kept for later.
        paint_group(case.scene.image, parts[6], functools.partial(painter_of, steps=1), crop_size)
        peaks, seconds = {}, {}
        for count, group in tqdm(parts.items(), desc="painting", unit="picture"):
            gc.collect()
            start = time.perf_counter()
            with Peak() as peak:
                result = paint_group(case.scene.image, group, painter_of, crop_size)
            peaks[count], seconds[count] = peak.bytes, time.perf_counter() - start

        def controls(case: _GroupCase) -> dict:
            plain = paint_group(case.scene.image, case.first(6), functools.partial(painter_of, detail=0.0), crop_size)
            return {"without_detail": _who_is_who(plain.image, case), "true_renders": _who_is_who(case.truth, case)}

        own_controls, more = controls(case), []
        for number in tqdm(range(1, GROUPS), desc="more groups", unit="group"):
            other = _group_case(maker, first_person + 8 * PEOPLE_A_SCENE * number, seed)
            painted = paint_group(other.scene.image, other.first(6), painter_of, crop_size)
            more.append(_who_is_who(painted.image, other) | controls(other))
    save_picture(case.scene.image, work / "group_before.png")
    save_picture(case.truth, work / "group_truth.png")
    save_picture(result.image, work / "group_after.png")
    save_picture(result.panel, work / "group_panel.png")
    outside = (result.image - case.scene.image).abs() * (result.mask == 0)[..., None]
    return {
        "painter": painter,
        "detail": settings.detail,
        "overlapping_boxes": overlapping_pairs(case.faces.frames[0]),
        **_who_is_who(result.image, case),
        **own_controls,
        "more_groups": more,
        "outside_max_abs_diff": float(outside.max()),
        "memory_ratio_6_to_1": peaks[6] / peaks[1] if peaks[1] else None,
        "peak_mb": {str(count): round(value / 2**20, 1) for count, value in peaks.items()},
        "seconds": {str(count): round(value, 3) for count, value in seconds.items()},
        "time_a_face_6_to_1": seconds[6] / 6 / seconds[1],
    }


def bundle_painter(bundle: Path, settings: CropSettings) -> tuple[str, Callable[..., Painter]]:
    """A name, and the `painter_of` of `paint_group`; keywords change the settings."""
    try:
        bundles.check_bundle(bundle)
    except ValueError:
        return "none: the profile's crop is pasted", lambda *_, **__: lambda pair: CropResult(pair.profile)
    model, vae, vision, nets = bundles.load_bundle(bundle)

    def painter_of(face: int, **changes) -> Painter:
        own = dataclasses.replace(settings, seed=settings.seed + face, **changes)
        return lambda pair: paint_crop(model, vae, vision, nets, pair.profile, pair.style, own)

    return "bundle", painter_of


def save_picture(picture: torch.Tensor, path: Path) -> None:
    """Write a picture `[1, H, W, 3]` in [0, 1]; makes the folder."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture[0].clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()).save(path)
