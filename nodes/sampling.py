"""Progressive inference: starting points for stock samplers, and a sampler that runs the rounds."""

import comfy.samplers
import latent_preview
from comfy_api.latest import io

from ..models.method.progressive import noised_start, progressive_rounds, progressive_sigmas
from ..models.portrait import CropSettings
from .common import CATEGORY, check_choice, check_latent, naming, seed_input

SCHEDULER = CropSettings.scheduler
STRENGTH_TOOLTIP = (
    "How far the style crop is noised before it is painted anew, above 0 to 1: a KSampler's `denoise`. Low keeps its light (and its "
    "face), high leaves more room for the profile's identity. 0.5 to 0.8 is a good start."
)
ROUNDS_TOOLTIP = "How often to noise and paint anew; time grows with it."


def steps_input() -> io.Int.Input:
    """Steps of one round."""
    return io.Int.Input(
        "steps",
        default=CropSettings.steps,
        min=1,
        max=10000,
        tooltip="Denoising steps of one round; time grows with it.",
    )


def cfg_input() -> io.Float.Input:
    """`cfg`."""
    return io.Float.Input(
        "cfg",
        default=CropSettings.cfg,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip="How hard the profile's embedding pulls against the zero embedding. 1 halves the time and switches it off.",
    )


def sampler_input(optional: bool = False) -> io.Combo.Input:
    """`sampler_name`."""
    return io.Combo.Input(
        "sampler_name",
        options=list(comfy.samplers.KSampler.SAMPLERS),
        default=CropSettings.sampler,
        optional=optional,
        tooltip="The sampling method, as in a KSampler. lcm noises anew at every step, which suits the demo bundle. With SD1.5 begin with "
        "euler, 20 steps and cfg 3.",
    )


def scheduler_input(optional: bool = False) -> io.Combo.Input:
    """`scheduler`, with one default in all nodes."""
    return io.Combo.Input(
        "scheduler",
        options=list(comfy.samplers.KSampler.SCHEDULERS),
        default=SCHEDULER,
        optional=optional,
        tooltip="How the steps are spread, as in a KSampler.",
    )


def crop_size_input() -> io.Int.Input:
    """`crop_size` of the nodes that paint; the default fits the bundle that ships with the pack."""
    return io.Int.Input(
        "crop_size",
        default=256,
        min=128,
        max=1024,
        step=64,
        tooltip="Side of the crop that is painted, in pixels. 256 for the demo bundle; set 512 for SD1.5. Time grows faster than its square.",
    )


def strength_input() -> io.Float.Input:
    """`noise_strength`."""
    return io.Float.Input(
        "noise_strength", default=CropSettings.noise_strength, min=0.01, max=1.0, step=0.01, tooltip=STRENGTH_TOOLTIP
    )


def rounds_input(tooltip: str = ROUNDS_TOOLTIP, optional: bool = False) -> io.Int.Input:
    """`rounds`."""
    return io.Int.Input("rounds", default=1, min=1, max=16, optional=optional, tooltip=tooltip)


class ProgressiveNoise(io.ComfyNode):
    """Start latent and sigmas."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_ProgressiveNoise",
            display_name="Progressive Noise",
            category=CATEGORY,
            description="Noises the style crop's latent to a chosen strength and gives the sigmas that lead back, for SamplerCustom and "
            "its relatives. For several rounds feed a sampler's result in again, or use 'Progressive Sampler'.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="SD1.5 MODEL, patched or not; its noise schedule and latent scale are used."
                ),
                io.Latent.Input("latent", tooltip="The style crop's latent, or the result of the round before."),
                steps_input(),
                scheduler_input(),
                strength_input(),
                seed_input("the noise"),
                io.Boolean.Input(
                    "add_noise",
                    default=True,
                    tooltip="On: the latent comes out noised; switch `add_noise` off in the sampler. Off: the latent comes out as it came "
                    "in, for samplers that add the noise themselves (needed with a noise mask).",
                ),
            ],
            outputs=[
                io.Latent.Output("start_latent", display_name="start_latent", tooltip="To the sampler's latent_image."),
                io.Sigmas.Output("sigmas", display_name="sigmas", tooltip="To the sampler's sigmas."),
            ],
        )

    @classmethod
    def execute(cls, model, latent, steps, scheduler, noise_strength, seed, add_noise) -> io.NodeOutput:
        with naming(cls):
            samples = check_latent(latent)
            sigmas = progressive_sigmas(model, steps, scheduler, noise_strength)
            start = latent.copy()
            if add_noise:
                start["samples"] = noised_start(model, samples, sigmas, seed, latent.get("batch_index"))
            return io.NodeOutput(start, sigmas)


class ProgressiveSampler(io.ComfyNode):
    """The rounds."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_ProgressiveSampler",
            display_name="Progressive Sampler",
            category=CATEGORY,
            description="A KSampler that noises the style crop to a chosen strength and paints it anew, once or for several rounds, each "
            "from the result of the one before. One round equals a KSampler with the same denoise.",
            inputs=[
                io.Model.Input("model", tooltip="From 'Apply Portrait'."),
                io.Conditioning.Input("positive", tooltip="From 'Encode Profile'."),
                io.Conditioning.Input("negative", tooltip="From 'Encode Profile'."),
                io.Latent.Input("latent", tooltip="The style crop's latent; a noise mask in it is honoured."),
                seed_input("the noise; round 2 uses seed + 1, and so on"),
                steps_input(),
                cfg_input(),
                sampler_input(),
                scheduler_input(),
                strength_input(),
                rounds_input(
                    "How often to noise and paint anew. Each round moves further from the style crop towards the profile, and takes as "
                    "long as the first."
                ),
            ],
            outputs=[io.Latent.Output("samples", display_name="samples", tooltip="To 'VAE Decode'.")],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent, seed, steps, cfg, sampler_name, scheduler, noise_strength, rounds
    ) -> io.NodeOutput:
        with naming(cls):
            check_latent(latent)
            check_choice("sampler_name", sampler_name, comfy.samplers.KSampler.SAMPLERS)
            callback = latent_preview.prepare_callback(model, steps * rounds)
            out = latent.copy()
            out["samples"] = progressive_rounds(
                model,
                positive,
                negative,
                latent,
                seed,
                steps,
                cfg,
                sampler_name,
                scheduler,
                noise_strength,
                rounds,
                callback,
            )
            return io.NodeOutput(out)


NODES = [ProgressiveNoise, ProgressiveSampler]
