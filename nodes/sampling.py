"""Progressive inference: starting points for stock samplers, and a sampler that runs the rounds."""

import latent_preview
from comfy_api.latest import io

from ..models.method.progressive import noised_start, progressive_rounds, progressive_sigmas
from .common import CATEGORY, naming, search_aliases
from .inputs import (
    cfg_input,
    check_conditioning,
    check_latent,
    rounds_input,
    sampler_input,
    scheduler_input,
    seed_input,
    steps_input,
    strength_input,
)


class ProgressiveNoise(io.ComfyNode):
    """Start latent and sigmas."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_ProgressiveNoise",
            **search_aliases("sigmas", "img2img noise", "denoise start"),
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
        with naming(cls, locals()):
            samples = check_latent(latent)
            sigmas = progressive_sigmas(model, steps, scheduler, noise_strength)
            if add_noise:
                samples = noised_start(model, samples, sigmas, seed, latent.get("batch_index"))
            return io.NodeOutput({**latent, "samples": samples}, sigmas)


class ProgressiveSampler(io.ComfyNode):
    """The rounds."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_ProgressiveSampler",
            **search_aliases("img2img", "ksampler rounds", "refine face"),
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
        with naming(cls, locals()):
            samples = check_latent(latent)
            check_conditioning("positive", positive)
            check_conditioning("negative", negative)
            callback = latent_preview.prepare_callback(model, steps * rounds)
            samples = progressive_rounds(
                model,
                positive,
                negative,
                {**latent, "samples": samples},
                seed,
                steps,
                cfg,
                sampler_name,
                scheduler,
                noise_strength,
                rounds,
                callback,
            )
            return io.NodeOutput({**latent, "samples": samples})


NODES = [ProgressiveNoise, ProgressiveSampler]
