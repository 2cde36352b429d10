"""Facial expressions: random weights of the template's ARKit-like units, and their effect on a cage.

Weights of the moods and their shares were chosen by eye.
"""

import numpy as np

from .geometry import Shape
from .template import load_template

# Units of a mood at full strength; a name without Left or Right stands for both sides.
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


_NEUTRAL = 0.5  # share of scenes with no mood
_EXTRA_UNITS = 3  # small random units on top of a mood, so that no two smiles are alike
_NOT_EXTRA = ("eyeLook", "tongue", "eyeBlink", "jaw")


def _mirrored(name):
    return name.replace("Left", "#").replace("Right", "Left").replace("#", "Right")


def random_expression(rng: np.random.Generator) -> dict[str, float]:
    """ARKit-like expression weights {name: 0..1}; half of the time neutral but for the gaze."""
    names = load_template().expression_names
    out = {}

    def add(name, value):
        for n in [name] if name in names else [name + "Left", name + "Right"]:
            if n in names:
                out[n] = float(np.clip(out.get(n, 0) + value, 0, 1))

    if rng.random() < _NEUTRAL:
        mood = _MOODS[list(_MOODS)[rng.integers(len(_MOODS))]]
        scale = rng.uniform(0.5, 1.0)
        flip = rng.random() < 0.5
        for name, value in mood.items():
            add(_mirrored(name) if flip else name, value * scale)
        for name in rng.choice(names, _EXTRA_UNITS, replace=False):
            if not name.startswith(_NOT_EXTRA):
                add(str(name), rng.uniform(0, 0.25))
    across, up = rng.normal(0, 0.16), rng.normal(0, 0.10)
    if across > 0:
        out["eyeLookOutLeft"] = out["eyeLookInRight"] = float(min(across, 0.5))
    else:
        out["eyeLookInLeft"] = out["eyeLookOutRight"] = float(min(-across, 0.5))
    for side in ("Left", "Right"):
        out[("eyeLookUp" if up > 0 else "eyeLookDown") + side] = float(min(abs(up), 0.35))
    return out


def pose_cage(shape: Shape, expression: dict[str, float]) -> np.ndarray:
    """Cage `[N, 3]` of a shape with an expression (blend shapes add up)."""
    template = load_template()
    weights = np.array([expression.get(n, 0.0) for n in template.expression_names], np.float32)
    active = np.flatnonzero(weights)
    if not len(active):
        return shape.cage
    return shape.cage + np.tensordot(weights[active], template.expressions[active], 1)
