"""Fine detail of the profile in the painted crop; beyond the paper."""

from comfy_api.latest import io

from ..models.faces.pixels import checked_image
from ..models.method.detail import RADIUS, transfer_detail
from ..models.types import Flow, Profile
from .common import CATEGORY, FlowType, ProfileType, naming
from .inputs import check_type, detail_input


class TransferDetail(io.ComfyNode):
    """Frequency separation between painted crop and warped profile."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_TransferDetail",
            display_name="Transfer Detail",
            category=CATEGORY,
            description="Gives the painted crop the profile's fine detail: eyes, brows, beard and skin in focus, where the flow is sure and "
            "both pictures agree. Light and colors stay as painted. Between VAE Decode and Stitch Face.",
            inputs=[
                io.Image.Input("crop", tooltip="The painted crop, from VAE Decode, before any scaling."),
                ProfileType.Input("profile", tooltip="From 'Encode Profile': the photo the detail comes from."),
                FlowType.Input("flow", tooltip="From 'Estimate Flow': where each part of the profile belongs."),
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
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The crop in focus, for 'Stitch Face'."),
                io.Mask.Output("mask", display_name="mask", tooltip="White where the detail is the profile's."),
            ],
        )

    @classmethod
    def execute(cls, crop, profile, flow, detail, radius) -> io.NodeOutput:
        with naming(cls):
            check_type("profile", profile, Profile, "'Encode Profile'")
            check_type("flow", flow, Flow, "'Estimate Flow'")
            picture = checked_image(crop, "the painted crop")
            return io.NodeOutput(*transfer_detail(picture, profile.image, flow, detail, radius))


NODES = [TransferDetail]
