"""A photograph lifted without any trained net: the dense face mesh, and an average head, neck and chest around it.

What is known and what is not: the face's depth is the mesh's, up to its rim. Skull, ears, neck and shoulders are ellipsoids of average size
posed as the face is, moved along depth so that they meet its rim; hair lies on them; the background is a plane through the head's middle,
which moves with the head like a relief. So the surface has no holes, and its errors grow with distance from the face.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from ..errors import UserError
from ..faces.alignment import AlignmentSettings, placement_of
from ..faces.mediapipe import topology
from ..faces.resampling import resample
from ..faces.types import Face, Placement
from ..mesh import light as mesh_light
from ..mesh import regions
from ..mesh.geometry import similarity_3d
from ..mesh.numerics import blur, blurred_within, resized, smoothstep
from ..mesh.painter import crop_mesh
from ..mesh.raster import draw
from ..mesh.skin import face_parts
from .cameras import PIVOT, camera, project, unproject
from .light import DARKEST, fit_light, shading, to_linear
from .render import Lifted

FOV = 20.0
"""Degrees over an aligned crop that a photograph is taken to have; the middle of what the training heads have (12 to 34)."""
MARGIN = 1.5
"""The lifted picture's side in aligned crops: views from the side see more of what is around."""
SIZES = (64, 2048)

# The average face (centimetres) in the training heads' axes (metres): eyes and mouth of both coincide.
_SCALE, _SHIFT = 0.0092, np.array([0.0, -0.0273, -0.0244])
# Centre and half axes in the world, metres: skull, neck, chest. Skull and neck from the training heads' mean, the chest by eye.
_BODY = (
    ((0, 0.020, -0.075), (0.068, 0.083, 0.083)),
    ((0, -0.130, -0.075), (0.056, 0.090, 0.060)),
    ((0, -0.310, -0.085), (0.230, 0.160, 0.100)),
)
_PLANE = 0.09
"""How far behind the middle of the head the background lies, metres. Heads rendered from 20 degrees to the side are nearest to the truth with
0.08 to 0.11, photographs show the stretched rim more the deeper it is."""
_SMOOTH = 0.008
"""By how much depth and normals are blurred before light is laid on, in picture sides."""
LEAST_REMOVED = 0.5
"""Of the photograph's light no less than this share of its mean is divided out: what is darker shows noise."""
_SIDE = 192
"""All geometry around the face is computed at this side: it is smooth."""


def lift_photograph(
    image: torch.Tensor, face: Face, size: int = 512, margin: float = MARGIN
) -> tuple[Lifted, Placement]:
    """Lift one face of a photograph.

    Args:
        image: `[1, H, W, 3]`, sRGB in [0, 1].
        face: found in it.
        size: of an aligned crop, in pixels, a multiple of 64.
        margin: the lifted picture's side in aligned crops, 1 to 3.

    Returns:
        the portrait, and where its picture lies in the photograph.

    Raises:
        UserError: a size outside 64 to 2048, no mesh can be read, or what `placement_of` refuses.
    """
    if not SIZES[0] <= size <= SIZES[1] or size % 64:
        raise UserError(f"size must be a multiple of 64 between {SIZES[0]} and {SIZES[1]}, {size} came")
    wide = int(size * margin) // 64 * 64
    placement = placement_of(face, *image.shape[1:3], AlignmentSettings(crop_size=wide, scale=wide / size))
    # Not `alignment.crop`: what it paints beyond the photograph's edge takes minutes where most of the picture lies beyond.
    picture = resample(image.movedim(-1, 1), placement.matrix, wide, wide).clamp(0, 1).movedim(1, -1)
    mesh = crop_mesh(placement, picture, "picture")
    return lift_crop(picture[0], mesh, wide / size), placement


def lift_crop(
    picture: torch.Tensor, mesh: np.ndarray, margin: float = 1.0, taken_by: torch.Tensor | None = None
) -> Lifted:
    """Lift a square picture whose face's mesh is known.

    Args:
        picture: `[S, S, 3]`.
        mesh: `[468, 3]`, its pixels.
        margin: its side in aligned crops.
        taken_by: `[25]`, the camera that took it where that is known; else a lens of `FOV` is assumed and its place follows from the mesh.
    """
    side = len(picture)
    pose, shift = _posed_head(mesh)
    pivot = pose @ np.array(PIVOT) + shift
    if taken_by is None:
        scale = float(np.cbrt(np.linalg.det(pose)))  # pixels a metre
        rotation = pose / scale
        focal = 0.5 / math.tan(math.radians(FOV) / 2)  # of an aligned crop
        distance = focal * side / margin / scale
        seen = np.array([*((pivot[:2] - side / 2) / (focal / margin * side) * distance), distance])
        place = [torch.tensor(x, dtype=torch.float32) for x in (rotation.T, np.array(PIVOT) - rotation.T @ seen)]
        source, frame = camera(*place, focal / margin), camera(*place, focal)
    else:
        source = frame = taken_by
        distance = float(project(torch.tensor(PIVOT), taken_by)[2])
        scale = float(taken_by[16]) * side / distance
    depth = distance + (_surface(mesh, pose, shift, pivot[2], side) - pivot[2]) / scale
    return finish(picture, source, frame, depth, *_masks(picture.numpy(), mesh, pose, shift))


def finish(
    picture: torch.Tensor,
    source: torch.Tensor,
    frame: torch.Tensor,
    depth: np.ndarray,
    person: np.ndarray,
    skin: np.ndarray,
) -> Lifted:
    """The rest of a lifted portrait: normals of the depth, the light fitted on skin, and the albedo without it.

    Args:
        picture: `[S, S, 3]`, sRGB.
        source, frame: `[25]`, see `Lifted`.
        depth: `[S, S]`, metres.
        person, skin: `[S, S]` in 0 .. 1.
    """
    normals = smooth_normals(depth, source)
    mask = torch.from_numpy(person.astype(np.float32))
    linear = to_linear(picture)
    step = max(1, len(picture) // 256)
    chosen = [
        x[::step, ::step].reshape(-1, x.shape[-1])
        for x in (linear, normals, torch.from_numpy(skin.astype(np.float32))[..., None])
    ]
    light = fit_light(chosen[0], chosen[1], chosen[2][:, 0])
    albedo = linear / lit(light, normals, mask, LEAST_REMOVED)
    return Lifted(picture, source, frame, torch.from_numpy(depth.astype(np.float32)), normals, albedo, mask, light)


def lit(light: torch.Tensor, normals: torch.Tensor, mask: torch.Tensor, least: float = DARKEST) -> torch.Tensor:
    """The shading of the person, and 1 around: linear `[S, S, 3]`."""
    return 1 + mask[..., None] * (shading(light, normals, least) - 1)


def smooth_normals(depth: np.ndarray, source: torch.Tensor) -> torch.Tensor:
    """Normals `[S, S, 3]` for light: of the depth without the mesh's facets and the joint at the face's rim."""
    factor = _SIDE / len(depth)
    small = blur(resized(depth, _SIDE), _SMOOTH * _SIDE) if factor < 1 else blur(depth, _SMOOTH * len(depth))
    normals = blur(depth_normals(torch.from_numpy(small.astype(np.float32)), source).numpy(), _SMOOTH * len(small))
    return torch.nn.functional.normalize(torch.from_numpy(resized(normals, len(depth))), dim=-1)


def depth_normals(depth: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Unit normals `[S, S, 3]` in world axes of a depth map `[S, S]` seen by a camera `[25]`; they look at the camera's side."""
    points = unproject(depth, source)
    padded = torch.nn.functional.pad(points.movedim(-1, 0)[None], (1, 1, 1, 1), mode="replicate")[0].movedim(0, -1)
    right = padded[1:-1, 2:] - padded[1:-1, :-2]
    down = padded[2:, 1:-1] - padded[:-2, 1:-1]
    return torch.nn.functional.normalize(torch.linalg.cross(down, right), dim=-1)


def _posed_head(mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix `[3, 3]` and shift `[3]` from the world to the mesh's pixels (y down, z away)."""
    stable = np.array(list(topology.STABLE))
    world = topology.canonical_points()[stable].astype(np.float64) * _SCALE + _SHIFT
    return similarity_3d(world, mesh[stable], np.array(list(topology.STABLE.values())))


def _surface(mesh: np.ndarray, pose: np.ndarray, shift: np.ndarray, middle: float, side: int) -> np.ndarray:
    """The depth of everything in the mesh's unit (pixels), `[side, side]`.

    Args:
        middle: depth of the head's middle in that unit.
    """
    factor = _SIDE / side
    scale = float(np.cbrt(np.linalg.det(pose)))
    y, x = (np.mgrid[:_SIDE, :_SIDE] + 0.5) / factor
    around = np.full((_SIDE, _SIDE), middle + _PLANE * scale)
    for centre, axes in _BODY:
        around = np.minimum(around, _ellipsoid(x, y, pose, shift, np.array(centre), np.array(axes)))
    around = blur(around.astype(np.float32), 0.02 * _SIDE)
    drawn = draw(mesh * factor, _SIDE)
    inside = drawn.inside.astype(np.float32)
    face = drawn.interpolated(mesh[:, 2:])[..., 0]
    # Near its rim the mesh decides where the body lies, less and less with distance.
    gap = ((face - around) * inside)[..., None]
    near, wide = (blurred_within(gap, inside, sigma * _SIDE)[..., 0] for sigma in (0.02, 0.08))
    reach = smoothstep(blur(inside, 0.08 * _SIDE), 0.0, 0.5)
    share = smoothstep(blur(inside, 0.02 * _SIDE), 0.05, 0.4)
    around = around + reach * (share * near + (1 - share) * wide)
    soft = blur(cv2.erode(inside, np.ones((5, 5))), 2.5)
    return resized(blur((face * soft + around * (1 - soft)).astype(np.float32), 0.8), side).astype(np.float64)


def _ellipsoid(x, y, pose, shift, centre, axes) -> np.ndarray:
    """Depth of the near side of an ellipsoid of the world at pixels x, y; infinite beside it."""
    back = np.linalg.inv(pose)
    # (back @ (q - shift) - centre) / axes has length 1; q = (x, y, z).
    start = (np.stack([x - shift[0], y - shift[1], np.full_like(x, -shift[2])], axis=-1) @ back.T - centre) / axes
    along = back[:, 2] / axes
    a, b, c = along @ along, start @ along, (start**2).sum(axis=-1) - 1
    inside = b * b - a * c
    return np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)


def _masks(picture: np.ndarray, mesh: np.ndarray, pose: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The person and their bare skin, `[S, S]` in 0 .. 1, both soft."""
    side = len(picture)
    small, factor = resized(picture, _SIDE), _SIDE / side
    y, x = (np.mgrid[:_SIDE, :_SIDE] + 0.5) / factor
    body, core = (
        np.any([np.isfinite(_ellipsoid(x, y, pose, shift, np.array(c), grow * np.array(a))) for c, a in _BODY], axis=0)
        for grow in (1.0, 0.8)
    )
    near = np.any(
        [np.isfinite(_ellipsoid(x, y, pose, shift, np.array(c), 1.7 * np.array(a))) for c, a in _BODY], axis=0
    )
    labels = np.where(body, cv2.GC_PR_FGD, np.where(near, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
    labels[core] = cv2.GC_FGD
    labels[regions.oval(mesh * factor, _SIDE) > 0.5] = cv2.GC_FGD
    cv2.setRNGSeed(0)
    bytes_ = np.ascontiguousarray((small * 255 + 0.5).clip(0, 255).astype(np.uint8)[..., ::-1])
    if np.isin(labels, (cv2.GC_BGD, cv2.GC_PR_BGD)).any():
        cv2.grabCut(bytes_, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    person = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    person = cv2.morphologyEx(person, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    skin = face_parts(small, mesh * factor).skin
    skin = mesh_light.bare_skin(small, skin, mesh * factor) * regions.oval(mesh * factor, _SIDE)
    return resized(blur(person, 1.5), side), resized(skin, side)
