"""The path without nets: correspondence from two face meshes, and the profile warped and relit by it."""

import torch
from comfy_api.latest import io

from ..models.faces.pixels import checked_image
from ..models.faces.types import Placement, Placements
from ..models.mesh.correspondence import as_flow
from ..models.mesh.crops import check_pair, crop_pair, placements_of_crops
from ..models.mesh.geometry import degrees_between, yaw_pitch_roll
from ..models.mesh.painter import MOST_DEGREES, MeshSettings, crop_mesh, mesh_match, paint_by_mesh
from ..models.painting import CropPair, small_face_notes
from ..models.pictures.flow import flow_pictures
from .common import CATEGORY, FlowType, StitchType, naming, progress, search_aliases
from .inputs import check_type, expression_input, light_input, shape_input, skin_tone_input


def crop_inputs(many: str = "") -> list[io.Input]:
    """The two crops; `many` goes on where the style crop's sentence ends."""
    return [
        io.Image.Input("profile_crop", tooltip="A photo of the person, cut by 'Align Face'; one."),
        io.Image.Input(
            "style_crop",
            tooltip=f"The style reference, cut by 'Align Face' with the same settings{many}. The sizes may differ.",
        ),
    ]


def stitch_inputs() -> list[io.Input]:
    """Where the crops belong, which also holds the faces' meshes."""
    return [
        StitchType.Input(
            f"{name}_stitch",
            optional=True,
            tooltip=f"The stitch output of the {words}'s 'Align Face': its face is known then. Without it the largest face in the crop "
            "is looked for.",
        )
        for name, words in (("profile", "profile"), ("style", "style reference"))
    ]


def pairs_of(
    profile_crop, style_crop, profile_stitch, style_stitch
) -> tuple[torch.Tensor, list[CropPair | None], list[str]]:
    """The style crops `[B, S, S, 3]`, a pair for each (None where alignment passed it through), and sentences for the report.

    Raises:
        ValueError: several profiles, crops that are not square, no face, a face too small.
    """
    profile, style = checked_image(profile_crop, "the profile crop"), checked_image(style_crop, "the style crop")
    if len(profile) != 1:
        raise ValueError(
            f"the profile must be one crop; a batch of {len(profile)} came: choose one with 'ImageFromBatch'"
        )
    profile, style = profile.clamp(0, 1), style.clamp(0, 1)
    notes: list[str] = []
    placements: list[tuple[Placement | None, ...]] = []
    for crops, stitch, what in ((profile, profile_stitch, "profile crop"), (style, style_stitch, "style crop")):
        if stitch is not None:
            check_type(f"the stitch of the {what}", stitch, Placements, "Align Face")
        found, lines = placements_of_crops(crops, stitch, what)
        placements.append(found)
        notes += lines
    (person,), places = placements
    if person is None:
        raise ValueError("the profile crop has no face: 'Align Face' passed it through")
    pairs = [
        None if place is None else crop_pair(profile, style[number : number + 1], person, place)
        for number, place in enumerate(places)
    ]
    for pair in pairs:
        if pair is not None:
            check_pair(pair)
    return style, pairs, notes


def turned(profile_mesh, style_mesh) -> str:
    """How the two heads are turned, in words."""
    yaws = [yaw_pitch_roll(mesh)[0] for mesh in (profile_mesh, style_mesh)]
    apart = degrees_between(profile_mesh, style_mesh)
    text = f"yaw {yaws[0]:.0f} degrees in the profile, {yaws[1]:.0f} in the style reference; {apart:.0f} degrees apart"
    return text + (f": above {MOST_DEGREES} the far half of the face is mostly made up" if apart > MOST_DEGREES else "")


class MeshFlow(io.ComfyNode):
    """The flow of two dense face meshes."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_MeshFlow",
            **search_aliases("face mesh", "mediapipe flow", "face warp"),
            display_name="Mesh Flow",
            category=CATEGORY,
            description="Finds for each part of the style's face the part of the profile that belongs there, from two dense face meshes: no "
            "model is needed, and photographs work. Takes the place of Estimate Flow. Outside the face it is unsure.",
            inputs=[
                *crop_inputs(),
                expression_input(),
                shape_input(),
                *stitch_inputs(),
            ],
            outputs=[
                FlowType.Output("flow", display_name="flow", tooltip="For 'Apply Portrait' and 'Transfer Detail'."),
                io.Image.Output(
                    "flow_picture",
                    display_name="flow_picture",
                    tooltip="The flow in color: hue is direction, strength of color is distance.",
                ),
                io.Image.Output(
                    "warped_profile",
                    display_name="warped_profile",
                    tooltip="The profile moved into the style reference's pose by the flow alone.",
                ),
                io.Mask.Output(
                    "confidence",
                    display_name="confidence",
                    tooltip="White where the profile shows this part of the face.",
                ),
                io.String.Output(
                    "message", display_name="message", tooltip="How both heads are turned, and how far apart."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, profile_crop, style_crop, expression, shape, profile_stitch=None, style_stitch=None
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            settings = MeshSettings(expression=expression, shape=shape)
            _, pairs, notes = pairs_of(profile_crop, style_crop, profile_stitch, style_stitch)
            if len(pairs) != 1:
                raise ValueError(f"a flow is of one style crop; a batch of {len(pairs)} came")
            (pair,) = pairs
            if pair is None:
                raise ValueError("the style crop has no face: 'Align Face' passed it through")
            match, profile, style_mesh, _ = mesh_match(pair, settings)
            flow = as_flow(match)
            confidence, warped, picture = flow_pictures(flow, pair.profile)
            message = "\n".join([*notes, turned(profile.mesh, style_mesh)])
            return io.NodeOutput(flow, picture, warped.clamp(0, 1), confidence, message)


class WarpRelight(io.ComfyNode):
    """The portrait of one crop without any net."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_WarpRelight",
            **search_aliases("face swap", "relight", "lighting transfer", "warp face"),
            display_name="Warp and Relight",
            category=CATEGORY,
            description="Paints the profile's person into the style crop without any model: a dense face mesh moves the photo into the "
            "style's pose, and the style's light is laid on it. About a second a crop on a CPU. Connect image and mask to Stitch Face, "
            "or encode the image and let a KSampler refine it at low denoise.",
            inputs=[
                *crop_inputs("; a batch of frames is painted one by one"),
                skin_tone_input(),
                light_input(),
                shape_input(),
                expression_input(),
                *stitch_inputs(),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The style crop with the person in it."),
                io.Mask.Output(
                    "mask",
                    display_name="mask",
                    tooltip="Where the crop was changed, soft: for the face_mask of 'Stitch Face', whose feather may be 0 then.",
                ),
                io.Image.Output(
                    "warped", display_name="warped", tooltip="The profile in the style's pose, in its own light."
                ),
                FlowType.Output("flow", display_name="flow", tooltip="Of the first crop, for 'Transfer Detail'."),
                io.String.Output(
                    "message", display_name="message", tooltip="Warnings, and how far apart both heads are turned."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, profile_crop, style_crop, skin_tone, light, shape, expression, profile_stitch=None, style_stitch=None
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            settings = MeshSettings(skin_tone, light, shape, expression)
            style, pairs, notes = pairs_of(profile_crop, style_crop, profile_stitch, style_stitch)
            if not any(pairs):
                raise ValueError("no style crop has a face: 'Align Face' passed all of them through")
            step = progress(len(pairs))
            images, masks, warped, flows = [], [], [], []
            for number, pair in enumerate(pairs):
                if pair is None:
                    images.append(style[number : number + 1])
                    masks.append(torch.zeros(1, *style.shape[1:3]))
                    warped.append(style[number : number + 1])
                    notes.append(f"crop {number}: passed through, it has no face")
                else:
                    result = paint_by_mesh(pair, settings)
                    images.append(result.image)
                    masks.append(result.mask)
                    warped.append(result.warped)
                    flows.append(result.flow)
                    place = f"crop {number}: " if len(pairs) > 1 else ""
                    meshes = (
                        crop_mesh(pair.profile_placement, pair.profile, "profile"),
                        crop_mesh(pair.style_placement, pair.style, "style reference"),
                    )
                    notes += [place + note for note in (turned(*meshes), *small_face_notes(pair), *result.notes)]
                step(number + 1, len(pairs))
            return io.NodeOutput(torch.cat(images), torch.cat(masks), torch.cat(warped), flows[0], "\n".join(notes))


NODES = [MeshFlow, WarpRelight]
