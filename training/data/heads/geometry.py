"""Head shapes: random identities of the template mesh, expressions, landmarks."""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .template import load_template

_OPPOSITES = [
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("backward", "forward"),
    ("concave", "convex"),
    ("compress", "uncompress"),
]
_SIGMA = {"nose": 0.31, "mouth": 0.27, "chin": 0.29, "neck": 0.20, "ear": 0.26, "eyebrows": 0.34}
# These turn people into caricatures first.
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


@dataclass(frozen=True)
class Shape:
    """One person's neutral geometry and the facts that shaped it."""

    cage: np.ndarray  # [N, 3] mm, middle of the eyes at the origin
    sex: float  # 0 = female .. 1 = male
    age: float  # 0 = about 18 years .. 1 = about 80
    weight: float  # -1 thin .. 1 heavy
    people: tuple  # weights of the african, asian and caucasian shape bases; they sum to 1


@lru_cache(1)
def _local_controls():
    """Pairs of opposite local morphs: list of (name, [negative indices], [positive indices], side)."""
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
    """Weights of the universal and people bases."""
    out = {}
    ages = {"child": max(-age, 0), "young": 1 - abs(age) if age < 0 else 1 - age, "old": max(age, 0)}
    weights = {"minweight": max(-weight, 0), "averageweight": 1 - abs(weight), "maxweight": max(weight, 0)}
    for s, ws in (("female", 1 - sex), ("male", sex)):
        for a, wa in ages.items():
            for w, ww in weights.items():
                out[f"universal:{s}:{a}:{w}"] = ws * wa * ww
            for p, wp in zip(("african", "asian", "caucasian"), people):
                out[f"people:{p}:{s}:{a}"] = ws * wa * wp
    return out


def random_shape(rng, strength=1.0):
    """A random adult. `rng` is a numpy Generator; `strength` scales the local morphs."""
    template = load_template()
    sex = float(np.clip((rng.random() < 0.5) + rng.normal(0, 0.08), 0, 1))
    age = float(np.clip(rng.beta(1.1, 1.7), 0, 1))
    weight = float(np.clip(rng.normal(-0.05, 0.38), -0.8, 0.85))
    people = rng.dirichlet([0.45, 0.45, 0.45])
    index = {n: i for i, n in enumerate(template.morph_names)}
    coefficient = np.zeros(len(template.morph_names), np.float32)
    for name, value in _macro(sex, age * 0.9, weight, people).items():
        coefficient[index[name]] += value
    for name, value in _macro(0.5, 0.0, 0.0, (1 / 3,) * 3).items():
        coefficient[index[name]] -= value
    controls, singles = _local_controls()
    shared = {}
    for name, low, high in controls:
        base = re.sub(r"^[lr]-", "", name)
        sigma = next((s for k, s in _SIGMA.items() if k in base), 0.27) * strength
        sigma *= next((s for k, s in _TAMED.items() if base.startswith(k)), 1.0)
        if base not in shared:
            shared[base] = float(np.clip(rng.normal(0, sigma), -2.3 * sigma, 2.3 * sigma))
        z = shared[base] + (rng.normal(0, 0.05) if base != name else 0.0)
        coefficient[high if z > 0 else low] += abs(z)
    for name, i in singles:
        base = re.sub(r"^[lr]-", "", name)
        if base not in shared:
            shared[base] = float(rng.uniform(0.1, 0.6)) if rng.random() < 0.2 else 0.0
        coefficient[i] += shared[base]
    cage = template.cage + np.tensordot(coefficient, template.morphs, 1)
    eyes = [cage[e].max(0) / 2 + cage[e].min(0) / 2 for e in template.eye_cage]
    cage = cage - (eyes[0] + eyes[1]) / 2
    # Keep the size an aligned crop would give, with a little freedom.
    cage = cage * (crop_size(template.cage) / crop_size(cage) * float(np.clip(rng.normal(1, 0.02), 0.95, 1.05)))
    return Shape(cage.astype(np.float32), sex, age, weight, tuple(float(p) for p in people))


def crop_size(cage):
    """The FFHQ crop measure of a frontal head in mm: max(2 eye distances, 1.8 eye-to-mouth distances)."""
    template = load_template()
    eyes = [cage[e].max(0) / 2 + cage[e].min(0) / 2 for e in template.eye_cage]
    mouth = cage[mouth_cage_vertices()].mean(0)
    return max(2 * abs(eyes[0][0] - eyes[1][0]), 1.8 * abs((eyes[0][1] + eyes[1][1]) / 2 - mouth[1]))


@lru_cache(1)
def mouth_cage_vertices():
    """The two mouth corners as cage vertices: the picture's left (subject's right) first."""
    template = load_template()
    return _corners(template.cage)


@lru_cache(1)
def mouth_fine_vertices():
    """The two mouth corners as fine vertices: the picture's left (subject's right) first."""
    return _corners(load_template().fine)


def _corners(points):
    out = []
    for x in (-23.0, 23.0):
        d = np.linalg.norm(points - np.array([x, -66.5, 19.0]), axis=1)
        out.append(int(np.argmin(d)))
    return out


@lru_cache(1)
def nose_tip_vertex():
    """The nose tip as a fine vertex."""
    points = load_template().fine
    return int(
        np.argmax(
            np.where((np.abs(points[:, 0]) < 3) & (points[:, 1] < -20) & (points[:, 1] > -34), points[:, 2], -1e9)
        )
    )


def landmarks5(fine):
    """Five 3-D landmarks [5, 3] of fine vertices: eye, eye, nose tip, mouth corner, mouth corner; picture's left first.

    An eye is the middle of its opening: 12 mm in front of the ball's centre and a little below, where a landmark detector puts it.
    """
    template = load_template()
    forward = np.array([0, -3.0, 12.0])
    left, right = (fine[e].max(0) / 2 + fine[e].min(0) / 2 + forward for e in template.eye_vertices)
    mouth = mouth_fine_vertices()
    return np.stack([right, left, fine[nose_tip_vertex()], fine[mouth[0]], fine[mouth[1]]]).astype(np.float32)


_MOODS = {
    "smile": {"mouthSmile": 0.9, "cheekSquint": 0.5, "mouthDimple": 0.3},
    "laugh": {"mouthSmile": 1.0, "cheekSquint": 0.8, "jawOpen": 0.35, "eyeSquint": 0.45, "mouthUpperUp": 0.35},
    "grin": {"mouthSmile": 0.8, "mouthUpperUp": 0.45, "mouthLowerDown": 0.35, "cheekSquint": 0.4},
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 0.8, "eyeWide": 0.7, "jawOpen": 0.4},
    "frown": {"browDown": 0.9, "mouthFrown": 0.6, "mouthPress": 0.4},
    "sad": {"browInnerUp": 0.9, "mouthFrown": 0.7, "eyeSquint": 0.2},
    "disgust": {"noseSneer": 0.9, "browDown": 0.5, "mouthUpperUp": 0.4, "eyeSquint": 0.3},
    "pucker": {"mouthPucker": 0.8, "mouthFunnel": 0.3},
    "talk": {"jawOpen": 0.35, "mouthFunnel": 0.3},
    "talk wide": {"jawOpen": 0.25, "mouthStretch": 0.5, "mouthLowerDown": 0.3},
    "sceptic": {"browOuterUpLeft": 0.9, "browDownRight": 0.5, "mouthLeft": 0.3},
    "smirk": {"mouthSmileLeft": 0.8, "mouthDimpleLeft": 0.4, "cheekSquintLeft": 0.3},
    "squint": {"eyeSquint": 0.8, "browDown": 0.3},
    "sleepy": {"eyeBlink": 0.45},
}


def random_expression(rng):
    """ARKit-like expression weights {name: 0..1}; half of the time neutral but for the gaze."""
    names = load_template().expression_names
    out = {}

    def add(name, value):
        for n in [name] if name in names else [name + "Left", name + "Right"]:
            if n in names:
                out[n] = float(np.clip(out.get(n, 0) + value, 0, 1))

    if rng.random() < 0.5:
        mood = _MOODS[list(_MOODS)[rng.integers(len(_MOODS))]]
        scale = rng.uniform(0.5, 1.0)
        flip = rng.random() < 0.5
        for name, value in mood.items():
            if flip:
                name = name.replace("Left", "#").replace("Right", "Left").replace("#", "Right")
            add(name, value * scale)
        for name in rng.choice(names, 3, replace=False):
            if not name.startswith(("eyeLook", "tongue", "eyeBlink", "jaw")):
                add(str(name), rng.uniform(0, 0.25))
    across, up = rng.normal(0, 0.16), rng.normal(0, 0.10)
    if across > 0:
        out["eyeLookOutLeft"] = out["eyeLookInRight"] = float(min(across, 0.5))
    else:
        out["eyeLookInLeft"] = out["eyeLookOutRight"] = float(min(-across, 0.5))
    for side in ("Left", "Right"):
        out[("eyeLookUp" if up > 0 else "eyeLookDown") + side] = float(min(abs(up), 0.35))
    return out


def pose_cage(shape, expression):
    """Cage [N, 3] of a shape with an expression."""
    template = load_template()
    weights = np.array([expression.get(n, 0.0) for n in template.expression_names], np.float32)
    active = np.flatnonzero(weights)
    if not len(active):
        return shape.cage
    return shape.cage + np.tensordot(weights[active], template.expressions[active], 1)


@lru_cache(1)
def _lash_roots():
    """For each lash vertex of the cage the skin vertex it grows from."""
    template = load_template()
    skin = np.unique(template.cage_triangles)
    lash = template.lash_cage
    d = np.linalg.norm(template.cage[lash][:, None] - template.cage[skin][None], axis=-1)
    return skin[np.argmin(d, 1)]


def subdivide(cage, lash=0.5):
    """Fine vertices [M, 3] of a cage [N, 3]; `lash` scales the length of the lashes."""
    lashes = load_template().lash_cage
    cage = cage.copy()
    cage[lashes] = cage[_lash_roots()] * (1 - lash) + cage[lashes] * lash
    return np.asarray(load_template().subdivide @ cage, np.float32)
