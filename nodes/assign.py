"""People assigned to faces."""

from comfy_api.latest import io

from ..models.faces import identity
from ..models.faces.pixels import checked_image
from ..models.faces.types import Faces
from ..models.groups.assignment import METHODS, PHOTOGRAPHS, assign
from ..models.groups.report import assignment_report, faces_of_assignment, labels
from ..models.groups.types import Profiles
from ..models.pictures.faces import draw_faces
from .common import GROUPS_CATEGORY, AssignmentType, FacesType, ProfilesType, naming, progress, search_aliases, shown
from .inputs import check_type


class AssignProfiles(io.ComfyNode):
    """A person and a photograph for each face."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_AssignProfiles",
            **search_aliases("who is who", "match people", "face assignment"),
            display_name="Assign Profiles",
            category=GROUPS_CATEGORY,
            description="Says which person goes onto which face, and which of a person's photos is used. Faces that get nobody are left "
            "alone. The preview shows names and similarities, the report the reason for each.",
            inputs=[
                io.Image.Input("image", tooltip="The picture, or batch of frames, the faces were found in."),
                FacesType.Input("faces", tooltip="From Detect Faces or Select Faces."),
                ProfilesType.Input("profiles", tooltip="The people, from the last Add Profile."),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="order",
                    tooltip="order: person 0 on the first face, and so on. pairs: as typed below. similarity: everybody on the face that looks "
                    "most like them, one face each (about 0.1 s a face on one CPU core); for batches, where faces change places.",
                ),
                io.String.Input(
                    "pairs",
                    default="",
                    multiline=True,
                    tooltip="For method pairs: face:person, \"0:Anna, 2:1\". The face's number on the preview, the person's name or number. One "
                    "person may go on several faces. Faces not named are left alone.",
                ),
                io.Float.Input(
                    "threshold",
                    default=identity.SAME_PERSON_ON_PHOTOGRAPHS,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For method similarity: below this a face is left alone. 0.4 on photographs, 0.5 on rendered heads; 1 is the same "
                    "picture.",
                ),
                io.Combo.Input(
                    "photograph",
                    options=list(PHOTOGRAPHS),
                    default=PHOTOGRAPHS[0],
                    tooltip="Of several photos of a person. nearest pose: the head held most like the face's, large enough and inside its photo. "
                    "first: always the first with a face, steadier in video. No cost.",
                ),
            ],
            outputs=[
                AssignmentType.Output("assignment", display_name="assignment", tooltip="For Group Portrait."),
                io.Int.Output(
                    "count", display_name="count", tooltip="Number of faces that get a person, over all frames."
                ),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="The frames with numbers, names and similarities."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Person, photo and reason for each face, and the table of similarities.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, faces, profiles, method, pairs, threshold, photograph) -> io.NodeOutput:
        with naming(cls, locals()):
            check_type("faces", faces, Faces, "Detect Faces")
            check_type("profiles", profiles, Profiles, "Add Profile")
            picture = checked_image(image)
            step = progress(max(1, faces.count))
            assignment, scores = assign(picture, faces, profiles, method, pairs, threshold, photograph, on_face=step)
            text = assignment_report(assignment, scores)
            preview = draw_faces(picture, faces_of_assignment(assignment), labels(assignment))
        return io.NodeOutput(assignment, assignment.count, preview, text, ui=shown(preview, text, cls))


NODES = [AssignProfiles]
