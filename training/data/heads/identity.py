"""A person: shape, look, hair, accessories, and everything baked once for all scenes."""

from dataclasses import dataclass

import numpy as np

from .accessories import Mesh, random_accessories, tuck_hair
from .beard import grow_beard
from .geometry import Shape, random_shape, subdivide
from .hair import grow_hair
from .look import Look, random_look
from .raster import vertex_normals
from .ribbons import Hair, coarse_ribbons, every_other_ribbon
from .skin import paint_atlas
from .template import load_template
from .template_space import HAIR, HAT
from .visibility import bake_visibility

_PALE_IRISES = ("blue", "grey", "green", "pale blue", "hazel")  # these turn brownish around the pupil


@dataclass(frozen=True)
class Person:
    """One identity, ready to be posed.

    Vertices come in the order: fine head, accessories, hair (two a node). The parameter vectors are those of
    materials.py.
    """

    seed: int
    shape: Shape
    look: Look
    hair: list[Hair]  # the head's and, perhaps, the beard's
    extras: list[Mesh]  # accessories
    atlas: np.ndarray  # float32 [H, W, 8], see skin.paint_atlas
    triangles: np.ndarray  # [T, 3] of everything
    material: np.ndarray  # [T]
    casters: np.ndarray  # [C, 3] triangles that throw a key light's shadow: all, but every other ribbon
    visibility: np.ndarray  # uint8 [V, 64]; one row a hair node (two vertices)
    eye: np.ndarray  # [12]
    hair_colours: np.ndarray  # [11]
    frame: np.ndarray  # [3]
    hat: np.ndarray  # [10]


def _bake(shape, fine, normals, extras, hair):
    """Visibility of the environment [V, 64] from everything but among coarse casters: the cage and thinned hair."""
    receivers = [fine] + [e.points for e in extras] + [h.nodes.reshape(-1, 3) for h in hair]
    receiver_normals = [normals] + [e.normals for e in extras] + [h.normals.reshape(-1, 3) for h in hair]
    meshes = [(shape.cage, load_template().cage_triangles)]
    meshes += [(e.points, e.triangles) for e in extras]
    meshes += [coarse_ribbons(h) for h in hair]
    starts = np.cumsum([0] + [len(points) for points, _ in meshes])
    return bake_visibility(
        np.concatenate(receivers).astype(np.float32),
        np.concatenate(receiver_normals).astype(np.float32),
        np.concatenate([points for points, _ in meshes]).astype(np.float32),
        np.concatenate([t + start for (_, t), start in zip(meshes, starts)]).astype(np.int32),
        len(fine) + sum(len(e.points) for e in extras),
    )


def _eye_parameters(rng, look):
    pale = look.iris_name in _PALE_IRISES
    inner = look.iris * np.array([1.25, 1.05, 0.8]) + 0.01 if pale else look.iris * 1.3
    lash = np.minimum(look.hair * 0.4, 0.03) * (1 - 0.6 * look.makeup["liner"])
    iris, pupil, limbus = rng.uniform(5.6, 6.2), rng.uniform(1.7, 2.7), rng.uniform(0.18, 0.4)
    return np.array([*look.iris, *inner, iris, pupil, limbus, *lash], np.float32)


def _hair_parameters(rng, look):
    grey = look.hair_name == "grey"
    tip = look.hair * (rng.uniform(1.0, 1.9) if rng.random() < 0.8 else rng.uniform(2, 4))  # bleached or dyed tips
    if grey:
        tip = look.hair * 0.3  # the strands that have kept their colour
    return np.array(
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


def make_person(seed: int, style: str | None = None, glasses: bool | None = None, hat: str | None = None) -> Person:
    """The person of a seed: the same seed always gives the same one.

    Args:
        style: force a hair style of `hair_styles.STYLES`.
        glasses, hat: force accessories, see `random_accessories`. Forcing one thing may change others.
    """
    rng = np.random.default_rng([int(seed), 0])
    template = load_template()
    shape = random_shape(rng)
    look = random_look(rng, shape)
    fine = subdivide(shape.cage)
    normals = vertex_normals(fine, template.triangles)
    hair = [grow_hair(rng, shape, fine, normals, style)]
    beard = grow_beard(rng, fine, normals, look)
    if beard is not None:
        hair.append(beard)
    extras, frame, hat_parameters = random_accessories(rng, fine, normals, hair[0].style, glasses, hat)
    if any(e.material == HAT for e in extras):
        hair[0] = tuck_hair(hair[0])

    triangles, material, casters = [template.triangles], [template.material], [template.triangles]
    start = len(fine)
    for extra in extras:
        triangles.append(extra.triangles + start)
        casters.append(triangles[-1])
        material.append(np.full(len(extra.triangles), extra.material, np.uint8))
        start += len(extra.points)
    for piece in hair:
        triangles.append(piece.triangles + start)
        casters.append(triangles[-1][every_other_ribbon(piece)])
        material.append(np.full(len(piece.triangles), HAIR, np.uint8))
        start += 2 * piece.nodes.shape[0] * piece.nodes.shape[1]
    return Person(
        seed=int(seed),
        shape=shape,
        look=look,
        hair=hair,
        extras=extras,
        atlas=paint_atlas(shape, look, hair[0].scalp),
        triangles=np.concatenate(triangles).astype(np.int32),
        material=np.concatenate(material),
        casters=np.concatenate(casters).astype(np.int32),
        visibility=_bake(shape, fine, normals, extras, hair),
        eye=_eye_parameters(rng, look),
        hair_colours=_hair_parameters(rng, look),
        frame=frame,
        hat=hat_parameters,
    )
