"""What lies in an identity's folder: pictures, and videos cut to frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ....models.errors import UserError
from ....models.pictures.files import check_picture_size

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


@dataclass(frozen=True)
class Picture:
    """One picture or frame. Exactly one of `rgb` and `problem` is there."""

    name: str
    """Path below the identity's folder; frames end in `#<frame number>`."""
    rgb: np.ndarray | None
    """uint8 `[H, W, 3]`, sRGB."""
    problem: str = ""


def identity_folders(root: Path | str) -> list[Path]:
    """The folders of `root`, one an identity, in name order; `root` itself when it holds pictures or videos directly.

    Raises:
        UserError: there is nothing to read.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: give one that holds a folder of pictures or videos for each person.")
    if _media(root):
        return [root]
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    folders = [path for path in folders if _media(path, deep=True)]
    if not folders:
        kinds = " ".join(PICTURES + VIDEOS)
        raise UserError(f"{root} holds no folder with pictures or videos; read are: {kinds}.")
    return folders


def _media(folder: Path, deep: bool = False) -> list[Path]:
    paths = folder.rglob("*") if deep else folder.iterdir()
    return sorted(path for path in paths if path.suffix.lower() in PICTURES + VIDEOS and path.is_file())


def pictures_of(folder: Path, frame_seconds: float = 0.5, max_frames: int = 200) -> Iterator[Picture]:
    """All pictures of a folder and its subfolders, in name order; unreadable files come with their problem.

    Args:
        frame_seconds: a frame of a video is taken every so many seconds.
        max_frames: at most so many frames of one video.
    """
    for path in _media(folder, deep=True):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in VIDEOS:
            yield from _frames(path, name, frame_seconds, max_frames)
        else:
            yield _picture(path, name)


def _picture(path: Path, name: str) -> Picture:
    try:
        check_picture_size(path)
        # Turned as the camera's EXIF says; 8 bits, three channels, no alpha.
        bgr = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except (OSError, UserError, cv2.error) as error:
        return Picture(name, None, f"cannot be read: {error}")
    if bgr is None:
        return Picture(name, None, "is not a readable picture (damaged, or another format)")
    return Picture(name, np.ascontiguousarray(bgr[..., ::-1]))


def _frames(path: Path, name: str, frame_seconds: float, max_frames: int) -> Iterator[Picture]:
    video = cv2.VideoCapture(str(path))
    try:
        rate = video.get(cv2.CAP_PROP_FPS)
        step = max(1, round(frame_seconds * rate)) if rate > 0 else 1
        number = taken = 0
        # Frames are read one after the other: seeking is inexact in most codecs.
        while taken < max_frames and video.grab():
            if number % step == 0:
                there, bgr = video.retrieve()
                if there and bgr is not None:
                    yield Picture(f"{name}#{number}", np.ascontiguousarray(bgr[..., ::-1]))
                else:
                    yield Picture(f"{name}#{number}", None, "this frame cannot be decoded")
                taken += 1
            number += 1
        if not number:
            yield Picture(name, None, "is not a readable video (damaged, or a codec OpenCV lacks)")
    finally:
        video.release()
