"""Fine detail of the profile in the painted crop; beyond the paper."""

from comfy_api.latest import io

from ..models.faces.pixels import checked_image
from ..models.method.detail import RADIUS, transfer_detail
from ..models.types import Flow, Profile
from .common import CATEGORY, FlowType, ProfileType, naming, search_aliases
from .inputs import check_type, detail_input


class TransferDetail(io.ComfyNode):
    """Frequency separation between painted crop and warped profile."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_TransferDetail",
            **search_aliases("sharpen face", "skin texture", "frequency separation", "restore detail"),
            display_name="Transfer Detail",
            category=CATEGORY,
            description="Gives the painted crop the profile's fine detail: eyes, brows, beard and skin in focus, where the flow is sure and "
            "both pictures agree. Light and colors stay as painted. Between VAE Decode and Stitch Face.",
            inputs=[
                io.Image.Input("crop", tooltip="The painted crop, from VAE Decode, before any scaling."),
                ProfileType.Input(
                    "profile",
                    optional=True,
                    tooltip="From 'Encode Profile': the photo the detail comes from. Or connect profile_image.",
                ),
                FlowType.Input(
                    "flow", tooltip="From 'Estimate Flow' or 'Mesh Flow': where each part of the profile belongs."
                ),
                detail_input(),
                io.Float.Input(
                    "radius",
                    default=RADIUS,
                    min=0.002,
                    max=0.05,
                    step=0.002,
                    round=0.001,
                    tooltip="What counts as fine, as a share of the crop's width: 0.01 is 2.6 pixels of 256. Larger copies more of the photo, "
                    "its expression too, for little more likeness.",
                ),
                io.Image.Input(
                    "profile_image",
                    optional=True,
                    tooltip="The aligned profile as a picture, in the place of profile: with any checkpoint, no encoder is needed.",
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The crop in focus, for 'Stitch Face'."),
                io.Mask.Output("mask", display_name="mask", tooltip="White where the detail is the profile's."),
            ],
        )

    @classmethod
    def execute(cls, crop, profile=None, *, flow, detail, radius, profile_image=None) -> io.NodeOutput:
        with naming(cls, locals()):
            check_type("flow", flow, Flow, "'Estimate Flow' or 'Mesh Flow'")
            if profile is not None:
                check_type("profile", profile, Profile, "'Encode Profile'")
                photo = profile.image
            elif profile_image is not None:
                photo = checked_image(profile_image, "the profile")[:1]
            else:
                raise ValueError("connect profile or profile_image: the photo the detail comes from")
            picture = checked_image(crop, "the painted crop")
            return io.NodeOutput(*transfer_detail(picture, photo, flow, detail, radius))


NODES = [TransferDetail]
