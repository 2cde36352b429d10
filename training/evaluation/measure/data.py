"""`icportrait measure data`: how fast synthetic heads are made, and how exact their flow is.

Speed is the wall-clock time of the real command: rendering, flow, encoding, writing, and starting the processes. Left out is
only what is done once a machine (reading the mesh, compiling the rasteriser).
"""

import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...core.checks import at_least, picture_sides
from ...data.heads.flow import flow_between, hair_mask
from ...data.heads.generate import HELD_OUT, PERSON, SCENE, generate_shards, seed_of
from ...data.heads.identity import make_person
from ...data.heads.render import View, render
from ...data.heads.scene import random_scene
from .settings import Measure

MEASURED_GROUP = HELD_OUT + 2_000  # nobody trains on it, and no other measurement looks at it


def cycle_errors(a: View, b: View) -> np.ndarray:
    """How far, in pixels, each visible non-hair pixel of `a` is from where it started after a -> b -> a.

    The way back is read between b's pixels (bilinear), where all four of them show the subject.
    """
    there, seen = flow_between(a, b)
    back, _ = flow_between(b, a)
    y, x = np.nonzero((seen > 0) & (hair_mask(a) == 0))
    landed = np.stack([x + there[0, y, x], y + there[1, y, x]])  # b's pixel indices
    low = np.floor(landed).astype(int)
    height, width = a.ident.shape
    inside = (low >= 0).all(axis=0) & (low[0] + 1 < width) & (low[1] + 1 < height)
    x, y, landed, low = x[inside], y[inside], landed[:, inside], low[:, inside]
    part = landed - low
    returned = np.zeros_like(landed)
    whole = np.ones(len(x), bool)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (part[0] if dx else 1 - part[0]) * (part[1] if dy else 1 - part[1])
            v, u = low[1] + dy, low[0] + dx
            returned += weight * back[:, v, u]
            whole &= b.ident[v, u] >= 0
    error = np.linalg.norm(there[:, y, x] + returned, axis=0)
    return error[whole]


def measure_flow_cycle(people: int, scenes: int, size: int, seed: int) -> dict:
    """Cycle errors over all ordered pairs of scenes of some people: the median over pairs of the pair's median and 95 %."""
    medians, tails = [], []
    places = [random_scene(seed_of(seed, MEASURED_GROUP, SCENE, s)) for s in range(scenes)]
    for index in tqdm(range(people), desc="flow", unit="person"):
        person = make_person(seed_of(seed, MEASURED_GROUP, PERSON, index))
        views = [render(person, place, size) for place in places]
        for a in range(scenes):
            for b in range(scenes):
                errors = cycle_errors(views[a], views[b]) if a != b else np.empty(0)
                if len(errors):
                    medians.append(float(np.median(errors)))
                    tails.append(float(np.percentile(errors, 95)))
    return {
        "flow_cycle_error_px": float(np.median(medians)),
        "flow_cycle_error_p95_px": float(np.median(tails)),
        "flow_cycle_error_worst_pair_px": float(np.max(medians)),
        "flow_pairs": len(medians),
    }


def measure_speed(groups: int, identities: int, scenes: int, size: int, seed: int, workers: int) -> dict:
    """Pictures and pairs an hour of `icportrait data heads`."""
    common = {"first_group": MEASURED_GROUP + 1, "seed": seed, "groups_per_shard": 1}
    with tempfile.TemporaryDirectory() as folder:
        warm_up = {"identities": 1, "scenes": 2, "size": 64}
        generate_shards(Path(folder) / "warm", groups=1, workers=1, progress=False, **warm_up, **common)
        start = time.perf_counter()
        options = {"identities": identities, "scenes": scenes, "size": size, "workers": workers}
        shards = generate_shards(Path(folder) / "timed", groups=groups, **options, **common)
        seconds = time.perf_counter() - start
        size_bytes = sum(path.stat().st_size for path in shards)
    pictures = groups * identities * scenes
    pairs = 2 * pictures  # every picture is a target twice
    return {
        f"images_per_hour_{size}": pictures / seconds * 3600,
        f"pairs_per_hour_{size}": pairs / seconds * 3600,
        "bytes_per_pair": size_bytes / pairs,
        "seconds": seconds,
        "images": pictures,
        "pairs": pairs,
    }


@dataclass(frozen=True, kw_only=True)
class DataMeasure(Measure):
    """Speed of the head generator and exactness of its flow."""

    groups: int = 8
    """Groups rendered against the clock."""
    identities: int = 6
    """Identities a group."""
    scenes: int = 4
    """Scenes a group."""
    size: int = 256
    """Picture side in pixels."""
    workers: int = 2
    """Local processes."""
    flow_people: int = 12
    """People whose views are paired to check the flow."""
    seed: int = 0
    """Decides every person and scene."""

    def __post_init__(self):
        at_least(1, groups=self.groups, identities=self.identities, workers=self.workers)
        picture_sides(size=self.size)
        at_least(1, flow_people=self.flow_people)
        at_least(2, scenes=self.scenes)


def measure_data(options: DataMeasure) -> dict:
    """All figures; see `icportrait measure data --help`."""
    speed = measure_speed(
        options.groups, options.identities, options.scenes, options.size, options.seed, options.workers
    )
    flow = measure_flow_cycle(options.flow_people, options.scenes, options.size, options.seed)
    machine = {"workers": options.workers, "cpu_count": os.cpu_count()}
    settings = {name: getattr(options, name) for name in ("groups", "identities", "scenes", "size", "seed")}
    return {**speed, **flow, **machine, "settings": settings}


def print_figures(figures: dict) -> None:
    """The figures for people."""
    for name, value in figures.items():
        if isinstance(value, int | float):
            print(f"{name:34s} {value:14,.4g}" if isinstance(value, float) else f"{name:34s} {value:14,}")
