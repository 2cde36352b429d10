"""One interface over all face backends: which one runs, at which sizes, in which order the faces come, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..errors import UserError
from ..values import check_number, check_option, check_whole
from . import dlib_backend, insightface_backend
from .mediapipe import finder
from .ordering import ORDERS, order_faces
from .pixels import to_bytes
from .types import Box, Face, Faces

BACKENDS = ("auto", "mediapipe", "dlib", "insightface")
EFFORTS = ("fast", "normal", "small faces")
SMALLEST = {"fast": 0.07, "normal": 0.03, "small faces": 0.02}
"""Effort -> side of the smallest face that is seen, as a share of the picture's longer side."""
LANDMARKS = ("5 points", "68 points (non-commercial)")

# Two boxes of one picture that overlap by more than this (intersection over union) are one face.
_SAME_FACE_OVERLAP = 0.4


@dataclass(frozen=True)
class DetectionSettings:
    """What an artist may choose; every field has the node's default."""

    backend: str = "auto"
    """"auto" is MediaPipe, and dlib where it finds nothing; with 68 landmarks it is dlib, whose points these are."""
    effort: str = "normal"
    """How small a face may be: `finder.looks` and `_passes`."""
    order: str = "left-right"
    min_confidence: float = 0.3
    """Faces the backend is less sure of are dropped; never those that were handed in."""
    max_faces: int = 0
    """Keep only this many of the largest faces; 0 keeps all."""
    landmarks: str = "5 points"
    enlarge: bool = True
    """Let dlib look for faces too small for its first look, too. Costs most of the time when there is no face."""

    def __post_init__(self) -> None:
        for name, options in (("backend", BACKENDS), ("effort", EFFORTS), ("order", ORDERS), ("landmarks", LANDMARKS)):
            check_option(name, getattr(self, name), options)
        check_number("min_confidence", self.min_confidence, 0, 1.5)
        check_whole("max_faces", self.max_faces, 0, 64)


@dataclass(frozen=True)
class Pass:
    """One look at the picture: padded, turned, and brought to a size."""

    name: str
    longest_side: int
    """The picture's longer side, after padding, in pixels while searching."""
    padding: float = 0.0
    """Border added on every side, as a fraction of the longer side, filled with the edge's colours."""
    quarter_turns: int = 0
    """Counter-clockwise quarter turns."""


def _passes(effort: str, height: int, width: int, enlarge: bool = True) -> list[Pass]:
    """dlib's and insightface's looks, tried one after another until one finds a face. The first is the one that nearly always does.

    dlib's detector was trained on faces of 80 px and misses what is smaller; large faces cost nothing extra because it looks at
    a whole pyramid of sizes. A face that fills the picture is only found with a border round it. Upside-down faces are looked for last
    (lying ones it sees anyway). Costs on one CPU core: 1024 px about 4.5 s, 640 px 1.5 s, 512 px 1 s.
    """
    longest = max(height, width)
    cap = {"fast": 640, "normal": 1024, "small faces": 2048}[effort]
    # A small picture is enlarged at once: a 256-px portrait then costs as much as a 512-px one.
    first = min(cap, longest if longest >= 512 else 2 * longest)
    small = min(640, max(256, 2 * longest))
    result = [Pass(f"{first} px", first), Pass(f"{small} px with a border", small, padding=0.35)]
    factor = 4 if effort == "small faces" else 2
    # Time grows with the square: this look alone costs more than all others together.
    larger = min({"fast": 1024, "normal": 1536, "small faces": 3072}[effort], max(512, factor * longest))
    if enlarge and larger > 1.2 * first:
        result.append(Pass(f"{larger} px", larger))
    if effort != "fast":
        turned = min(640, 2 * longest)
        result.append(Pass(f"{turned} px upside down", turned, 0.1, quarter_turns=2))
    return result


def find_faces(
    image: torch.Tensor,
    settings: DetectionSettings = DetectionSettings(),
    *,
    given: Sequence[Sequence[Face]] | None = None,
    insightface_folders: Sequence[str | Path] = (),
    on_frame: Callable[[int, int], None] | None = None,
) -> Faces:
    """Find, or take over, the faces of a batch of frames.

    Args:
        image: float32 `[B, H, W, 3]` in [0, 1] (see `pixels.checked_image`).
        given: faces from `given.py`, one list a frame. Then no detector searches; boxes without landmarks get the mesh, or dlib's
            landmarks, where a face is seen in them, and stay boxes where not (drawings, animals, backs of heads).
        insightface_folders: where model packs may lie (ComfyUI's models/insightface).
        on_frame: called with (frames done, frames in all) after each frame; may raise to cancel.

    Returns:
        `Faces`; a frame without a face is an empty tuple, never an error. `message` says which backend ran, why the others did
        not, and for frames without faces what was tried.

    Raises:
        UserError: the asked-for backend is not there.
    """
    frames, height, width = image.shape[:3]
    lines: list[str] = []
    backend = (
        "given"
        if given is not None
        else _choose_backend(settings.backend, settings.landmarks, insightface_folders, lines)
    )
    if given is not None:
        kinds = sorted({face.backend for frame in given for face in frame}) or ["nothing"]
        lines.append(f"given by {', '.join(kinds)}; no detector searched")
    if settings.landmarks != LANDMARKS[0]:
        lines.append("68-point landmarks: their model was trained on iBUG 300-W, whose terms exclude commercial use")
    result = []
    for index in range(frames):
        rgb = to_bytes(image[index])
        if given is not None:
            found = [_with_landmarks(rgb, face, settings) for face in given[index]]
        else:
            found, note = _search(rgb, backend, settings, insightface_folders)
            lines += [f"frame {index}: {note}"] if note and frames > 1 else [note] if note else []
        if settings.max_faces > 0:
            found = sorted(found, key=lambda face: (-face.side, face.box))[: settings.max_faces]
        ordered = order_faces(found, settings.order, height, width)
        result.append(tuple(replace(face, frame=index, number=number) for number, face in enumerate(ordered)))
        if on_frame:
            on_frame(index + 1, frames)
    counts = [len(frame) for frame in result]
    total = f"{sum(counts)} faces" if sum(counts) != 1 else "1 face"
    if frames > 1:
        total += f" in {frames} frames ({sum(c == 0 for c in counts)} frames without)"
    return Faces(height, width, tuple(result), settings.order, "\n".join([f"{total}, order {settings.order}", *lines]))


def no_face_sentence(faces: Faces, frame: int, number: int) -> str:
    """What to tell the artist when the face of this number is not there."""
    count = len(faces.frames[frame])
    size = f"{faces.width}x{faces.height}"
    if count == 0:
        return f"no face was found in frame {frame} ({size} px). {faces.message.splitlines()[-1] if faces.message else ''}".strip()
    known = ", ".join(map(str, sorted(faces.numbers(frame))))
    return f"face {number} was asked for, but frame {frame} ({size} px) has {count}, numbered {known}"


def _choose_backend(wanted: str, landmarks: str, folders: Sequence[str | Path], lines: list[str]) -> str:
    """Which detector runs; adds a line about each."""
    no_dlib, no_insightface = dlib_backend.why_unavailable(), insightface_backend.why_unavailable(folders)
    if wanted == "insightface":
        if no_insightface:
            raise UserError(f"{no_insightface}; choose backend auto, mediapipe or dlib")
        lines.append(f"backend insightface ({insightface_backend.find_detector(folders).name}, non-commercial weights)")
        return "insightface"
    if wanted == "dlib" or (wanted == "auto" and landmarks != LANDMARKS[0]):
        if no_dlib:
            raise UserError(no_dlib)
        lines.append("backend dlib (CNN detector, CC0 weights)")
        return "dlib"
    lines.append("backend MediaPipe (BlazeFace and face mesh, Apache-2.0 weights)")
    if landmarks != LANDMARKS[0]:
        lines.append("68 points are dlib's; MediaPipe gives its mesh")
    if wanted == "auto":
        lines.append(no_dlib or "dlib looks where MediaPipe finds nothing")
        lines.append(no_insightface or "insightface not used; choose backend insightface to use it")
    return "mediapipe"


def _search(
    rgb: np.ndarray, backend: str, settings: DetectionSettings, folders: Sequence[str | Path]
) -> tuple[list[Face], str]:
    """One frame: MediaPipe, then passes of another backend until one finds a face. The note is empty when the first did."""
    tried = []
    if backend == "mediapipe":
        meshes, tried = finder.find(rgb, settings.effort)
        faces = [_mesh_face(found) for found in meshes if found.score >= settings.min_confidence]
        if faces or settings.backend != "auto" or dlib_backend.why_unavailable():
            return faces, "" if faces else _nothing_found(settings, tried, rgb)
        backend = "dlib"
        tried = [f"MediaPipe ({', '.join(tried)})"]
    for look in _passes(settings.effort, *rgb.shape[:2], settings.enlarge):
        faces = [face for face in _look(rgb, look, backend, settings, folders) if face.score >= settings.min_confidence]
        if faces:
            faces = _without_doubles(faces)
            note = f"found by {backend} at {look.name} after nothing was found at {', '.join(tried)}"
            return faces, note if tried else ""
        tried.append(look.name)
    return [], _nothing_found(settings, tried, rgb)


def _nothing_found(settings: DetectionSettings, tried: list[str], rgb: np.ndarray) -> str:
    least = max(1, round(SMALLEST[settings.effort] * max(rgb.shape[:2])))
    needed = f"faces from about {least} px on are seen"
    if settings.effort != "small faces":
        needed += f", with effort small faces from {round(SMALLEST['small faces'] * max(rgb.shape[:2]))}"
    parts = [f"no face at confidence {settings.min_confidence:g} or more", described(rgb), needed]
    return "; ".join([part for part in parts if part] + [f"looked at {', '.join(tried)}"])


def described(rgb: np.ndarray) -> str:
    """What a picture (uint8 `[H, W, 3]`) looks like where that alone explains that no face is found in it; else empty."""
    if (rgb >= 250).all(axis=-1).mean() > 0.95:
        return "the picture is all but white (so looks a file of 16 bits a channel: save it with 8)"
    if (rgb <= 5).all(axis=-1).mean() > 0.95:
        return "the picture is all but black"
    if rgb.std(axis=(0, 1)).max() < 4:
        return "the picture is of one colour"
    if max(rgb.shape[:2]) < 64:
        return f"the picture is only {rgb.shape[1]}x{rgb.shape[0]} px"
    return ""


def _mesh_face(found: finder.MeshFace) -> Face:
    """MediaPipe's finding as a face."""
    points, depth = found.points[:, :2], found.points[:, 2]
    return Face(
        found.box,
        tuple(map(tuple, points.tolist())),
        "mediapipe",
        found.score,
        "mediapipe",
        depth=tuple(depth.tolist()),
    )


def _look(
    rgb: np.ndarray, look: Pass, backend: str, settings: DetectionSettings, folders: Sequence[str | Path]
) -> list[Face]:
    """Run one pass and bring its findings back to picture coordinates."""
    import cv2

    border = round(look.padding * max(rgb.shape[:2]))
    turned = np.ascontiguousarray(
        np.rot90(np.pad(rgb, ((border, border), (border, border), (0, 0)), mode="edge"), look.quarter_turns)
    )
    scale = look.longest_side / max(turned.shape[:2])
    size = (max(1, round(turned.shape[1] * scale)), max(1, round(turned.shape[0] * scale)))
    sized = (
        cv2.resize(turned, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        if scale != 1
        else turned
    )
    factor = np.array([turned.shape[1] / size[0], turned.shape[0] / size[1]])

    found: list[tuple[Box, float, np.ndarray, str]] = []
    if backend == "insightface":
        for box, score, points in insightface_backend.detect(sized, insightface_backend.find_detector(folders)):
            found.append((_scaled(box, factor), score, points * factor, "insightface_5"))
    else:
        count, layout = _dlib_landmarks(settings.landmarks)
        for box, score in dlib_backend.detect(sized):
            box = _scaled(box, factor)
            found.append((box, score, dlib_backend.landmarks(turned, box, count)[0], layout))

    faces = []
    for box, score, points, layout in found:
        corners = _turned_back(np.array([box[:2], box[2:]]), look.quarter_turns, turned.shape[:2]) - border
        points = _turned_back(points, look.quarter_turns, turned.shape[:2]) - border
        low, high = corners.min(axis=0), corners.max(axis=0)
        if not ((high > 0) & (low < rgb.shape[1::-1])).all():
            continue  # only in the border
        faces.append(Face((*low.tolist(), *high.tolist()), tuple(map(tuple, points.tolist())), layout, score, backend))
    return faces


def _turned_back(points: np.ndarray, quarter_turns: int, shape: tuple[int, int]) -> np.ndarray:
    """Undo `np.rot90(picture, quarter_turns)` for points `[N, 2]`; `shape` is the turned picture's (height, width)."""
    for _ in range(quarter_turns % 4):
        # rot90 takes (x, y) of a picture of width w to (y, w - x); w is the turned picture's height.
        points = np.stack([shape[0] - points[:, 1], points[:, 0]], axis=1)
        shape = (shape[1], shape[0])
    return points


def _scaled(box: Box, factor: np.ndarray) -> Box:
    return (float(box[0] * factor[0]), float(box[1] * factor[1]), float(box[2] * factor[0]), float(box[3] * factor[1]))


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes, 0 to 1."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def _without_doubles(faces: list[Face]) -> list[Face]:
    """Drop boxes that overlap a more confident one."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: (-face.score, face.box)):
        if all(overlap(face.box, other.box) < _SAME_FACE_OVERLAP for other in kept):
            kept.append(face)
    return kept


def _with_landmarks(rgb: np.ndarray, face: Face, settings: DetectionSettings) -> Face:
    """Give a box landmarks where a face is seen in it; otherwise leave the box as it is (a drawing, the back of a head)."""
    if face.layout != "none":
        return face
    if settings.backend in ("auto", "mediapipe") and settings.landmarks == LANDMARKS[0]:
        found = finder.read_in_box(rgb, face.box)
        if found is not None:
            read = _mesh_face(found)
            return replace(face, landmarks=read.landmarks, layout=read.layout, depth=read.depth)
    if settings.backend == "mediapipe" or dlib_backend.why_unavailable():
        return face
    count, layout = _dlib_landmarks(settings.landmarks)
    points, scatter = dlib_backend.landmarks(rgb, face.box, count)
    if not dlib_backend.is_steady(scatter):
        return face
    return replace(face, landmarks=tuple(map(tuple, points.tolist())), layout=layout)


def _dlib_landmarks(choice: str) -> tuple[int, str]:
    """Number of points and layout for a choice of `LANDMARKS`."""
    return (5, "dlib_5") if choice == LANDMARKS[0] else (68, "ibug_68")
