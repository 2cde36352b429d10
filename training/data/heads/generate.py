"""Write shards of synthetic heads: groups of identities and scenes, and the pairs and triplets they make."""

import os
from pathlib import Path

import numpy as np

GENERATOR_VERSION = 1
HELD_OUT = 1_000_000  # groups from this index on are never trained on


def _seed(seed, group, what, index):
    """A 63-bit seed for one thing of one group; distinct inputs give distinct streams."""
    return int(
        np.random.SeedSequence([int(seed), int(group), what, int(index)]).generate_state(1, np.uint64)[0]
        >> np.uint64(1)
    )


def sample_plan(identities, scenes, rng, repeats=2):
    """Triplets of one group: list of (target identity, style identity, target scene, profile scene).

    Every (identity, scene) is a target `repeats` times, with other profile scenes and other style identities if there are enough.
    """
    plan = []
    for y in range(identities):
        for b in range(scenes):
            others = rng.permutation([a for a in range(scenes) if a != b])
            people = rng.permutation([x for x in range(identities) if x != y])
            for k in range(repeats):
                plan.append((y, int(people[k % len(people)]) if len(people) else y, b, int(others[k % len(others)])))
    return plan


def generate_group(group, identities=6, scenes=4, size=256, seed=0, repeats=2, quality=95):
    """Yield the encoded samples of one group; deterministic from the arguments."""
    from ..shards import FORMAT_VERSION, encode_picture, encode_truth
    from .flow import face_mask, flow_between, hair_mask
    from .identity import make_person
    from .render import render
    from .scene import random_scene

    if scenes < 2:
        raise ValueError("a group needs at least two scenes")
    places = [random_scene(_seed(seed, group, 1, s)) for s in range(scenes)]
    views, encoded, people = {}, {}, []
    for i in range(identities):
        person = make_person(_seed(seed, group, 0, i))
        people.append(person_facts(person))
        for s, place in enumerate(places):
            views[i, s] = view = render(person, place, size)
            encoded[i, s] = encode_picture(view.picture, quality)
    counter = {}
    for y, x, b, a in sample_plan(identities, scenes, np.random.default_rng([int(seed), int(group), 2]), repeats):
        n = counter[y, b] = counter.get((y, b), -1) + 1
        target, profile, style = views[y, b], views[y, a], views[x, b]
        flow, visible = flow_between(target, profile)
        marks = {
            k: np.round(v.landmarks, 2).tolist()
            for k, v in (("target", target), ("profile", profile), ("style", style))
        }
        meta = {
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
            "cameras": {k: v.camera.scalars() for k, v in (("target", target), ("profile", profile), ("style", style))},
            "pose": {
                k: [round(v, 3) for v in (places[s].camera.yaw, places[s].camera.pitch, places[s].camera.roll)]
                for k, s in (("target", b), ("profile", a))
            },
            "light": {
                k: {
                    "kind": places[s].light.kind,
                    "seed": places[s].light.seed,
                    "exposure": round(places[s].light.exposure, 4),
                    "sh": np.round(places[s].light.sh, 4).tolist(),
                }
                for k, s in (("target", b), ("profile", a))
            },
            "expression": {
                k: {n2: round(w, 3) for n2, w in places[s].expression.items()}
                for k, s in (("target", b), ("profile", a))
            },
            "landmarks5": marks,
        }
        yield {
            "__key__": f"g{group:06d}-i{y}-s{b}-{n}",
            "target.webp": encoded[y, b],
            "profile.webp": encoded[y, a],
            "style.webp": encoded[x, b],
            "truth.npz": encode_truth(flow, visible, hair_mask(target), face_mask(target)),
            "meta.json": meta,
        }


def person_facts(person):
    """The plain facts of a person for the sample's metadata."""
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


def shard_name(first, last, seed):
    """File name of the shard that holds groups first..last."""
    return f"heads-{seed}-{first:07d}-{last:07d}.tar"


def _write(task):
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    import cv2

    from ..shards import write_shard

    cv2.setNumThreads(1)
    path, groups, options = task
    count = write_shard(path, (sample for group in groups for sample in generate_group(group, **options)))
    return path, count


def generate_shards(
    out_dir,
    groups,
    first_group=0,
    identities=6,
    scenes=4,
    size=256,
    seed=0,
    workers=2,
    groups_per_shard=4,
    progress=True,
):
    """Write `groups` groups from `first_group` on as shards into out_dir; complete shards are kept as they are.

    Group indices from 1,000,000 on are the held-out set: identities depend on (seed, group) only, so sets of different groups
    share nobody. Returns the list of shard paths.
    """
    from tqdm import tqdm

    from .template import load_template

    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    load_template()  # build the cache once, before the workers start
    options = dict(identities=identities, scenes=scenes, size=size, seed=seed)
    tasks, paths = [], []
    for first in range(first_group, first_group + groups, groups_per_shard):
        indices = list(range(first, min(first + groups_per_shard, first_group + groups)))
        path = out / shard_name(indices[0], indices[-1], seed)
        paths.append(path)
        if not path.exists():
            tasks.append((path, indices, options))
    bar = tqdm(total=len(paths), initial=len(paths) - len(tasks), unit="shard", disable=not progress, desc="heads")
    if workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            _write(task)
            bar.update()
    else:
        import multiprocessing

        # Threads are limited before the libraries load: spawn, not fork.
        saved = {
            n: os.environ.get(n)
            for n in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        }
        os.environ.update(dict.fromkeys(saved, "1"))
        try:
            with multiprocessing.get_context("spawn").Pool(workers) as pool:
                for _ in pool.imap_unordered(_write, tasks):
                    bar.update()
        finally:
            for name, value in saved.items():
                os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    bar.close()
    return paths
