"""The small demo models, built from ComfyUI's own modules so that what is trained is what ComfyUI runs.

All have SD1.5's interfaces: an 8x autoencoder (TAESD's structure) with 4 latent channels, an epsilon-predicting UNet with a 768-wide
context, and a CLIP-style vision encoder whose image embedding is 768 wide.
"""

import math

import comfy.clip_model
import comfy.ops
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.taesd.taesd import TAESD

# SD1.5's topology at 1/5 of its width. Self-attention starts at the second resolution: at the first it would cost
# more than all other layers together on a CPU, and the warp already carries detail there.
DEMO_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 2, 2],
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

DEMO_VISION = {
    "attention_dropout": 0.0,
    "dropout": 0.0,
    "hidden_act": "quick_gelu",
    "hidden_size": 192,
    "image_size": 224,
    "intermediate_size": 768,
    "layer_norm_eps": 1e-05,
    "model_type": "clip_vision_model",
    "num_attention_heads": 6,
    "num_channels": 3,
    "num_hidden_layers": 4,
    "patch_size": 32,
    "projection_dim": 768,
    "torch_dtype": "float32",
}


def initialise(module: torch.nn.Module, generator: torch.Generator) -> torch.nn.Module:
    """Draw all weights (ComfyUI's modules are built without): He-uniform for convolutions and linear layers, ones and
    zeros for norms, small normal for embeddings. Deterministic from the generator."""
    with torch.no_grad():
        for child in module.modules():
            weight = getattr(child, "weight", None)
            if isinstance(child, torch.nn.Conv2d | torch.nn.Linear):
                bound = 1 / math.sqrt(weight[0].numel())
                weight.copy_((torch.rand(weight.shape, generator=generator) * 2 - 1) * bound)
                if child.bias is not None:
                    child.bias.zero_()
            elif isinstance(child, torch.nn.GroupNorm | torch.nn.LayerNorm):
                child.weight.fill_(1)
                child.bias.zero_()
            elif isinstance(child, torch.nn.Embedding):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.02)
    return module


def _zero(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()


def build_unet(config: dict) -> UNetModel:
    """An empty UNet (uninitialised) from a config with the keys of `models.nets.UNET_KEYS`."""
    return UNetModel(dtype=torch.float32, operations=comfy.ops.disable_weight_init, **config)


def new_unet(config: dict, generator: torch.Generator) -> UNetModel:
    """A fresh UNet with ldm's initialisation: residual branches, transformer outputs and the last layer start at zero."""
    unet = initialise(build_unet(config), generator)
    for module in unet.modules():
        name = type(module).__name__
        if name == "ResBlock":
            _zero(module.out_layers[-1])
        elif name == "SpatialTransformer":
            _zero(module.proj_out)
    _zero(unet.out[-1])
    return unet


def build_vae(latent_scale: float) -> TAESD:
    """An empty autoencoder (uninitialised) of TAESD's structure, which ComfyUI's own VAE loader recognises.

    It has no normalisation layers: a full-size autoencoder cut down to 32 channels would normalise each channel alone
    and could not reproduce the overall colour of a picture.

    Args:
        latent_scale: VAE-scale latents times this are the encoder's raw output.
    """
    vae = TAESD(latent_channels=4)
    with torch.no_grad():
        vae.vae_scale.fill_(latent_scale)
    vae.vae_scale.requires_grad_(False)
    vae.vae_shift.requires_grad_(False)
    return vae


def new_vae(latent_scale: float, generator: torch.Generator) -> TAESD:
    """A fresh autoencoder: He initialisation, residual branches start at zero, so that signals keep their size."""
    vae = build_vae(latent_scale)
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, torch.nn.Conv2d):
                std = math.sqrt(2 / module.weight[0].numel())
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * std)
                if module.bias is not None:
                    module.bias.zero_()
        for block in vae.modules():
            if type(block).__name__ == "Block":
                _zero(block.conv[-1])
    return vae


def build_vision(config: dict) -> torch.nn.Module:
    """An empty CLIP-style vision encoder; its output `[2]` is the image embedding `[B, projection_dim]`."""
    return comfy.clip_model.CLIPVisionModelProjection(config, torch.float32, None, comfy.ops.disable_weight_init)


def new_vision(config: dict, generator: torch.Generator) -> torch.nn.Module:
    """A fresh vision encoder."""
    vision = initialise(build_vision(config), generator)
    with torch.no_grad():
        embeddings = vision.vision_model.embeddings
        embeddings.class_embedding.copy_(torch.randn(embeddings.class_embedding.shape, generator=generator) * 0.02)
    return vision


CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def vision_pixels(images_bchw: torch.Tensor, size: int = 224) -> torch.Tensor:
    """CLIP's preprocessing of square pictures `[B, 3, H, H]` in [0, 1] as ComfyUI does it (bicubic, antialiased)."""
    pixels = torch.nn.functional.interpolate(images_bchw, size=(size, size), mode="bicubic", antialias=True)
    pixels = (pixels.clamp(0, 1) * 255).round() / 255
    mean = pixels.new_tensor(CLIP_MEAN)[None, :, None, None]
    std = pixels.new_tensor(CLIP_STD)[None, :, None, None]
    return (pixels - mean) / std


def embed_images(vision: torch.nn.Module, images_bchw: torch.Tensor) -> torch.Tensor:
    """Image embeddings `[B, 1, 768]` (one context token each) of square pictures `[B, 3, H, H]` in [0, 1]."""
    model = vision.vision_model
    patches = model.embeddings.position_embedding.weight.shape[0] - 1  # and the class token
    side = math.isqrt(patches) * model.embeddings.patch_embedding.kernel_size[0]  # 224 for CLIP ViT-L/14
    x = model.pre_layrnorm(model.embeddings(vision_pixels(images_bchw, side)))
    for layer in model.encoder.layers:
        # ComfyUI's own forward adds in place, which breaks backward; the modules are the same.
        x = x + layer.self_attn(layer.layer_norm1(x), None, optimized_attention)
        x = x + layer.mlp(layer.layer_norm2(x))
    return vision.visual_projection(model.post_layernorm(x[:, 0]))[:, None, :]
