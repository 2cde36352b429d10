"""The sample pictures that ship in bundle/: two held-out synthetic people, framed wider than an aligned crop."""

import dataclasses
from pathlib import Path

from PIL import Image

# (file, identity seed, scene seed, light, yaw, pitch): chosen by eye; no training group uses these seeds.
PICTURES = (
    ("icportrait_profile.png", (1_000_500, 4), (1_000_500, 0), "soft", -8, 2),
    ("icportrait_style.png", (1_000_500, 5), (1_000_500, 1), "side", 20, 4),
)


def write_demo_pictures(folder: Path, size: int = 512) -> list[Path]:
    """Render the sample pictures, `size` x `size` pixels; deterministic."""
    from .heads.camera import portrait_camera
    from .heads.generate import _seed as seed_of
    from .heads.identity import make_person
    from .heads.render import render
    from .heads.scene import random_scene

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (person_group, person), (scene_group, scene), light, yaw, pitch in PICTURES:
        camera = portrait_camera(yaw, pitch, 2, 22, 0.8, (0, -0.03))
        place = dataclasses.replace(random_scene(seed_of(0, scene_group, 1, scene), light), camera=camera)
        view = render(make_person(seed_of(0, person_group, 0, person)), place, size)
        Image.fromarray(view.picture).save(folder / name, optimize=True)
        written.append(folder / name)
    return written
