"""Template space: the head template's coordinates, its atlas and the material numbers of its triangles.

Units are millimetres, the origin is the middle between the eyes, x points to the subject's left, y up, z forward.
The atlas' size, axis and warp were chosen by eye.
"""

import numpy as np

# The atlas: a cylinder about a vertical axis behind the eyes, texels of about 0.45 mm in front.
ATLAS_WIDTH, ATLAS_HEIGHT = 768, 640
AXIS_Z = -95.0  # mm; about the middle of the skull
ATLAS_TOP, ATLAS_BOTTOM = 130.0, -150.0  # mm
FRONT_WARP = 0.72  # exponent on the angle; below 1 the front gets more columns than the back

# Materials of triangles.
SKIN, EYE, TEETH, MOUTH, LASH, HAIR, FRAME, HAT = range(8)


def atlas_coordinates(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atlas texel coordinates (column, row) of template positions `[..., 3]`; texel edges are at integers."""
    angle = np.arctan2(points[..., 0], points[..., 2] - AXIS_Z) / np.pi
    warped = np.sign(angle) * np.abs(angle) ** FRONT_WARP
    column = (0.5 + 0.5 * warped) * ATLAS_WIDTH
    row = (ATLAS_TOP - points[..., 1]) / (ATLAS_TOP - ATLAS_BOTTOM) * ATLAS_HEIGHT
    return column, row


def read_atlas(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The texels of values `[H, W]` that hold template positions `[..., 3]`."""
    column, row = atlas_coordinates(points)
    row, column = row.astype(int), column.astype(int)
    return values[np.clip(row, 0, ATLAS_HEIGHT - 1), np.clip(column, 0, ATLAS_WIDTH - 1)]
