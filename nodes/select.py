"""Some of the faces, and the rest."""

import torch
from comfy_api.latest import io

from ..models.faces import identity, selection
from ..models.faces.pixels import checked_image
from ..models.faces.types import Faces
from ..models.groups.assignment import check_frames
from ..models.groups.profiles import embedded, photographs_of
from ..models.pictures.faces import draw_faces, overlay_mask
from .common import GROUPS_CATEGORY, FacesType, insightface_folders, naming, progress, search_aliases, shown
from .inputs import check_type


class SelectFaces(io.ComfyNode):
    """Some of the faces, and the rest."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_SelectFaces",
            **search_aliases("filter faces", "choose face", "pick person"),
            display_name="Select Faces",
            category=GROUPS_CATEGORY,
            description="Keeps the faces that pass every test set here, and gives the others as the rest: by number, size, confidence, "
            "or likeness to a photo. Every face keeps the number Detect Faces gave it; the preview shows the chosen and darkens the rest.",
            inputs=[
                io.Image.Input("image", tooltip="The picture, or batch of frames, the faces were found in."),
                FacesType.Input("faces", tooltip="From Detect Faces."),
                io.String.Input(
                    "numbers",
                    default="all",
                    tooltip='Numbers of Detect Faces\' preview: "0, 2-4", "-1" for the last, "all". The chosen come in the order typed. In a '
                    "batch, frames that lack a number skip it.",
                ),
                io.Int.Input(
                    "min_size",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="Side of a face's box in pixels, at least. 0 keeps small faces too.",
                ),
                io.Int.Input(
                    "max_size",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="Side of a face's box in pixels, at most. 0 sets no limit.",
                ),
                io.Float.Input(
                    "min_confidence",
                    default=0.0,
                    min=0.0,
                    max=1.5,
                    step=0.05,
                    tooltip="The detector's confidence, at least. MediaPipe and insightface: 0 to 1; dlib: a clear face has about 1. Faces "
                    "given by box, landmarks or mask always pass.",
                ),
                io.Float.Input(
                    "min_similarity",
                    default=identity.SAME_PERSON_ON_PHOTOGRAPHS,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="With a photo connected: likeness to its person, at least. 0.4 on photographs, 0.5 on rendered heads. Without a "
                    "photo it does nothing.",
                ),
                io.Image.Input(
                    "photo",
                    optional=True,
                    tooltip="The person looked for: one photo, or a batch of the same person; the largest face of each counts. Costs a search "
                    "of each photo and about 0.1 s a face on one CPU core.",
                ),
            ],
            outputs=[
                FacesType.Output(
                    "chosen", display_name="chosen", tooltip="Faces that pass every test; they keep their numbers."
                ),
                FacesType.Output("rest", display_name="rest", tooltip="All other faces, in their old order."),
                io.Int.Output("count", display_name="count", tooltip="Number of chosen faces over all frames."),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="The chosen with their numbers, the rest darkened."
                ),
                io.String.Output(
                    "message", display_name="message", tooltip="How many were chosen, and the similarities."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, image, faces, numbers, min_size, max_size, min_confidence, min_similarity, photo=None
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            check_type("faces", faces, Faces, "Detect Faces")
            picture = checked_image(image)
            check_frames(picture, faces.height, faces.width, len(faces.frames), "faces were found on")
            faces, texts = faces.numbered(), {}
            if photo is not None:
                photo = checked_image(photo, "photo")
                total = len(photo) + faces.count
                step = progress(total)
                found = photographs_of(
                    photo,
                    on_photograph=lambda done, _: step(done, total),
                    insightface_folders=insightface_folders(),
                )
                faces = embedded(picture, faces, lambda done, _: step(len(photo) + done, total))
                known = [one.embedding for one in found if one.embedding is not None]
                if not known:
                    raise ValueError("the face on the photo could not be read; give a larger or sharper photo")
            chosen, _ = selection.select_by_index(faces, numbers)
            chosen, _ = selection.select(
                chosen,
                lambda _, __, face: (
                    face.side >= min_size
                    and (not max_size or face.side <= max_size)
                    and (face.given or face.score >= min_confidence)
                ),
            )
            if photo is not None:
                candidates = chosen
                chosen, _, scores = selection.select_by_similarity(candidates, known, min_similarity)
                likeness = [dict(zip(candidates.numbers(frame), row, strict=True)) for frame, row in enumerate(scores)]
                texts = {
                    (b, k): f"{likeness[b][face.number]:.2f}"
                    for b, frame in enumerate(chosen.frames)
                    for k, face in enumerate(frame)
                }
            # By number, not by value: doubles of one face are different faces.
            kept = [set(chosen.numbers(frame)) for frame in range(len(chosen.frames))]
            _, rest = selection.select(faces, lambda frame, _, face: face.number in kept[frame])
            preview = draw_faces(_darkened(picture, rest), chosen, texts)
            message = _selected(faces, chosen, texts)
        return io.NodeOutput(chosen, rest, chosen.count, preview, message, ui=shown(preview, message, cls))


def _darkened(picture: torch.Tensor, faces: Faces) -> torch.Tensor:
    """A copy with the faces' boxes dark."""
    mask = torch.zeros(picture.shape[:3])
    for frame, found in enumerate(faces.frames):
        for face in found:
            x0, y0, x1, y1 = (max(0, round(value)) for value in face.box)
            mask[frame, y0:y1, x0:x1] = 1
    return overlay_mask(picture, mask, (0.0, 0.0, 0.0), 0.6)


def _selected(faces: Faces, chosen: Faces, texts: dict) -> str:
    lines = [f"{chosen.count} of {faces.count} faces chosen"]
    for frame in range(len(chosen.frames)):
        parts = [
            str(number) + (f" (similarity {texts[frame, place]})" if (frame, place) in texts else "")
            for place, number in enumerate(chosen.numbers(frame))
        ]
        lines.append((f"frame {frame}: " if len(faces.frames) > 1 else "") + (", ".join(parts) or "none"))
    return "\n".join(lines)


NODES = [SelectFaces]
