"""Read the meshes MakeHuman ships, and subdivide them."""

import gzip
from pathlib import Path

import numpy as np
from scipy import sparse

MM_PER_UNIT = 100.0  # MakeHuman's unit is the decimetre


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """A Wavefront OBJ of quads: vertices `[N, 3]`, uvs `[U, 2]`, {group: faces `[F, 4, 2]` of (vertex, uv) indices}."""
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


def read_target(path: Path, remap: np.ndarray) -> np.ndarray:
    """A MakeHuman target (a sparse morph): float32 `[N, 3]` offsets in mm.

    Args:
        path: `.target` or `.target.gz`, lines of "vertex dx dy dz".
        remap: new index of each vertex of the base mesh, -1 = dropped; N = its largest value + 1.
    """
    delta = np.zeros((remap.max() + 1, 3), np.float32)
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as f:
        for line in f:
            if line.startswith("#") or not line.strip():
                continue
            index, x, y, z = line.split()
            index = remap[int(index)]
            if index >= 0:
                delta[index] = float(x), float(y), float(z)
    return delta * MM_PER_UNIT


def catmull_clark(quads: np.ndarray, count: int) -> tuple[sparse.csr_matrix, np.ndarray]:
    """One Catmull-Clark step of a quad mesh `[Q, 4]` with `count` vertices (Catmull and Clark, 1978).

    Boundary edges are kept as curves. New vertices are ordered: old vertices, edge points, face points.

    Returns:
        csr float32 `[count + edges + Q, count]`, which takes old positions to new ones, and quads `[4 Q, 4]`:
        those of old quad q are 4 q .. 4 q + 3, each from its corner over an edge point and the face point.
    """
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
    # Inner vertices: (face points / n + 2 edge middles / n + (n - 3) old) / n for valence n.
    valence = np.maximum(np.bincount(quads.ravel(), minlength=count), 1).astype(float)
    vertex_face = sparse.csr_matrix((np.ones(4 * q), (quads.ravel(), np.repeat(np.arange(q), 4))), (count, q))
    vertex_edge = sparse.csr_matrix((np.ones(2 * e), (edges.ravel(), np.repeat(np.arange(e), 2))), (count, e))
    degree = np.maximum(np.asarray(vertex_edge.sum(1)).ravel(), 1)
    smooth = (
        sparse.diags(1 / valence / valence) @ vertex_face @ face
        + sparse.diags(2 / degree / valence) @ vertex_edge @ middle
        + sparse.diags((valence - 3) / valence)
    )
    # Border vertices: half of the old and a quarter of each border edge's middle.
    border_edge = sparse.csr_matrix(
        (np.ones(2 * border.sum()), (edges[border].ravel(), np.repeat(np.flatnonzero(border), 2))), (count, e)
    )
    curve = sparse.diags(np.full(count, 0.5)) + 0.25 * border_edge @ middle
    vertex = sparse.diags((~on_border).astype(float)) @ smooth + sparse.diags(on_border.astype(float)) @ curve
    matrix = sparse.vstack([vertex, edge, face]).tocsr()
    following = inverse + count
    preceding = np.roll(following, 1, 1)
    centre = np.repeat((np.arange(q) + count + e)[:, None], 4, 1)
    return matrix.astype(np.float32), np.stack([quads, following, centre, preceding], 2).reshape(-1, 4)


def quads_to_triangles(quads: np.ndarray) -> np.ndarray:
    """Two triangles a quad, in order: `[Q, 4, ...]` to `[2 Q, 3, ...]`."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], 1).reshape(-1, 3, *quads.shape[2:])
