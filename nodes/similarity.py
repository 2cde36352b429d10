"""Identity similarity of two people."""

import torch
from comfy_api.latest import io

from ..models.faces import detection, identity
from ..models.faces.detection import DetectionSettings
from ..models.faces.ordering import order_faces
from ..models.faces.pixels import checked_image
from ..models.faces.types import Faces
from ..models.pictures.faces import draw_faces
from ..models.pictures.panels import labelled_panel
from .common import FACES_CATEGORY, naming, progress, search_aliases, shown


class IdentitySimilarity(io.ComfyNode):
    """Similarity of the embeddings of two people's faces."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_IdentitySimilarity",
            **search_aliases("face similarity", "same person", "face recognition", "likeness"),
            display_name="Identity Similarity",
            category=FACES_CATEGORY,
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
        with naming(cls, locals()):
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
        return io.NodeOutput(similarity, report.text(), annotated, ui=shown(annotated, report.text(), cls))


def _compared(picture: torch.Tensor, faces: Faces, index: int):
    """The one compared face of each picture, and its embedding or None."""
    frames, embeddings = [], []
    for number, frame in enumerate(faces.frames):
        ordered = order_faces(frame, "large-small" if index < 0 else "left-right", faces.height, faces.width)
        face = ordered[max(index, 0)] if max(index, 0) < len(ordered) else None
        frames.append((face,) if face else ())
        embeddings.append(identity.embedding(picture[number], face) if face else None)
    return Faces(faces.height, faces.width, tuple(frames), faces.order, faces.message), embeddings


NODES = [IdentitySimilarity]
