"""`icportrait measure customise`: does customisation bring out the person on views it has not seen?

Held-out heads stand for people. Of each, some renders are the photographs; other scenes, with another person in them, are
the style references. The whole portrait is painted by the base as it ships and by the customised one, with the same seed,
and dlib compares it with the true render of the person in that scene.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ....models.faces import detection, identity
from ....models.nets import bundle as bundles
from ....models.portrait import CropSettings, paint_crop
from ...core.checks import at_least, picture_sides
from ...core.paths import OutputFolder
from ...core.settings import LoopSettings
from ...data.folders.faces import FilterSettings
from ...data.heads.generate import HELD_OUT, PERSON, SCENE, seed_of
from ...data.heads.identity import make_person
from ...data.heads.render import render
from ...data.heads.scene import random_scene
from ...stages.customise import customise
from ...tasks.customise import PAPER, CustomiseSettings
from ..picture_grid import save_grid
from .settings import BundleSetting, Measure

MEASURED_GROUP = HELD_OUT + 3_000  # nobody trains on it, and no other measurement looks at it
HEADS = FilterSettings(size=256, same_person=0.45, max_yaw=75.0)  # rendered people look more alike, and turn further


@dataclasses.dataclass(frozen=True)
class Subject:
    """One held-out person: photographs to learn from, and (style, truth) of unseen scenes; float32 `[1, S, S, 3]`."""

    photos: list[torch.Tensor]
    unseen: list[tuple[torch.Tensor, torch.Tensor]]


def make_subject(
    group: int, photos: int, unseen: int, size: int, seed: int, people: tuple[int, int] = (0, 1), first_scene: int = 0
) -> Subject:
    """Deterministic from the arguments.

    Args:
        group: of the head generator.
        people: numbers in the group, of the person and of the one whom the style references show.
        first_scene: number in the group; the photographs' scenes come first, then the unseen ones.
    """
    people = [make_person(seed_of(seed, group, PERSON, k)) for k in people]
    places = [random_scene(seed_of(seed, group, SCENE, first_scene + s)) for s in range(photos + unseen)]

    def picture(person: int, scene: int) -> torch.Tensor:
        return torch.from_numpy(render(people[person], places[scene], size).picture)[None].float() / 255

    scenes = range(photos, photos + unseen)
    return Subject([picture(0, s) for s in range(photos)], [(picture(1, s), picture(0, s)) for s in scenes])


def _embedding(picture: torch.Tensor, face=None) -> tuple[np.ndarray, object] | None:
    """dlib's embedding at a known face, or at the largest that is found; None without one."""
    if face is None:
        found = detection.find_faces(picture).frames[0]
        if not found:
            return None
        face = max(found, key=lambda one: one.side)
    return identity.embedding(picture[0], face), face


def similarities(subject: Subject, results: dict[str, list[torch.Tensor]]) -> dict[str, list[float]]:
    """Similarity to the true render, of each named set of pictures and of the photographs (the ceiling)."""
    scores: dict[str, list[float]] = {name: [] for name in (*results, "photographs")}
    photos = [found[0] for found in map(_embedding, subject.photos) if found is not None]
    for index, (_, truth) in enumerate(subject.unseen):
        known = _embedding(truth)
        if known is None:
            continue
        wanted, face = known
        for name, pictures in results.items():
            scores[name].append(identity.similarity(_embedding(pictures[index], face)[0], wanted))
        scores["photographs"] += [identity.similarity(photo, wanted) for photo in photos]
    return scores


def before_and_after(
    subject: Subject,
    folder: Path,
    bundle: Path,
    filters: FilterSettings,
    loop: LoopSettings,
    settings: CustomiseSettings,
    portrait: CropSettings,
) -> tuple[dict[str, list[torch.Tensor]], Path]:
    """Customise a bundle's base on the subject's photographs, and paint the unseen views with the base as it was and as it became.

    Args:
        folder: for the photographs, the training and what it gives.

    Returns:
        ({"before", "after", "style": a picture for each unseen view}, the customised file).
    """
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for number, photo in enumerate(subject.photos):
        rgb = (photo[0].numpy() * 255).round().astype(np.uint8)
        cv2.imwrite(str(folder / "photos" / f"{number}.png"), rgb[..., ::-1])
    name = f"lora{settings.rank}.safetensors" if settings.rank else "bundle"
    made, _ = customise(folder / "photos", folder / name, None, None, bundle, filters, loop, settings)
    with torch.inference_mode():
        model, vae, vision, nets = bundles.load_bundle(bundle)
        painted = {"before": _paint(model, vae, vision, nets, subject, portrait)}
        painted["after"] = _paint(_customised(model, made, settings), vae, vision, nets, subject, portrait)
    return painted | {"style": [style for style, _ in subject.unseen]}, made


def labelled_rows(subject: Subject, painted: dict[str, list[torch.Tensor]]) -> list[list[tuple[str, torch.Tensor]]]:
    """A row of a picture grid for each unseen view."""
    return [
        [
            ("photograph", subject.photos[0]),
            *((name, painted[name][k]) for name in ("style", "before", "after")),
            ("true render", truth),
        ]
        for k, (_, truth) in enumerate(subject.unseen)
    ]


def mean_figures(scores: dict[str, list[float]]) -> dict:
    """What `similarities` found, in numbers to write down."""
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    risen = float(np.mean(np.array(scores["after"]) > np.array(scores["before"])))
    return {
        "similarity_to_unseen_truth": mean,
        "rise": mean["after"] - mean["before"],
        "share_of_views_that_rose": risen,
        "views": len(scores["after"]),
    }


@dataclass(frozen=True, kw_only=True)
class CustomiseMeasure(BundleSetting, Measure):
    """Identity on unseen views before and after customising the demo base."""

    identities: int = 2
    """Held-out people."""
    photos: int = 6
    """Photographs of each."""
    unseen: int = 6
    """Unseen views of each."""
    size: int = 256
    """Picture side in pixels."""
    steps: int = PAPER.steps
    """Training steps."""
    lr: float = PAPER.lr
    """Learning rate (the paper: 2e-6)."""
    rank: int = 0
    """0 = the whole UNet; above 0 = a LoRA of this rank."""
    seed: int = 0
    """Decides the people, the training's draws and all noise."""
    work: OutputFolder = Path("customise_work")
    """Folder for renders and training."""

    def __post_init__(self):
        at_least(1, identities=self.identities, photos=self.photos, unseen=self.unseen, steps=self.steps)
        picture_sides(size=self.size)
        at_least(0, rank=self.rank)


def measure_customise(options: CustomiseMeasure) -> dict:
    """All figures; see `icportrait measure customise --help`."""
    bundle = options.bundle or bundles.FOLDER
    settings = CustomiseSettings(rank=options.rank)
    loop = LoopSettings(steps=options.steps, batch=1, lr=options.lr, seed=options.seed)
    crop_settings = CropSettings(seed=options.seed)
    scores: dict[str, list[float]] = {}
    rows = []
    for index in tqdm(range(options.identities), desc="people"):
        subject = make_subject(MEASURED_GROUP + index, options.photos, options.unseen, options.size, options.seed)
        filters = dataclasses.replace(HEADS, size=options.size)
        folder = options.work / f"person{index}"
        painted, _ = before_and_after(subject, folder, bundle, filters, loop, settings, crop_settings)
        for key, values in similarities(subject, painted).items():
            scores.setdefault(key, []).extend(values)
        rows += labelled_rows(subject, painted)
    save_grid(rows, options.work / "customise.png")
    names = ("identities", "photos", "unseen", "size", "steps", "lr", "rank", "seed")
    return mean_figures(scores) | {"settings": {name: getattr(options, name) for name in names}}


def _customised(model, made: Path, settings: CustomiseSettings):
    """The customised MODEL, through the loader an artist would use."""
    if not settings.rank:
        return bundles.load_base(made)
    import comfy.sd
    import comfy.utils

    return comfy.sd.load_lora_for_models(model, None, comfy.utils.load_torch_file(str(made)), 1.0, 0.0)[0]


def _paint(model, vae, vision, nets, subject: Subject, settings: CropSettings) -> list[torch.Tensor]:
    return [
        paint_crop(model, vae, vision, nets, subject.photos[0], style, settings).image for style, _ in subject.unseen
    ]


def print_figures(figures: dict) -> None:
    """The figures for people."""
    print(f"\ndlib similarity to the true render of an unseen view, mean over {figures['views']} views")
    for name, value in figures["similarity_to_unseen_truth"].items():
        print(f"  {name:14s} {value:8.3f}")
    print(f"  rise {figures['rise']:+.3f}; {100 * figures['share_of_views_that_rose']:.0f} % of the views rose")
