"""A small z-buffer rasteriser in numba: triangle ids, barycentrics and depth maps.

Own code, because the exact flow needs each pixel's triangle and barycentrics on a machine without a GPU: nvdiffrast wants CUDA,
renderers on OpenGL give colours and depth only, and PyTorch3D has to be compiled for each version of torch.
"""

import numpy as np
from numba import njit


@njit(cache=True, fastmath=True, nogil=True)
def rasterise(screen, triangles, height, width):
    """Rasterise triangles with perspective-correct barycentrics; no culling, no clipping at a near plane.

    Args:
        screen: float32 `[N, 3]`: x, y in pixels (pixel centres at integer + 0.5) and depth; smaller is nearer.
            Triangles with a depth <= 0 are left out.
        triangles: int32 `[T, 3]`.

    Returns:
        ident int32 `[H, W]` (-1 = empty), bary float32 `[H, W, 2]` (weights of corners 0 and 1) and inverse depth
        float32 `[H, W]` (0 = empty).
    """
    ident = np.full((height, width), -1, np.int32)
    bary = np.zeros((height, width, 2), np.float32)
    inverse = np.zeros((height, width), np.float32)
    half, zero, one = np.float32(0.5), np.float32(0), np.float32(1)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1], screen[c, 0], screen[c, 1]
        x0 = int(np.ceil(max(zero, min(ax, bx, cx) - half)))
        x1 = int(np.floor(min(np.float32(width - 1), max(ax, bx, cx) - half)))
        y0 = int(np.ceil(max(zero, min(ay, by, cy) - half)))
        y1 = int(np.floor(min(np.float32(height - 1), max(ay, by, cy) - half)))
        if x0 > x1 or y0 > y1:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
        if abs(area) < np.float32(1e-7) or za <= zero or zb <= zero or zc <= zero:
            continue
        s = one / area
        ic = one / zc
        da, db = one / za - ic, one / zb - ic
        # Weights are linear in the picture: start values and steps.
        ax_, bx_ = (by - cy) * s, (cy - ay) * s
        ay_, by_ = (cx - bx) * s, (ax - cx) * s
        px, py = x0 + half, y0 + half
        wa_row = (px - cx) * ax_ + (py - cy) * ay_
        wb_row = (px - cx) * bx_ + (py - cy) * by_
        for y in range(y0, y1 + 1):
            wa, wb = wa_row, wb_row
            for x in range(x0, x1 + 1):
                if wa >= zero and wb >= zero and wa + wb <= one:
                    w = ic + wa * da + wb * db
                    if w > inverse[y, x]:
                        inverse[y, x] = w
                        ident[y, x] = t
                wa += ax_
                wb += bx_
            wa_row += ay_
            wb_row += by_
    # Barycentrics of the winners, anew and in float64: the stepped ones have drifted.
    for y in range(height):
        for x in range(width):
            t = ident[y, x]
            if t >= 0:
                a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                cx, cy = float(screen[c, 0]), float(screen[c, 1])
                ax, ay, bx, by = screen[a, 0] - cx, screen[a, 1] - cy, screen[b, 0] - cx, screen[b, 1] - cy
                px, py = x + 0.5 - cx, y + 0.5 - cy
                s = 1 / (ax * by - ay * bx)
                wa = (px * by - py * bx) * s
                wb = (ax * py - ay * px) * s
                ia, ib, ic2 = wa / screen[a, 2], wb / screen[b, 2], (1 - wa - wb) / screen[c, 2]
                s = 1 / (ia + ib + ic2)
                bary[y, x, 0] = ia * s
                bary[y, x, 1] = ib * s
    return ident, bary, inverse


@njit(cache=True, fastmath=True, nogil=True)
def depth_map(points, triangles, axes, centre, scale, size, far):
    """Orthographic depth map towards a distant light, and perhaps one towards the opposite light.

    Args:
        points: float32 `[N, 3]`, mm.
        triangles: int32 `[T, 3]`.
        axes: float32 `[3, 3]`, rows right, up, towards the light.
        centre: `[3]`, the point in the middle of the map.
        scale: map pixels a millimetre.
        size: of the map in pixels.
        far: whether to make the second map.

    Returns:
        depth along axes[2] in mm: the largest `[size, size]` (-1e9 = empty) and, with `far`, the least
        `[size, size]` (1e9 = empty), which serves the opposite light; else a dummy.
    """
    n = points.shape[0]
    p = np.empty((n, 3), np.float32)
    half, zero, one = np.float32(0.5), np.float32(0), np.float32(1)
    middle = np.float32(size * 0.5)
    for i in range(n):
        x, y, z = points[i, 0] - centre[0], points[i, 1] - centre[1], points[i, 2] - centre[2]
        p[i, 0] = middle + scale * (axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z)
        p[i, 1] = middle + scale * (axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z)
        p[i, 2] = axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z
    near = np.full((size, size), np.float32(-1e9), np.float32)
    least = np.full((size, size) if far else (1, 1), np.float32(1e9), np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = p[a, 0], p[a, 1], p[b, 0], p[b, 1], p[c, 0], p[c, 1]
        x0 = int(np.ceil(max(zero, min(ax, bx, cx) - half)))
        x1 = int(np.floor(min(np.float32(size - 1), max(ax, bx, cx) - half)))
        y0 = int(np.ceil(max(zero, min(ay, by, cy) - half)))
        y1 = int(np.floor(min(np.float32(size - 1), max(ay, by, cy) - half)))
        if x0 > x1 or y0 > y1:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if abs(area) < np.float32(1e-7):
            continue
        s = one / area
        zc = p[c, 2]
        da, db = p[a, 2] - zc, p[b, 2] - zc
        ax_, bx_ = (by - cy) * s, (cy - ay) * s
        ay_, by_ = (cx - bx) * s, (ax - cx) * s
        wa_row = (x0 + half - cx) * ax_ + (y0 + half - cy) * ay_
        wb_row = (x0 + half - cx) * bx_ + (y0 + half - cy) * by_
        for y in range(y0, y1 + 1):
            wa, wb = wa_row, wb_row
            for x in range(x0, x1 + 1):
                if wa >= zero and wb >= zero and wa + wb <= one:
                    z = zc + wa * da + wb * db
                    if z > near[y, x]:
                        near[y, x] = z
                    if far and z < least[y, x]:
                        least[y, x] = z
                wa += ax_
                wb += bx_
            wa_row += ay_
            wb_row += by_
    return near, least


@njit(cache=True, fastmath=True, nogil=True)
def vertex_normals(points, triangles):
    """Area-weighted unit vertex normals float32 `[N, 3]` of points `[N, 3]` and triangles `[T, 3]`."""
    out = np.zeros((points.shape[0], 3), np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            out[k, 0] += nx
            out[k, 1] += ny
            out[k, 2] += nz
    for i in range(out.shape[0]):
        s = 1.0 / np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2 + 1e-20)
        out[i, 0] *= s
        out[i, 1] *= s
        out[i, 2] *= s
    return out
