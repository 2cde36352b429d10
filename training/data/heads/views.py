"""A head of a shard rendered again from its seeds, also from another scene's camera: exact geometry and albedo of both views."""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from ....models.errors import UserError
from .generate import PERSON, SCENE, seed_of
from .identity import Person, make_person
from .raster import rasterise
from .render import View, render
from .scene import Scene, random_scene


@dataclass(frozen=True, eq=False)
class ViewTruth:
    """One view of one head; arrays `[S, S, ...]`."""

    camera: np.ndarray  # float32 [25]
    picture: np.ndarray  # uint8 [S, S, 3], sRGB
    albedo: np.ndarray  # uint8 [S, S, 3], 255 times the square root of the linear albedo
    depth: np.ndarray  # float16 [S, S], metres; 0 = backdrop
    back: np.ndarray  # float16 [S, S], metres: where a ray through the head leaves it for good; 0 = backdrop


@functools.lru_cache(8)
def _person(seed: int) -> Person:
    return make_person(seed)


def _numbers(name: str) -> tuple[int, int, int]:
    """Seed, group and index that a head's or scene's name in a shard holds."""
    parts = name.split("-")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise UserError(
            f"{name!r} is no rendered head: exact geometry is known of shards of `icportrait data heads` only"
        )
    return tuple(int(part) for part in parts)


def person_of(identity: str) -> Person:
    """The person of an identity's name in a shard, "seed-group-index". Raises UserError for another name."""
    seed, group, index = _numbers(identity)
    return _person(seed_of(seed, group, PERSON, index))


def scene_of(name: str) -> Scene:
    """The scene of a scene's name in a shard, "seed-group-index". Raises UserError for another name."""
    seed, group, index = _numbers(name)
    return random_scene(seed_of(seed, group, SCENE, index))


def truth_of_view(view: View) -> ViewTruth:
    """What of a rendered view the lifter is taught with."""
    depth, back = (_metres(inverse[1::2, 1::2]) for inverse in (view.inverse, _furthest(view)))
    albedo = np.sqrt(np.clip(view.albedo, 0, 1)) * 255
    return ViewTruth(
        np.array(view.camera.scalars(), np.float32),
        view.picture,
        np.rint(albedo).astype(np.uint8),
        depth.astype(np.float16),
        back.astype(np.float16),
    )


def _metres(inverse: np.ndarray) -> np.ndarray:
    return np.where(inverse > 0, 0.001 / np.maximum(inverse, 1e-9), 0)


def _furthest(view: View) -> np.ndarray:
    """Inverse depth of what is furthest away of the head, as `View.inverse`."""
    corners = view.screen * np.array([2, 2, 1], np.float32) + np.array([0.5, 0.5, 0], np.float32)
    # Inverse depth runs straight over the screen, so its other way round does, too, and the nearest is then the furthest.
    nearest = 1.01 / corners[:, 2].min()
    corners[:, 2] = 1 / (nearest - 1 / corners[:, 2])
    turned = rasterise(corners, view.triangles, *view.inverse.shape)[2]
    return np.where(turned > 0, nearest - turned, 0)


def two_views(identity: str, scene: str, other: str, size: int) -> tuple[ViewTruth, ViewTruth]:
    """A person in a scene, and the same moment from another scene's camera, both `size` pixels a side.

    Args:
        identity, scene, other: names as `samples.picture_id` joins them.
    """
    person, place = person_of(identity), scene_of(scene)
    moved = dataclasses.replace(place, camera=scene_of(other).camera)
    return truth_of_view(render(person, place, size)), truth_of_view(render(person, moved, size))
