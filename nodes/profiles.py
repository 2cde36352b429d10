"""People of a group picture, from photographs."""

from comfy_api.latest import io

from ..models.faces import detection
from ..models.faces.pixels import checked_image
from ..models.faces.types import Faces
from ..models.groups.profiles import doubtful_photographs, photographs_of, with_person
from ..models.groups.types import Profiles
from ..models.pictures.faces import draw_faces
from .common import GROUPS_CATEGORY, ProfilesType, insightface_folders, naming, progress, search_aliases, shown
from .inputs import check_type


class AddProfile(io.ComfyNode):
    """One person more for the group picture."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_AddProfile",
            **search_aliases("add person", "reference people"),
            display_name="Add Profile",
            category=GROUPS_CATEGORY,
            description="Adds one person, with one or more photos, to the people of a group picture. Chain one node a person. The same "
            "name again adds photos to that person, for photos of other sizes. The largest face of each photo counts.",
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Photos of one person: one, or a batch. With several, the one nearest in pose is used for each face.",
                ),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="Shown on previews and usable in pairs; no effect on the picture. Empty: person 0, person 1 ... Not only "
                    "digits, none of , ; : =",
                ),
                io.Combo.Input(
                    "effort",
                    options=list(detection.EFFORTS),
                    default="normal",
                    tooltip="As in Detect Faces: how large a photo may be while searching. On one CPU core fast takes about 2 s a photo, normal 5.",
                ),
                ProfilesType.Input(
                    "profiles",
                    optional=True,
                    tooltip="The people so far, from the Add Profile before. Empty for the first.",
                ),
            ],
            outputs=[
                ProfilesType.Output(
                    "people",
                    display_name="people",
                    tooltip="The people with this one, for the next Add Profile or Assign Profiles.",
                ),
                io.Image.Output("preview", display_name="preview", tooltip="The photos with the face that counts."),
                io.String.Output(
                    "message",
                    display_name="message",
                    tooltip="The person's number and photos, and what looks doubtful.",
                ),
            ],
        )

    @classmethod
    def execute(cls, images, name, effort, profiles=None) -> io.NodeOutput:
        with naming(cls, locals()):
            if profiles is not None:
                check_type("profiles", profiles, Profiles, "Add Profile")
            images = checked_image(images, "images")
            photographs = photographs_of(images, effort, progress(len(images)), insightface_folders())
            people, number = with_person(profiles or Profiles(), name, photographs)
            person = people.people[number]
            lines = [f"person {number} of {len(people.people)}: {person.name}, {len(person.photographs)} photographs"]
            first = len(person.photographs) - len(photographs)
            lines += [
                f"photograph {first + k}: no face, never used" for k, one in enumerate(photographs) if one.face is None
            ]
            lines += doubtful_photographs(person)
            frames = tuple((one.face,) if one.face else () for one in photographs)
            preview = draw_faces(
                images, Faces(*images.shape[1:3], frames), {(k, 0): f"{person.name}" for k in range(len(images))}
            )
            message = "\n".join(lines)
        return io.NodeOutput(people, preview, message, ui=shown(preview, message, cls))


NODES = [AddProfile]
