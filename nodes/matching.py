"""Dense correspondence between style crop and profile, as a flow and as pictures."""

from comfy_api.latest import io

from ..models.method import encoding
from ..models.method.injection import check_model
from ..models.method.matching import estimate_flow
from ..models.method.pixel_sampling import sample_pixels
from ..models.pictures.flow import confidence_to_color, flow_pictures, match_lines
from ..models.types import Profile
from .common import CATEGORY, FlowType, ProfileType, generator, naming, search_aliases
from .inputs import (
    check_nets,
    check_type,
    flow_method_input,
    flow_timestep_input,
    nets_input,
    seed_input,
    vae_input,
)


class EstimateFlow(io.ComfyNode):
    """Eq. 5 and 6."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_EstimateFlow",
            **search_aliases("correspondence", "optical flow", "feature matching"),
            display_name="Estimate Flow",
            category=CATEGORY,
            description="Finds for each part of the style crop the part of the profile that belongs there. Shows it as colors and as "
            "the profile warped into the style reference's pose. One pass through half a net.",
            inputs=[
                io.Model.Input("model", tooltip="SD1.5 MODEL; only its noise schedule is used here."),
                nets_input("; the matching net is used"),
                ProfileType.Input("profile", tooltip="From 'Encode Profile'."),
                io.Image.Input(
                    "style_image", tooltip="Aligned crop of the style reference, of the profile crop's size."
                ),
                vae_input(),
                flow_timestep_input("timestep"),
                flow_method_input("method"),
                seed_input("the noise on both crops, and the pixels kept when `sampled_image` is not connected"),
                io.Image.Input(
                    "sampled_image",
                    optional=True,
                    tooltip="From 'Sample Pixels': what the net is shown of the style crop. Without it, 20 % of the pixels are drawn.",
                ),
            ],
            outputs=[
                FlowType.Output("flow", display_name="flow", tooltip="For 'Apply Portrait'."),
                io.Mask.Output(
                    "confidence", display_name="confidence", tooltip="White where matching there and back agrees."
                ),
                io.Image.Output(
                    "warped_profile",
                    display_name="warped_profile",
                    tooltip="The profile moved into the style reference's pose by the flow alone.",
                ),
                io.Image.Output(
                    "flow_picture",
                    display_name="flow_picture",
                    tooltip="The flow in color: hue is direction, strength of color is distance.",
                ),
                io.Image.Output(
                    "match_picture",
                    display_name="match_picture",
                    tooltip="Style crop and profile side by side, lines from places to their matches; grey where unsure.",
                ),
                io.Image.Output(
                    "confidence_picture",
                    display_name="confidence_picture",
                    tooltip="The confidence in color: yellow is sure, dark blue is unsure.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model, nets, profile, style_image, vae, timestep, method, seed, sampled_image=None
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            check_nets(nets)
            check_type("profile", profile, Profile, "'Encode Profile'")
            check_model(model, nets)
            style_image = encoding.check_picture(style_image, "style crop")
            if sampled_image is None:
                sampled_image, _ = sample_pixels(style_image, 0.2, generator(seed))
            sampled_image = encoding.check_picture(sampled_image, "sampled style crop")
            style_latent = encoding.encode_picture(vae, style_image, "style crop")
            flow = estimate_flow(model, nets, profile, style_latent, sampled_image, timestep, method, seed)
            matches = match_lines(style_image, profile.image, flow.offsets, flow.confidence)
            sure = confidence_to_color(flow.confidence, (flow.height, flow.width), legend=True)
            return io.NodeOutput(flow, *flow_pictures(flow, profile.image), matches, sure)


NODES = [EstimateFlow]
