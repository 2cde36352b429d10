"""The real photographs with their faces found once a test run: finding six faces takes dlib seconds."""

import functools

import torch

from icportrait.models.faces.detection import find_faces
from icportrait.models.faces.types import Face, Faces
from icportrait.training.data.photographs import group_photograph, packaged_portraits, portrait_photograph

# The six boxes of the group photograph as a person reads them off, left to right (x of the centre of the face).
GROUP_CENTRES_X = (115, 310, 512, 783, 940, 1170)


@functools.cache
def group() -> tuple[torch.Tensor, Faces]:
    """insightface's t1.jpg, `[1, 886, 1280, 3]`, and its six faces."""
    image = group_photograph()
    return image, find_faces(image)


@functools.cache
def astronaut() -> tuple[torch.Tensor, Faces]:
    """scikit-image's astronaut, `[1, 512, 512, 3]`, and her face."""
    image = portrait_photograph()
    return image, find_faces(image)


@functools.cache
def officer() -> tuple[torch.Tensor, Faces]:
    """matplotlib's portrait of Grace Hopper, `[1, 600, 512, 3]`, and her face with glasses."""
    image = packaged_portraits()["grace_hopper.jpg"]
    return image, find_faces(image)


def upright_face(x: float = 100.0, y: float = 100.0, size: float = 60.0) -> Face:
    """A made-up upright frontal face: eye line at y, `size` pixels between the eye centres."""
    unit = size / 60
    points = ((44, 0), (16, 1), (-44, 0), (-16, 1), (0, 42))  # dlib's order, millimetres of the average head
    landmarks = tuple((x + unit * px, y + unit * py) for px, py in points)
    half = 1.25 * size
    box = (x - half, y + 0.3 * size - half, x + half, y + 0.3 * size + half)
    return Face(box, landmarks, "dlib_5", 1.0, "dlib")
