"""What the mesh's points are: triangles, rings, mirror pairs, an average face. Facts published with MediaPipe (Apache-2.0).

Left and right are the viewer's in an upright picture; MediaPipe's own names are the person's, so its RIGHT_EYE is LEFT_EYE here.
Sources: canonical_face_model.obj and geometry_pipeline_metadata_landmarks.pbtxt (modules/face_geometry/data),
face_mesh_connections.py (python/solutions), update_face_landmarks_calculator.cc (graphs/iris_tracking/calculators).
"""

from __future__ import annotations

import functools

import numpy as np
from safetensors.numpy import load_file

from .weights import FOLDER

POINTS = 468
"""Points of the mesh itself; ten more belong to the irises."""
POINTS_WITH_IRISES = 478

# Rings, in order round. Eyes and lips: from the corner on the viewer's left, along the top, back along the bottom.
LEFT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
RIGHT_EYE = (362, 398, 384, 385, 386, 387, 388, 466, 263, 249, 390, 373, 374, 380, 381, 382)
LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
# Lower edge, then upper edge, each from the temple to the nose.
LEFT_BROW = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107)
RIGHT_BROW = (276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
# Centre, then the rim's right, top, left and bottom.
LEFT_IRIS = (468, 469, 470, 471, 472)
RIGHT_IRIS = (473, 474, 475, 476, 477)

# The 71 points the iris network reads again, in its order; the first 16 are the eyelids.
LEFT_EYE_READ = (
    33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173, 130, 25, 110, 24, 23, 22, 26, 112, 243, 247,
    30, 29, 27, 28, 56, 190, 226, 31, 228, 229, 230, 231, 232, 233, 244, 113, 225, 224, 223, 222, 221, 189, 35, 124, 46, 53,
    52, 65, 143, 111, 117, 118, 119, 120, 121, 128, 245, 156, 70, 63, 105, 66, 107, 55, 193,
)  # fmt: skip
RIGHT_EYE_READ = (
    263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398, 359, 255, 339, 254, 253, 252, 256, 341, 463,
    467, 260, 259, 257, 258, 286, 414, 446, 261, 448, 449, 450, 451, 452, 453, 464, 342, 445, 444, 443, 442, 441, 413, 265, 353,
    276, 283, 282, 295, 372, 340, 346, 347, 348, 349, 350, 357, 465, 383, 300, 293, 334, 296, 336, 285, 417,
)  # fmt: skip

STABLE = {
    4: 0.070909939706326, 6: 0.032100144773722, 10: 0.008446550928056, 33: 0.058724168688059, 54: 0.007667080033571,
    67: 0.009078059345484, 117: 0.009791937656701, 119: 0.014565368182957, 121: 0.018591361120343, 127: 0.005197994410992,
    129: 0.120625205338001, 132: 0.005560018587857, 133: 0.05328618362546, 136: 0.066890455782413, 143: 0.014816547743976,
    147: 0.014262833632529, 198: 0.025462191551924, 205: 0.047252278774977, 263: 0.058724168688059, 284: 0.007667080033571,
    297: 0.009078059345484, 346: 0.009791937656701, 348: 0.014565368182957, 350: 0.018591361120343, 356: 0.005197994410992,
    358: 0.120625205338001, 361: 0.005560018587857, 362: 0.05328618362546, 365: 0.066890455782413, 372: 0.014816547743976,
    376: 0.014262833632529, 420: 0.025462191551924, 425: 0.047252278774977,
}  # fmt: skip
"""33 points that expressions hardly move, with their weights in a rigid fit (MediaPipe's procrustes_landmark_basis)."""


@functools.cache
def _canonical() -> dict[str, np.ndarray]:
    tensors = load_file(FOLDER / "canonical.safetensors")
    for array in tensors.values():
        array.setflags(write=False)
    return tensors


def canonical_points() -> np.ndarray:
    """The average face, float32 `[468, 3]`, read-only: centimetres, x to the viewer's right, y up, z to the camera."""
    return _canonical()["points"]


def triangles() -> np.ndarray:
    """Corners of the average face's 898 triangles, int16 `[898, 3]`, read-only; eyes and mouth are closed, see `closing`.

    All go round the same way: counter-clockwise seen from the camera, where y points up.
    """
    return _canonical()["triangles"]


def closing(ring: tuple[int, ...]) -> np.ndarray:
    """The triangles that close an eye or the mouth: int16 `[len(ring) - 2, 3]`; `ring` is LEFT_EYE, RIGHT_EYE or LIPS_INNER."""
    return triangles()[np.isin(triangles(), ring).all(axis=1)]


def skin() -> np.ndarray:
    """The triangles without those in the eyes and the mouth: int16 `[852, 3]`."""
    holes = [np.isin(triangles(), ring).all(axis=1) for ring in (LEFT_EYE, RIGHT_EYE, LIPS_INNER)]
    return triangles()[~np.any(holes, axis=0)]


@functools.cache
def mirrored() -> np.ndarray:
    """For every point the number of its mirror image, int64 `[478]`, read-only; points on the middle line are their own."""
    points = canonical_points().astype(np.float64)
    apart = np.linalg.norm(points[:, None] * (-1, 1, 1) - points[None], axis=2)
    result = np.arange(POINTS_WITH_IRISES)
    result[:POINTS] = apart.argmin(axis=1)
    # An iris's right rim becomes the other iris's left rim.
    result[list(LEFT_IRIS)] = np.array(RIGHT_IRIS)[[0, 3, 2, 1, 4]]
    result[list(RIGHT_IRIS)] = np.array(LEFT_IRIS)[[0, 3, 2, 1, 4]]
    result.setflags(write=False)
    return result
