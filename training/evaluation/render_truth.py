"""Albedo, normals and light of a held-out render, made again from the seeds in its metadata.

Shards do not hold them. Everything about a head follows from (seed, group, index), so the person and the scene are made again
and the new picture is compared with the stored one: truth of another generator version never goes unnoticed.
"""

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np

from ..data.heads.generate import GENERATOR_VERSION, PERSON, SCENE, seed_of
from ..data.heads.identity import Person, make_person
from ..data.heads.lights import Light
from ..data.heads.materials import SKIN_FACE
from ..data.heads.render import render, view_normals
from ..data.heads.scene import Scene, random_scene
from .metrics.light import fit_light, linear_radiance

BRIGHTEST = 0.97  # sRGB; above it the tone curve cannot be inverted
DARKEST_ALBEDO = 0.02  # below it a division says nothing
SAME_PICTURE = 0.02  # mean difference in sRGB; WebP at quality 95 stays below 0.01


@dataclass(frozen=True)
class RenderTruth:
    """One view's ground truth; arrays `[H, W, ...]`."""

    picture: np.ndarray  # float32 [H, W, 3] sRGB
    albedo: np.ndarray  # float32 [H, W, 3] linear
    normals: np.ndarray  # float32 [H, W, 3] world axes
    skin: np.ndarray  # bool [H, W]: face skin of known albedo

    def shading(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Linear shading of a picture `[H, W, 3]` of this view, and where it is known: (`[H, W, 3]`, bool `[H, W]`)."""
        known = self.skin & (np.asarray(picture).max(axis=-1) < BRIGHTEST)
        return linear_radiance(picture) / np.maximum(self.albedo, DARKEST_ALBEDO), known

    def light(self, picture: np.ndarray) -> np.ndarray | None:
        """Light `[9, 3]` fitted to a picture of this view; None when too little skin is known."""
        shading, known = self.shading(picture)
        return fit_light(shading[known], self.normals[known]) if known.sum() >= 100 else None


def truth_of(person: Person, scene: Scene, size: int) -> RenderTruth:
    """Render a person in a scene with its ground truth."""
    view = render(person, scene, size)
    skin = (view.kind == SKIN_FACE) & (view.albedo.min(axis=-1) > DARKEST_ALBEDO)
    return RenderTruth(view.picture.astype(np.float32) / 255, view.albedo, view_normals(person, scene, view), skin)


@functools.lru_cache(8)
def _person(seed: int) -> Person:
    return make_person(seed)


def person_and_scene(meta: dict, role: str = "target") -> tuple[Person, Scene]:
    """The person and the scene of one picture of a heads sample; `role` is `target` or `profile` (the same person).

    Raises:
        ValueError: a sample of another source or generator version.
    """
    if meta.get("generator") != "heads" or meta.get("generator_version") != GENERATOR_VERSION:
        raise ValueError(
            f"Light is measured on heads of generator version {GENERATOR_VERSION}; these shards hold "
            f"{meta.get('generator')} of version {meta.get('generator_version')}. Render them anew with `icportrait data heads`."
        )
    seed, group, person = (int(part) for part in meta["identity"]["target"].split("-"))
    scene = int(meta["scene"][role].split("-")[-1])
    return (
        _person(seed_of(seed, group, PERSON, person)),
        random_scene(seed_of(seed, group, SCENE, scene)),
    )


def target_truth(meta: dict, stored: np.ndarray) -> RenderTruth:
    """Ground truth of a sample's target picture.

    Args:
        meta: the sample's metadata.
        stored: the target as stored, float `[H, W, 3]` in [0, 1].

    Raises:
        ValueError: see `person_and_scene`; or the new render is another picture.
    """
    truth = truth_of(*person_and_scene(meta), stored.shape[0])
    difference = float(np.abs(truth.picture - stored).mean())
    if difference > SAME_PICTURE:
        raise ValueError(
            f"The render of {meta['identity']['target']} differs from the stored picture by {difference:.3f} on average; the shards were "
            "made by other code. Render them anew with `icportrait data heads`."
        )
    return truth


def relit(scene: Scene, light: Light) -> Scene:
    """The same scene under another light."""
    return dataclasses.replace(scene, light=light)
