"""Pairs from single portraits: each lifted to depth and light, and seen twice from random cameras in random light (the paper, section 3.2).

The portraits are a folder's, or painted by a checkpoint from descriptions first. A sample's flow is exact for the lifted surface, which is
itself an estimate.
"""

import functools
import itertools
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ...models.errors import UserError
from ...models.faces import detection
from ...models.mesh import regions
from ...models.mesh.painter import crop_mesh
from ...models.views.cameras import orbit, project, unproject
from ...models.views.lifter import Lifter, load_lifter
from ...models.views.photograph import lift_photograph
from ...models.views.relight import light_on, relight
from ...models.views.render import Lifted, View, read, render
from ...models.views.volume import Volume, lift_volume, render_with_volume
from ..core.checks import at_least, picture_sides
from ..core.comfy_runtime import start_comfy
from .folders.pictures import PICTURES
from .photographs import read_picture
from .shards import FORMAT_VERSION, encode_picture, encode_truth, write_shard
from .workers import run_tasks

GENERATOR_VERSION = 1
IDENTITIES, PAIRS = 206, 35_200  # the paper's
_SAME_SURFACE = 0.008  # metres


@dataclass(frozen=True)
class ViewSettings:
    """What is made of each portrait."""

    pairs: int = PAIRS
    """Pairs in all (the paper: 35,200 of 206 people), shared evenly."""
    size: int = 256
    """Picture side in pixels, a multiple of 64."""
    yaw: float = 25.0
    """Cameras stand at most so many degrees to either side of where the portrait was taken."""
    pitch: float = 12.0
    """The same above and below."""
    relit: float = 0.7
    """Share of views in a random light; the rest keep the portrait's."""
    seed: int = 0
    """Decides every camera and light."""

    def __post_init__(self):
        at_least(1, pairs=self.pairs)
        picture_sides(size=self.size)
        if not (0 <= self.yaw <= 45 and 0 <= self.pitch <= 30):
            raise UserError("--yaw must lie between 0 and 45 degrees, --pitch between 0 and 30.")


def random_map(rng: np.random.Generator) -> torch.Tensor:
    """A random environment map `[32, 64, 3]`: a dim room with one to three lamps of random place, width and tint."""
    y, x = np.mgrid[:32, :64]
    elevation, azimuth = np.pi / 2 - (y + 0.5) / 32 * np.pi, (x + 0.5) / 32 * np.pi - np.pi
    directions = np.stack(
        [np.sin(azimuth) * np.cos(elevation), np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)], axis=-1
    )
    room = np.full((32, 64, 3), rng.uniform(0.05, 0.3))
    for _ in range(rng.integers(1, 4)):
        lamp = rng.normal(size=3) + (0, 0.3, 0.5)
        tint = 1 + 0.35 * rng.uniform(-1, 1, 3)
        cosine = directions @ (lamp / np.linalg.norm(lamp))
        room += np.exp((cosine - 1) / rng.uniform(0.03, 0.3))[..., None] * tint * rng.uniform(0.4, 1.0)
    return torch.from_numpy(np.clip(room, 0, 1) ** (1 / 2.4)).float()


@dataclass(frozen=True, eq=False)
class _Shot:
    """One random view: what it shows and how it was taken."""

    camera: torch.Tensor
    view: View
    turn: tuple[float, float]
    light: torch.Tensor | None


def _shot(lifted: Lifted, volume: Volume | None, settings: ViewSettings, rng: np.random.Generator) -> _Shot:
    turn = float(rng.uniform(-settings.yaw, settings.yaw)), float(rng.uniform(-settings.pitch, settings.pitch))
    camera = orbit(lifted.frame, *turn)
    light = (
        light_on(lifted, random_map(rng), intensity=float(rng.uniform(0.75, 1.2)))
        if rng.random() < settings.relit
        else None
    )
    picture = None if light is None else relight(lifted, light)
    if volume is None:
        return _Shot(camera, render(lifted, camera, settings.size, picture), turn, light)
    return _Shot(camera, render_with_volume(volume, camera, settings.size, picture), turn, light)


def view_flow(
    target: View, target_camera: torch.Tensor, profile: View, profile_camera: torch.Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Flow `[2, S, S]` in pixels, target <- profile, and where the profile shows the same surface, bool `[S, S]`; on the person only."""
    size = len(target.depth)
    seen = project(unproject(target.depth, target_camera), profile_camera).view(-1, 3)
    there = read(torch.stack([profile.depth, profile.mask], dim=-1), seen[:, :2])
    at = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(at, at, indexing="ij")
    flow = (seen[:, :2].view(size, size, 2) - torch.stack([x, y], dim=-1)) * size
    inside = ((seen[:, :2] > 0) & (seen[:, :2] < 1)).all(dim=-1)
    visible = (
        inside
        & ((there[:, 0] - seen[:, 2]).abs() < _SAME_SURFACE)
        & (there[:, 1] > 0.5)
        & (target.mask.flatten() > 0.5)
    )
    return flow.movedim(-1, 0).numpy(), visible.view(size, size).numpy()


def samples_of(portrait: Path, number: int, pairs: int, settings: ViewSettings, net: Lifter | None = None):
    """The encoded samples of one portrait, as `write_shard` takes them; docs/data.md says what is in them.

    Raises:
        UserError: the portrait shows no face, naming it.
    """
    image = read_picture(portrait)
    found = detection.find_faces(image, detection.DetectionSettings(order="large-small", backend="mediapipe")).frames[0]
    if not found:
        raise UserError(f"{portrait.name} shows no face")
    lifted, placement = lift_photograph(image, found[0], settings.size)
    face = torch.from_numpy(regions.oval(crop_mesh(placement, image, portrait.name), len(lifted.picture)))
    volume = None if net is None else lift_volume(lifted, net)
    rng = np.random.default_rng([settings.seed, number])
    for index in range(pairs):
        shots = {role: _shot(lifted, volume, settings, rng) for role in ("target", "profile")}
        target, profile = shots["target"], shots["profile"]
        flow, visible = view_flow(target.view, target.camera, profile.view, profile.camera)
        places = project(unproject(target.view.depth, target.camera).view(-1, 3), lifted.camera)[:, :2]
        in_face = (read(face[..., None], places).view(visible.shape) > 0.5).numpy()
        pictures = {role: (shot.view.image.numpy() * 255 + 0.5).astype(np.uint8) for role, shot in shots.items()}
        yield {
            "__key__": f"views-{number:06d}-{index:05d}",
            **{f"{role}.webp": encode_picture(picture) for role, picture in pictures.items()},
            "truth.npz": encode_truth(flow, visible, np.zeros_like(visible), in_face),
            "meta.json": {
                "format_version": FORMAT_VERSION,
                "generator": "views",
                "generator_version": GENERATOR_VERSION,
                "seed": settings.seed,
                "identity": {"target": portrait.stem},
                "scene": {role: f"{portrait.stem}-{index}-{role}" for role in shots},
                "geometry": "face mesh" if net is None else "lifter",
                "turn": {role: [round(x, 3) for x in shot.turn] for role, shot in shots.items()},
                "cameras": {role: [round(float(x), 7) for x in shot.camera] for role, shot in shots.items()},
                "light": {
                    role: None if shot.light is None else shot.light.numpy().round(4).tolist()
                    for role, shot in shots.items()
                },
            },
        }


@functools.lru_cache(1)
def _net(path: Path | None) -> Lifter | None:
    return None if path is None else load_lifter(path)


def _write(task) -> None:
    path, portrait, number, pairs, settings, lifter = task
    torch.set_num_threads(1)
    try:
        write_shard(path, samples_of(portrait, number, pairs, settings, _net(lifter)))
    except UserError as error:
        if "no face" not in str(error):
            raise
        path.with_suffix(".skipped").write_text(f"{error}\n", encoding="utf-8")


def write_views(
    portraits: Path,
    out: Path,
    settings: ViewSettings = ViewSettings(),
    lifter: Path | None = None,
    workers: int = 2,
    ray: str | None = None,
) -> dict:
    """One shard a portrait of a folder; shards that are there are kept, so a run that stops can be repeated.

    Returns:
        number of portraits, shards and pairs, and the portraits left out with the reason.

    Raises:
        UserError: no pictures, none with a face, or Ray is asked for and not installed.
    """
    pictures = sorted(path for path in portraits.iterdir() if path.suffix.lower() in PICTURES)
    if not pictures:
        raise UserError(f"{portraits} holds no pictures; read are: {' '.join(PICTURES)}.")
    out.mkdir(parents=True, exist_ok=True)
    tasks, paths = [], []
    for number, portrait in enumerate(pictures):
        pairs = settings.pairs // len(pictures) + (number < settings.pairs % len(pictures))
        path = out.absolute() / f"views-{settings.seed}-{number:06d}.tar"
        paths.append(path)
        if pairs and not path.exists() and not path.with_suffix(".skipped").exists():
            tasks.append((path, portrait.absolute(), number, pairs, settings, lifter and lifter.absolute()))
    with tqdm(total=len(paths), initial=len(paths) - len(tasks), unit="portrait", desc="views") as bar:
        run_tasks(_write, tasks, workers, ray, bar)
    skipped = {
        path.stem: path.read_text("utf-8").strip() for path in sorted(out.glob(f"views-{settings.seed}-*.skipped"))
    }
    made = [path for path in paths if path.exists()]
    if not made:
        raise UserError(f"none of the {len(pictures)} pictures of {portraits} shows a face")
    return {"portraits": len(pictures), "shards": len(made), "left_out": skipped, "settings": asdict(settings)}


def descriptions(count: int = IDENTITIES) -> list[str]:
    """Prompts for portraits of people who do not exist: age, sex, skin, hair and clothes; nobody's name."""
    parts = (
        ("young", "middle-aged", "old", "thirty year old", "fifty year old"),
        ("woman", "man"),
        ("light skin", "olive skin", "brown skin", "dark brown skin", "freckled skin", "tanned skin"),
        (
            "short black hair",
            "long brown hair tied back",
            "grey hair",
            "curly hair",
            "blond hair tied back",
            "a shaved head",
            "red hair",
        ),
        ("a dark shirt", "a white shirt", "a woollen jumper", "a blue jacket"),
    )
    every = list(itertools.product(*parts))
    order = np.random.default_rng(0).permutation(len(every))
    chosen = [every[k] for k in itertools.islice(itertools.cycle(order), count)]
    return [
        f"portrait photo of a {age} {sex} with {skin} and {hair}, wearing {clothes}, head and shoulders, facing the camera, soft even light"
        for age, sex, skin, hair, clothes in chosen
    ]


@dataclass(frozen=True)
class PaintSettings:
    """How a checkpoint paints the portraits."""

    negative: str = "hat, hand, sunglasses, profile view, cropped, blurry, drawing"
    """What no picture should show."""
    steps: int = 25
    """Of the sampler."""
    cfg: float = 6.0
    """How closely the words are followed."""
    sampler: str = "euler"
    """ComfyUI's name of the sampler."""
    scheduler: str = "normal"
    """ComfyUI's name of the scheduler."""
    side: int = 512
    """Side of the painted pictures in pixels, a multiple of 64: what the checkpoint was trained for."""

    def __post_init__(self):
        at_least(1, steps=self.steps)
        picture_sides(side=self.side)


@torch.no_grad()
def paint_portraits(
    checkpoint: Path, prompts: list[str], folder: Path, settings: PaintSettings = PaintSettings(), seed: int = 0
) -> list[Path]:
    """Paint a picture for each prompt with any checkpoint ComfyUI loads, through its own sampler; pictures that are there are kept.

    Raises:
        UserError: no prompts, ComfyUI cannot be found, or a checkpoint without text encoder or autoencoder.
    """
    if not prompts:
        raise UserError("there are no prompts: one a line is needed")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"painted-{seed}-{number:05d}.png" for number in range(len(prompts))]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    if not missing:
        return paths
    start_comfy()
    import comfy.sample
    import comfy.sd

    model, clip, vae = comfy.sd.load_checkpoint_guess_config(str(checkpoint))[:3]
    if clip is None or vae is None:
        raise UserError(
            f"{checkpoint} has no text encoder or no autoencoder; a whole checkpoint is needed to paint from words"
        )
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(settings.negative))
    for number in tqdm(missing, desc="painting", unit="portrait"):
        positive = clip.encode_from_tokens_scheduled(clip.tokenize(prompts[number]))
        empty = comfy.sample.fix_empty_latent_channels(model, torch.zeros(1, 4, settings.side // 8, settings.side // 8))
        noise = comfy.sample.prepare_noise(empty, seed + number)
        latent = comfy.sample.sample(
            model, noise, settings.steps, settings.cfg, settings.sampler, settings.scheduler, positive, negative, empty,
            disable_pbar=True, seed=seed + number,
        )  # fmt: skip
        picture = (vae.decode(latent)[0].clamp(0, 1).cpu().numpy() * 255 + 0.5).astype(np.uint8)
        ok, data = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
        if not ok:
            raise UserError(f"the picture of prompt {number} could not be encoded")
        temporary = paths[number].with_name(f".{paths[number].name}.{os.getpid()}.part")
        temporary.write_bytes(data.tobytes())
        os.replace(temporary, paths[number])
    return paths
