"""Novel views of a portrait, and its light: lifted to depth, normals and albedo, seen from other cameras, lit by environment maps."""

import folder_paths
import torch
from comfy_api.latest import io

from ..models.faces import detection
from ..models.faces.pixels import checked_image
from ..models.faces.types import Face, Faces
from ..models.mesh.crops import own_crop_size
from ..models.nets import bundle
from ..models.views import cameras as camera_math
from ..models.views.lifter import load_lifter
from ..models.views.light import to_srgb
from ..models.views.photograph import FOV, lift_photograph
from ..models.views.relight import MOST_INTENSITY, light_on, relight, relit_photograph
from ..models.views.render import Lifted, View, render
from ..models.views.volume import lift_volume, render_with_volume
from .common import CATEGORY, FacesType, naming, progress, search_aliases
from .inputs import check_type
from .loaders import FOLDER
from .portrait import one_picture

FACE_MESH, DEMO_LIFTER = "face mesh", "demo lifter"
RELIGHT_MARGIN = 2.5
"""Aligned crops around the face that 'Relight' works on: head, neck and shoulders."""
MOST_YAW, MOST_PITCH = 45.0, 30.0


def environment_input(optional: bool) -> io.Input:
    """The surroundings."""
    return io.Image.Input(
        "environment",
        optional=optional,
        tooltip="Surroundings that light the person: an equirectangular picture, twice as wide as high. Its middle is behind the person as "
        "the camera sees it, its right half on the right. A batch gives a set of pictures for each map."
        + (" Without it the photo's own light stays." if optional else ""),
    )


def light_inputs() -> list[io.Input]:
    """How the surroundings give light."""
    return [
        io.Float.Input(
            "rotation",
            default=0.0,
            min=-180.0,
            max=180.0,
            step=1.0,
            tooltip="Degrees: turns the surroundings to the right. 180 brings what is behind the person in front. No cost.",
        ),
        io.Float.Input(
            "intensity",
            default=1.0,
            min=0.0,
            max=MOST_INTENSITY,
            step=0.05,
            tooltip="Strength of the light: 1 exposes the face as a camera would, whatever the map's brightness; 2 is one stop more. No cost.",
        ),
    ]


def faces_input() -> io.Input:
    """Whose face."""
    return FacesType.Input(
        "faces",
        optional=True,
        tooltip="From 'Detect Faces' or 'Select Faces': the first face of each picture. Without it the largest face is looked for.",
    )


def faces_of(image: torch.Tensor, faces: Faces | None) -> list[Face | None]:
    """A face for each frame, None where there is none. Raises ValueError for faces of another picture."""
    if faces is None:
        faces = detection.find_faces(image.clamp(0, 1), detection.DetectionSettings(order="large-small"))
    else:
        check_type("faces", faces, Faces, "'Detect Faces' or 'Select Faces'")
        if (faces.height, faces.width, len(faces.frames)) != (*image.shape[1:3], len(image)):
            raise ValueError(
                f"the faces belong to another picture: {len(faces.frames)} of {faces.width}x{faces.height}, the image has {len(image)} of "
                f"{image.shape[2]}x{image.shape[1]}"
            )
    return [frame[0] if frame else None for frame in faces.frames]


def depth_picture(depth: torch.Tensor) -> torch.Tensor:
    """Depth maps `[N, S, S]` as grey pictures: near is white, all on one scale."""
    low, high = depth.min(), depth.max()
    return (1 - (depth - low) / (high - low).clamp_min(1e-6))[..., None].expand(-1, -1, -1, 3).contiguous()


def normal_picture(view: View, camera: torch.Tensor) -> torch.Tensor:
    """Normals `[S, S, 3]` as colors, in the camera's axes: red to the right, green up, blue to the camera."""
    seen = view.normals @ camera_math.rotation_of(camera) * torch.tensor([1.0, -1.0, -1.0])
    return seen * 0.5 + 0.5


def grid(pictures: torch.Tensor, columns: int) -> torch.Tensor:
    """Pictures `[N, S, S, 3]` as one, so many in a row: `[1, H, W, 3]`."""
    rows = [torch.cat(list(row), dim=1) for row in pictures.split(columns)]
    return torch.cat(rows, dim=0)[None]


class NovelView(io.ComfyNode):
    """A portrait from other cameras, in another light."""

    @classmethod
    def define_schema(cls):
        def angle(name: str, most: float, words: str, **more) -> io.Input:
            return io.Float.Input(name, default=0.0, min=-most, max=most, step=0.5, tooltip=words, **more)

        return io.Schema(
            node_id="ICPortrait_NovelView",
            display_name="Novel View",
            category=CATEGORY,
            **search_aliases("turn head", "3d portrait", "camera orbit", "depth of face"),
            description="Shows a portrait from another side and, with an environment map, in another light. A dense face mesh gives the depth, no "
            "model is needed. Best within 20 degrees; what the photo does not show is stretched. About a second a picture on a CPU.",
            inputs=[
                io.Image.Input("image", tooltip="A picture with a face; one."),
                angle(
                    "yaw",
                    MOST_YAW,
                    "Degrees by which the camera moves round the head, to the right. Beyond 20 the far side looks stretched.",
                ),
                angle("pitch", MOST_PITCH, "Degrees by which the camera moves up; it looks down on the head then."),
                io.Float.Input(
                    "distance",
                    default=1.0,
                    min=0.5,
                    max=3.0,
                    step=0.05,
                    tooltip="How far the camera stands: 2 shows the head half as large.",
                ),
                io.Float.Input(
                    "fov",
                    default=FOV,
                    min=8.0,
                    max=60.0,
                    step=1.0,
                    tooltip="Field of view in degrees: a wide lens goes nearer, so the nose grows; the head keeps its size. 20 is the photo's own.",
                ),
                io.Int.Input(
                    "size",
                    default=512,
                    min=64,
                    max=2048,
                    step=64,
                    tooltip="Side of the pictures in pixels. Time grows with its square.",
                ),
                io.Int.Input(
                    "frames",
                    default=1,
                    min=1,
                    max=240,
                    tooltip="Pictures of an orbit, from yaw and pitch to yaw_end and pitch_end. The batch goes into any node that saves video.",
                ),
                angle("yaw_end", MOST_YAW, "Where the orbit ends, with more than one frame."),
                angle("pitch_end", MOST_PITCH, "Where the orbit ends, with more than one frame."),
                *light_inputs(),
                io.Combo.Input(
                    "geometry",
                    options=[FACE_MESH, DEMO_LIFTER, *folder_paths.get_filename_list(FOLDER)],
                    tooltip="Where depth comes from. face mesh: around the face the average head. demo lifter: a small net of the pack moves hair, "
                    "ears, neck and shoulders to where they lie more likely; slower. A lifter of your own from models/icportrait does the same.",
                ),
                environment_input(optional=True),
                io.String.Input(
                    "cameras",
                    optional=True,
                    multiline=True,
                    default="",
                    tooltip="Cameras instead of an orbit: 25 numbers a line, EG3D's convention (16 of the matrix, 9 of the intrinsics), in metres. "
                    "Up to 60 degrees from the face's front.",
                ),
                faces_input(),
            ],
            outputs=[
                io.Image.Output(
                    "views",
                    display_name="views",
                    tooltip="The views: all cameras in the first light, then in the next.",
                ),
                io.Image.Output(
                    "depth", display_name="depth", tooltip="Depth of each camera, near is white; for depth ControlNets."
                ),
                io.Image.Output(
                    "normals",
                    display_name="normals",
                    tooltip="Which way the surface looks, of each camera: red right, green up, blue to the camera.",
                ),
                io.Image.Output("albedo", display_name="albedo", tooltip="The person without light, of each camera."),
                io.Mask.Output("mask", display_name="mask", tooltip="White on the person, of each camera."),
                io.Image.Output(
                    "grid", display_name="grid", tooltip="All views in one picture: a column a camera, a row a light."
                ),
                io.String.Output(
                    "cameras_used", display_name="cameras_used", tooltip="The cameras used, 25 numbers a line."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        yaw,
        pitch,
        distance,
        fov,
        size,
        frames,
        yaw_end,
        pitch_end,
        rotation,
        intensity,
        geometry,
        environment=None,
        cameras="",
        faces=None,
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            image = one_picture(image, "image").clamp(0, 1)
            (face,) = faces_of(image, faces)
            if face is None:
                raise ValueError("no face was found in the image; one face, seen from the front half, is needed")
            lifted, _ = lift_photograph(image, face, size)
            targets = camera_math.checked_cameras(
                camera_math.parse_cameras(cameras)
                if cameras and cameras.strip()
                else orbit_cameras(lifted, frames, (yaw, pitch), (yaw_end, pitch_end), distance, fov)
            )
            lights = [None]
            if environment is not None:
                lights = [
                    light_on(lifted, one, rotation, intensity)
                    for one in checked_image(environment, "the environment map")
                ]
            volume = None
            if geometry != FACE_MESH:
                own = geometry != DEMO_LIFTER
                path = folder_paths.get_full_path_or_raise(FOLDER, geometry) if own else bundle.FOLDER / bundle.LIFTER
                volume = lift_volume(lifted, load_lifter(path))
            step = progress(len(lights) * len(targets))
            views: list[View] = []
            for light in lights:
                picture = None if light is None else relight(lifted, light)
                for target in targets:
                    views.append(
                        render(lifted, target, size, picture)
                        if volume is None
                        else render_with_volume(volume, target, size, picture)
                    )
                    step(len(views), len(lights) * len(targets))
            images = torch.stack([view.image for view in views])
            first = views[: len(targets)]
            return io.NodeOutput(
                images,
                depth_picture(torch.stack([view.depth for view in first])),
                torch.stack([normal_picture(view, target) for view, target in zip(first, targets)]),
                to_srgb(torch.stack([view.albedo for view in first])),
                torch.stack([view.mask for view in first]),
                grid(images, len(targets)),
                "\n".join(" ".join(f"{float(x):.7g}" for x in target) for target in targets),
            )


def orbit_cameras(
    lifted: Lifted, frames: int, start: tuple[float, float], end: tuple[float, float], distance: float, fov: float
) -> torch.Tensor:
    """Cameras `[frames, 25]` from one (yaw, pitch) to another, evenly."""
    shares = [number / max(1, frames - 1) for number in range(frames)]
    turns = [[a + (b - a) * share for a, b in zip(start, end)] for share in shares]
    return torch.stack([camera_math.orbit(lifted.frame, *turn, distance, fov) for turn in turns])


class Relight(io.ComfyNode):
    """A photograph in another light."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_Relight",
            display_name="Relight",
            category=CATEGORY,
            **search_aliases("environment light", "hdri", "change lighting"),
            description="Takes the photo's light from a person and lays that of an environment map on: soft light only, no new shadows or "
            "highlights. No model is needed. About a second a picture on a CPU.",
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="A picture with a face; of a batch each frame, those without a face stay as they are.",
                ),
                environment_input(optional=False),
                *light_inputs(),
                faces_input(),
            ],
            outputs=[
                io.Image.Output("relit", display_name="relit", tooltip="The picture in its new light."),
                io.Mask.Output("mask", display_name="mask", tooltip="Where it was changed: the person."),
            ],
        )

    @classmethod
    def execute(cls, image, environment, rotation, intensity, faces=None) -> io.NodeOutput:
        with naming(cls, locals()):
            image = checked_image(image, "the image").clamp(0, 1)
            maps = checked_image(environment, "the environment map")
            found = faces_of(image, faces)
            if not any(found):
                raise ValueError("no face was found in the image; one face, seen from the front half, is needed")
            step = progress(len(image) * len(maps))
            results, masks = [], []
            for one in maps:
                for number, face in enumerate(found):
                    frame = image[number : number + 1]
                    mask = torch.zeros(frame.shape[:3])
                    if face is not None:
                        lifted, placement = lift_photograph(
                            frame, face, own_crop_size(face, *frame.shape[1:3]), RELIGHT_MARGIN
                        )
                        frame, mask = relit_photograph(
                            frame, lifted, placement, light_on(lifted, one, rotation, intensity)
                        )
                    results.append(frame)
                    masks.append(mask)
                    step(len(results), len(image) * len(maps))
            return io.NodeOutput(torch.cat(results), torch.cat(masks))


NODES = [NovelView, Relight]
