"""Head shapes: random identities of the template mesh, and landmarks."""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .template import box_centre, load_template

# Ends of the names of opposite local morphs.
_OPPOSITES = [
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
]
# Standard deviation of a local control whose name contains the key; chosen by eye.
_SIGMA = {"nose": 0.31, "mouth": 0.27, "chin": 0.29, "neck": 0.20, "ear": 0.26, "eyebrows": 0.34}
_OTHER_SIGMA = 0.27
_MOST_SIGMAS = 2.3  # beyond, single features look like a caricature
_ASYMMETRY = 0.05  # standard deviation between the two sides of a face; chosen by eye
# Factors on the deviation of controls that turn people into caricatures first; chosen by eye.
_TAMED = {
    "head-scale": 0.5,
    "eye-scale": 0.55,
    "eye-push": 0.5,
    "eye-bag": 0.5,
    "neck-double": 0.4,
    "nose-scale": 0.7,
    "mouth-scale": 0.75,
    "forehead-nubian": 0.5,
    "nose-compression": 0.6,
    "chin-jaw-drop": 0.6,
    "ear-wing": 0.6,
    "eye-corner2": 0.7,
    "mouth-angles": 0.6,
    "nose-trans": 0.5,
    "mouth-trans": 0.5,
    "eye-trans": 0.5,
    "head-fat": 0.7,
}
_OLDEST = 0.9  # weight of the "old" basis at age 1; MakeHuman's "young" is 25 years and its "old" 90


@dataclass(frozen=True)
class Shape:
    """One person's neutral geometry and the facts that shaped it."""

    cage: np.ndarray  # [N, 3] mm, middle of the eyes at the origin
    sex: float  # 0 = female .. 1 = male
    age: float  # 0 = about 25 years .. 1 = about 80
    weight: float  # -1 thin .. 1 heavy
    people: tuple[float, float, float]  # weights of the african, asian and caucasian shape bases; they sum to 1


@lru_cache(1)
def _local_controls():
    """Local morphs: pairs of opposites [(name, negative index, positive index)] and singles [(name, index)]."""
    names = load_template().morph_names
    index = {n[6:]: i for i, n in enumerate(names) if n.startswith("local:")}
    controls, used = [], set()
    for name in sorted(index):
        for low, high in _OPPOSITES:
            if name.endswith("-" + low) and name[: -len(low)] + high in index:
                controls.append((name[: -len(low) - 1], index[name], index[name[: -len(low)] + high]))
                used |= {name, name[: -len(low)] + high}
    singles = [(n, i) for n, i in sorted(index.items()) if n not in used]
    return controls, singles


def _macro(sex, age, weight, people):
    """Weights {name: weight} of the universal and people bases; age is -1 child .. 0 young .. 1 old."""
    out = {}
    ages = {"child": max(-age, 0), "young": 1 - abs(age), "old": max(age, 0)}
    weights = {"minweight": max(-weight, 0), "averageweight": 1 - abs(weight), "maxweight": max(weight, 0)}
    for s, ws in (("female", 1 - sex), ("male", sex)):
        for a, wa in ages.items():
            for w, ww in weights.items():
                out[f"universal:{s}:{a}:{w}"] = ws * wa * ww
            for p, wp in zip(("african", "asian", "caucasian"), people):
                out[f"people:{p}:{s}:{a}"] = ws * wa * wp
    return out


def _local_coefficients(rng, strength):
    """Random weights {index: weight} of the local morphs; left and right differ a little."""
    out, shared = {}, {}
    controls, singles = _local_controls()
    for name, low, high in controls:
        base = re.sub(r"^[lr]-", "", name)
        sigma = next((s for k, s in _SIGMA.items() if k in base), _OTHER_SIGMA) * strength
        sigma *= next((s for k, s in _TAMED.items() if base.startswith(k)), 1.0)
        if base not in shared:
            shared[base] = float(np.clip(rng.normal(0, sigma), -_MOST_SIGMAS * sigma, _MOST_SIGMAS * sigma))
        z = shared[base] + (rng.normal(0, _ASYMMETRY) if base != name else 0.0)
        out[high if z > 0 else low] = abs(z)
    for name, i in singles:
        base = re.sub(r"^[lr]-", "", name)
        if base not in shared:
            shared[base] = float(rng.uniform(0.1, 0.6)) if rng.random() < 0.2 else 0.0
        out[i] = shared[base]
    return out


def random_shape(rng: np.random.Generator, strength: float = 1.0) -> Shape:
    """A random adult; `strength` scales the deviations of the local morphs."""
    template = load_template()
    sex = float(np.clip((rng.random() < 0.5) + rng.normal(0, 0.08), 0, 1))
    age = float(np.clip(rng.beta(1.1, 1.7), 0, 1))
    weight = float(np.clip(rng.normal(-0.05, 0.38), -0.8, 0.85))
    people = rng.dirichlet([0.45, 0.45, 0.45])
    index = {n: i for i, n in enumerate(template.morph_names)}
    coefficient = np.zeros(len(template.morph_names), np.float32)
    for name, value in _macro(sex, age * _OLDEST, weight, people).items():
        coefficient[index[name]] += value
    for name, value in _macro(0.5, 0.0, 0.0, (1 / 3,) * 3).items():  # already in the template
        coefficient[index[name]] -= value
    for i, value in _local_coefficients(rng, strength).items():
        coefficient[i] += value
    cage = template.cage + np.tensordot(coefficient, template.morphs, 1)
    eyes = [box_centre(cage[e]) for e in template.eye_cage]
    cage = cage - (eyes[0] + eyes[1]) / 2
    # Keep the size an aligned crop would give, with a little freedom.
    cage = cage * (crop_size(template.cage) / crop_size(cage) * float(np.clip(rng.normal(1, 0.02), 0.95, 1.05)))
    return Shape(cage.astype(np.float32), sex, age, weight, tuple(float(p) for p in people))


def crop_size(cage: np.ndarray) -> float:
    """Half of the side in mm of the FFHQ crop of a frontal cage `[N, 3]`: max(2 eye, 1.8 eye-to-mouth distances)."""
    template = load_template()
    eyes = [box_centre(cage[e]) for e in template.eye_cage]
    mouth = cage[mouth_cage_vertices()].mean(0)
    return max(2 * abs(eyes[0][0] - eyes[1][0]), 1.8 * abs((eyes[0][1] + eyes[1][1]) / 2 - mouth[1]))


@lru_cache(1)
def mouth_cage_vertices() -> list[int]:
    """The two mouth corners as cage vertices: the picture's left (subject's right) first."""
    return _mouth_corners(load_template().cage)


@lru_cache(1)
def mouth_fine_vertices() -> list[int]:
    """The two mouth corners as fine vertices: the picture's left (subject's right) first."""
    return _mouth_corners(load_template().fine)


def _mouth_corners(points):
    """The vertices nearest the corners of the template's mouth, read off the mesh."""
    return [int(np.argmin(np.linalg.norm(points - np.array([x, -66.5, 19.0]), axis=1))) for x in (-23.0, 23.0)]


@lru_cache(1)
def nose_tip_vertex() -> int:
    """The nose tip as a fine vertex: the foremost one near the middle, between the eyes and the mouth."""
    p = load_template().fine
    near = (np.abs(p[:, 0]) < 3) & (p[:, 1] < -20) & (p[:, 1] > -34)
    return int(np.argmax(np.where(near, p[:, 2], -1e9)))


def landmarks5(fine: np.ndarray) -> np.ndarray:
    """Five landmarks `[5, 3]` of fine vertices `[M, 3]`: eye, eye, nose tip, mouth corner, mouth corner.

    The picture's left comes first. An eye is the middle of its opening: 12 mm in front of the ball's centre and a
    little below, where a landmark detector puts it.
    """
    template = load_template()
    forward = np.array([0, -3.0, 12.0])
    left, right = (box_centre(fine[e]) + forward for e in template.eye_vertices)
    mouth = mouth_fine_vertices()
    return np.stack([right, left, fine[nose_tip_vertex()], fine[mouth[0]], fine[mouth[1]]]).astype(np.float32)


@lru_cache(1)
def _lash_roots():
    """For each lash vertex of the cage the skin vertex it grows from."""
    template = load_template()
    skin = np.unique(template.cage_triangles)
    lash = template.lash_cage
    d = np.linalg.norm(template.cage[lash][:, None] - template.cage[skin][None], axis=-1)
    return skin[np.argmin(d, 1)]


def subdivide(cage: np.ndarray, lash: float = 0.5) -> np.ndarray:
    """Fine vertices `[M, 3]` of a cage `[N, 3]`.

    `lash` scales the length of the lashes, which look glued on at full length.
    """
    lashes = load_template().lash_cage
    cage = cage.copy()
    cage[lashes] = cage[_lash_roots()] * (1 - lash) + cage[lashes] * lash
    return np.asarray(load_template().subdivide @ cage, np.float32)
