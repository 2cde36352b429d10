"""Faces as nodes: detect, align, stitch, compare.

Wire types (all frozen, documented in `models/faces/types.py`): ICPORTRAIT_FACES = `Faces`, ICPORTRAIT_STITCH = `Placements`.
ComfyUI's BOUNDING_BOX and FACE_LANDMARKS are accepted.

Batches: a batch of frames in gives the same number out, in order. Inputs are never changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from comfy_api.latest import io, ui

from ..models.faces import detection, given, identity
from ..models.faces.alignment import TEMPLATES, AlignmentSettings, crop, placement_of
from ..models.faces.detection import DetectionSettings
from ..models.faces.ordering import ORDERS, order_faces
from ..models.faces.pixels import checked_image, checked_mask
from ..models.faces.stitching import COLOR_MATCHES, HAIR, StitchSettings, face_mask, stitch
from ..models.faces.types import Face, Faces, Placements
from ..models.pictures import draw_faces, labelled_panel
from .common import CATEGORY, check_choice, check_type, naming

FacesType = io.Custom("ICPORTRAIT_FACES")
StitchType = io.Custom("ICPORTRAIT_STITCH")

ON_NO_FACE = ("error", "pass through")


def insightface_folders() -> list[str]:
    """ComfyUI's folders for insightface model packs, extra_model_paths.yaml included."""
    import folder_paths

    try:
        return list(folder_paths.get_folder_paths("insightface"))
    except KeyError:  # no pack has registered the folder
        return [os.path.join(folder_paths.models_dir, "insightface")]


def progress(steps: int) -> Callable[[int, int], None]:
    """A callback that moves ComfyUI's progress bar and lets Cancel through."""
    import comfy.model_management
    import comfy.utils

    bar = comfy.utils.ProgressBar(steps)

    def step(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return step


class DetectFaces(io.ComfyNode):
    """Find faces, or take over the ones another node or the artist found."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_DetectFaces",
            display_name="Detect Faces",
            category=f"{CATEGORY}/faces",
            description="Finds the faces of a picture or of each frame of a batch, and numbers them in a stated order. The preview "
            "shows the numbers to type into other nodes. Runs dlib, whose weights come with its package; boxes, MediaPipe landmarks "
            "or a hand-drawn mask can be connected instead. A frame without a face is no error here: its list is empty.",
            inputs=[
                io.Image.Input("image", tooltip="Picture, or a batch of frames of one size."),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default="left-right",
                    tooltip="Which face is number 0, 1, 2 ... Left and right are yours, the viewer's. Ties (less than 4 pixels apart) go "
                    "left-right, then top-bottom, then large-small. No cost.",
                ),
                io.Combo.Input(
                    "effort",
                    options=list(detection.EFFORTS),
                    default="normal",
                    tooltip="How large the picture may be while searching, in pixels along its longer side: fast 640, normal 1024, small "
                    "faces 2048. Faces below about 80 px at that size are missed. On one CPU core fast takes about 2 s a frame, normal 5. "
                    "When nothing is found, other sizes, a border and turned pictures are tried.",
                ),
                io.Float.Input(
                    "min_confidence",
                    default=0.3,
                    min=0.0,
                    max=1.5,
                    step=0.05,
                    tooltip="Faces the detector is less sure of are dropped. dlib: a clear face has about 1; insightface: 0 to 1. Boxes, "
                    "landmarks and masks you connect are always kept.",
                ),
                io.Int.Input(
                    "max_faces",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="Keep only this many of the largest faces of a frame. 0 keeps all.",
                ),
                io.Combo.Input(
                    "backend",
                    options=list(detection.BACKENDS),
                    default="auto",
                    tooltip="auto: dlib (CC0 weights), or insightface when dlib is not installed. insightface needs a model pack in "
                    "models/insightface, whose licence excludes commercial use; nothing is downloaded. The message says what ran.",
                ),
                io.Combo.Input(
                    "landmarks",
                    options=list(detection.LANDMARKS),
                    default=detection.LANDMARKS[0],
                    tooltip="dlib's landmarks. 5 points (eye corners, nose; CC0) are enough for everything here and hold up better on "
                    "turned heads. The 68-point model was trained on pictures whose terms exclude commercial use.",
                ),
                io.Custom("BOUNDING_BOX").Input(
                    "bounding_boxes",
                    # Without it newer editors make a widget of it and send its default box, also when nothing is connected.
                    extra_dict={"forceInput": True},
                    optional=True,
                    tooltip="Boxes from another detector. No search then: each box becomes a face, with landmarks where dlib sees a face in it.",
                ),
                io.Custom("FACE_LANDMARKS").Input(
                    "face_landmarks",
                    optional=True,
                    tooltip="From ComfyUI's MediaPipe Face Landmarker. No search then. Goes before bounding_boxes and mask.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Hand-drawn: each white region becomes one face. No search then. Same size as the picture; one mask, or one a frame.",
                ),
            ],
            outputs=[
                FacesType.Output("faces", display_name="faces", tooltip="All faces, for the other face nodes."),
                io.Int.Output("count", display_name="count", tooltip="Number of faces over all frames."),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="The frames with boxes, landmarks and numbers."
                ),
                io.String.Output("message", display_name="message", tooltip="What ran, what did not and why."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        order,
        effort,
        min_confidence,
        max_faces,
        backend,
        landmarks,
        bounding_boxes=None,
        face_landmarks=None,
        mask=None,
    ) -> io.NodeOutput:
        with naming(cls):
            picture = checked_image(image)
            settings = DetectionSettings(backend, effort, order, min_confidence, max_faces, landmarks)
            frames, height, width = picture.shape[:3]
            handed_in = None
            if face_landmarks is not None:
                handed_in = given.from_face_landmarks(face_landmarks, frames, height, width)
            elif bounding_boxes is not None:
                handed_in = given.from_boxes(bounding_boxes, frames, height, width)
            elif mask is not None:
                handed_in = given.from_mask(checked_mask(mask), frames, height, width)
            faces = detection.find_faces(
                picture, settings, given=handed_in, insightface_folders=insightface_folders(), on_frame=progress(frames)
            )
            preview = draw_faces(picture, faces)
        shown = {**ui.PreviewImage(preview, cls=cls).as_dict(), "text": (faces.message,)}
        return io.NodeOutput(faces, faces.count, preview, faces.message, ui=shown)


class AlignFace(io.ComfyNode):
    """Cut one face out, upright and in the size the nets want."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_AlignFace",
            display_name="Align Face",
            category=f"{CATEGORY}/faces",
            description="Cuts a face out of the picture: turned upright, scaled and centred by its landmarks, antialiased. Use the same "
            "settings for the profile and the style reference. The stitch output remembers where the crop belongs.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The picture the faces were found in (or one of the same size). For several faces: the "
                    "running canvas, that is the last Stitch Face's output.",
                ),
                FacesType.Input("faces", tooltip="From Detect Faces."),
                io.Int.Input(
                    "face_index",
                    default=0,
                    min=-1,
                    max=63,
                    tooltip="Number of the face as drawn on every preview; 0 is the first. In a batch this face of each frame. "
                    "-1 takes every face of a single picture, one crop each; in a batch the first face of each frame.",
                ),
                io.Int.Input(
                    "crop_size",
                    default=256,
                    min=64,
                    max=2048,
                    step=64,
                    tooltip="Side of the crop in pixels. 256 for the demo bundle; set 512 for SD1.5. Cost of everything after grows with its square.",
                ),
                io.Combo.Input(
                    "template",
                    options=list(TEMPLATES),
                    default="ffhq",
                    tooltip="ffhq: head with hair, the frame to generate in. arcface: tight face without hair, as recognisers want it.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.25,
                    max=4.0,
                    step=0.05,
                    tooltip="Above 1 shows more around the face, below 1 less. 1 is the template.",
                ),
                io.Float.Input(
                    "offset_x",
                    default=0.0,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Moves the frame to the right, in crop sides.",
                ),
                io.Float.Input(
                    "offset_y",
                    default=0.0,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Moves the frame down, in crop sides.",
                ),
                io.Float.Input(
                    "max_rotation",
                    default=180.0,
                    min=0.0,
                    max=180.0,
                    step=5.0,
                    tooltip="A tilted face is turned upright by at most this many degrees. 0 never turns.",
                ),
                io.Combo.Input(
                    "on_no_face",
                    options=list(ON_NO_FACE),
                    default="error",
                    tooltip="When a frame has no such face. error: stop with a sentence. pass through: the crop is the frame's middle, its mask is "
                    "empty, and Stitch Face leaves the frame as it is.",
                ),
            ],
            outputs=[
                io.Image.Output("crop", display_name="crop", tooltip="[frames, size, size, 3]."),
                StitchType.Output("stitch", display_name="stitch", tooltip="Where each crop belongs, for Stitch Face."),
                io.Mask.Output(
                    "face_mask",
                    display_name="face_mask",
                    tooltip="The face's shape in the crop, hard edge: forehead to chin, without hair and neck.",
                ),
                io.String.Output(
                    "message", display_name="message", tooltip="Frames that were passed through, and why."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, image, faces, face_index, crop_size, template, scale, offset_x, offset_y, max_rotation, on_no_face
    ) -> io.NodeOutput:
        with naming(cls):
            check_choice("on_no_face", on_no_face, ON_NO_FACE)
            check_type("faces", faces, Faces, "Detect Faces")
            picture = checked_image(image)
            settings = AlignmentSettings(template, crop_size, scale, offset_x, offset_y, max_rotation)
            chosen, lines = _choose(picture, faces, face_index, on_no_face)
            crops, masks, placements = [], [], []
            for frame, face in chosen:
                one = picture[frame].permute(2, 0, 1)[None]
                placement = None
                if face is not None:
                    try:
                        placement = placement_of(face, *picture.shape[1:3], settings)
                    except ValueError as error:
                        if on_no_face == "error":
                            raise
                        lines.append(f"frame {frame}: passed through: {error}")
                crops.append(_middle(one, crop_size) if placement is None else crop(one, placement))
                masks.append(torch.zeros(crop_size, crop_size) if placement is None else face_mask(placement))
                placements.append(placement)
        message = "\n".join(lines)
        return io.NodeOutput(
            torch.cat(crops).permute(0, 2, 3, 1), Placements(tuple(placements), message), torch.stack(masks), message
        )


def _choose(
    picture: torch.Tensor, faces: Faces, index: int, on_no_face: str
) -> tuple[list[tuple[int, Face | None]], list[str]]:
    """Which face of which frame, and a line for each frame passed through."""
    frames, height, width = picture.shape[:3]
    if (height, width) != (faces.height, faces.width):
        raise ValueError(
            f"the image is {width}x{height}, the faces were found on {faces.width}x{faces.height}: connect the same picture to both nodes"
        )
    if len(faces.frames) not in (1, frames):
        raise ValueError(
            f"the image has {frames} frames, the faces come from {len(faces.frames)}: connect the same batch to both nodes"
        )
    if index < 0 and frames == 1 and faces.frames[0]:
        return [(0, face) for face in faces.frames[0]], []
    chosen, lines = [], []
    for frame in range(frames):
        source = min(frame, len(faces.frames) - 1)
        found = dict(zip(faces.numbers(source), faces.frames[source], strict=True))
        face = next(iter(found.values()), None) if index < 0 else found.get(index)
        if face is None:
            sentence = detection.no_face_sentence(faces, source, index)
            if on_no_face == "error":
                raise ValueError(f"{sentence} (on_no_face = pass through leaves such frames as they are)")
            lines.append(f"frame {frame}: passed through: {sentence}")
        chosen.append((frame, face))
    return chosen, lines


def _middle(frame_bchw: torch.Tensor, size: int) -> torch.Tensor:
    """The frame's middle square, brought to the crop's size."""
    height, width = frame_bchw.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frame_bchw[..., top : top + side, left : left + side]
    return torch.nn.functional.interpolate(
        square, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    ).clamp(0, 1)


def feather_input(edge_of: str, optional: bool = False) -> io.Float.Input:
    """`feather`; the tooltip names whose edge it is."""
    return io.Float.Input(
        "feather",
        default=0.08,
        min=0.0,
        max=0.5,
        step=0.01,
        optional=optional,
        tooltip=f"Width of the {edge_of} soft edge, as a fraction of the crop's side.",
    )


def color_match_input(tooltip: str, optional: bool = False) -> io.Combo.Input:
    """`color_match`, with one default in all nodes."""
    return io.Combo.Input(
        "color_match", options=list(COLOR_MATCHES), default=COLOR_MATCHES[0], optional=optional, tooltip=tooltip
    )


class StitchFace(io.ComfyNode):
    """Paste the generated crop back, onto the running canvas."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_StitchFace",
            display_name="Stitch Face",
            category=f"{CATEGORY}/faces",
            description="Pastes a crop back where Align Face took it from: face-shaped soft mask, antialiased. Pixels outside the mask stay "
            "bit for bit as they were. For several faces connect each Stitch Face's picture to the next Align Face and Stitch Face.",
            inputs=[
                io.Image.Input(
                    "canvas",
                    tooltip="The picture to paste on: for several faces the last Stitch Face's output. A single picture "
                    "with several crops gets them all, one after another.",
                ),
                io.Image.Input(
                    "crop",
                    tooltip="The generated crop, one for each crop of Align Face. May have been scaled; must be square.",
                ),
                StitchType.Input("stitch", tooltip="From Align Face."),
                feather_input("mask's"),
                color_match_input(
                    "Gives the crop the canvas's colors, measured inside the mask only. mean_std: in CIE Lab. "
                    "reinhard: in l-alpha-beta. Mends the VAE's color drift; also pulls a different skin tone towards the picture's."
                ),
                io.Float.Input(
                    "color_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much of the color match, 0 to 1.",
                ),
                io.Float.Input(
                    "opacity",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 returns the canvas unchanged, 1 pastes fully.",
                ),
                io.Boolean.Input(
                    "keep_detail",
                    default=True,
                    tooltip="Where the crop was left unchanged, give back the canvas's finest detail that a resampled crop cannot carry.",
                ),
                io.Combo.Input(
                    "hair",
                    options=list(HAIR),
                    default="as masked",
                    tooltip="With a hair_mask: keep the picture's hair (hair is not pasted) or bring the crop's (hair is pasted too).",
                ),
                io.Mask.Input(
                    "face_mask",
                    optional=True,
                    tooltip="What to paste, in the crop. Without it, the face's own shape. Softened by feather either way.",
                ),
                io.Mask.Input(
                    "occlusion_mask",
                    optional=True,
                    tooltip="On the canvas, of its size: 1 where something is in front of the face (hand, hair, glasses). Taken out of the paste.",
                ),
                io.Mask.Input(
                    "hair_mask", optional=True, tooltip="Hair in the crop: 1 = hair. Used by the hair switch only."
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The canvas with the face pasted."),
                io.Mask.Output("mask", display_name="mask", tooltip="What was pasted, on the canvas; 0 = untouched."),
            ],
        )

    @classmethod
    def execute(
        cls,
        canvas,
        crop,
        stitch,
        feather,
        color_match,
        color_strength,
        opacity,
        keep_detail,
        hair,
        face_mask=None,
        occlusion_mask=None,
        hair_mask=None,
    ) -> io.NodeOutput:
        with naming(cls):
            check_type("stitch", stitch, Placements, "Align Face")
            settings = StitchSettings(feather, color_match, color_strength, opacity, keep_detail, hair)
            picture, crops = checked_image(canvas, "canvas"), checked_image(crop, "crop")
            count = len(stitch.items)
            if len(crops) != count:
                raise ValueError(
                    f"{len(crops)} crops came for {count} placements of Align Face: give one crop each, in their order"
                )
            if len(picture) not in (1, count):
                raise ValueError(f"{len(picture)} canvases came for {count} crops: give one, or one each")
            masks = {
                name: _masks(mask, name, count)
                for name, mask in (
                    ("face_mask", face_mask),
                    ("occlusion_mask", occlusion_mask),
                    ("hair_mask", hair_mask),
                )
            }
            images, pasted = paste_all(picture, crops, stitch, settings, **masks)
        return io.NodeOutput(images, pasted)


def _masks(mask: torch.Tensor | None, name: str, count: int) -> list[torch.Tensor | None]:
    if mask is None:
        return [None] * count
    mask = checked_mask(mask, name)
    if len(mask) not in (1, count):
        raise ValueError(f"{len(mask)} masks came in {name} for {count} crops: give one, or one each")
    return [mask[min(index, len(mask) - 1)] for index in range(count)]


def paste_all(
    picture: torch.Tensor,
    crops: torch.Tensor,
    placements: Placements,
    settings: StitchSettings,
    face_mask: list[torch.Tensor | None],
    occlusion_mask: list[torch.Tensor | None],
    hair_mask: list[torch.Tensor | None],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste crop after crop: each on its own frame, or all on one running canvas. Returns IMAGE and MASK."""
    step = progress(len(crops))
    running = list(picture.permute(0, 3, 1, 2))
    pasted = [torch.zeros(picture.shape[1:3]) for _ in running]
    for index, placement in enumerate(placements.items):
        target = min(index, len(running) - 1)
        if placement is not None:
            height, width = crops.shape[1:3]
            if height != width:
                raise ValueError(f"the crop is {width}x{height}; it must be square, as Align Face made it")
            placed = placement.at_size(width)
            running[target], mask = stitch(
                running[target],
                crops[index].permute(2, 0, 1),
                placed,
                settings,
                mask=_scaled(face_mask[index], width),
                hair_mask=_scaled(hair_mask[index], width),
                occlusion=occlusion_mask[index],
            )
            pasted[target] = torch.maximum(pasted[target], mask)
        step(index + 1, len(crops))
    return torch.stack(running).permute(0, 2, 3, 1), torch.stack(pasted)


def _scaled(mask: torch.Tensor | None, size: int) -> torch.Tensor | None:
    """A square mask in the size of a crop that was scaled after Align Face; any other is left for the check in `stitch`."""
    if mask is None or mask.shape[0] != mask.shape[1] or mask.shape[0] == size:
        return mask
    return torch.nn.functional.interpolate(
        mask[None, None], size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )[0, 0]


class IdentitySimilarity(io.ComfyNode):
    """Is it the same person?"""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_IdentitySimilarity",
            display_name="Identity Similarity",
            category=f"{CATEGORY}/faces",
            description="How alike two people are, by dlib's recogniser: 1 - distance of the embeddings. On photographs 0.4 and more is usually "
            "the same person, different people lie at 0.1 to 0.3; 1 is the same picture. Several photographs in a batch are compared each "
            "with each. Without a face the similarity is NaN (not a number), never 0.",
            is_output_node=True,
            inputs=[
                io.Image.Input("image_a", tooltip="One photograph, or a batch of one person."),
                io.Image.Input("image_b", tooltip="One photograph, or a batch of the other person."),
                io.Int.Input(
                    "face_index_a",
                    default=-1,
                    min=-1,
                    max=63,
                    tooltip="Which face of each picture, counted left to right from 0. -1 is the largest.",
                ),
                io.Int.Input(
                    "face_index_b",
                    default=-1,
                    min=-1,
                    max=63,
                    tooltip="Which face of each picture, counted left to right from 0. -1 is the largest.",
                ),
                io.Combo.Input(
                    "effort",
                    options=list(detection.EFFORTS),
                    default="normal",
                    tooltip="As in Detect Faces.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "similarity",
                    display_name="similarity",
                    tooltip="Median over all pairs; NaN when there is no pair with two faces.",
                ),
                io.String.Output(
                    "text", display_name="text", tooltip="In words; for batches min, median, max and mean."
                ),
                io.Image.Output(
                    "annotated", display_name="annotated", tooltip="The pictures with the compared faces marked."
                ),
            ],
        )

    @classmethod
    def execute(cls, image_a, image_b, face_index_a, face_index_b, effort) -> io.NodeOutput:
        with naming(cls):
            pictures = checked_image(image_a, "image_a"), checked_image(image_b, "image_b")
            # A face too small for the first look is too small to be recognised, and looking for it would take most of the time.
            settings = DetectionSettings(effort=effort, enlarge=False)
            step, total = progress(sum(map(len, pictures))), sum(map(len, pictures))
            embeddings, tiles = [], []
            for name, picture, index, done in (
                ("a", pictures[0], face_index_a, 0),
                ("b", pictures[1], face_index_b, len(pictures[0])),
            ):
                faces = detection.find_faces(
                    picture, settings, on_frame=lambda k, _, before=done: step(before + k, total)
                )
                one_each, found = _compared(picture, faces, index)
                embeddings.append(found)
                marked = draw_faces(picture, one_each)
                tiles += [
                    (f"{name}{k}" + ("" if found[k] is not None else ": no face"), marked[k])
                    for k in range(min(len(picture), 8))
                ]
            report = identity.compare(*embeddings)
            annotated = labelled_panel(tiles, columns=min(len(tiles), 4))
        similarity = float("nan") if report.median is None else report.median
        shown = {**ui.PreviewImage(annotated, cls=cls).as_dict(), "text": (report.text(),)}
        return io.NodeOutput(similarity, report.text(), annotated, ui=shown)


def _compared(picture: torch.Tensor, faces: Faces, index: int):
    """The one compared face of each picture, and its embedding or None."""
    frames, embeddings = [], []
    for number, frame in enumerate(faces.frames):
        ordered = order_faces(frame, "large-small" if index < 0 else "left-right", faces.height, faces.width)
        face = ordered[max(index, 0)] if max(index, 0) < len(ordered) else None
        frames.append((face,) if face else ())
        embeddings.append(identity.embedding(picture[number], face) if face else None)
    return Faces(faces.height, faces.width, tuple(frames), faces.order, faces.message), embeddings


NODES = [DetectFaces, AlignFace, StitchFace, IdentitySimilarity]
