"""Faces cut out as aligned crops."""

import torch
from comfy_api.latest import io

from ..models.faces import detection
from ..models.faces.alignment import TEMPLATES, AlignmentSettings, crop, placement_of
from ..models.faces.pixels import checked_image
from ..models.faces.stitching import face_mask
from ..models.faces.types import Face, Faces, Placements
from .common import FACES_CATEGORY, FacesType, StitchType, naming, search_aliases
from .inputs import check_type

ON_NO_FACE = ("error", "pass through")


class AlignFace(io.ComfyNode):
    """One face as an upright crop of the nets' size."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_AlignFace",
            **search_aliases("crop face", "face crop", "straighten face", "ffhq align"),
            display_name="Align Face",
            category=FACES_CATEGORY,
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
        with naming(cls, locals()):
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


NODES = [AlignFace]
