"""Small random models in the demo bundle's layout, for tests: quick to run, and no weight is zero."""

import functools
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import comfy.clip_model
import comfy.controlnet
import comfy.model_management
import comfy.ops
import comfy.sample
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from icportrait.models.method import encoding, matching
from icportrait.models.method.pixel_sampling import sample_pixels
from icportrait.models.nets import bundle
from icportrait.models.nets import files as net_files
from icportrait.models.nets import portrait_net as nets

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 3, 3],
    "num_heads": -1,
    "num_head_channels": 32,
    "use_spatial_transformer": True,
    "transformer_depth": [0, 0, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "legacy": False,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
}

VAE = {
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 64,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
    "embed_dim": 4,
}

VISION = {
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "quick_gelu",
    "hidden_size": 64,
    "image_size": 64,
    "intermediate_size": 128,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 2,
    "num_channels": 3,
    "num_hidden_layers": 2,
    "patch_size": 16,
    "projection_dim": 768,
    "torch_dtype": "float32",
}


def randomise(module: torch.nn.Module, seed: int, scale: float = 1.0) -> torch.nn.Module:
    """Draw every parameter: weights with unit gain times `scale`, norms near one, biases small but not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * scale / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(noise * 0.1 + (1.0 if name.endswith("weight") else 0.0))
    return module


def random_unet(config: dict, seed: int) -> torch.nn.Module:
    """A UNet with random weights, float32."""
    return randomise(UNetModel(dtype=torch.float32, operations=comfy.ops.disable_weight_init, **config), seed)


def random_net(config: dict, seed: int, scale: float = 1.0) -> nets.PortraitNet:
    """A matching or appearance net with random weights (also in its zero convolutions), float32."""
    return randomise(nets.build_net(config), seed, scale)


def write_nets(
    folder: Path, unet: dict = UNET, seed: int = 10, alpha: float = 1.0, beta: float = 0.25
) -> tuple[Path, Path]:
    """Write `matching.safetensors` and `appearance.safetensors`; returns their paths."""
    paths = []
    for offset, role in enumerate(nets.ROLES):
        config = nets.net_config(role, unet, alpha=alpha, beta=beta)
        path = folder / f"{role}.safetensors"
        net_files.save_net(
            path,
            random_net(config, seed + offset).state_dict(),
            config,
            {"steps": 0, "license": "CC0-1.0"},
            torch.float32,
        )
        paths.append(path)
    return tuple(paths)


def write_bundle(folder: Path, seed: int = 1, vision_width: int = 768) -> Path:
    """Write a whole bundle folder with random weights; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    net_files.save_tensors(
        folder / "base.safetensors",
        random_unet(UNET, seed).state_dict(),
        {"format": "icportrait-base-1", "config": UNET},
    )
    vae = randomise(AutoencoderKL(**VAE), seed + 1)
    net_files.save_tensors(folder / "vae.safetensors", vae.state_dict(), {"format": "icportrait-vae-1", "config": VAE})
    config = VISION | {"projection_dim": vision_width}
    vision = comfy.clip_model.CLIPVisionModelProjection(config, torch.float32, None, comfy.ops.disable_weight_init)
    vision = randomise(vision, seed + 2)
    # position_ids is a buffer that ComfyUI recomputes
    net_files.save_tensors(
        folder / "vision.safetensors", vision.state_dict(), {"format": "icportrait-vision-1", "config": config}
    )
    (folder / "vision.json").write_text(json.dumps(config))
    write_nets(folder, seed=seed + 10)
    return folder


def picture(seed: int, height: int = 64, width: int = 64) -> torch.Tensor:
    """A smooth random picture `[1, height, width, 3]` in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 8, 8, generator=generator)
    return (
        torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1).movedim(1, -1).contiguous()
    )


@functools.cache
def text_encoder():
    """ComfyUI's CLIP of SD1.5 with its real tokenizer and a random transformer of one layer; never to be modified."""
    import comfy.sd
    import comfy.sd1_clip

    shape = {
        "hidden_size": 768,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 12,
        "hidden_act": "quick_gelu",
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "eos_token_id": 49407,
        "projection_dim": 768,
    }

    class OneLayer(comfy.sd1_clip.SDClipModel):
        def __init__(self, **options):
            super().__init__(textmodel_json_config=shape, **options)

    class Small(comfy.sd1_clip.SD1ClipModel):
        def __init__(self, **options):
            super().__init__(clip_model=OneLayer, **options)

    target = SimpleNamespace(params={}, clip=Small, tokenizer=comfy.sd1_clip.SD1Tokenizer)
    clip = comfy.sd.CLIP(target, model_options={"dtype": torch.float32})
    randomise(clip.cond_stage_model, 31)
    return clip


@functools.lru_cache(maxsize=1)
def portrait_setup() -> SimpleNamespace:
    """One tiny bundle, loaded, with everything a run needs; made once, never to be modified."""
    folder = write_bundle(Path(tempfile.mkdtemp(prefix="icportrait_tiny_")))
    with torch.inference_mode():
        model, vae, clip_vision, portrait_nets = bundle.load_bundle(folder)
        profile = encoding.encode_profile(picture(1), vae, clip_vision)
        # The random autoencoder's latents are large; unit-sized ones keep sums and differences meaningful.
        latents = [
            torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) / 0.18215 for seed in (101, 102)
        ]
        profile = type(profile)(profile.image, latents[0], profile.embedding)
        sampled, _ = sample_pixels(picture(2), 0.2, torch.Generator().manual_seed(0))
        positive, negative = encoding.conditionings(profile)
        flow = matching.estimate_flow(model, portrait_nets, profile, latents[1], sampled, 100, "window", 0)
    return SimpleNamespace(
        folder=folder,
        model=model,
        vae=vae,
        clip_vision=clip_vision,
        nets=portrait_nets,
        profile=profile,
        style_image=picture(2),
        style_latent=latents[1],
        sampled=sampled,
        positive=positive,
        negative=negative,
        flow=flow,
    )


def sample(
    model, setup: SimpleNamespace, steps: int = 2, cfg: float = 3.0, sampler: str = "euler", seed: int = 7, **changes
) -> torch.Tensor:
    """A stock KSampler run from the style latent; `changes` override its arguments."""
    latent = changes.pop("latent_image", setup.style_latent)
    arguments = {"positive": setup.positive, "negative": setup.negative, "denoise": 0.7, "disable_pbar": True} | changes
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        return comfy.sample.sample(
            model,
            noise,
            steps,
            cfg,
            sampler,
            "normal",
            arguments.pop("positive"),
            arguments.pop("negative"),
            latent,
            seed=seed,
            **arguments,
        )


def stock_controlnet(seed: int = 50, unet: dict = UNET) -> comfy.controlnet.ControlNet:
    """ComfyUI's own ControlNet around random weights."""
    config = nets.net_config("appearance", unet)
    module = comfy.cldm.cldm.ControlNet(
        hint_channels=3, dtype=torch.float32, operations=comfy.ops.disable_weight_init, **config["unet"]
    )
    return comfy.controlnet.ControlNet(randomise(module, seed), load_device=comfy.model_management.get_torch_device())


def with_control(conditioning: list, control: comfy.controlnet.ControlNet) -> list:
    """The conditioning as 'Apply ControlNet' would hand it on."""
    return [
        [tensor, extras | {"control": control, "control_apply_to_uncond": False}] for tensor, extras in conditioning
    ]
