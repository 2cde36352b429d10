"""`icportrait measure faces`: finding, assigning and group painting, on a real group photograph and on held-out rendered heads.

Everything goes through the functions the nodes call.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from ....models.faces import alignment, detection, insightface_backend
from ....models.faces.landmarks import named_points
from ....models.faces.stitching import StitchSettings
from ....models.faces.types import Face, Faces
from ....models.groups.assignment import assign
from ....models.groups.profiles import photographs_of
from ....models.groups.types import Person, Profiles
from ....models.method.detail import STRENGTH
from ....models.nets import bundle as bundles
from ....models.painting import CropResult, paint_face
from ....models.portrait import CropSettings
from ...core.checks import at_least, picture_sides
from ...core.paths import InputFile, InputFolder, OutputFolder
from ...data.photographs import group_photograph, read_picture
from ..face_scenes import (
    PEOPLE_A_SCENE,
    PROFILE_FACE_PX,
    HeadMaker,
    matched,
    paste_heads,
)
from ..group_painting import SAME_RENDERED_PERSON, measure_group
from .settings import BundleSetting, Measure

PSNR_LIMIT = 200.0  # stands for an exact copy: JSON has no infinity


def landmark_errors(face: Face, truth: np.ndarray) -> tuple[float, float]:
    """(eyes, mouth): mean distance from the truth in shares of its eye distance; the mouth may come from the fitted head."""
    points, head = named_points(face), alignment.head_of(face)
    eye_distance = float(np.hypot(*(truth[1] - truth[0])))
    errors = []
    for names, rows in ((("eye_left", "eye_right"), (0, 1)), (("mouth_left", "mouth_right"), (3, 4))):
        at = [points[name] if name in points else head.point(name) for name in names]
        errors.append(float(np.mean([np.hypot(*(p - truth[row])) for p, row in zip(at, rows, strict=True)])))
    return errors[0] / eye_distance, errors[1] / eye_distance


def measure_heads(maker: HeadMaker, identities: int, seed: int, effort: str) -> dict:
    """Detection, landmarks and assignment on scenes of 1 to 6 heads, faces of 64 to 512 px."""
    rng = np.random.default_rng([seed, 3])
    profiles = {}
    for person in tqdm(range(identities), desc="profiles", unit="person"):
        picture = torch.from_numpy(maker.head(person, 0, PROFILE_FACE_PX).picture)[None]
        profiles[person] = photographs_of(picture, "fast")
    total = found = extra = right = wrong = 0
    errors, by_size = [], {"64 to 127": [0, 0], "128 to 255": [0, 0], "256 to 512": [0, 0]}
    todo, count, seconds, scenes = list(range(identities)), 0, 0.0, 0
    bar = tqdm(total=identities, desc="scenes", unit="head")
    while todo:
        count = count % PEOPLE_A_SCENE + 1
        people, todo = todo[:count], todo[count:]
        base = 64 * 8 ** rng.random()
        heads = [maker.head(person, 1, float(np.clip(base * rng.uniform(0.8, 1.25), 64, 512))) for person in people]
        scene = paste_heads(heads, 0.85, 0.85, seed + scenes)
        scenes += 1
        start = time.perf_counter()
        faces = detection.find_faces(scene.image, detection.DetectionSettings(effort=effort))
        seconds += time.perf_counter() - start
        hits = matched(scene, faces.frames[0])
        total, found, extra = total + len(heads), found + len(hits), extra + len(faces.frames[0]) - len(hits)
        for head, size in enumerate(scene.face_px):
            row = by_size["64 to 127" if size < 128 else "128 to 255" if size < 256 else "256 to 512"]
            row[0], row[1] = row[0] + (head in hits), row[1] + 1
        errors += [landmark_errors(faces.frames[0][k], scene.landmarks[head]) for head, k in hits.items()]
        # Six people to choose from: those of the scene and others.
        others = [person for person in rng.permutation(identities).tolist() if person not in people]
        choice = sorted(people + others[: max(0, PEOPLE_A_SCENE - len(people))])
        whole = Profiles(tuple(Person(f"person {p}", profiles[p]) for p in choice))
        group, _ = assign(scene.image, faces, whole, "similarity", threshold=SAME_RENDERED_PERSON)
        for head, k in hits.items():
            person = group.frames[0][k].person
            right += person is not None and choice[person] == people[head]
            wrong += person is not None and choice[person] != people[head]
        bar.update(len(heads))
    bar.close()
    eyes, mouth = (np.array(column) for column in zip(*errors, strict=True)) if errors else (np.array([]),) * 2
    return {
        "heads": total,
        "scenes": scenes,
        "effort": effort,
        "detection_rate": found / total,
        "detection_rate_by_face_px": {name: hit / n if n else None for name, (hit, n) in by_size.items()},
        "false_detections": extra,
        "landmark_error": {
            "eyes_mean": _mean(eyes),
            "eyes_max": float(eyes.max()) if len(eyes) else None,
            "mouth_mean": _mean(mouth),
            "unit": "eye distances",
        },
        "assignment_accuracy": right / found if found else None,
        "assigned_to_somebody_else": wrong,
        "seconds_a_scene": seconds / scenes if scenes else None,
    }


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def measure_photograph(image: torch.Tensor, folders: list[str]) -> tuple[dict, Faces | None]:
    """{backend: faces found, or why it did not run}, and the first backend's faces."""
    result, first = {}, None
    for backend in ("dlib", "insightface"):
        if backend == "insightface" and insightface_backend.why_unavailable(folders):
            result[backend] = insightface_backend.why_unavailable(folders)
            continue
        try:
            faces = detection.find_faces(
                image, detection.DetectionSettings(backend=backend), insightface_folders=folders
            )
        except ValueError as error:
            result[backend] = str(error)
            continue
        result[backend] = faces.count
        first = first or faces
    return result, first


def measure_round_trip(image: torch.Tensor, faces: tuple[Face, ...], crop_size: int = 512) -> dict:
    """Align and stitch with nothing generated: PSNR inside the mask (worst face; of plain paste also the best), greatest
    difference outside."""
    psnr, outside = {True: [], False: []}, 0.0
    frame = alignment.AlignmentSettings(crop_size=crop_size)
    for face in faces:
        for keep, of_faces in psnr.items():
            stitching = StitchSettings(keep_detail=keep)
            result = paint_face(image, face, image, face, lambda pair: CropResult(pair.style), frame, stitching)
            difference = (result.canvas - image).abs()
            outside = max(outside, float((difference * (result.mask == 0)[..., None]).max()))
            square = float((difference.double() ** 2)[result.mask > 0].mean())
            of_faces.append(min(PSNR_LIMIT, -10 * math.log10(square)) if square > 0 else PSNR_LIMIT)
    return {
        "roundtrip_psnr_db": min(psnr[True]),
        "roundtrip_plain_paste_psnr_db": min(psnr[False]),
        "roundtrip_plain_paste_best_psnr_db": max(psnr[False]),
        "outside_max_abs_diff": outside,
        "crop_px": crop_size,
        "faces": len(faces),
    }


@dataclass(frozen=True, kw_only=True)
class FacesMeasure(BundleSetting, Measure):
    """Finding, assigning and group painting: on a group photograph and on held-out heads."""

    work: OutputFolder = Path("measure_work")
    """Folder for pictures to look at."""
    photograph: InputFile | None = None
    """Group photograph; default: t1.jpg of the package insightface."""
    insightface: list[InputFolder] = field(default_factory=list)
    """Folders that hold an insightface model pack."""
    identities: int = 50
    """Held-out people; 8 for a quick check."""
    effort: Literal["fast", "normal", "small faces"] = "normal"
    """Of the search, as in Detect Faces."""
    steps: int = CropSettings.steps
    """Sampling steps a face; 2 for a quick check."""
    detail: float = STRENGTH
    """Of the photo's fine detail, as in Group Portrait; 0 = the paper's method."""
    crop_size: int = 256
    """Side of the painted crops in pixels."""
    seed: int = 0
    """Decides the heads, the kept pixels and all noise."""

    def __post_init__(self):
        at_least(1, identities=self.identities, steps=self.steps)
        picture_sides(crop_size=self.crop_size)


def measure_faces(options: FacesMeasure) -> dict:
    """All figures; see `icportrait measure faces --help`."""
    maker = HeadMaker(options.seed)
    image = read_picture(options.photograph) if options.photograph else group_photograph()
    photograph, faces = measure_photograph(image, options.insightface) if image is not None else ({}, None)
    round_trip = measure_round_trip(image, faces.frames[0]) if faces is not None and faces.count else {}
    heads = measure_heads(maker, options.identities, options.seed, options.effort)
    settings = CropSettings(seed=options.seed, steps=options.steps, detail=options.detail)
    group = measure_group(
        maker,
        options.identities,
        options.seed,
        options.bundle or bundles.FOLDER,
        settings,
        options.crop_size,
        options.work,
    )
    outside = [part["outside_max_abs_diff"] for part in (round_trip, group) if "outside_max_abs_diff" in part]
    return {
        "t1": photograph,
        "detection_rate": heads["detection_rate"],
        "landmark_error": heads["landmark_error"],
        "assignment_accuracy": heads["assignment_accuracy"],
        "roundtrip_psnr_db": round_trip.get("roundtrip_psnr_db"),
        "outside_max_abs_diff": max(outside),
        "group_identity": group["group_identity"],
        "seconds_by_faces": group["seconds"],
        "memory_ratio_6_to_1": group["memory_ratio_6_to_1"],
        "round_trip": round_trip,
        "heads": heads,
        "group": group,
        "seed": options.seed,
    }


def print_table(figures: dict) -> None:
    """The figures for people."""

    def number(value, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    heads, group, trip = figures["heads"], figures["group"], figures["round_trip"]
    print("\nsix faces of t1.jpg")
    for backend, found in figures["t1"].items():
        print(f"  {backend:34s} {found if isinstance(found, str) else f'{found} found'}")
    print(f"\n{heads['heads']} held-out heads in {heads['scenes']} scenes, effort {heads['effort']}")
    print(f"  {'detection rate':34s} {number(heads['detection_rate'])}   ({heads['false_detections']} false)")
    for name, value in heads["detection_rate_by_face_px"].items():
        print(f"  {'  faces of ' + name + ' px':34s} {number(value)}")
    error = heads["landmark_error"]
    print(
        f"  {'landmark error, eyes (eye distances)':34s} {number(error['eyes_mean'])}   (largest {number(error['eyes_max'])})"
    )
    print(f"  {'landmark error, mouth (fitted)':34s} {number(error['mouth_mean'])}")
    print(
        f"  {'assignment accuracy':34s} {number(heads['assignment_accuracy'])}   "
        f"({heads['assigned_to_somebody_else']} to somebody else)"
    )
    if trip:
        print(f"\nalign and stitch, nothing generated, {trip['crop_px']}-px crops, worst of {trip['faces']} faces")
        print(f"  {'PSNR inside, dB':34s} {number(trip['roundtrip_psnr_db'], 1)}   (exact: {PSNR_LIMIT:.0f})")
        print(f"  {'  plain paste':34s} {number(trip['roundtrip_plain_paste_psnr_db'], 1)}")
    print(f"  {'largest difference outside':34s} {figures['outside_max_abs_diff']:g}")
    print(f"\nsix overlapping faces ({group['overlapping_boxes']} pairs of boxes overlap), painter: {group['painter']}")
    print("  similarity      " + " ".join(f"person {k}" for k in range(PEOPLE_A_SCENE)))
    for k, row in enumerate(group["group_identity"]):
        print(f"  face {k}          " + " ".join(f"{number(value):>8s}" for value in row))
    every = [group, *group["more_groups"]]
    for what, rows in (
        ("mixed identities, group by group", every),
        ("  without detail", [one["without_detail"] for one in every]),
        ("  true renders", [one["true_renders"] for one in every]),
    ):
        print(f"  {what:34s} " + " ".join(f"{one['mixed_identities']:>8d}" for one in rows))
    print(f"  {'faces painted':34s} " + " ".join(f"{count:>8s}" for count in group["seconds"]))
    print(f"  {'  seconds':34s} " + " ".join(f"{value:8.2f}" for value in group["seconds"].values()))
    print(f"  {'  peak memory, MB':34s} " + " ".join(f"{value:8.1f}" for value in group["peak_mb"].values()))
    print(f"  {'peak memory, six to one':34s} {number(group['memory_ratio_6_to_1'])}")
    print(f"  {'time a face, six to one':34s} {number(group['time_a_face_6_to_1'])}")
