"""`icportrait measure photographs`: the path without nets (models/mesh) on photographs of different people, beside simpler methods.

Correspondence and picture are judged apart.

- *Landmark error*: dlib's 68-point predictor, which aligned nothing, reads both aligned crops. For each of the style's 51 inner landmarks
  the flow names a place in the profile; its distance from the profile's own landmark counts, in the profile's eye distances. The mesh's
  flow is that from face to face as they are (shape 0), because with the person's own shape the target's landmarks are not the style's.
  `result` asks the same of the painted picture: its landmarks through the flow it was painted with.
- *Identity*: dlib's embeddings, 1 - distance, as the nodes show it. *Pose error*: the head's turn read anew from the painted picture
  against the style's, in degrees; `style` is the style's own crop read anew, the noise of reading.
- *Light, skin colour, seam*: see evaluation/metrics/composite.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ....models.errors import UserError
from ....models.faces import identity
from ....models.faces.alignment import AlignmentSettings, similarity
from ....models.faces.pixels import to_bytes
from ....models.faces.resampling import transform
from ....models.faces.types import Placement
from ....models.mesh import regions
from ....models.mesh.correspondence import MeshMatch, as_flow
from ....models.mesh.crops import own_crop_size
from ....models.mesh.geometry import degrees_between
from ....models.mesh.painter import MeshSettings, mesh_match, paint_by_mesh
from ....models.mesh.skin import face_parts
from ....models.painting import CropPair, PaintedFace, paint_face
from ....models.portrait import CropSettings, paint_crop
from ...core.checks import at_least
from ...core.paths import InputFolder, OutputFolder
from ..baselines import five_points
from ..charts import stacked
from ..metrics.composite import (
    INNER,
    dlib_landmarks,
    landmark_error,
    light_errors,
    seam,
    skin_colour,
    through_flow,
)
from ..models_used import Models, load_models
from ..photo_pairs import Portrait, in_folder, packaged, pairs_of, same_person, with_mesh
from ..picture_grid import strip
from ..statistics import summary
from .settings import BundleSetting, Measure

ROWS, TILE = 5, 384  # of a contact sheet: pairs, and a picture's side in pixels
WORST = 10
NETS_SIDE = 256  # the demo nets' resolution
YAW_DIFFERENCES = {"below_20": (0, 20), "20_to_40": (20, 40)}


@dataclass(frozen=True, kw_only=True)
class PhotographsMeasure(BundleSetting, Measure):
    """The path without nets on photographs: landmarks, identity, pose, light, skin colour, seam, time."""

    photos: InputFolder | None = None
    """Also a folder of portraits (the largest face counts; NAME_1.jpg and NAME_2.jpg are one person), as the block `folder`."""
    pairs: int = 100
    """At most so many pairs of each set; the packaged photographs have 56."""
    nets: int = 0
    """So many pairs of each set are painted by a bundle's nets, too; about ten seconds each."""
    sheets: OutputFolder | None = None
    """Folder for contact sheets (profile, style, affine clone, warp, result) and each pair's figures."""
    skin_tone: float = MeshSettings.skin_tone
    """As in the Portrait node."""
    seed: int = 0
    """Decides which pairs are taken and the nets' noise."""

    def __post_init__(self):
        at_least(1, pairs=self.pairs)
        at_least(0, nets=self.nets)


@dataclass(eq=False)
class _Measured:
    """One pair."""

    name: str
    yaw_difference: float
    figures: dict[str, dict]
    """Figure -> method -> value or a further dict; None where it could not be measured."""


def _eyes_and_mouth(placement: Placement) -> np.ndarray:
    """Eyes and mouth corners in the crop, `[4, 2]` px."""
    return transform(five_points(placement.face)[[0, 1, 3, 4]], placement.matrix)


def affine_clone(pair: CropPair, style_mesh: np.ndarray) -> torch.Tensor:
    """The plain way: eyes and mouth onto eyes and mouth by a similarity, then OpenCV's seamlessClone in the style face's outline.

    P. Perez et al., Poisson image editing, 2003. Returns `[1, S, S, 3]` in [0, 1].
    """
    size = pair.style.shape[1]
    matrix = similarity(_eyes_and_mouth(pair.profile_placement), _eyes_and_mouth(pair.style_placement))
    matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from pixel centres
    profile, style = (to_bytes(crop[0]) for crop in (pair.profile, pair.style))
    moved = cv2.warpAffine(profile, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    mask = np.zeros((size, size), np.uint8)
    mask[2:-2, 2:-2] = (regions.oval(style_mesh, size)[2:-2, 2:-2] > 0.5) * 255
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return pair.style
    cloned = cv2.seamlessClone(moved, style, mask, (x + width // 2, y + height // 2), cv2.NORMAL_CLONE)
    return torch.from_numpy(cloned).float()[None] / 255


def _landmark_errors(painted: PaintedFace, flat: MeshMatch, own: MeshMatch) -> dict[str, float]:
    """`flat` and `own`: the correspondences with the style's and with the person's shape."""
    pair = painted.pair
    profile, style, result = (dlib_landmarks(crop) for crop in (pair.profile, pair.style, painted.stitched_crop))
    size = pair.style.shape[1]
    matrix = similarity(_eyes_and_mouth(pair.style_placement), _eyes_and_mouth(pair.profile_placement))
    errors = {
        "none": landmark_error(style[INNER], profile),
        "affine": landmark_error(transform(style[INNER] * size, matrix) / size, profile),
    }
    for name, match, points in (("mesh", flat, style[INNER]), ("result", own, result[INNER])):
        columns, rows = (points * size).astype(int).clip(0, size - 1).T
        named = through_flow(as_flow(match).offsets[0].numpy(), points)
        errors[name] = landmark_error(named, profile, match.near[rows, columns] < 0.5)
    return errors


def _paint_by_nets(models: Models, profile: Portrait, style: Portrait, seed: int) -> PaintedFace:
    def paint(pair: CropPair):
        settings = CropSettings(seed=seed)
        return paint_crop(models.model, models.vae, models.vision, models.nets, pair.profile, pair.style, settings)

    with torch.inference_mode():
        return paint_face(
            style.image, style.face, profile.image, profile.face, paint, AlignmentSettings(crop_size=NETS_SIDE)
        )


def _net_landmark_error(painted: PaintedFace) -> float:
    profile, style = (dlib_landmarks(crop) for crop in (painted.pair.profile, painted.pair.style))
    offsets = painted.crop.flow.offsets[0].float().cpu().numpy()
    return landmark_error(through_flow(offsets, style[INNER]), profile)


def _timed(work: Callable):
    begin = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin


@dataclass(frozen=True, eq=False)
class _Judge:
    """What paintings of one pair are compared with."""

    known: np.ndarray
    """The person's embedding."""
    style: np.ndarray
    """The style's crop, `[S, S, 3]`."""
    style_mesh: np.ndarray
    plain: np.ndarray
    """Skin of style and target, without features and beards, `[S, S]`: a beard is darker than skin in any light."""
    colours: dict[str, np.ndarray]
    """Whose -> skin colour."""

    def figures(self, picture: torch.Tensor, outline: np.ndarray) -> dict[str, float | None]:
        """Of a painted crop `[1, S, S, 3]` whose face has the outline of a mesh `[468, 3]`."""
        pixels = picture[0].numpy()
        face = next(iter(with_mesh(picture)), None)
        light, without_mean = light_errors(pixels, self.style, self.plain)
        mean_seam, worst_seam = seam(pixels, outline, self.style, self.style_mesh)
        colour = skin_colour(pixels, outline)
        return {
            "identity": face and identity.similarity(self.known, identity.embedding(picture[0], face)),
            "pose_error_deg": face and degrees_between(face.points_3d, self.style_mesh),
            "light_error": light,
            "light_error_means_removed": without_mean,
            "seam": mean_seam,
            "seam_worst": worst_seam,
        } | {f"to_{whose}": float(np.linalg.norm(colour - wanted)) for whose, wanted in self.colours.items()}


def measure_pair(
    profile: Portrait, style: Portrait, settings: MeshSettings, models: Models | None = None, seed: int = 0
) -> tuple[dict, list[tuple[str, torch.Tensor]]]:
    """Figures of one pair, figure -> method -> value, and its titled pictures `[1, S, S, 3]`.

    Args:
        models: also paint by these.
    """
    alignment = AlignmentSettings(crop_size=own_crop_size(style.face, *style.image.shape[1:3]))
    warp_seconds = []

    def paint(pair: CropPair):
        result, seconds = _timed(lambda: paint_by_mesh(pair, settings))
        warp_seconds.append(seconds)
        return result

    painted, paint_seconds = _timed(
        lambda: paint_face(style.image, style.face, profile.image, profile.face, paint, alignment)
    )
    pair, size = painted.pair, alignment.crop_size
    own, parts, style_mesh, target = mesh_match(pair, settings)
    flat = mesh_match(pair, replace(settings, shape=0.0))[0]
    landmarks = _landmark_errors(painted, flat, own)
    # Each painted crop with its outline: the result's lies on the target.
    made = {"result": (painted.stitched_crop, target), "affine_clone": (affine_clone(pair, style_mesh), style_mesh)}
    if models is not None:
        by_nets = _paint_by_nets(models, profile, style, seed)
        landmarks["net"] = _net_landmark_error(by_nets)
        larger = F.interpolate(by_nets.stitched_crop.movedim(-1, 1), size=(size, size), mode="bicubic", antialias=True)
        made["nets"] = (larger.movedim(1, -1).clamp(0, 1), style_mesh)

    profile_crop, style_crop = pair.profile[0].numpy(), pair.style[0].numpy()
    beard = max(parts.beard, face_parts(style_crop, style_mesh).beard)
    judge = _Judge(
        identity.embedding(profile.image[0], profile.face),
        style_crop,
        style_mesh,
        np.min(
            [
                regions.oval(mesh, size)
                * (1 - regions.features(mesh, size))
                * (1 - beard * regions.hull(mesh, regions.LOWER_FACE, size))
                for mesh in (style_mesh, target)
            ],
            axis=0,
        ),
        {"profile": skin_colour(profile_crop, parts.mesh), "style": skin_colour(style_crop, style_mesh)},
    )
    judged = {name: judge.figures(*painting) for name, painting in made.items()}
    read_again = next(iter(with_mesh(pair.style)), None)

    def by_method(key: str) -> dict[str, float | None]:
        return {name: one[key] for name, one in judged.items()}

    figures = {
        "landmark_error": landmarks,
        "identity": {
            "style": identity.similarity(judge.known, identity.embedding(style.image[0], style.face)),
            **by_method("identity"),
        },
        "pose_error_deg": {
            "style": read_again and degrees_between(read_again.points_3d, style_mesh),
            **by_method("pose_error_deg"),
        },
        "light_error": by_method("light_error"),
        "light_error_means_removed": by_method("light_error_means_removed"),
        "skin_tone_error": {key: by_method(key) for key in ("to_profile", "to_style")},
        "seam": by_method("seam"),
        "seam_worst": by_method("seam_worst"),
        "seconds": {
            "find": (profile.find_seconds + style.find_seconds) / 2,
            "warp": warp_seconds[0],
            "all": profile.find_seconds + style.find_seconds + paint_seconds,
        },
    }
    pictures = [
        (f"profile {profile.name}", pair.profile),
        (f"style {style.name}", pair.style),
        ("affine clone", made["affine_clone"][0]),
        ("warped", painted.crop.warped),
        ("result", made["result"][0]),
    ]
    return figures, pictures + ([("nets", made["nets"][0])] if "nets" in made else [])


def measure_set(portraits: list[Portrait], options: PhotographsMeasure, label: str, models: Models | None) -> dict:
    """All figures of one set of portraits; contact sheets begin with `label`.

    Raises:
        UserError: no two people, or dlib is missing.
    """
    pairs = pairs_of(portraits, options.pairs, options.seed)
    if not pairs:
        raise UserError("The photographs show one person only; pairs of different people are needed.")
    settings = MeshSettings(skin_tone=options.skin_tone)
    by_nets = {round(k * len(pairs) / options.nets) for k in range(options.nets)}
    measured, strips = [], []
    for number, (profile, style) in enumerate(tqdm(pairs, desc=label, unit="pair", mininterval=5)):
        used = models if number in by_nets else None
        figures, pictures = measure_pair(profile, style, settings, used, options.seed)
        measured.append(_Measured(f"{profile.name} -> {style.name}", abs(profile.yaw - style.yaw), figures))
        if options.sheets is not None:
            strips.append(strip(pictures, TILE))
            if len(strips) == ROWS or number == len(pairs) - 1:
                options.sheets.mkdir(parents=True, exist_ok=True)
                stacked(strips, gap=0).save(options.sheets / f"{label}_{number // ROWS:02d}.png")
                strips = []
    if options.sheets is not None:
        rows = {one.name: {"yaw_difference": one.yaw_difference, **one.figures} for one in measured}
        (options.sheets / f"{label}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    _print_worst(measured, label)
    whole = {"photographs": len(portraits)} | _averages(measured)
    twice = [
        identity.similarity(*(identity.embedding(portrait.image[0], portrait.face) for portrait in two))
        for two in same_person(portraits)
    ]
    whole["identity"]["same_person"] = summary(twice)["mean"]
    whole["same_person_pairs"] = len(twice)
    whole["by_yaw_difference"] = {
        name: _averages([one for one in measured if low <= one.yaw_difference < high])
        for name, (low, high) in YAW_DIFFERENCES.items()
    }
    return whole


def _averages(measured: list[_Measured]) -> dict:
    """Means of all figures, medians of seconds, and shares of pairs."""
    if not measured:
        return {"pairs": 0}
    figures = _averaged([one.figures for one in measured], "mean")
    figures["seconds"] = _averaged([one.figures["seconds"] for one in measured], "median")
    errors = [one.figures["landmark_error"] for one in measured]
    return {
        "pairs": len(measured),
        "painted_by_nets": sum("nets" in one.figures["identity"] for one in measured),
        "unread_results": sum(one.figures["identity"]["result"] is None for one in measured),
        "mesh_below_none": float(np.mean([error["mesh"] < error["none"] for error in errors])),
        **figures,
    }


def _averaged(parts: list[dict], which: str) -> dict:
    """One dict of `which` statistic of each number of nested dicts of one form; those that lack a key do not count there."""
    result = {}
    for key in dict.fromkeys(key for part in parts for key in part):
        values = [part[key] for part in parts if key in part]
        inner = isinstance(values[0], dict)
        result[key] = _averaged(values, which) if inner else summary(values)[which]
    return result


def measure_photographs(options: PhotographsMeasure) -> dict:
    """All figures; see `icportrait measure photographs --help`. The packaged photographs' stand at the top.

    Raises:
        UserError: a package of the photographs or dlib is missing, or the folder shows fewer than two people.
    """
    models = load_models(options.bundle) if options.nets else None
    figures = measure_set(packaged(), options, "packaged", models)
    if options.photos is not None:
        figures["folder"] = measure_set(in_folder(options.photos), options, "folder", models)
    return figures | {"skin_tone": options.skin_tone, "seed": options.seed}


def _print_worst(measured: list[_Measured], label: str) -> None:
    """The pairs to look at first."""
    print(f"\nworst of {label}, to look at")
    for what, badness in (
        ("identity", lambda f: -(-1.0 if f["identity"]["result"] is None else f["identity"]["result"])),
        ("light", lambda f: f["light_error_means_removed"]["result"]),
        ("seam", lambda f: f["seam_worst"]["result"]),
    ):
        ordered = sorted(measured, key=lambda one: badness(one.figures), reverse=True)[:WORST]
        print(f"  {what:9s} " + "; ".join(f"{one.name} ({abs(badness(one.figures)):.2f})" for one in ordered))


def goals(figures: dict) -> list[tuple[str, bool | None]]:
    """Each goal in words, and whether it is met; None where there is nothing to compare with."""
    landmarks, people, light = figures["landmark_error"], figures["identity"], figures["light_error"]
    twice, pose = people["same_person"], figures["pose_error_deg"]["result"]
    return [
        ("landmark error of the mesh at most 0.06", landmarks["mesh"] <= 0.06),
        ("mesh below no motion on 95 % of pairs", figures["mesh_below_none"] >= 0.95),
        (
            "identity at least that of one person's photographs",
            None if twice is None or people["result"] is None else people["result"] >= twice,
        ),
        ("pose error at most 5 degrees", None if pose is None else pose <= 5),
        ("light error at most half of affine clone's", light["result"] <= light["affine_clone"] / 2),
        ("a picture's faces found in at most 0.3 s", figures["seconds"]["find"] <= 0.3),
    ]


def print_table(figures: dict) -> None:
    """The figures for people, and the goals."""
    for label, part in {"packaged photographs": figures, "folder": figures.get("folder")}.items():
        if part is None:
            continue
        columns = {"all": part, **part["by_yaw_difference"]}
        print(f"\n{label}: {part['photographs']} faces; columns by yaw difference")
        print(f"  {'':44s}" + "".join(f"{name:>10s}" for name in columns))
        for name in ("pairs", "painted_by_nets", "unread_results", "mesh_below_none"):
            _print_row(name, [column.get(name) for column in columns.values()])
        for name, value in part.items():
            if isinstance(value, dict) and name not in ("by_yaw_difference", "folder"):
                _print_rows(name, [column.get(name, {}) for column in columns.values()])
        for goal, met in goals(part):
            print(f"  {'-' if met is None else 'met' if met else 'MISSED':7s} {goal}")


def _print_rows(name: str, columns: list[dict]) -> None:
    for key, value in columns[0].items():
        below = [column.get(key) for column in columns]
        if isinstance(value, dict):
            _print_rows(f"{name} {key}", [part or {} for part in below])
        else:
            _print_row(f"{name} {key}", below)


def _print_row(name: str, values: list[float | None]) -> None:
    print(f"  {name:44s}" + "".join(f"{'-' if value is None else f'{value:.3f}':>10s}" for value in values))
