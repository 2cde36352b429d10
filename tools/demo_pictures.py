"""The sample pictures that ship in bundle/: held-out synthetic people, framed wider than an aligned crop."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

# (file, identity seed, scene seed, light, yaw, pitch, side in pixels): chosen by eye; no training group uses these seeds.
PICTURES = (
    ("icportrait_profile.png", (1_000_500, 4), (1_000_500, 0), "soft", -8, 2, 512),
    ("icportrait_style.png", (1_000_500, 5), (1_000_500, 1), "side", 20, 4, 512),
    ("icportrait_profile_2.jpg", (1_000_501, 2), (1_000_501, 3), "soft", 6, 2, 384),
    ("icportrait_profile_3.jpg", (1_000_501, 6), (1_000_501, 6), "studio", -4, 1, 384),
)

GROUP_PICTURE = "icportrait_group.jpg"
# The six people from left to right: (identity, yaw, roll). Every second one stands a little behind the others.
GROUP_SEED, GROUP_LIGHT = 1_000_501, 8
GROUP_PEOPLE = ((1, -14, 2), (10, 8, -3), (4, 16, 1), (9, -6, 3), (8, -18, -2), (5, 12, 0))
GROUP_STEP = 0.37  # from person to person, in sides of the square each is rendered in
GROUP_BEHIND = 0.08  # how much higher the people behind stand
GROUP_MARGINS = (
    0.08,
    0.12,
    0.77,
)  # cut off at the sides and above; where the picture ends below: above the ends of the shoulders


def write_demo_pictures(folder: Path) -> list[Path]:
    """Render the sample pictures; deterministic."""
    from ..training.data.heads.camera import portrait_camera
    from ..training.data.heads.generate import seed_of
    from ..training.data.heads.identity import make_person
    from ..training.data.heads.render import render
    from ..training.data.heads.scene import random_scene

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (person_group, person), (scene_group, scene), light, yaw, pitch, size in PICTURES:
        camera = portrait_camera(yaw, pitch, 2, 22, 0.8, (0, -0.03))
        place = dataclasses.replace(random_scene(seed_of(0, scene_group, 1, scene), light), camera=camera)
        view = render(make_person(seed_of(0, person_group, 0, person)), place, size)
        written.append(_save(view.picture, folder / name))
    written.append(_save(group_picture(), folder / GROUP_PICTURE))
    return written


def group_picture(side: int = 480) -> np.ndarray:
    """Six people under one light, uint8 `[H, W, 3]`; `side` in pixels of the square each is rendered in."""
    from ..training.data.heads.camera import portrait_camera
    from ..training.data.heads.cutout import coverage
    from ..training.data.heads.generate import seed_of
    from ..training.data.heads.identity import make_person
    from ..training.data.heads.render import render, tone_map
    from ..training.data.heads.scene import random_scene

    light = random_scene(seed_of(0, GROUP_SEED, 1, GROUP_LIGHT), "soft")
    step, behind = round(GROUP_STEP * side), round(GROUP_BEHIND * side)
    width = side + step * (len(GROUP_PEOPLE) - 1)
    views = []
    for place, (person, yaw, roll) in enumerate(GROUP_PEOPLE):
        own = random_scene(seed_of(0, GROUP_SEED, 1, person), "soft")
        scene = dataclasses.replace(
            own,
            light=light.light,
            backdrop_seed=light.backdrop_seed,
            camera=portrait_camera(yaw, 2, roll, 22, 0.52, (0, -0.1)),
        )
        views.append((place, render(make_person(seed_of(0, GROUP_SEED, 0, person)), scene, side)))
    # Nobody stands before the backdrop yet: it is one of the scene's own, as wide as the picture.
    canvas = tone_map(light.backdrop(width))[: side + behind].astype(np.float32)
    for place, view in sorted(views, key=lambda entry: entry[0] % 2):  # those behind first
        top, left = behind * (place % 2), step * place
        part = canvas[top : top + side, left : left + side]
        part += coverage(view)[..., None] * (view.picture - part)
    beside, above, below = (round(share * side) for share in GROUP_MARGINS)
    return canvas[above : behind + below, beside : width - beside].round().clip(0, 255).astype(np.uint8)


def _save(picture: np.ndarray, path: Path) -> Path:
    options = {"optimize": True} if path.suffix == ".png" else {"quality": 92, "subsampling": 0, "optimize": True}
    Image.fromarray(picture).save(path, **options)
    return path
