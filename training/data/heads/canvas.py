"""What all people's atlases share: positions, masks, noise and soft zones of the face, in template space.

Places and widths of the zones were read off the template by eye.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

from .template import load_template
from .template_space import ATLAS_HEIGHT, ATLAS_WIDTH, AXIS_Z

_BANK = (0.7, 1.2, 2.5, 5.0, 10.0, 24.0)  # texels


@dataclass(frozen=True)
class Canvas:
    """Static maps of the atlas, each float32 `[H, W]` unless said otherwise; positions in mm."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    ax: np.ndarray  # |x|: faces are painted symmetrically
    angle: np.ndarray  # about the atlas's axis, radians, 0 = forwards
    front: np.ndarray  # 1 on the front of the face, fading out before the ears
    lips: np.ndarray  # mask 0..1
    ears: np.ndarray  # mask 0..1
    bank: tuple  # noise of unit deviation, finest first: about 0.3, 0.5, 1.1, 2, 4 and 11 mm
    hairs: np.ndarray  # noise of unit deviation drawn out along y, like fine hairs
    face: np.ndarray  # 1 = face, 0 = neck, ears and scalp


def smoothstep(a: float, b: float, x: np.ndarray) -> np.ndarray:
    """0 at a, 1 at b, smooth between; a > b falls instead."""
    t = np.clip((x - a) / (b - a), 0, 1)
    return t * t * (3 - 2 * t)


def above_jaw(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """True above the line under the jaw (template y, z in mm), which separates the face from the neck."""
    return y > -116 + (20 - z) * 0.74


def _noise(rng, sigma):
    n = gaussian_filter(rng.standard_normal((ATLAS_HEIGHT, ATLAS_WIDTH)), sigma, mode="wrap")
    return (n / n.std()).astype(np.float32)


@lru_cache(1)
def load_canvas() -> Canvas:
    """The canvas, computed once a process."""
    template = load_template()
    p = template.atlas_position
    x, y, z = p[..., 0], p[..., 1], p[..., 2]
    angle = np.arctan2(x, z - AXIS_Z)
    rng = np.random.default_rng(7)
    bank = tuple(_noise(rng, sigma) for sigma in _BANK)
    hairs = _noise(rng, (2.6, 0.55))
    face = above_jaw(y, z) & (np.abs(angle) < 1.75) & (y < 95)
    return Canvas(
        x=x,
        y=y,
        z=z,
        ax=np.abs(x),
        angle=angle,
        front=smoothstep(-75, -45, z),
        lips=template.atlas_masks[..., 0],
        ears=template.atlas_masks[..., 1],
        bank=bank,
        hairs=hairs,
        face=face.astype(np.float32),
    )


def spot(sx: float, sy: float, cx: float, cy: float) -> np.ndarray:
    """A soft bump `[H, W]` of radii sx, sy at (+-cx, cy) of the front of the face, in mm."""
    c = load_canvas()
    return np.exp(-(((c.ax - cx) / sx) ** 2 + ((c.y - cy) / sy) ** 2)) * c.front


@lru_cache(1)
def load_zones() -> dict[str, np.ndarray]:
    """Static soft zones of the face, float32 `[H, W]`: red, under (the eyes), oil, lid, nostril."""
    c = load_canvas()
    red = (
        0.9 * spot(20, 16, 42, -34)  # cheeks
        + 0.9 * spot(12, 11, 0, -39)  # nose
        + 0.35 * spot(16, 12, 0, -100)  # chin
        + 0.5 * c.ears
        + 0.45 * spot(17, 7, 29, -10)  # lower lids
        + 0.3 * spot(16, 6, 29, 11)  # upper lids
        + 0.2 * spot(12, 12, 0, 30)  # between the brows
    )
    oil = (
        0.75 * spot(22, 22, 0, 46)  # forehead
        + 0.9 * spot(8, 22, 0, -26)  # nose
        + 0.5 * spot(20, 10, 42, -22)  # cheekbones
        + 0.5 * spot(14, 9, 0, -98)  # chin
    )
    zones = {
        "red": red,
        "under": spot(14, 6, 27, -17),
        "oil": oil,
        "lid": spot(17, 8.0, 29, 10.5),
        "nostril": spot(4.4, 2.6, 8.0, -45.5),
    }
    return {k: v.astype(np.float32) for k, v in zones.items()}
