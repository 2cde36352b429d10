"""The nets' inputs: sampled style pixels and the encoded profile."""

from comfy_api.latest import io

from ..models.faces.pixels import checked_image, optional_mask
from ..models.method import encoding
from ..models.method.pixel_sampling import PATTERNS, sample_pixels
from .common import CATEGORY, ProfileType, generator, naming, search_aliases
from .inputs import seed_input, share_input, vae_input


class SamplePixels(io.ComfyNode):
    """Eq. 1."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_SamplePixels",
            **search_aliases("pixel mask", "random pixels", "keep light"),
            display_name="Sample Pixels",
            category=CATEGORY,
            description="Keeps a random share of the style crop's pixels and blackens the rest, so that the light shows through and "
            "the face does not. This is what the nets see of the style reference.",
            inputs=[
                io.Image.Input("style_image", tooltip="Aligned crop of the style reference."),
                share_input(
                    "Share of pixels kept, 0 to 1. More keeps light and background closer to the style reference, less leaves "
                    "more room for the profile's identity. The nets were trained with 0 to 0.2."
                ),
                seed_input("which pixels are kept"),
                io.Combo.Input(
                    "pattern",
                    options=list(PATTERNS),
                    default=PATTERNS[0],
                    tooltip="random: every pixel drawn by itself, as in the paper. checkerboard: a regular grid, for comparison (overly "
                    "smooth results).",
                ),
                io.Mask.Input(
                    "region", optional=True, tooltip="Where pixels may be kept (white). Without it: everywhere."
                ),
            ],
            outputs=[
                io.Image.Output("sampled_image", display_name="sampled_image", tooltip="The kept pixels on black."),
                io.Mask.Output("kept_mask", display_name="kept_mask", tooltip="White where a pixel was kept."),
            ],
        )

    @classmethod
    def execute(cls, style_image, share, seed, pattern, region=None) -> io.NodeOutput:
        with naming(cls, locals()):
            style_image = checked_image(style_image, "the style crop")
            region = optional_mask(region, *style_image.shape[1:3], "region")
            if region is not None and not (region > 0.5).any():
                raise ValueError(
                    "region is nowhere above half, so no pixel could be kept; paint it white, or disconnect it"
                )
            if region is not None and len(region) not in (1, len(style_image)):
                raise ValueError(
                    f"{len(region)} masks came in region for {len(style_image)} pictures; give one, or one each"
                )
            return io.NodeOutput(*sample_pixels(style_image, share, generator(seed), pattern, region))


class EncodeProfile(io.ComfyNode):
    """One profile picture in every form the method needs."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_EncodeProfile",
            **search_aliases("face embedding", "id embedding", "reference photo"),
            display_name="Encode Profile",
            category=CATEGORY,
            description="Encodes the aligned profile crop: latent for the in-context pair, and its image embedding, which takes the "
            "place of a text prompt.",
            inputs=[
                io.Image.Input(
                    "profile_image",
                    tooltip="Aligned crop of the person's photo, one picture; sides multiples of 64 pixels.",
                ),
                vae_input(),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="CLIP ViT-L/14 image encoder with its projection (768 wide), the one the nets were trained with.",
                ),
            ],
            outputs=[
                ProfileType.Output(
                    "profile", display_name="profile", tooltip="For 'Estimate Flow' and 'Apply Portrait'."
                ),
                io.Latent.Output(
                    "profile_latent",
                    display_name="profile_latent",
                    tooltip="The profile crop's latent, to look at or to use elsewhere.",
                ),
                io.Conditioning.Output(
                    "positive",
                    display_name="positive",
                    tooltip="The profile's image embedding as one token; to the sampler's positive.",
                ),
                io.Conditioning.Output(
                    "negative",
                    display_name="negative",
                    tooltip="A zero embedding of one token; to the sampler's negative.",
                ),
            ],
        )

    @classmethod
    def execute(cls, profile_image, vae, clip_vision) -> io.NodeOutput:
        with naming(cls, locals()):
            profile = encoding.encode_profile(profile_image, vae, clip_vision)
            # A copy, because a sampler may write into a LATENT and the profile must stay as it is.
            return io.NodeOutput(profile, {"samples": profile.latent.clone()}, *encoding.conditionings(profile))


NODES = [SamplePixels, EncodeProfile]
