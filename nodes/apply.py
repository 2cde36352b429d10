"""The MODEL patch as a node."""

from comfy_api.latest import io

from ..models.method.encoding import check_picture
from ..models.method.injection import FLOW_MODES, SPEEDS, Settings, apply_portrait
from ..models.types import Flow, Profile
from .common import CATEGORY, FlowType, ProfileType, naming, search_aliases
from .inputs import (
    SPEED,
    check_latent,
    check_nets,
    check_type,
    flow_method_input,
    flow_timestep_input,
    net_strength_input,
    nets_input,
    seed_input,
    speed_input,
)

AS_TRAINED = -1.0
GATES = {"as trained": None, "on": True, "off": False}


def as_trained_or(name: str, value: float) -> float | None:
    """None for the net's own value. Raises ValueError for a negative number that is not that sign."""
    if value == AS_TRAINED:
        return None
    if value < 0:
        raise ValueError(f"{name} must be 0 or more, or -1 for the value the net was trained with; got {value:g}.")
    return value


def percent_input(name: str, default: float, tooltip: str, optional: bool = False) -> io.Float.Input:
    """A place in the schedule, as ComfyUI's own ControlNet nodes have it."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.001, optional=optional, tooltip=tooltip)


def annealing_input(name: str, what: str) -> io.Float.Input:
    """A constant of eq. 7, the net's own by default."""
    return io.Float.Input(
        name,
        default=AS_TRAINED,
        min=AS_TRAINED,
        max=10.0,
        step=0.01,
        tooltip=f"{what}, 0 or more. -1: as the net was trained.",
    )


class Apply(io.ComfyNode):
    """Eq. 7 and the in-context pair, as a patch of MODEL."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_Apply",
            **search_aliases("identity", "reference face", "in-context portrait", "ip adapter face"),
            display_name="Apply Portrait",
            category=CATEGORY,
            description="Patches MODEL so that any sampler paints the profile's person into the style crop. The latent keeps its normal "
            "width; inside, style crop and profile are denoised side by side, led by the nets where they are connected. Samplers, LoRAs, "
            "ControlNets and noise masks go on working. Start the sampler from the style crop's latent. A step costs about three times a "
            "plain one, twice without nets.",
            inputs=[
                io.Model.Input("model", tooltip="SD1.5 checkpoint or a fine-tune of it. It is cloned, not changed."),
                nets_input(
                    "; made for this MODEL's UNet. Not connected: style crop and profile are denoised side by side, and nothing is "
                    "added",
                    optional=True,
                ),
                ProfileType.Input("profile", tooltip="From 'Encode Profile'."),
                io.Image.Input(
                    "sampled_image",
                    optional=True,
                    tooltip="From 'Sample Pixels': the style crop's kept pixels, of the profile crop's size. Needed with nets.",
                ),
                net_strength_input("0 leaves MODEL exactly as it was, with and without nets."),
                percent_input(
                    "start_percent", 0.0, "Share of the schedule at which the patch sets in, 0 = from the start."
                ),
                percent_input(
                    "end_percent",
                    1.0,
                    "Share of the schedule at which it ends, 1 = at the very end. Ending early saves time and lets MODEL finish alone.",
                ),
                annealing_input(
                    "alpha", "How much more the fine levels take from the warped profile than the coarse ones"
                ),
                annealing_input("beta", "How much every level takes from the warped profile"),
                io.Combo.Input(
                    "flow_mode",
                    options=list(FLOW_MODES),
                    default=FLOW_MODES[0],
                    tooltip="Used when `flow` is not connected. once: from the style crop (`style_latent`) at a low noise level, one pass a "
                    "run. each step: from the sampler's own noisy latent at every step, as the paper writes it; slower, and unsure at the "
                    "first steps.",
                ),
                flow_timestep_input(before="For `once`. "),
                flow_method_input(),
                seed_input("the noise on the profile's half"),
                FlowType.Input(
                    "flow",
                    optional=True,
                    tooltip="From 'Estimate Flow' or 'Mesh Flow'. When connected it is used as it is, and the matching net is not loaded for "
                    "sampling. Without nets only `attention` reads it.",
                ),
                io.Latent.Input(
                    "style_latent",
                    optional=True,
                    tooltip="The style crop's latent, for the flow mode `once`. Not needed when `flow` is connected.",
                ),
                io.Combo.Input(
                    "confidence_gate",
                    options=list(GATES),
                    default="as trained",
                    optional=True,
                    tooltip="on: unsure matches count less. off: all count alike, as the paper writes it. as trained: what the appearance "
                    "net's file says.",
                ),
                io.Float.Input(
                    "attention",
                    default=Settings.attention,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="How far the self-attention of the style crop's half reads the profile along the flow, where the profile shows "
                    "the place. 0: off. 1: reads nothing else there. Needs `flow` or nets; little cost.",
                ),
                percent_input(
                    "attention_start_percent",
                    Settings.attention_start_percent,
                    "Share of the schedule at which `attention` sets in, 0 = from the start.",
                    optional=True,
                ),
                percent_input(
                    "attention_end_percent",
                    Settings.attention_end_percent,
                    "Share of the schedule at which `attention` ends, 1 = at the very end.",
                    optional=True,
                ),
                speed_input(),
            ],
            outputs=[
                io.Model.Output(
                    "patched_model",
                    display_name="patched_model",
                    tooltip="To any sampler. Bypass this node for the plain MODEL.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        *,
        model,
        nets=None,
        profile,
        sampled_image=None,
        strength,
        start_percent,
        end_percent,
        alpha,
        beta,
        flow_mode,
        flow_timestep,
        flow_method,
        seed,
        flow=None,
        style_latent=None,
        confidence_gate="as trained",
        attention=Settings.attention,
        attention_start_percent=Settings.attention_start_percent,
        attention_end_percent=Settings.attention_end_percent,
        speed=SPEED,
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            if nets is not None:
                check_nets(nets)
            check_type("profile", profile, Profile, "'Encode Profile'")
            if flow is not None:
                check_type("flow", flow, Flow, "'Estimate Flow' or 'Mesh Flow'")
            settings = Settings(
                strength=strength,
                start_percent=start_percent,
                end_percent=end_percent,
                alpha=as_trained_or("alpha", alpha),
                beta=as_trained_or("beta", beta),
                flow_mode=flow_mode,
                flow_timestep=flow_timestep,
                flow_method=flow_method,
                use_confidence=GATES[confidence_gate],
                seed=seed,
                attention=attention,
                attention_start_percent=attention_start_percent,
                attention_end_percent=attention_end_percent,
                pair_every=SPEEDS[speed],
            )
            sampled_image = None if sampled_image is None else check_picture(sampled_image, "sampled style crop")
            style_latent = None if style_latent is None else check_latent(style_latent)
            return io.NodeOutput(apply_portrait(model, nets, profile, sampled_image, settings, flow, style_latent))


NODES = [Apply]
