"""`icportrait measure views`: held-out heads turned by 20 degrees and relit, beside simpler methods and the true render.

Each head is rendered from the front and from both sides in one light and one moment; the camera of each picture is known to all methods.
Everything is measured on the head alone (the backdrop of a render does not turn).

- *unchanged*: the front picture. *landmark_warp*: a thin-plate spline from the mesh read on the front picture to that read on the true side
  picture, which no method knows in use. *mesh_warp*: `models/views/photograph.py`, no net. *volume*: with the lifter, where one is given.
  `view` is what the node does: the volume with a lifter, the mesh without.
- *identity ratio*: likeness (1 - distance of dlib's embeddings) of view and front over that of true side and front. Seen in `identity`.
- *re-lift*: the view lifted again and turned back, against the front picture.
- *relight error*: a head in another scene's light, from that light's environment map: scale-invariant error of the shading on face skin
  (evaluation/metrics/light.py). *colour_transfer*: mean and spread of CIE Lab from another person in the new light.
  *light angle*: between the main directions of the lights fitted to result and truth.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from tqdm import tqdm

from ....models.errors import UserError
from ....models.faces import dlib_backend, identity
from ....models.faces.mediapipe import topology
from ....models.faces.types import Face
from ....models.mesh.numerics import from_lab, sampled, to_lab
from ....models.views.cameras import orbit
from ....models.views.lifter import Lifter, load_lifter
from ....models.views.light import harmonics
from ....models.views.photograph import lift_crop, lift_photograph
from ....models.views.relight import light_on, relight
from ....models.views.render import Lifted, View, render
from ....models.views.volume import lift_volume, render_with_volume
from ...core.checks import at_least, picture_sides
from ...core.paths import InputFile, OutputFolder
from ...data.heads.camera import portrait_camera
from ...data.heads.generate import HELD_OUT, PERSON, SCENE, seed_of
from ...data.heads.identity import make_person
from ...data.heads.lights import Light
from ...data.heads.render import render as render_head
from ...data.heads.scene import random_scene
from ..metrics.light import fit_light, light_angle_error, scale_invariant_shading_error
from ..metrics.pictures import psnr, ssim
from ..photo_pairs import packaged, with_mesh
from ..picture_grid import save_grid
from ..render_truth import truth_of
from ..statistics import summary
from .settings import Measure

GROUP = HELD_OUT + 3_000  # nobody trains on it, and no other measurement looks at it
TURN = 20.0  # degrees
FOV = 20.0
SIDES = {"left": -TURN, "right": TURN}
# Points of the thin-plate spline: outline, eyes, lips, nose.
_WARPED = (
    *topology.FACE_OVAL[::2],
    *topology.LEFT_EYE[::2],
    *topology.RIGHT_EYE[::2],
    *topology.LIPS_OUTER[::2],
    1,
    4,
    5,
    195,
    98,
    327,
)


@dataclass(frozen=True, kw_only=True)
class ViewsMeasure(Measure):
    """Novel views and relighting on held-out heads, against the true renders."""

    identities: int = 24
    """Heads; each is turned to both sides."""
    size: int = 256
    """Picture side in pixels."""
    lifter: InputFile | None = None
    """Lifter of `icportrait train lifter`; without one the mesh alone is measured."""
    seed: int = 0
    """Decides every head and scene."""
    sheets: OutputFolder | None = None
    """Folder for contact sheets, those of the packaged photographs included."""

    def __post_init__(self):
        at_least(1, identities=self.identities)
        picture_sides(size=self.size)
        dlib_backend.require()


def _float(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.astype(np.float32) / 255)


def mesh_of(picture: torch.Tensor) -> tuple[Face, np.ndarray] | None:
    """The face of a picture `[S, S, 3]` and its mesh `[468, 3]`, or None."""
    faces = with_mesh(picture[None])
    return (faces[0], faces[0].points_3d[: topology.POINTS]) if faces else None


def landmark_warp(picture: np.ndarray, own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A picture `[S, S, 3]` warped so that its landmarks `own` `[N, 2]` lie at `wanted`; its border stays."""
    side = len(picture)
    border = np.array(
        [(x, y) for x in (0, side / 2, side) for y in (0, side / 2, side) if (x, y) != (side / 2, side / 2)]
    )
    spline = RBFInterpolator(
        np.concatenate([wanted, border]), np.concatenate([own, border]) - np.concatenate([wanted, border])
    )
    y, x = np.mgrid[:side, :side] + 0.5
    at = np.stack([x, y], axis=-1)
    return np.clip(sampled(picture, at + spline(at.reshape(-1, 2)).reshape(at.shape)), 0, 1)


def colour_transfer(picture: np.ndarray, head: np.ndarray, style: np.ndarray, style_head: np.ndarray) -> np.ndarray:
    """A picture with the style's mean and spread in CIE Lab (E. Reinhard et al., 2001), both over their heads (bool `[S, S]`)."""
    own, wanted = to_lab(picture), to_lab(style)
    means, spreads = zip(
        *[(lab[mask].mean(axis=0), lab[mask].std(axis=0)) for lab, mask in ((own, head), (wanted, style_head))]
    )
    return from_lab((own - means[0]) * (spreads[1] / np.maximum(spreads[0], 1e-3)) + means[1])


def environment_map(light: Light, height: int = 64) -> torch.Tensor:
    """An equirectangular map `[H, 2H, 3]` of a head's light to the second order, as the nodes take it."""
    elevation = np.pi / 2 - (np.arange(height) + 0.5) / height * np.pi
    azimuth = (np.arange(2 * height) + 0.5) / height * np.pi - np.pi
    e, a = np.meshgrid(elevation, azimuth, indexing="ij")
    directions = np.stack([np.sin(a) * np.cos(e), np.sin(e), -np.cos(a) * np.cos(e)], axis=-1)
    linear = (harmonics(torch.from_numpy(directions).float()) @ torch.from_numpy(light.sh)).clamp_min(0)
    return torch.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp_min(1e-6) ** (1 / 2.4) - 0.055)


class _Views:
    """One method of the product: how it lifts and renders."""

    def __init__(self, net: Lifter | None):
        self.net = net

    def __call__(self, lifted: Lifted, target: torch.Tensor, size: int) -> View:
        if self.net is None:
            return render(lifted, target, size)
        return render_with_volume(lift_volume(lifted, self.net), target, size)


def measure_head(number: int, options: ViewsMeasure, net: Lifter | None) -> tuple[list[dict], list]:
    """Figures of one head, one dict a side, and rows of pictures for a sheet; no figures where no mesh is read on the front picture."""
    size, seed = options.size, options.seed
    person = make_person(seed_of(seed, GROUP, PERSON, number))
    scene = random_scene(seed_of(seed, GROUP, SCENE, number))
    places = {yaw: dataclasses.replace(scene, camera=portrait_camera(yaw, 0, 0, FOV)) for yaw in (0.0, *SIDES.values())}
    rendered = {yaw: render_head(person, place, size) for yaw, place in places.items()}
    pictures = {yaw: _float(view.picture) for yaw, view in rendered.items()}
    cameras = {yaw: torch.tensor(view.camera.scalars()) for yaw, view in rendered.items()}
    front = pictures[0.0]
    found = mesh_of(front)
    if found is None:
        return [], []
    face, mesh = found
    start = time.perf_counter()
    lifted = lift_crop(front, mesh, taken_by=cameras[0.0])
    lift_seconds = time.perf_counter() - start
    own_identity = identity.embedding(front, face)
    figures, row = [], [("front", front[None])]
    for yaw in SIDES.values():
        truth, head = pictures[yaw].numpy(), rendered[yaw].kind > 0
        truth_mesh = mesh_of(pictures[yaw])
        made = {"unchanged": front, "mesh_warp": render(lifted, cameras[yaw], size).image}
        if truth_mesh is not None:
            points = list(_WARPED)
            made["landmark_warp"] = torch.from_numpy(
                landmark_warp(front.numpy(), mesh[points, :2], truth_mesh[1][points, :2])
            )
        start = time.perf_counter()
        made["view"] = _Views(net)(lifted, cameras[yaw], size).image
        one = {"seconds_per_view": time.perf_counter() - start, "seconds_to_lift": lift_seconds}
        one["psnr_db"] = {name: psnr(picture.numpy(), truth, head) for name, picture in made.items()}
        one["ssim"] = {name: ssim(picture.numpy(), truth, head) for name, picture in made.items()}
        view_mesh = mesh_of(made["view"])
        if view_mesh is not None and truth_mesh is not None:
            like = [
                identity.similarity(own_identity, identity.embedding(picture, at[0]))
                for picture, at in ((made["view"], view_mesh), (pictures[yaw], truth_mesh))
            ]
            one["identity"] = {"view": like[0], "truth": like[1]}
            again = lift_crop(made["view"], view_mesh[1], taken_by=cameras[yaw])
            one["relift_psnr_db"] = psnr(
                _Views(net)(again, cameras[0.0], size).image.numpy(), front.numpy(), rendered[0.0].kind > 0
            )
        figures.append(one)
        row += [
            (f"{name} {yaw:+.0f}", made[name][None]) for name in ("landmark_warp", "mesh_warp", "view") if name in made
        ]
        row.append((f"true {yaw:+.0f}", pictures[yaw][None]))
    relit, pair = measure_light(number, options, lifted, places[0.0], person)
    for one in figures:
        one.update(relit)
    return figures, row + pair


def measure_light(number: int, options: ViewsMeasure, lifted: Lifted, place, person) -> tuple[dict, list]:
    """Figures of one head under the light of another scene, and the pictures."""
    other = random_scene(seed_of(options.seed, GROUP, SCENE, number + 10_000))
    lamp = dataclasses.replace(place, light=other.light)
    truth, style = (
        truth_of(who, lamp, options.size)
        for who in (person, make_person(seed_of(options.seed, GROUP, PERSON, number + 10_000)))
    )
    given = lifted.picture.numpy()
    made = {
        "unchanged": given,
        "colour_transfer": colour_transfer(given, truth.skin, style.picture, style.skin),
        "ours": relight(lifted, light_on(lifted, environment_map(other.light))).numpy(),
    }
    shade, known = truth.shading(truth.picture)
    errors, angles = {}, {}
    if known.sum() >= 100:
        right = fit_light(shade[known], truth.normals[known])
        for name, picture in made.items():
            result, seen = truth.shading(picture)
            both = known & seen
            if both.sum() >= 100:
                errors[name] = scale_invariant_shading_error(result[both], shade[both])
                angles[name] = light_angle_error(fit_light(result[both], truth.normals[both]), right)
    pictures = [(name, torch.from_numpy(picture)[None]) for name, picture in made.items() if name != "unchanged"]
    return {"relight_error": errors, "light_angle_deg": angles}, [
        *pictures,
        ("true light", torch.from_numpy(truth.picture)[None]),
    ]


FOUR_LIGHTS = {
    "from the left": ((0.25, 0.6, -0.8), (1.0, 0.9, 0.75)),
    "from the right": ((0.25, 0.6, 0.8), (1.0, 0.9, 0.75)),
    "from above": ((1.0, 0.2, 0.0), (0.8, 0.9, 1.0)),
    "warm and cool": ((0.1, 0.5, -0.9), (1.0, 0.45, 0.3)),
}
"""Direction (up, to the camera, to the right) and linear colour of the lamps that the packaged photographs are shown in."""


def lamp_map(name: str, height: int = 32) -> torch.Tensor:
    """An environment map `[H, 2H, 3]` with one lamp (two in "warm and cool") in a dim room."""
    elevation = np.pi / 2 - (np.arange(height) + 0.5) / height * np.pi
    azimuth = (np.arange(2 * height) + 0.5) / height * np.pi - np.pi
    e, a = np.meshgrid(elevation, azimuth, indexing="ij")
    directions = np.stack([np.sin(e), np.cos(a) * np.cos(e) * -1, np.sin(a) * np.cos(e)], axis=-1)
    lamps = [FOUR_LIGHTS[name]]
    if name == "warm and cool":
        lamps.append(((0.1, 0.5, 0.9), (0.35, 0.55, 1.0)))
    room = np.full((height, 2 * height, 3), 0.12)
    for direction, colour in lamps:
        direction = np.array(direction) / np.linalg.norm(direction)
        room += np.exp((directions @ direction - 1) / 0.12)[..., None] * np.array(colour)
    return torch.from_numpy(np.clip(room, 0, 1) ** (1 / 2.2)).float()


def photograph_sheets(folder: Path, net: Lifter | None) -> None:
    """Strips of views within 20 degrees and of four lights, of the photographs that packages bring."""
    orbits, lights = [], []
    for person in packaged():
        lifted, _ = lift_photograph(person.image, person.face, 256)
        turns = [(float(yaw), 0.0) for yaw in (-20, -10, 0, 10, 20)] + [(0.0, 12.0)]
        orbits.append(
            [
                (f"{yaw:+.0f} {pitch:+.0f}", _Views(net)(lifted, orbit(lifted.frame, yaw, pitch), 256).image[None])
                for yaw, pitch in turns
            ]
        )
        row = [("given", render(lifted, lifted.frame, 256).image[None])]
        for name in FOUR_LIGHTS:
            row.append(
                (name, render(lifted, lifted.frame, 256, relight(lifted, light_on(lifted, lamp_map(name)))).image[None])
            )
        lights.append(row)
    save_grid(orbits, folder / "photographs_orbit.png")
    save_grid(lights, folder / "photographs_light.png")


def _mean(figures: list[dict], key: str, part: str | None = None) -> float | None:
    values = [one[key] if part is None else one[key].get(part) for one in figures if key in one]
    return summary([value for value in values if value is not None])["mean"]


def measure_views(options: ViewsMeasure) -> dict:
    """All figures; see `icportrait measure views --help`."""
    net = None if options.lifter is None else load_lifter(options.lifter)
    figures, rows, unread = [], [], 0
    for number in tqdm(range(options.identities), desc="views", unit="head", mininterval=5):
        found, row = measure_head(number, options, net)
        figures += found
        unread += not found
        if row:
            rows.append(row)
    if not figures:
        raise UserError("no face could be read on any of the heads; use a larger --size")
    if options.sheets is not None:
        for first in range(0, len(rows), 6):
            save_grid(rows[first : first + 6], options.sheets / f"heads_{first // 6:02d}.png")
        photograph_sheets(options.sheets, net)
        (options.sheets / "heads.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    names = ("view", "unchanged", "landmark_warp", "mesh_warp")
    light = ("ours", "colour_transfer", "unchanged")
    alike = {name: _mean(figures, "identity", name) for name in ("view", "truth")}
    return {
        "heads": options.identities - unread,
        "unread_heads": unread,
        "views": len(figures),
        "yaw_deg": TURN,
        "size": options.size,
        "lifter": None if options.lifter is None else options.lifter.name,
        "psnr_db": {name: _mean(figures, "psnr_db", name) for name in names},
        "ssim": {name: _mean(figures, "ssim", name) for name in names},
        "identity": alike,
        "identity_ratio": None if alike["truth"] is None else alike["view"] / alike["truth"],
        "relift_psnr_db": _mean(figures, "relift_psnr_db"),
        "relight_error": {name: _mean(figures, "relight_error", name) for name in light},
        "light_angle_deg": {name: _mean(figures, "light_angle_deg", name) for name in light},
        "seconds_per_view": _mean(figures, "seconds_per_view"),
        "seconds_to_lift": _mean(figures, "seconds_to_lift"),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seed": options.seed,
    }


def goals(figures: dict) -> list[tuple[str, bool | None]]:
    """Each goal in words, and whether it is met; None where it was not measured."""
    signal, error = figures["psnr_db"], figures["relight_error"]
    simple = [signal[name] for name in ("unchanged", "landmark_warp") if signal[name] is not None]
    ratio = figures["identity_ratio"]
    light = None if None in (error["ours"], error["colour_transfer"]) else error["ours"] < error["colour_transfer"]
    return [
        ("views 3 dB above unchanged and landmark warp", signal["view"] >= max(simple) + 3),
        ("identity at least 0.9 of the true render's", None if ratio is None else ratio >= 0.9),
        ("relight error below colour transfer's", light),
    ]


def print_table(figures: dict) -> None:
    """The figures for people, and the goals."""
    for name, value in figures.items():
        for key, number in value.items() if isinstance(value, dict) else [("", value)]:
            shown = f"{number:.3f}" if isinstance(number, float) else "-" if number is None else str(number)
            print(f"  {name + ' ' + key:34s}{shown:>12s}")
    for goal, met in goals(figures):
        print(f"  {'-' if met is None else 'met' if met else 'MISSED':7s} {goal}")
