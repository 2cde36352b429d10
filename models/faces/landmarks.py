"""Landmark layouts, and the few named points they share.

Every backend numbers its points differently. All that follows (alignment, head fit, recogniser) asks for *named* points instead:

    eye_left_outer, eye_left_inner, eye_right_inner, eye_right_outer   corners of the eyes
    eye_left, eye_right                                                centres of the eyes
    nose_tip, nose_base                                                tip, and the point where the nose meets the lip
    mouth_left, mouth_right, chin

Left and right are the viewer's in an upright picture.
"""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .types import Face

# Sources: dlib 5 points: dlib's tools/archive/train_face_5point_model.cpp and looked at on photographs (the first two points are
# the viewer's right eye). 68 points: the iBUG 300-W mark-up. insightface: eye centres, nose tip, mouth corners.
# MediaPipe: the 468/478-point face mesh.
LAYOUTS: dict[str, dict[str, tuple[int, ...]]] = {
    "none": {},
    "dlib_5": {
        "eye_right_outer": (0,),
        "eye_right_inner": (1,),
        "eye_left_outer": (2,),
        "eye_left_inner": (3,),
        "nose_base": (4,),
        "eye_left": (2, 3),
        "eye_right": (0, 1),
    },
    "ibug_68": {
        "eye_left_outer": (36,),
        "eye_left_inner": (39,),
        "eye_right_inner": (42,),
        "eye_right_outer": (45,),
        "eye_left": (36, 37, 38, 39, 40, 41),
        "eye_right": (42, 43, 44, 45, 46, 47),
        "nose_tip": (30,),
        "nose_base": (33,),
        "mouth_left": (48,),
        "mouth_right": (54,),
        "chin": (8,),
    },
    "insightface_5": {"eye_left": (0,), "eye_right": (1,), "nose_tip": (2,), "mouth_left": (3,), "mouth_right": (4,)},
    "mediapipe": {
        "eye_left_outer": (33,),
        "eye_left_inner": (133,),
        "eye_right_inner": (362,),
        "eye_right_outer": (263,),
        "eye_left": (33, 133),
        "eye_right": (263, 362),
        "nose_tip": (1,),
        "nose_base": (2,),
        "mouth_left": (61,),
        "mouth_right": (291,),
        "chin": (152,),
    },
}
POINT_COUNTS = {"none": (0,), "dlib_5": (5,), "ibug_68": (68,), "insightface_5": (5,), "mediapipe": (468, 478)}


def check_layout(points: np.ndarray, layout: str) -> None:
    """Raise ValueError when `points` `[N, 2]` cannot be in `layout`."""
    if layout not in LAYOUTS:
        raise UserError(f"unknown landmark layout {layout!r}; known: {', '.join(LAYOUTS)}")
    if len(points) not in POINT_COUNTS[layout]:
        wanted = " or ".join(str(count) for count in POINT_COUNTS[layout])
        raise UserError(f"landmark layout {layout!r} has {wanted} points, {len(points)} came")
    if not np.isfinite(points).all():
        raise UserError("landmarks hold NaN or infinite coordinates")


def named_points(face: Face) -> dict[str, np.ndarray]:
    """The named points this face's layout knows, each float64 `[2]` in pixels. Empty for a face that is only a box."""
    points = face.points
    check_layout(points, face.layout)
    return {name: points[list(index)].mean(axis=0) for name, index in LAYOUTS[face.layout].items()}
