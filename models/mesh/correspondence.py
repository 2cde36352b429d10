"""Which place of the profile belongs to each pixel of the target, from two meshes, and how well it is seen there.

Takes the place of the matching net's flow (eq. 5 and 6) where the pictures show faces.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from ..faces.mediapipe import topology
from ..types import Flow
from . import regions
from .geometry import normals
from .numerics import LUMINANCE, blur, blurred_within, sampled, smoothstep, to_linear
from .raster import Drawn, draw

# A patch is well seen where the profile shows it at no less than 0.6 of the target's density, and not at all below 0.25; and where it
# looks at the profile's camera: at the rim the mesh lies on ears, hair and background. Chosen on photographs.
_DENSITY, _FACING, _FACING_AT_RIM = (0.25, 0.6), (0.1, 0.4), (0.45, 0.85)
# By how much better the other half must be seen to be taken, on a patch of this sigma in crop sides: nostrils and the line between lips
# look away from every camera, and a nose of two halves has three nostrils.
_MUCH_BETTER, _PATCH = (-0.3, -0.1), 0.03
# A point is hidden behind another part of the face when it lies deeper by this share of the crop.
_BEHIND = 0.04
_EYES = ([*topology.LEFT_EYE, *topology.LEFT_BROW], [*topology.RIGHT_EYE, *topology.RIGHT_BROW])
# A step in depth that is an edge (a turned nose before the cheek; not the nostrils of one seen from the front), and how far from it
# colours are taken, as shares of the crop.
_STEP, _MARGIN = 0.05, 0.012
# Light of one half over that of the other, below which it lies in shadow, the sigma of what is compared and the radius from which on a
# shadow is one, in crop sides.
_SHADOW, _SHADOW_SIGMA, _SMALL_SHADOW = (0.2, 0.4), 0.015, 0.02
# Neighbours whose places lie further apart show different parts of the face; their border is softened by this sigma, in crop
# sides, and by at least a pixel's.
_JUMP, _EDGE = 0.015, 0.0025


@dataclass(frozen=True, eq=False)
class MeshMatch:
    """Dense correspondence target <- profile on a square of S pixels."""

    drawn: Drawn
    """The target's mesh."""
    places: np.ndarray
    """float64 `[S, S, 2]`: x, y in the profile's crop, where the pixel's content lies."""
    mirrored: np.ndarray
    """float64 `[S, S, 2]`: the same for the other half of the face."""
    near: np.ndarray
    """float32 `[S, S]`: share of `places` in 0 .. 1; the rest comes from `mirrored`, where the profile does not show this half."""
    seen: np.ndarray
    """float32 `[S, S, 2]` in 0 .. 1: how well the profile shows the surface at `places` and at `mirrored`; 0 outside the face."""
    facing: np.ndarray
    """float32 `[S, S]`: cosine between the target's surface and its camera."""
    normals: np.ndarray
    """float64 `[S, S, 3]`: of the target's surface, x to the right, y down, z to the camera; 0 outside."""

    @property
    def visible(self) -> np.ndarray:
        """How well the profile shows what is taken from it, float32 `[S, S]` in 0 .. 1; 0 outside the face."""
        return (self.seen[..., 0] * self.near + self.seen[..., 1] * (1 - self.near)).clip(0, 1)

    def warped(self, picture: np.ndarray) -> np.ndarray:
        """The profile's crop `[S, S]` or `[S, S, C]` moved into the target's place; nothing of use outside the face."""
        return self.joined(sampled(picture, self.places), sampled(picture, self.mirrored))

    def joined(self, own: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
        """One picture `[S, S]` or `[S, S, C]` of two on the target: read at `places`, and at `mirrored`."""
        near, edges = (x if own.ndim == 2 else x[..., None] for x in (self.near, self._edges))
        moved = own * near + mirrored * (1 - near)
        return moved + edges * (blur(moved, max(1.0, _EDGE * len(self.near))) - moved)

    @functools.cached_property
    def _edges(self) -> np.ndarray:
        """Where one part of the face ends before another, `[S, S]` in 0 .. 1: triangles are drawn without antialiasing."""
        import cv2

        size = len(self.near)
        # Of three neighbours; the void beyond the face is no part of it.
        spread = [
            cv2.morphologyEx(xs.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((3, 3)))
            for xs in np.moveaxis(self.places, -1, 0)
        ]
        within = cv2.erode(self.drawn.inside.astype(np.uint8), np.ones((7, 7))) > 0
        jumps = ((np.hypot(*spread) > _JUMP * size) & within).astype(np.float32)
        return (3 * blur(jumps, max(1.0, _EDGE * size))).clip(0, 1)


def match_meshes(profile: np.ndarray, target: np.ndarray, size: int) -> MeshMatch:
    """Match two meshes `[468, 3]` of one topology, each in pixels of its own crop of side `size`."""
    drawn = draw(target, size)
    own, other = normals(profile), topology.mirrored()[: topology.POINTS]
    target_normals = normals(target)
    density = own[:, 2].clip(0) / np.maximum(target_normals[:, 2], 0.2)
    seen = smoothstep(density, *_DENSITY) * smoothstep(own[:, 2], *_FACING) * ~_hidden(profile, size)
    seen *= 1 - _at_rim() * (1 - smoothstep(own[:, 2], *_FACING_AT_RIM))
    # The mirrored half only where it is seen much better, and an eye from one half as a whole: two halves of two eyes make none.
    better = seen - seen[other]
    fields = drawn.interpolated(np.column_stack([seen, seen[other], better, target_normals]))
    inside = drawn.inside.astype(np.float32)
    near = smoothstep(blurred_within(fields[..., 2:3], inside, _PATCH * size)[..., 0], *_MUCH_BETTER)
    for eye in _EYES:
        whole = regions.grown(regions.hull(target, eye, size), 0.01 * size)
        near += whole * (float(better[eye].mean() > _MUCH_BETTER[1]) - near)
    near = blur((near * inside).astype(np.float32), 0.012 * size).clip(0, 1)
    places = _pulled_in(profile, size)
    return MeshMatch(
        drawn,
        drawn.interpolated(places),
        drawn.interpolated(places[other]),
        near,
        fields[..., :2].clip(0, 1).astype(np.float32),
        fields[..., 5].astype(np.float32),
        fields[..., 3:],
    )


@functools.cache
def _at_rim() -> np.ndarray:
    """How near the face's outline a point lies, 1 on it, `[468]`: there the mesh is the least sure."""
    points = topology.canonical_points().astype(np.float64)
    apart = np.linalg.norm(points[:, None] - points[list(topology.FACE_OVAL)][None], axis=2).min(axis=1)
    return np.exp(-((apart / 1.3) ** 2))  # centimetres


def from_better_half(match: MeshMatch, picture: np.ndarray, clear: np.ndarray, target: np.ndarray) -> MeshMatch:
    """The match for a photograph on whose face hair, a hand or a hard shadow lies: what it covers from the other half, mirrored, where
    that is free.

    Args:
        picture: the photograph's crop, `[S, S, 3]`, sRGB.
        clear: where it shows the bare face, `[S, S]` in 0 .. 1.
        target: the target's mesh, `[468, 3]`.
    """
    import cv2

    size, inside = len(match.near), match.drawn.inside
    here, there = (sampled(clear, places) for places in (match.places, match.mirrored))
    luminance = to_linear(picture) @ LUMINANCE
    light_here, light_there = (
        blurred_within(sampled(luminance, places)[..., None], inside.astype(np.float32), _SHADOW_SIGMA * size)[..., 0]
        for places in (match.places, match.mirrored)
    )
    lit = smoothstep(light_here / np.maximum(light_there, 1e-4), *_SHADOW)
    # Nostrils and what is between lips are small; a shadow's soft rim belongs to it.
    small, around = (
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(radius * size) + 1,) * 2)
        for radius in (_SMALL_SHADOW, _SHADOW_SIGMA)
    )
    shadow = cv2.dilate(cv2.morphologyEx(1 - lit, cv2.MORPH_OPEN, small), around)
    free = smoothstep(there * match.seen[..., 1], 0.3, 0.8) * inside
    covered = np.maximum(1 - here, shadow) * free
    for part in (*regions.EYES, *regions.BROWS):
        shape = (regions.brow if part in regions.BROWS else regions.hull)(target, part, size) > 0.5
        # Two halves of two brows or eyes make none.
        if shape.any() and covered[shape].mean() > (0.1 if part in regions.BROWS else 0.4):
            covered = np.maximum(covered, regions.grown(shape, 0.01 * size))
        elif part in regions.EYES:
            covered = covered * (1 - regions.grown(shape, 0.01 * size))
    covered = blur(covered.astype(np.float32), 0.006 * size)
    return replace(match, near=(match.near * (1 - covered)).astype(np.float32))


def _hidden(mesh: np.ndarray, size: int) -> np.ndarray:
    """Which points lie behind another part of the face, bool `[468]`."""
    drawn = draw(mesh, size)
    depth = drawn.interpolated(mesh[:, 2:])[..., 0]
    x, y = np.clip(mesh[:, :2].astype(int), 0, size - 1).T
    return drawn.inside[y, x] & (mesh[:, 2] > depth[y, x] + _BEHIND * size)


def as_flow(match: MeshMatch) -> Flow:
    """The match as the flow every node takes: a cell a pixel, visibility as confidence, 0 outside the face.

    Outside the face the offsets of the nearest face pixel go on, so that a coarser grid reads no jump at the rim.
    """
    size = match.near.shape[0]
    places = np.where(match.near[..., None] >= 0.5, match.places, match.mirrored)
    nearest = ndimage.distance_transform_edt(~match.drawn.inside, return_distances=False, return_indices=True)
    y, x = np.mgrid[:size, :size] + 0.5
    offsets = (places - np.stack([x, y], axis=-1))[tuple(nearest)]
    return Flow(
        torch.from_numpy(offsets).movedim(-1, 0)[None].float().contiguous(),
        torch.from_numpy(match.visible)[None, None].contiguous(),
        size,
        size,
    )


def _pulled_in(mesh: np.ndarray, size: int) -> np.ndarray:
    """The mesh's points `[468, 2]`, those on an edge behind which something deeper lies (the far cheek behind the nose, the background)
    moved away from it: a mesh is not as exact as not to catch a line of what is behind.
    """
    import cv2

    drawn = draw(mesh, size)
    depth = np.where(drawn.inside, drawn.interpolated(mesh[:, 2:])[..., 0], 1e4).astype(np.float32)
    edge = (cv2.dilate(depth, np.ones((3, 3))) - depth > _STEP * size).astype(np.uint8)
    away = cv2.distanceTransform(1 - edge, cv2.DIST_L2, 5)
    smooth = blur(away, 0.004 * size)
    direction = np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)], axis=-1)
    direction /= np.maximum(np.linalg.norm(direction, axis=-1, keepdims=True), 1e-3)
    x, y = np.clip(mesh[:, :2].astype(int), 0, size - 1).T
    short = np.clip(_MARGIN * size - away[y, x], 0, None) * drawn.inside[y, x]
    return mesh[:, :2] + direction[y, x] * short[:, None]


def moved_outline(picture: np.ndarray, source: np.ndarray, target: np.ndarray, face: np.ndarray) -> np.ndarray:
    """The style's crop `[S, S, 3]` reshaped so that its face's outline lies on the target's; unchanged farther away.

    Thin-plate spline (F. Bookstein, 1989, by scipy) through the outline and the crop's border.

    Args:
        source, target: meshes `[468, 3]` in the crop.
        face: the target's oval `[S, S]`; the spline fades out from it over a quarter of the crop.
    """
    import cv2
    from scipy.interpolate import RBFInterpolator

    size = len(face)
    ring, edge = list(topology.FACE_OVAL), np.linspace(0, size, 9)
    border = np.array([(x, y) for x in edge for y in edge if x in (0, size) or y in (0, size)])
    values = np.concatenate([target[ring, :2] - source[ring, :2], np.zeros_like(border)])
    spline = RBFInterpolator(np.concatenate([target[ring, :2], border]) / size, values, smoothing=1e-4)
    coarse = 64
    x, y = np.meshgrid(*[(np.arange(coarse) + 0.5) / coarse] * 2)
    shifts = spline(np.column_stack([x.ravel(), y.ravel()])).reshape(coarse, coarse, 2)
    shifts = cv2.resize(shifts, (size, size), interpolation=cv2.INTER_CUBIC) * outskirts(face, 0.1, 0.28)[..., None]
    y, x = np.mgrid[:size, :size] + 0.5
    result = sampled(picture, np.stack([x, y], axis=-1) - shifts).clip(0, 1)
    # Untouched pixels stay bit for bit.
    return np.where((shifts**2).sum(axis=-1, keepdims=True) > 1e-4, result, picture)


def outskirts(face: np.ndarray, start: float, end: float) -> np.ndarray:
    """1 on the face `[S, S]` and round it, falling smoothly to 0 between `start` and `end` (shares of S) from it, and at the border."""
    import cv2

    size = len(face)
    away = cv2.distanceTransform((face < 0.5).astype(np.uint8), cv2.DIST_L2, 5) / size
    steps = np.minimum(np.arange(size), np.arange(size)[::-1]) / (0.06 * size)
    return (1 - smoothstep(away, start, end)) * np.minimum(steps[:, None], steps[None]).clip(0, 1)
