"""Exact correspondence between two rendered views: triangle and barycentrics of one, vertices of the other."""

import numpy as np
from numba import njit

from .materials import CLOTH, EYES, HAIR_CLASS, LASHES, MOUTH_INSIDE, SKIN_FACE
from .render import View

# Surface classes that may stand for one another: skin with skin (lashes count as skin), every other class with itself.
# A tooth lies closer behind a closed lip than the depth tolerance, an eyeball behind its lid, the scalp under hair.
_GROUP = np.array([0, 1, 1, 2, 3, 1, 4, 5, 6, 7], np.uint8)
_AGREE = 7  # of 9 samples around the projected point; all 9 would lose every thin or curved thing


@njit(cache=True, fastmath=True, nogil=True)
def _flow(ident, bary, kind, triangles, screen, inverse, fine_kind, group, cloth, tolerance, limit, flow, visible):
    """Fill flow and visible of one view (ident, bary, kind) from another (screen, inverse, fine_kind)."""
    height, width = ident.shape
    for y in range(height):
        for x in range(width):
            t = ident[y, x]
            if t < 0 or t >= limit:
                continue
            a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            # Perspective: barycentrics are of the surface, so project the surface point, not the pixels.
            wa, wb = bary[y, x, 0], bary[y, x, 1]
            wc = 1 - wa - wb
            za, zb, zc = float(screen[a, 2]), float(screen[b, 2]), float(screen[c, 2])
            z = wa * za + wb * zb + wc * zc
            px = (wa * za * screen[a, 0] + wb * zb * screen[b, 0] + wc * zc * screen[c, 0]) / z
            py = (wa * za * screen[a, 1] + wb * zb * screen[b, 1] + wc * zc * screen[c, 1]) / z
            flow[0, y, x] = px - (x + 0.5)
            flow[1, y, x] = py - (y + 0.5)
            if kind[y, x] == cloth:
                continue
            cx, cy = int(np.floor(px * 2 + 0.5)), int(np.floor(py * 2 + 0.5))
            mine = group[kind[y, x]]
            agree = 0
            for j in range(-1, 2):
                for i in range(-1, 2):
                    u, v = cx + i, cy + j
                    if 0 <= u <= 2 * width and 0 <= v <= 2 * height and group[fine_kind[v, u]] == mine:
                        w = inverse[v, u]
                        if w > 0 and abs(1.0 / w - z) < tolerance:
                            agree += 1
            if agree >= _AGREE:
                visible[y, x] = 1


def flow_between(a: View, b: View, tolerance: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Flow a <- b of two views of one topology and size.

    Two persons share the head's topology but not hair and accessories: those are left out unless the views are of one
    person.

    Args:
        tolerance: depth in mm within which samples belong to the same surface.

    Returns:
        flow float32 `[2, H, W]` in pixels (dx, dy: the surface point of a's pixel (x, y) lies at (x + dx, y + dy) in b,
        perhaps hidden; 0 on the backdrop), and visible uint8 `[H, W]`: the point is seen in b and is not cloth.
    """
    height, width = a.ident.shape
    flow = np.zeros((2, height, width), np.float32)
    visible = np.zeros((height, width), np.uint8)
    same = a.triangles is b.triangles
    limit = len(a.triangles) if same else a.head_triangles
    _flow(
        a.ident,
        a.bary,
        a.kind,
        a.triangles,
        b.screen,
        b.inverse,
        b.fine_kind,
        _GROUP,
        CLOTH,
        np.float32(tolerance),
        limit,
        flow,
        visible,
    )
    return flow, visible


def hair_mask(view: View) -> np.ndarray:
    """uint8 `[H, W]`: hair, beards included."""
    return (view.kind == HAIR_CLASS).astype(np.uint8)


def face_mask(view: View) -> np.ndarray:
    """uint8 `[H, W]`: skin of the face with eyes, lips and the open mouth; no neck, hair, cloth or glasses."""
    return np.isin(view.kind, (SKIN_FACE, EYES, MOUTH_INSIDE, LASHES)).astype(np.uint8)
