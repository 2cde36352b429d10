"""Faces found, or taken over from other nodes and artists."""

from comfy_api.latest import io

from ..models.faces import detection, given
from ..models.faces.detection import DetectionSettings
from ..models.faces.ordering import ORDERS
from ..models.faces.pixels import checked_image, optional_mask
from ..models.faces.steadying import steadied
from ..models.pictures.faces import draw_faces
from .common import FACES_CATEGORY, FacesType, insightface_folders, naming, progress, search_aliases, shown


class DetectFaces(io.ComfyNode):
    """Find faces, or take over the ones another node or the artist found."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_DetectFaces",
            **search_aliases("face detection", "find faces", "bounding box", "landmarks", "face tracking"),
            display_name="Detect Faces",
            category=FACES_CATEGORY,
            description="Finds the faces of a picture or of each frame of a batch, and numbers them in a stated order. The preview "
            "shows the numbers to type into other nodes. Runs MediaPipe's detectors and dense mesh, which come with the pack, and dlib "
            "where they find nothing; boxes, landmarks or a hand-drawn mask can be connected instead. A frame without a face is no error "
            "here: its list is empty.",
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
                    tooltip="How small a face may be, as a share of the picture's longer side: fast 7 %, normal 3 %, small faces 2 %. "
                    "The smaller, the longer the search. When nothing is found, a border and turned parts of the picture are tried, then dlib.",
                ),
                io.Float.Input(
                    "min_confidence",
                    default=0.3,
                    min=0.0,
                    max=1.5,
                    step=0.05,
                    tooltip="Faces the detector is less sure of are dropped. MediaPipe and insightface: 0 to 1; dlib: a clear face has about 1. "
                    "Boxes, landmarks and masks you connect are always kept.",
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
                    tooltip="auto: MediaPipe (Apache-2.0), then dlib (CC0) where it finds nothing. insightface needs a model pack in "
                    "models/insightface, whose licence excludes commercial use; nothing is downloaded. The message says what ran.",
                ),
                io.Combo.Input(
                    "landmarks",
                    options=list(detection.LANDMARKS),
                    default=detection.LANDMARKS[0],
                    tooltip="Of faces that dlib finds: 5 points (eye corners, nose; CC0) are enough for everything but painting by mesh. MediaPipe's "
                    "faces have its dense mesh. The 68-point model was trained on pictures whose terms exclude commercial use.",
                ),
                io.Custom("BOUNDING_BOX").Input(
                    "bounding_boxes",
                    # Without it newer editors make a widget of it and send its default box, also when nothing is connected.
                    extra_dict={"forceInput": True},
                    optional=True,
                    tooltip="Boxes from another detector. No search then: each box becomes a face, with landmarks where one is seen in it.",
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
                io.Float.Input(
                    "steady",
                    default=0.0,
                    min=0.0,
                    max=10.0,
                    step=0.5,
                    optional=True,
                    tooltip="For clips: each face's landmarks are smoothed over about this many frames before and after, without lag; cuts and "
                    "other people are kept apart. 1 takes most of the flicker. 0 leaves them as found. No cost.",
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
        steady=0.0,
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            picture = checked_image(image)
            settings = DetectionSettings(backend, effort, order, min_confidence, max_faces, landmarks)
            frames, height, width = picture.shape[:3]
            mask, handed_in = optional_mask(mask, height, width, "mask"), None
            if face_landmarks is not None:
                handed_in = given.from_face_landmarks(face_landmarks, frames, height, width)
            elif bounding_boxes is not None:
                handed_in = given.from_boxes(bounding_boxes, frames, height, width)
            elif mask is not None:
                handed_in = given.from_mask(mask, frames, height, width)
            faces = detection.find_faces(
                picture, settings, given=handed_in, insightface_folders=insightface_folders(), on_frame=progress(frames)
            )
            faces = steadied(faces, steady)
            preview = draw_faces(picture, faces)
        return io.NodeOutput(faces, faces.count, preview, faces.message, ui=shown(preview, faces.message, cls))


NODES = [DetectFaces]
