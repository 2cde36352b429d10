"""Everything for one face in one node, from the same functions as the stage nodes."""

from dataclasses import replace

import latent_preview
import torch
from comfy_api.latest import io

from ..models.faces import detection
from ..models.faces.alignment import AlignmentSettings
from ..models.faces.pixels import checked_image
from ..models.faces.stitching import COLOR_MATCHES, StitchSettings
from ..models.mesh.crops import check_pair, own_crop_size
from ..models.mesh.painter import MeshResult, MeshSettings, paint_by_mesh
from ..models.method.correspondence import METHODS as FLOW_METHODS
from ..models.method.detail import STRENGTH as DETAIL
from ..models.method.injection import SPEEDS
from ..models.method.matching import FLOW_TIMESTEP
from ..models.method.pixel_sampling import sample_pixels
from ..models.methods import METHODS, choose_method
from ..models.painting import CropPair, CropResult, identity_change, paint_face
from ..models.pictures.flow import flow_pictures
from ..models.pictures.panels import before_after
from ..models.portrait import CropSettings, paint_crop
from .common import CATEGORY, generator, naming, search_aliases
from .inputs import (
    SPEED,
    cfg_input,
    check_nets,
    color_match_input,
    crop_size_input,
    detail_input,
    flow_method_input,
    flow_timestep_input,
    mesh_inputs,
    model_inputs,
    net_strength_input,
    rounds_input,
    sampler_input,
    scheduler_input,
    seed_input,
    share_input,
    speed_input,
    steps_input,
    strength_input,
)

NO_FACE = ("error", "pass through")


def one_picture(image, what: str) -> torch.Tensor:
    """`[1, H, W, 3]`. Raises ValueError for a batch."""
    image = checked_image(image, f"the {what}")
    if image.shape[0] != 1:
        raise ValueError(
            f"The {what} must be one picture; got a batch of {image.shape[0]}. Choose one with 'ImageFromBatch'."
        )
    return image


class Portrait(io.ComfyNode):
    """All stages for one face."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_Portrait",
            **search_aliases("face swap", "headshot", "put me in the picture", "style portrait", "ic-portrait"),
            display_name="Portrait",
            category=CATEGORY,
            description="The whole method for one face: finds and aligns the faces of both pictures, paints the profile's person into "
            "the style reference's pose and light, and stitches the result back. Needs no model: without nets a face mesh paints. The "
            "stage nodes do the same step by step.",
            inputs=[
                *model_inputs(),
                io.Image.Input("profile_image", tooltip="A photo of the person; the largest face is taken."),
                io.Image.Input("style_image", tooltip="The picture whose pose, light and style are wanted."),
                seed_input("the kept pixels and all noise"),
                steps_input(),
                cfg_input(),
                strength_input(),
                net_strength_input("0 switches the nets off."),
                share_input(
                    "Share of the style crop's pixels the nets see. More keeps its light, less leaves more room for identity."
                ),
                crop_size_input(),
                io.Int.Input(
                    "style_face",
                    default=0,
                    min=0,
                    max=255,
                    optional=True,
                    tooltip="Which face of the style reference to replace, counted from the largest: 0 is the largest.",
                ),
                io.Combo.Input(
                    "no_face",
                    options=list(NO_FACE),
                    default=NO_FACE[0],
                    optional=True,
                    tooltip="When a picture has no such face: stop with an error, or hand the style reference on as it is.",
                ),
                rounds_input(optional=True),
                sampler_input(optional=True),
                scheduler_input(optional=True),
                flow_timestep_input(optional=True),
                flow_method_input(optional=True),
                color_match_input(
                    "Match the crop's colors to the picture's before stitching; it also pulls skin towards the picture's.",
                    optional=True,
                ),
                detail_input(optional=True),
                *mesh_inputs(),
                io.Combo.Input(
                    "effort",
                    options=list(detection.EFFORTS),
                    default="normal",
                    optional=True,
                    tooltip="As in Detect Faces: how small a face may be. small faces looks longest, above all where there is no face.",
                ),
                speed_input("By the nets: "),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The style reference with the person in it."),
                io.Image.Output(
                    "portrait_crop", display_name="portrait_crop", tooltip="The painted crop before stitching."
                ),
                io.Image.Output("profile_crop", display_name="profile_crop", tooltip="The aligned profile."),
                io.Image.Output("style_crop", display_name="style_crop", tooltip="The aligned style reference."),
                io.Image.Output(
                    "sampled_image", display_name="sampled_image", tooltip="The style pixels the nets see."
                ),
                io.Image.Output("flow_picture", display_name="flow_picture", tooltip="The flow in color."),
                io.Image.Output(
                    "warped_profile", display_name="warped_profile", tooltip="The profile moved by the flow alone."
                ),
                io.Mask.Output(
                    "stitch_mask",
                    display_name="stitch_mask",
                    tooltip="Where the picture was changed; outside it no pixel differs.",
                ),
                io.Float.Output(
                    "similarity",
                    display_name="similarity",
                    tooltip="Identity similarity of result and profile; NaN when a face cannot be read.",
                ),
                io.Float.Output(
                    "style_similarity",
                    display_name="style_similarity",
                    tooltip="Similarity of style reference and profile, to compare with.",
                ),
                io.String.Output(
                    "report", display_name="report", tooltip="What was found, and the similarities, in words."
                ),
                io.Image.Output(
                    "panel",
                    display_name="panel",
                    tooltip="Aligned profile, face before and face after, with the similarities written on them.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model=None,
        vae=None,
        clip_vision=None,
        nets=None,
        *,
        profile_image,
        style_image,
        seed,
        steps,
        cfg,
        noise_strength,
        strength,
        share,
        crop_size,
        style_face=0,
        no_face=NO_FACE[0],
        rounds=1,
        sampler_name=CropSettings.sampler,
        scheduler=CropSettings.scheduler,
        flow_timestep=FLOW_TIMESTEP,
        flow_method=FLOW_METHODS[0],
        color_match=COLOR_MATCHES[0],
        detail=DETAIL,
        method=METHODS[0],
        skin_tone=MeshSettings.skin_tone,
        light=MeshSettings.light,
        shape=MeshSettings.shape,
        expression=MeshSettings.expression,
        effort="normal",
        speed=SPEED,
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            if nets is not None:
                check_nets(nets)
            chosen = choose_method(method, nets, model=model, vae=vae, clip_vision=clip_vision)
            alignment = AlignmentSettings(crop_size=crop_size)
            mesh = MeshSettings(skin_tone, light, shape, expression)
            settings = CropSettings(
                seed=seed,
                share=share,
                strength=strength,
                steps=steps,
                cfg=cfg,
                sampler=sampler_name,
                scheduler=scheduler,
                noise_strength=noise_strength,
                rounds=rounds,
                flow_timestep=flow_timestep,
                flow_method=flow_method,
                detail=detail,
                pair_every=SPEEDS[speed],
            )
            profile_image, style_image = (
                one_picture(profile_image, "profile"),
                one_picture(style_image, "style reference"),
            )
            found, lines = [], [chosen.reason]
            # dlib's look at the enlarged picture takes as long as all others together.
            search = detection.DetectionSettings(order="large-small", effort=effort, enlarge=effort == "small faces")
            for name, image, index in (("profile", profile_image, 0), ("style reference", style_image, style_face)):
                faces = detection.find_faces(image, search)
                if index >= len(faces.frames[0]):
                    sentence = f"In the {name}, {detection.no_face_sentence(faces, 0, index)}"
                    if no_face == NO_FACE[0]:
                        raise ValueError(sentence)
                    return cls._passed_through(style_image, crop_size, sentence)
                if len(faces.frames[0]) > 1:
                    which = f"number {index} from the largest" if index else "the largest"
                    lines.append(f"The {name} shows {len(faces.frames[0])} faces: {which} is taken.")
                found.append(faces.frames[0][index])
            profile_face, target_face = found
            if chosen.name == "mesh":
                size = own_crop_size(target_face, *style_image.shape[1:3])
                alignment = replace(alignment, crop_size=size)

                def paint(pair: CropPair) -> CropResult:
                    check_pair(pair)
                    return paint_by_mesh(pair, mesh)

            else:
                callback = latent_preview.prepare_callback(model, steps * rounds)

                def paint(pair: CropPair) -> CropResult:
                    return paint_crop(model, vae, clip_vision, nets, pair.profile, pair.style, settings, callback)

            painted = paint_face(
                style_image,
                target_face,
                profile_image,
                profile_face,
                paint,
                alignment,
                StitchSettings(color_match=color_match),
            )
            identity = identity_change(painted, style_image, profile_image)
            pair, crop = painted.pair, painted.crop
            _, warped, flow_picture = flow_pictures(crop.flow, pair.profile)
            if isinstance(crop, MeshResult):
                warped = crop.warped
            sampled = crop.sampled
            if sampled is None:
                sampled, _ = sample_pixels(pair.style, share, generator(seed))
            panel = before_after(pair.profile, pair.style, painted.stitched_crop, identity.before, identity.after)
            return io.NodeOutput(
                painted.canvas,
                crop.image,
                pair.profile,
                pair.style,
                sampled,
                flow_picture,
                warped,
                painted.mask,
                identity.after,
                identity.before,
                "\n".join([*lines, *crop.notes, identity.text()]),
                panel,
            )

    @classmethod
    def _passed_through(cls, style_image, crop_size: int, sentence: str) -> io.NodeOutput:
        black = torch.zeros(1, crop_size, crop_size, 3)
        mask = torch.zeros(style_image.shape[:3])
        nothing = float("nan")
        return io.NodeOutput(style_image, *[black] * 6, mask, nothing, nothing, f"Passed through. {sentence}", black)


NODES = [Portrait]
