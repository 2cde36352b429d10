"""A photograph lifted without any trained net: the dense face mesh, and around it an average head as wide as the person's outline.

What is known and what is not: the face's depth is the mesh's, up to its rim. Hair, ears, neck and shoulders lie between where an average head has
them and where something as round as the outline would, and meet the face's rim; the background is a plane behind the head. So the outline
turns as a round thing does, and errors grow with distance from the face.
"""

from __future__ import annotations

import math

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
from ..mesh.numerics import blur, blurred_within, joined, resized, smoothstep
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
_MIDDLE = (0, 0.020, -0.090)
"""Where the outline lies in the world, metres: a little behind the middle of the training heads' skulls. Of -0.06 to -0.105 m of depth this one
is nearest to heads seen from 20 degrees to the side."""
_ROUND = 0.085
"""Half the depth of what is wide enough, metres: of a head with hair. Narrower parts are as deep as they are wide."""
_POWER = 0.7
"""How depth grows from the outline inwards: by a circle 0.5, by a parabola 1. Circles are nearer to heads by 0.15 dB, but draw out ears."""
_RIM = 0.01
"""Within this distance of the outline, metres, the round edge goes over into the average head."""
_AVERAGE, _CELL = (
    (-74, -74, -75, -81, -79, -76, -75, -74),
    (-43, -43, -46, -57, -68, -75, -74, -74),
    (-19, -21, -26, -35, -51, -64, -74, -73),
    (-2, -5, -13, -24, -38, -55, -69, -72),
    (13, 10, 1, -15, -31, -48, -64, -74),
    (20, 18, 10, -10, -29, -46, -62, -70),
    (25, 22, 13, -8, -30, -47, -62, -70),
    (24, 21, 13, -9, -35, -51, -66, -74),
    (22, 17, 9, -10, -41, -54, -64, -71),
    (31, 21, 10, -10, -41, -53, -65, -69),
    (30, 22, 9, -14, -42, -51, -58, -62),
    (25, 19, 2, -27, -50, -50, -50, -50),
    (18, 11, -16, -50, -50, -50, -50, -50),
    (-7, -20, -50, -50, -50, -50, -50, -50),
    (-35, -43, -50, -50, -50, -50, -50, -50),
    (-42, -47, -50, -50, -50, -50, -50, -50),
    (-45, -49, -50, -50, -50, -50, -50, -50),
), 0.02  # fmt: skip
"""The average training head with hair, neck and shoulders: how far out of the face its surface lies (millimetres), every `_CELL` metres, from the
middle outwards and from y = 0.15 m down. Under the jaw no deeper than 50: a deeper neck is nearer to heads, but tears the jaw's line apart."""
_TRUST = 0.75
"""Share of the average head against the round outline: nearer to heads seen from 20 degrees than 0.5 and 1."""
_MOST = 0.06
"""By how much the average head may lie before or behind the round outline, metres: a turned head's shoulders would be drawn out."""
_LEAST = 0.004
"""Half the depth of the thinnest parts, metres."""
_PLANE = 0.09
"""How far behind the middle of the head the background lies, metres."""
_OUTLINE = 0.1
"""Share of a pixel from which it belongs to the person's solid; how much of it is seen, the mask says."""
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
    person, skin = _masks(picture.numpy(), mesh)
    middle = float((pose @ np.array(_MIDDLE) + shift)[2])
    average = _average_head(pose, shift, middle, side)
    *ends, known = _solid(mesh, person, average, middle, scale)
    front, back, plane = (distance + (x - pivot[2]) / scale for x in (*ends, middle + _PLANE * scale))
    return finish(picture, source, frame, front, back, float(plane), person, skin, known)


def finish(
    picture: torch.Tensor,
    source: torch.Tensor,
    frame: torch.Tensor,
    front: np.ndarray,
    back: np.ndarray,
    plane: float,
    person: np.ndarray,
    skin: np.ndarray,
    known: np.ndarray,
) -> Lifted:
    """The rest of a lifted portrait: normals of the depth, the light fitted on skin, the albedo without it, and the background.

    Args:
        picture: `[S, S, 3]`, sRGB.
        source, frame: `[25]`, see `Lifted`.
        front, back, plane: see `Lifted`.
        person, skin, known: `[S, S]` in 0 .. 1; see `Lifted` of the last.
    """
    normals = smooth_normals(np.minimum(front, (front + back) / 2), source)
    mask, front, back, known = (torch.from_numpy(x.astype(np.float32)) for x in (person, front, back, known))
    linear = to_linear(picture)
    step = max(1, len(picture) // 256)
    chosen = [
        x[::step, ::step].reshape(-1, x.shape[-1])
        for x in (linear, normals, torch.from_numpy(skin.astype(np.float32))[..., None])
    ]
    light = fit_light(chosen[0], chosen[1], chosen[2][:, 0])
    albedo = linear / lit(light, normals, mask, LEAST_REMOVED)
    background = torch.from_numpy(_without(picture.numpy(), person))
    return Lifted(picture, source, frame, front, back, background, plane, normals, albedo, mask, light, known)


def _without(picture: np.ndarray, person: np.ndarray) -> np.ndarray:
    """The picture `[S, S, 3]` with the person filled in from around, ever softer away from the outline."""
    side = len(picture)
    known = 1 - regions.grown(person > 0.02, 0.008 * side)
    filled = picture
    for sigma in (0.2, 0.06, 0.02, 0.006):
        there = smoothstep(blur(known, sigma * side), 0.02, 0.3)[..., None] if sigma < 0.2 else 1.0
        filled = filled + there * (blurred_within(picture, known, sigma * side) - filled)
    return (filled + known[..., None] * (picture - filled)).clip(0, 1).astype(np.float32)


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


def _average_head(pose: np.ndarray, shift: np.ndarray, start: float, side: int) -> np.ndarray:
    """Where the average head begins along depth, in the mesh's unit (pixels), `[192, 192]`.

    Args:
        pose, shift: of `_posed_head`.
        start: depth from which it is looked for.
        side: of the picture in pixels.
    """
    import cv2

    table, inverse = np.array(_AVERAGE, np.float32) / 1000, np.linalg.inv(pose)
    at = (np.arange(_SIDE) + 0.5) * side / _SIDE
    x, y = np.meshgrid(at - shift[0], at - shift[1])
    z = np.full_like(x, start - shift[2])
    for _ in range(5):  # which place of the head a pixel shows depends on its depth
        across, up, out = (row[0] * x + row[1] * y + row[2] * z for row in inverse)
        places = (abs(across) / _CELL).astype(np.float32), ((0.15 - up) / _CELL).astype(np.float32)
        surface = cv2.remap(table, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        z += (surface - out) / inverse[2, 2]
    return z + shift[2]


def _solid(
    mesh: np.ndarray, person: np.ndarray, average: np.ndarray, middle: float, scale: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the person begins and ends along depth, in the mesh's unit (pixels), and how surely, `[side, side]` each; see `Lifted`.

    Args:
        person: `[side, side]` in 0 .. 1.
        average: `[192, 192]`, of `_average_head`.
        middle: depth of the head's middle in that unit.
        scale: pixels a metre.
    """
    import cv2

    side, factor = len(person), _SIDE / len(person)
    inwards, outwards = (away(person > share, sign) for share, sign in ((0.5, 1), (_OUTLINE, -1)))
    half, thin = _ROUND * scale, _LEAST * scale
    rounded = np.maximum(half * (1 - (1 - np.clip(inwards / half, 0, 1)) ** 2) ** _POWER, thin)
    inner = _TRUST * smoothstep(inwards, 0, _RIM * scale)
    beginning = middle - rounded
    beginning += inner * np.clip(resized(average.astype(np.float32), side) - beginning, -_MOST * scale, _MOST * scale)
    around = resized(beginning.astype(np.float32), _SIDE)
    drawn = draw(mesh * factor, _SIDE)
    on_face = drawn.inside.astype(np.float32)
    face = drawn.interpolated(mesh[:, 2:])[..., 0]
    # Near its rim the mesh decides where the body lies, less and less with distance.
    gap = ((face - around) * on_face)[..., None]
    near, far = (blurred_within(gap, on_face, sigma * _SIDE)[..., 0] for sigma in (0.02, 0.08))
    reach = smoothstep(blur(on_face, 0.08 * _SIDE), 0.0, 0.5)
    share = smoothstep(blur(on_face, 0.02 * _SIDE), 0.05, 0.4)
    soft = blur(cv2.erode(on_face, np.ones((5, 5))), 2.5)
    moved = blur(reach * (share * near + (1 - share) * far), 0.8)
    face, soft, moved = (resized(x.astype(np.float32), side) for x in (blur(face.astype(np.float32), 0.8), soft, moved))
    # Nothing is moved at the outline, where before and behind meet.
    around = beginning + moved * smoothstep(inwards, 0, 0.2 * half)
    front = face * soft + around * (1 - soft)
    back = np.maximum(middle + rounded, front + 2 * rounded)  # shoulders lie behind the head's middle
    beyond = outwards > 0
    return np.where(beyond, middle + outwards, front), np.where(beyond, middle - outwards, back), soft


def away(person: np.ndarray, sign: int) -> np.ndarray:
    """Distance of each pixel inside (`sign` 1) or outside (-1) a person bool `[S, S]` to the outline, pixels; the picture's border is none."""
    import cv2

    pad = len(person) // 2
    person = np.pad(person == (sign > 0), pad, mode="edge").astype(np.uint8)
    return np.maximum(cv2.distanceTransform(person, cv2.DIST_L2, 5)[pad:-pad, pad:-pad] - 0.5, 0).astype(np.float64)


def _masks(picture: np.ndarray, mesh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The person and their bare skin, `[S, S]` in 0 .. 1, both soft."""
    parts = face_parts(picture, mesh)
    face = regions.oval(mesh, len(picture))
    own = joined(parts.person > 0.1, face > 0.5) | (face > 0.5)  # not somebody else
    person = np.maximum(parts.person, face) * blur(own, 1.0)
    return person, mesh_light.bare_skin(picture, parts.skin * face, mesh)
