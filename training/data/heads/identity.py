"""A person: shape, look, hair, accessories, and everything baked once for all scenes."""

from dataclasses import dataclass

import numpy as np

from . import accessories
from .geometry import random_shape, subdivide
from .hair import grow_beard, grow_hair
from .raster import vertex_normals
from .skin import paint_atlas, random_look
from .template import HAIR, HAT, load_template
from .visibility import bake_visibility


@dataclass(frozen=True)
class Person:
    """One identity, ready to be posed."""

    seed: int
    shape: object
    look: object
    hair: list  # Hair pieces: the head's and, perhaps, the beard's
    extras: list  # accessory meshes
    atlas: np.ndarray
    triangles: np.ndarray  # [T, 3] of everything
    material: np.ndarray  # [T]
    casters: np.ndarray  # triangles that throw a key light's shadow
    visibility: np.ndarray  # [V, 64] uint8; one row a hair node (two vertices)
    eye: np.ndarray  # shader parameters
    hair_colours: np.ndarray
    frame: np.ndarray
    hat: np.ndarray


def make_person(seed, style=None, **choices):
    """The person of a seed; `style` forces a hair style."""
    rng = np.random.default_rng([int(seed), 0])
    template = load_template()
    shape = random_shape(rng)
    look = random_look(rng, shape)
    fine = subdivide(shape.cage)
    normals = vertex_normals(fine, template.triangles)
    hair = [grow_hair(rng, shape, fine, normals, look, style)]
    beard = grow_beard(rng, fine, normals, look)
    if beard is not None:
        hair.append(beard)
    extras, frame, hat = accessories.random_accessories(rng, shape, fine, normals, hair[0], choices)
    if any(e.material == HAT for e in extras):
        hair[0] = accessories.tuck_hair(hair[0])
    atlas = paint_atlas(shape, look, hair[0].scalp)
    triangles, material, start = [template.triangles], [template.material], len(fine)
    points, point_normals = [fine], [normals]
    for extra in extras:
        triangles.append(extra.triangles + start)
        material.append(np.full(len(extra.triangles), extra.material, np.uint8))
        points.append(extra.points)
        point_normals.append(extra.normals)
        start += len(extra.points)
    hair_start = start
    nodes = []
    for piece in hair:
        triangles.append(piece.triangles + start)
        material.append(np.full(len(piece.triangles), HAIR, np.uint8))
        nodes.append((piece.nodes.reshape(-1, 3), piece.normals.reshape(-1, 3)))
        start += 2 * len(nodes[-1][0])
    # Casters: the cage, accessories and thickened hair (every fourth ribbon, three times as wide).
    caster_points, caster_triangles, at = (
        [shape.cage] + [e.points for e in extras],
        [template.cage_triangles],
        len(shape.cage),
    )
    for extra in extras:
        caster_triangles.append(extra.triangles + at)
        at += len(extra.points)
    for piece in hair:
        p, t = _coarse_hair(piece)
        caster_points.append(p)
        caster_triangles.append(t + at)
        at += len(p)
    receivers = np.concatenate(points + [n[0] for n in nodes]).astype(np.float32)
    receiver_normals = np.concatenate(point_normals + [n[1] for n in nodes]).astype(np.float32)
    seen = bake_visibility(
        receivers,
        receiver_normals,
        np.concatenate(caster_points).astype(np.float32),
        np.concatenate(caster_triangles).astype(np.int32),
        hair_start,
    )
    casters = [t if m is None else t[_every_other(m)] for t, m in zip(triangles, [None] * (1 + len(extras)) + hair)]
    inner = (
        look.iris * np.array([1.25, 1.05, 0.8]) + 0.01
        if look.iris_name in ("blue", "grey", "green", "pale blue", "hazel")
        else look.iris * 1.3
    )
    lash = np.minimum(look.hair * 0.4, 0.03) * (1 - 0.6 * look.makeup["liner"])
    eye = np.array(
        [*look.iris, *inner, rng.uniform(5.6, 6.2), rng.uniform(1.7, 2.7), rng.uniform(0.18, 0.4), *lash], np.float32
    )
    grey = look.hair_name in ("grey",)
    tip = look.hair * (rng.uniform(1.0, 1.9) if rng.random() < 0.8 else rng.uniform(2, 4))
    if grey:
        tip = look.hair * 0.3
    colours = np.array(
        [
            *look.hair,
            *np.minimum(tip, 0.8),
            rng.uniform(0.35, 0.8),
            rng.uniform(0.0, 0.5),
            0.35 if grey else rng.choice([0.0, 0.08, 0.2], p=[0.6, 0.25, 0.15]),
            rng.uniform(40, 110),
            rng.uniform(0.5, 1.5),
        ],
        np.float32,
    )
    return Person(
        int(seed),
        shape,
        look,
        hair,
        extras,
        atlas,
        np.concatenate(triangles).astype(np.int32),
        np.concatenate(material),
        np.concatenate(casters).astype(np.int32),
        seen,
        eye,
        colours,
        frame,
        hat,
    )


def _every_other(piece):
    """Mask of the triangles of every second ribbon."""
    each = len(piece.triangles) // max(len(piece.nodes), 1)
    return np.repeat(np.arange(len(piece.nodes)) % 2 == 0, each)


def _coarse_hair(piece):
    """Every fourth ribbon with every second node, widened: a caster mesh."""
    nodes, normals = piece.nodes[::4, ::2], piece.normals[::4, ::2]
    if not len(nodes):
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    from .hair import _ribbon_triangles

    tangent = np.gradient(nodes, axis=1)
    side = np.cross(tangent, normals)
    side /= np.linalg.norm(side, axis=-1, keepdims=True) + 1e-6
    half = 1.5 * piece.width[::4, None, None]
    points = np.stack([nodes - side * half, nodes + side * half], 2).reshape(-1, 3)
    return points, _ribbon_triangles(nodes.shape[0], nodes.shape[1])
