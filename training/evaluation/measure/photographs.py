"""`icportrait measure photographs`: the path without nets on photographs, against simpler methods.

Correspondence and picture are judged apart. The flow is judged by dlib's 68 landmarks, which have no part in making it: for each of the
51 inner ones of the style, how far the place the flow names lies from the profile's own landmark (shape 0: from face to face as they are).
The picture is judged by dlib's recogniser, by the pose read anew from the result, and by light and colours inside the face.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ....models.errors import UserError
from ....models.faces import identity
from ....models.faces.alignment import AlignmentSettings, similarity
from ....models.mesh import regions
from ....models.mesh.geometry import degrees_between
from ....models.mesh.light import bare_skin
from ....models.mesh.numerics import blur, mean_within, to_lab
from ....models.mesh.painter import MeshSettings, mesh_flow, mesh_match, paint_by_mesh
from ....models.mesh.skin import skin_mask
from ....models.painting import CropPair, paint_face
from ....models.pictures.panels import labelled_panel
from ...core.checks import at_least
from ...core.paths import InputFolder
from ..photo_pairs import Portrait, in_folder, judge, packaged, pairs_of, with_mesh
from ..statistics import summary
from .settings import Measure

INNER = slice(17, 68)
ROWS = 5  # pairs on a contact sheet
BINS = {"all": (0, 180), "below_20": (0, 20), "20_to_40": (20, 40)}


@dataclass(frozen=True, kw_only=True)
class PhotographsMeasure(Measure):
    """The path without nets on photographs: landmarks, identity, pose, light, seam and time."""

    photos: InputFolder | None = None
    """Folder of portraits (NAME_1.jpg, NAME_2.jpg: one person); default: the eight faces that packages bring, all 56 pairs."""
    pairs: int = 100
    """At most so many pairs."""
    crop_size: int = 512
    """Side of the painted crops in pixels."""
    skin_tone: float = MeshSettings.skin_tone
    """As in the node."""
    sheets: Path | None = None
    """Folder for contact sheets: profile, style, affine paste, warp, result."""
    seed: int = 0
    """Decides which pairs are taken."""

    def __post_init__(self):
        at_least(1, pairs=self.pairs)
        at_least(128, crop_size=self.crop_size)


def affine_clone(pair: CropPair, profile_mesh: np.ndarray, style_mesh: np.ndarray) -> torch.Tensor:
    """What a face can be swapped with in ten lines: eyes and mouth onto eyes and mouth, then OpenCV's seamlessClone in the face's hull."""
    five = [[33, 133], [362, 263], [4], [61], [291]]
    points = [np.array([mesh[index, :2].mean(axis=0) for index in five]) for mesh in (profile_mesh, style_mesh)]
    size = pair.style.shape[1]
    moved = cv2.warpAffine(_bytes(pair.profile), similarity(*points), (size, size), borderMode=cv2.BORDER_REPLICATE)
    mask = ((regions.oval(style_mesh, size) > 0.5) * 255).astype(np.uint8)
    mask[[0, -1]] = mask[:, [0, -1]] = 0
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return pair.style
    cloned = cv2.seamlessClone(moved, _bytes(pair.style), mask, (x + width // 2, y + height // 2), cv2.NORMAL_CLONE)
    return torch.from_numpy(cloned).float()[None] / 255


def landmark_errors(pair: CropPair, profile_mesh: np.ndarray, style_mesh: np.ndarray) -> dict[str, float]:
    """Mean distance at the 51 inner landmarks, in the profile's eye distances, of the mesh's flow, an affine one, and none."""
    profile, style = judge(pair.profile, profile_mesh), judge(pair.style, style_mesh)
    eye_distance = float(np.linalg.norm(profile[36:42].mean(axis=0) - profile[42:48].mean(axis=0)))
    offsets = mesh_flow(pair, MeshSettings(shape=0.0)).offsets[0].numpy()
    columns, rows = (np.clip(style[INNER, k].astype(int), 0, pair.style.shape[1] - 1) for k in (0, 1))
    five = [[33, 133], [362, 263], [4], [61], [291]]
    points = [np.array([mesh[index, :2].mean(axis=0) for index in five]) for mesh in (style_mesh, profile_mesh)]
    matrix = similarity(*points)
    found = {
        "mesh": style[INNER] + offsets[:, rows, columns].T,
        "affine": style[INNER] @ matrix[:, :2].T + matrix[:, 2],
        "none": style[INNER],
    }
    return {
        name: float(np.linalg.norm(at - profile[INNER], axis=1).mean()) / eye_distance for name, at in found.items()
    }


def light_errors(made: np.ndarray, style: np.ndarray, face: np.ndarray) -> tuple[float, float]:
    """RMSE of the low-frequency lightness (CIE L) inside the face: as it is, and with both means removed.

    Args:
        made, style: `[S, S, 3]`, sRGB.
        face: `[S, S]`, without eyes, brows, mouth.
    """
    sigma = 0.05 * len(face)
    weight = blur(face, sigma) + 1e-4
    first, second = (blur(to_lab(x)[..., 0] * face, sigma) / weight for x in (made, style))
    difference = (first - second)[face > 0.5]
    return float(np.sqrt((difference**2).mean())), float(difference.std())


def seam(made: np.ndarray, style: np.ndarray, face: np.ndarray) -> float:
    """Mean gradient of the lightness along the face's outline, less the style's own there, in CIE L a pixel."""
    ring = (regions.grown(face, 0.02 * len(face)) > 0.5) & ~(regions.grown(1 - face, 0.02 * len(face)) < 0.5)
    ring &= regions.grown(1 - face, 0.02 * len(face)) > 0.5

    def gradient(picture: np.ndarray) -> float:
        lightness = to_lab(picture)[..., 0]
        return float(np.hypot(*np.gradient(lightness))[ring].mean())

    return gradient(made) - gradient(style)


def measure_pair(profile: Portrait, style: Portrait, options: PhotographsMeasure) -> tuple[dict, list]:
    """Figures of one pair, and its row of labelled pictures for a contact sheet."""
    alignment = AlignmentSettings(crop_size=options.crop_size)
    seconds = {}
    begin = time.perf_counter()
    with_mesh(style.image)
    seconds["find"] = time.perf_counter() - begin
    begin = time.perf_counter()
    settings = MeshSettings(skin_tone=options.skin_tone)
    painted = paint_face(
        style.image, style.face, profile.image, profile.face, lambda pair: paint_by_mesh(pair, settings), alignment
    )
    seconds["all"] = time.perf_counter() - begin
    pair = painted.pair
    begin = time.perf_counter()
    _, profile_mesh, style_mesh, _ = mesh_match(pair, settings)
    seconds["warp"] = time.perf_counter() - begin
    pictures = {"result": painted.stitched_crop, "affine_clone": affine_clone(pair, profile_mesh, style_mesh)}
    size, style_crop = options.crop_size, pair.style[0].numpy()
    known = identity.embedding(profile.image[0], profile.face)
    face = regions.oval(style_mesh, size)
    plain = face * (1 - regions.features(style_mesh, size))
    skin = bare_skin(style_crop, skin_mask(style_crop, style_mesh) * face, style_mesh)
    profile_crop = pair.profile[0].numpy()
    own = bare_skin(
        profile_crop, skin_mask(profile_crop, profile_mesh) * regions.oval(profile_mesh, size), profile_mesh
    )
    figures = {
        "yaw_difference": abs(profile.yaw - style.yaw),
        "landmark_error": landmark_errors(pair, profile_mesh, style_mesh),
        "identity": {"style": identity.similarity(known, identity.embedding(style.image[0], style.face))},
        "pose_error_deg": {}, "light_error": {}, "light_error_means_removed": {}, "skin_tone_error": {}, "seam": {},
        "seconds": seconds,
    }  # fmt: skip
    for name, picture in pictures.items():
        made = picture[0].numpy()
        found = with_mesh(picture)
        figures["identity"][name] = (
            identity.similarity(known, identity.embedding(picture[0], found[0])) if found else None
        )
        figures["pose_error_deg"][name] = degrees_between(found[0].points_3d, style_mesh) if found else None
        light = light_errors(made, style_crop, plain)
        figures["light_error"][name], figures["light_error_means_removed"][name] = light
        tone = mean_within(to_lab(made), skin)[1:]
        figures["skin_tone_error"][name] = float(np.linalg.norm(tone - mean_within(to_lab(profile_crop), own)[1:]))
        figures["seam"][name] = seam(made, style_crop, face)
    row = [
        (f"{profile.name} -> {style.name}", pair.profile), ("style", pair.style),
        ("affine + clone", pictures["affine_clone"]), ("warp", painted.crop.warped), ("result", pictures["result"]),
    ]  # fmt: skip
    return figures, row


def same_person(portraits: list[Portrait]) -> dict:
    """Similarity of two photographs of one person, over all such pairs."""
    people: dict[str, list] = {}
    for portrait in portraits:
        people.setdefault(portrait.person, []).append(identity.embedding(portrait.image[0], portrait.face))
    values = [
        identity.similarity(a, b) for known in people.values() for i, a in enumerate(known) for b in known[i + 1 :]
    ]
    return summary(values)


def measure_photographs(options: PhotographsMeasure) -> dict:
    """All figures; see `icportrait measure photographs --help`.

    Raises:
        UserError: no photographs, or dlib is missing.
    """
    portraits = packaged() if options.photos is None else in_folder(options.photos)
    pairs = pairs_of(portraits, options.pairs, options.seed)
    if not pairs:
        raise UserError(
            "there is no pair of two people: name photographs of one person NAME_1.jpg, NAME_2.jpg, others differently"
        )
    rows, measured = [], []
    for number, (profile, style) in enumerate(tqdm(pairs, desc="pairs", mininterval=5)):
        figures, row = measure_pair(profile, style, options)
        measured.append(figures | {"pair": f"{profile.name} -> {style.name}"})
        rows += row
        if options.sheets and (len(rows) == 5 * ROWS or number == len(pairs) - 1):
            _save_sheet(rows, options.sheets / f"sheet_{number // ROWS:02d}.png")
            rows = []
    figures = {"pairs": len(pairs), "photographs": len(portraits), "same_person": same_person(portraits)}
    for name, (low, high) in BINS.items():
        chosen = [m for m in measured if low <= m["yaw_difference"] < high]
        figures[name] = _means(chosen) | {"pairs": len(chosen)} if chosen else {"pairs": 0}
    figures["worst"] = {
        "identity": _worst(measured, lambda m: m["identity"]["result"] or 0.0),
        "light": _worst(measured, lambda m: -m["light_error"]["result"]),
        "landmarks": _worst(measured, lambda m: -m["landmark_error"]["mesh"]),
    }
    if options.photos is not None:
        del figures["worst"]  # names of the user's files stay with the user
        for kind, key in (
            ("identity", lambda m: m["identity"]["result"] or 0.0),
            ("light", lambda m: -m["light_error"]["result"]),
        ):
            print(f"worst by {kind}: {', '.join(_worst(measured, key))}")
    return figures


def _means(measured: list[dict]) -> dict:
    """Means (medians for seconds) of figures that are numbers or groups of numbers."""
    result: dict = {}
    for key, value in measured[0].items():
        if not isinstance(value, dict):
            continue
        which = "median" if key == "seconds" else "mean"
        result[key] = {name: summary(m[key].get(name) for m in measured)[which] for name in value}
    errors = [m["landmark_error"] for m in measured]
    result["mesh_below_none"] = float(np.mean([e["mesh"] < e["none"] for e in errors]))
    return result


def _worst(measured: list[dict], key: Callable[[dict], float], count: int = 5) -> list[str]:
    return [m["pair"] for m in sorted(measured, key=key)[:count]]


def _save_sheet(tiles: list, path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_bytes(labelled_panel(tiles, 320, columns=5))).save(path)


def _bytes(picture: torch.Tensor) -> np.ndarray:
    return (picture[0].clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()


def print_table(figures: dict) -> None:
    """The figures for people, with the goals beside them."""
    print(
        f"{figures['pairs']} pairs of {figures['photographs']} photographs; one person twice: {figures['same_person']['mean']}"
    )
    goals = {
        "landmark_error": "mesh at most 0.06", "identity": "result at least one person's two photographs",
        "pose_error_deg": "result at most 5", "light_error": "result at most half of affine_clone", "seconds": "find at most 0.3",
    }  # fmt: skip
    for name in BINS:
        part = figures[name]
        print(f"\n{name}: {part['pairs']} pairs")
        for key, values in part.items():
            if isinstance(values, dict):
                told = "  ".join(f"{k} {v:.3f}" for k, v in values.items() if v is not None)
                print(f"  {key:26s} {told}" + (f"   (goal: {goals[key]})" if key in goals else ""))
        if "mesh_below_none" in part:
            print(f"  mesh below no motion       {part['mesh_below_none']:.0%}   (goal: 95%)")
