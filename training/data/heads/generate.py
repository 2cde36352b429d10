"""Write shards of synthetic heads: groups of identities and scenes, and the pairs and triplets they make."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ....models.errors import UserError
from ..shards import FORMAT_VERSION, encode_picture, encode_truth, read_shards, write_shard
from ..workers import run_tasks
from .flow import face_mask, flow_between, hair_mask
from .identity import Person, make_person
from .render import View, render
from .scene import Scene, random_scene
from .template import load_template

GENERATOR_VERSION = 1  # raise it when the same seed gives other pictures
HELD_OUT = 1_000_000  # groups from this index on are never trained on
PERSON, SCENE, PLAN = 0, 1, 2  # streams of random numbers in a group


def seed_of(seed: int, group: int, stream: int, index: int) -> int:
    """The 63-bit seed of one thing of one group: `stream` is `PERSON` or `SCENE`, `index` counts them."""
    sequence = np.random.SeedSequence([int(seed), int(group), stream, int(index)])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


_seed = seed_of  # its former name


def sample_plan(
    identities: int, scenes: int, rng: np.random.Generator, repeats: int = 2
) -> list[tuple[int, int, int, int]]:
    """Triplets of one group: list of (target identity, style identity, target scene, profile scene).

    Every (identity, scene) is a target `repeats` times, with other profile scenes and other style identities if there
    are enough. A lone identity is its own style.
    """
    plan = []
    for y in range(identities):
        for b in range(scenes):
            others = rng.permutation([a for a in range(scenes) if a != b])
            people = rng.permutation([x for x in range(identities) if x != y])
            for k in range(repeats):
                plan.append((y, int(people[k % len(people)]) if len(people) else y, b, int(others[k % len(others)])))
    return plan


def person_facts(person: Person) -> dict:
    """The plain facts of a person for the sample's metadata; numbers are those of Shape and Look."""
    return {
        "sex": round(person.shape.sex, 3),
        "age": round(person.shape.age, 3),
        "melanin": round(person.look.melanin, 3),
        "hair": person.look.hair_name,
        "style": person.hair[0].style,
        "iris": person.look.iris_name,
        "beard": person.look.beard["kind"],
        "extras": [int(e.material) for e in person.extras],
    }


def _light_facts(scene):
    light = scene.light
    return {
        "kind": light.kind,
        "seed": light.seed,
        "exposure": round(light.exposure, 4),
        "sh": np.round(light.sh, 4).tolist(),
    }


def _scene_facts(places: dict[str, Scene]) -> dict:
    """Pose in degrees, light and expression of each scene."""
    cameras = {k: s.camera for k, s in places.items()}
    return {
        "pose": {k: [round(v, 3) for v in (c.yaw, c.pitch, c.roll)] for k, c in cameras.items()},
        "light": {k: _light_facts(s) for k, s in places.items()},
        "expression": {k: {n: round(w, 3) for n, w in s.expression.items()} for k, s in places.items()},
    }


def _view_facts(views: dict[str, View]) -> dict:
    """Camera and landmarks in pixels of each view."""
    return {
        "cameras": {k: v.camera.scalars() for k, v in views.items()},
        "landmarks5": {k: np.round(v.landmarks, 2).tolist() for k, v in views.items()},
    }


def generate_group(
    group: int,
    identities: int = 6,
    scenes: int = 4,
    size: int = 256,
    seed: int = 0,
    repeats: int = 2,
    quality: int = 95,
) -> Iterator[dict]:
    """Yield the encoded samples of one group; deterministic from the arguments.

    Args:
        group: its index; those from `HELD_OUT` on are for measuring only.
        size: side of a picture in pixels.
        repeats: samples a target picture, see `sample_plan`.
        quality: of the WebP pictures, 1..100.

    Yields:
        samples as `write_shard` takes them; docs/data.md says what is in them.

    Raises:
        UserError: fewer than two scenes, which make no pair.
    """
    if scenes < 2:
        raise UserError("a group needs at least two scenes")
    places = [random_scene(seed_of(seed, group, SCENE, s)) for s in range(scenes)]
    views, encoded, people = {}, {}, []
    for i in range(identities):
        person = make_person(seed_of(seed, group, PERSON, i))
        people.append(person_facts(person))
        for s, place in enumerate(places):
            views[i, s] = view = render(person, place, size)
            encoded[i, s] = encode_picture(view.picture, quality)
    count = Counter()
    for y, x, b, a in sample_plan(identities, scenes, np.random.default_rng([int(seed), int(group), PLAN]), repeats):
        target, profile, style = views[y, b], views[y, a], views[x, b]
        flow, visible = flow_between(target, profile)
        key = f"g{group:06d}-i{y}-s{b}-{count[y, b]}"
        count[y, b] += 1
        yield {
            "__key__": key,
            "target.webp": encoded[y, b],
            "profile.webp": encoded[y, a],
            "style.webp": encoded[x, b],
            "truth.npz": encode_truth(flow, visible, hair_mask(target), face_mask(target)),
            "meta.json": {
                "format_version": FORMAT_VERSION,
                "generator": "heads",
                "generator_version": GENERATOR_VERSION,
                "seed": int(seed),
                "group": int(group),
                "identity": {"target": f"{seed}-{group}-{y}", "style": f"{seed}-{group}-{x}"},
                "scene": {
                    "target": f"{seed}-{group}-{b}",
                    "profile": f"{seed}-{group}-{a}",
                    "style": f"{seed}-{group}-{b}",
                },
                "person": {"target": people[y], "style": people[x]},
                **_scene_facts({"target": places[b], "profile": places[a]}),
                **_view_facts({"target": target, "profile": profile, "style": style}),
            },
        }


def shard_name(first: int, last: int, seed: int) -> str:
    """File name of the shard that holds groups first..last."""
    return f"heads-{seed}-{first:07d}-{last:07d}.tar"


def _write(task):
    path, groups, options = task
    write_shard(path, (sample for group in groups for sample in generate_group(group, **options)))


def _check_size(path: Path, size: int) -> None:
    """Shards that exist are kept: raise ValueError when they hold pictures of another size."""
    found = len(next(read_shards(path))["target"])
    if found != size:
        raise UserError(f"{path} holds pictures of {found} px, {size} px are asked for: choose another --out.")


def generate_shards(
    out_dir: Path | str,
    groups: int,
    first_group: int = 0,
    identities: int = 6,
    scenes: int = 4,
    size: int = 256,
    seed: int = 0,
    workers: int = 2,
    groups_per_shard: int = 4,
    progress: bool = True,
    ray: str | None = None,
) -> list[Path]:
    """Write `groups` groups from `first_group` on as shards; complete shards are kept as they are.

    Groups from `HELD_OUT` on are the held-out set: what is in a group depends on (seed, group) only, so sets of
    different groups share nobody.

    Args:
        out_dir: created if need be.
        identities, scenes, size: of a group, see `generate_group`.
        workers: processes; 1 works in this one.
        progress: show a bar.
        ray: address of a Ray cluster that shares the work, see `workers.run_tasks`.

    Returns:
        the shards' paths, those found complete included.

    Raises:
        UserError: the folder holds shards of another picture size, or Ray is asked for and not installed.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    load_template()  # build the cache once, before the workers start
    options = {"identities": identities, "scenes": scenes, "size": size, "seed": seed}
    tasks, paths = [], []
    for first in range(first_group, first_group + groups, groups_per_shard):
        indices = list(range(first, min(first + groups_per_shard, first_group + groups)))
        path = out / shard_name(indices[0], indices[-1], seed)
        paths.append(path)
        if not path.exists():
            tasks.append((path.absolute(), indices, options))
        elif len(paths) - len(tasks) == 1:
            _check_size(path, size)
    done = len(paths) - len(tasks)
    with tqdm(total=len(paths), initial=done, unit="shard", disable=not progress, desc="heads") as bar:
        run_tasks(_write, tasks, workers, ray, bar)
    return paths
