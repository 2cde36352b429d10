"""Beards: where they grow on the face, and the ribbons of the long ones.

Outlines and lengths were chosen by eye.
"""

import numpy as np

from .canvas import load_canvas, smoothstep
from .look import Look
from .ribbons import Hair, make_hair
from .skull import grow_from, outer_skin
from .template_space import read_atlas

_GROWN = ("full", "goatee", "moustache")  # kinds with ribbons; the others are only painted
_MOUTH = np.array([0, -40, -60])  # inside the head, behind the mouth: the beard's skin faces away from it


def beard_density(look: Look) -> np.ndarray:
    """Where the beard grows: `[H, W]` in 0..1 (template space)."""
    c, beard = load_canvas(), look.beard
    x, y, z = c.ax, c.y, c.z
    # Upper border: from the moustache over the cheek to the sideburn.
    heights = [-49, -53, -58 + beard["cheek"], -40 + beard["cheek"], -5]
    border = np.interp(x, [0, 26, 45, 62, 72], heights).astype(np.float32)
    edge = smoothstep(3, -5, y - border + 1.3 * c.bank[3])
    neck = smoothstep(-128, -112, y + (20 - np.maximum(z, -60)) * -0.32)
    density = edge * neck * smoothstep(-84, -70, z)
    bare = np.exp(-(((x - 9) / 7.0) ** 2) - ((y + 88) / 5.0) ** 2)  # beside the soul patch
    density = density * (1 - 0.85 * bare)
    if beard["kind"] == "goatee":
        density = density * smoothstep(beard["width"] + 9, beard["width"] + 3, x)
    elif beard["kind"] == "moustache":
        density = density * smoothstep(34, 27, x) * smoothstep(-67, -63, y)
    elif beard["kind"] == "chinstrap":
        jaw = smoothstep(14, 4, y + 106 - (x * 0.013) ** 2 * 60)
        density = density * np.maximum(jaw, smoothstep(-30, -50, z) * 0.9)
    return density * (1 - smoothstep(0.15, 0.5, c.lips))


def grow_beard(
    rng: np.random.Generator, fine: np.ndarray, normals: np.ndarray, look: Look, ribbons: int = 1500, steps: int = 4
) -> Hair | None:
    """Short ribbons for full beards, goatees and moustaches; None for the painted kinds.

    Args:
        fine, normals: `[M, 3]` of the neutral head.
        steps: nodes a ribbon.
    """
    if look.beard["kind"] not in _GROWN:
        return None
    index, area, centre, outer = outer_skin(_MOUTH)
    d = read_atlas(beard_density(look), centre)
    p = area * np.where((d > 0.5) & outer & (centre[:, 2] > -75), d, 0)
    root, normal, vertex = grow_from(rng, fine, normals, index[rng.choice(len(index), ribbons, p=p / p.sum())])
    upper = root[:, 1] > -64  # the moustache: half as long, combed outwards
    length = look.beard["length"] * rng.uniform(0.6, 1.2, ribbons) * np.where(upper, 0.5, 1) + 2
    across = np.where(upper, np.sign(root[:, 0]) * 0.9, 0.15 * np.sign(root[:, 0]))
    direction = 0.45 * normal + np.stack([across, np.full(ribbons, -1.0), np.zeros(ribbons)], 1)
    direction += rng.normal(0, 0.2, (ribbons, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    t = np.linspace(0, 1, steps)[None, :, None]
    nodes = root[:, None] + direction[:, None] * (length[:, None, None] * t)
    nodes[..., 1] -= (t[..., 0] ** 2) * length[:, None] * 0.15  # hangs a little
    width = rng.uniform(0.8, 1.4, ribbons)
    return make_hair("beard", nodes, vertex, width, rng.random(ribbons), np.repeat(normal[:, None], steps, 1))
