"""Our training step beside that of diffusers' ControlNet example, with SD1.5's shapes, random weights and one optimiser.

Theirs is the body of the loop of `examples/controlnet/train_controlnet.py`: pictures through the autoencoder and prompts through
CLIP's text model in each step, ControlNet in float32 under autocast, all that is frozen in half precision. It is given pictures as
wide as our pair, so that both nets see the same latent. On a CPU all is float32.

- `plain`: ours does the same work: both views through the autoencoder, the profile through CLIP's vision model (three times as large as
  the text model), net, UNet, loss of eq. 3; no flow.
- `cached`: our step as it is (`AppearanceTask`), flow from the matching net included, latents and embeddings computed beforehand.

diffusers is no requirement of the project; it is imported here alone.
"""

import gc
import importlib.util
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from comfy.ldm.models.autoencoder import AutoencoderKL

from ....models.nets.portrait_net import SD15_UNET, build_net, net_config
from ...core.acceleration import in_own_precision
from ...core.diffusion import LATENT_SCALE, NUM_TIMESTEPS, add_noise
from ...core.modules import build_unet, build_vision, embed_images
from ...core.optimizers import make_optimizer
from ...data.samples import batch_of
from ...tasks.appearance import AppearanceSettings, AppearanceTask
from ...tasks.matching import as_control
from .flops import CLIP_VIT_L14, SD15_VAE
from .timing import device, filled, noise_samples, spread, timed

MISSING = "diffusers or transformers is not installed (pip install diffusers transformers), so training is not compared with it."
DRAWN = 2  # batches, used in turn
WARM_UP = 2 if torch.cuda.is_available() else 1  # steps

Step = Callable[[int], float]


def precision() -> torch.dtype:
    """bf16 on a GPU, as `--precision auto` chooses; float32 on a CPU."""
    return torch.bfloat16 if device().type == "cuda" else torch.float32


def autocast() -> torch.autocast:
    """As accelerate does it."""
    return torch.autocast(device().type, precision(), enabled=device().type == "cuda")


def optimiser_step(loss_of: Callable[[int], torch.Tensor], parameters: Iterable[torch.nn.Parameter]) -> Step:
    """What both loops do with a loss, and its value."""
    learning = list(parameters)
    optimizer = make_optimizer("adamw", learning, 1e-5, 0.01)

    def step(index: int) -> float:
        loss = loss_of(index)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def frozen(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights in the precision of what does not learn."""
    return filled(module, precision()).requires_grad_(False).eval()


def on_host(*shape: int, seed: int = 0) -> list[torch.Tensor]:
    """Random batches as a loader hands them over."""
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.rand(shape, generator=generator) for _ in range(DRAWN)]
    return [batch.pin_memory() for batch in batches] if device().type == "cuda" else batches


def diffusers_step(batch: int, height: int, width: int) -> Step:
    """diffusers' step on pictures of this size in px."""
    from diffusers import AutoencoderKL as Autoencoder
    from diffusers import ControlNetModel, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    channels = (128, 256, 512, 512)
    blocks = {"down": ["DownEncoderBlock2D"] * 4, "up": ["UpDecoderBlock2D"] * 4}
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)  # all else is SD1.5's by default
        net = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
        vae = Autoencoder(
            block_out_channels=channels,
            down_block_types=blocks["down"],
            up_block_types=blocks["up"],
            layers_per_block=2,
            sample_size=512,
        )
    with device():  # its tables of positions must be right
        text = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
        )
    text.to(precision()).requires_grad_(False).eval()
    unet, vae, net = frozen(unet), frozen(vae), filled(net).train()
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    pictures, conditions = (on_host(batch, 3, height, width, seed=seed) for seed in range(2))
    tokens = [torch.randint(0, 49408, (batch, 77)) for _ in range(DRAWN)]

    def loss_of(index: int) -> torch.Tensor:
        pixels, condition, ids = (
            drawn[index % DRAWN].to(device(), non_blocking=True) for drawn in (pictures, conditions, tokens)
        )
        latents = vae.encode(pixels.to(precision())).latent_dist.sample() * LATENT_SCALE
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, NUM_TIMESTEPS, (batch,), device=latents.device)
        noisy = scheduler.add_noise(latents.float(), noise.float(), timesteps).to(precision())
        context = text(ids, return_dict=False)[0]
        with autocast():
            down, middle = net(
                noisy,
                timesteps,
                encoder_hidden_states=context,
                controlnet_cond=condition.to(precision()),
                return_dict=False,
            )
        predicted = unet(
            noisy,
            timesteps,
            encoder_hidden_states=context,
            down_block_additional_residuals=[residual.to(precision()) for residual in down],
            mid_block_additional_residual=middle.to(precision()),
            return_dict=False,
        )[0]
        return torch.nn.functional.mse_loss(predicted.float(), noise.float())

    return optimiser_step(loss_of, net.parameters())


def plain_step(batch: int, size: int) -> Step:
    """The same work by our modules on pairs of views of `size` px."""
    with torch.device("meta"):
        unet, vision = build_unet(SD15_UNET), build_vision(CLIP_VIT_L14)
        vae = AutoencoderKL(ddconfig=SD15_VAE, embed_dim=4)
        net = build_net(net_config("appearance", SD15_UNET))
    unet, vision, vae, net = frozen(unet), frozen(vision), frozen(vae), filled(net)
    targets, profiles = (on_host(batch, 3, size, size, seed=seed) for seed in range(2))

    def loss_of(index: int) -> torch.Tensor:
        target, profile = (drawn[index % DRAWN].to(device(), non_blocking=True) for drawn in (targets, profiles))
        with torch.no_grad():
            pixels = torch.cat((target, profile)).mul(2).sub(1)
            views = in_own_precision(vae, vae.encode)(pixels).float() * LATENT_SCALE
            context = in_own_precision(vision, lambda pixels: embed_images(vision, pixels))(profile)
        latents = torch.cat(views.chunk(2), dim=-1)
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, NUM_TIMESTEPS, (batch,), device=latents.device)
        noisy = add_noise(latents, noise, timesteps)
        residuals = net.residuals(noisy, timesteps, context, net.encode_hint(torch.cat((target, profile), dim=-1)))
        predicted = in_own_precision(unet)(noisy, timesteps, context, control=as_control(residuals))
        return torch.nn.functional.mse_loss(predicted.float(), noise)

    def under_autocast(index: int) -> torch.Tensor:
        with autocast():
            return loss_of(index)

    return optimiser_step(under_autocast, net.parameters())


def cached_step(batch: int, size: int) -> Step:
    """Our appearance stage's step on pairs of views of `size` px; batches are drawn beforehand, as a loader's workers do it."""
    config = net_config("matching", SD15_UNET)
    with tempfile.TemporaryDirectory(prefix="icportrait-speed-") as folder:
        samples = noise_samples(Path(folder), size, DRAWN * batch)
        unet, matching = build_unet(SD15_UNET), build_net(config)
        task = AppearanceTask(samples, unet, None, matching, config, SD15_UNET, AppearanceSettings())
        drawn = [task.draw(step, batch_of(samples.samples, batch, step, 0)) for step in range(DRAWN)]
    filled(task.net)
    for module in task.frozen.values():
        frozen(module)
    if device().type == "cuda":
        drawn = [{n: v.pin_memory() if isinstance(v, torch.Tensor) else v for n, v in one.items()} for one in drawn]

    def loss_of(index: int) -> torch.Tensor:
        with autocast():
            loss, _ = task(index, drawn[index % DRAWN])
        return loss

    return optimiser_step(loss_of, task.net.parameters())


def seconds_per_picture(build: Callable[[], Step], batch: int, steps: int) -> tuple[float, float]:
    """(seconds a sample, GB at the peak on a GPU or 0)."""
    gc.collect()  # the step before
    torch.cuda.empty_cache()
    step = build()
    for index in range(WARM_UP):
        step(index)
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(lambda: [step(index) for index in range(steps)]) / (steps * batch)
    peak = torch.cuda.max_memory_allocated() / 1e9 if device().type == "cuda" else 0.0
    return seconds, peak


def train_vs_diffusers(size: int, batch: int, steps: int, rounds: int) -> dict | None:
    """Seconds a sample of theirs over ours, taken in turn `rounds` times; None, and a sentence, where diffusers is missing.

    Args:
        size: side of a view in px. A sample of all but `one_view` is two views wide.
        steps: that are timed at a time.
    """
    if any(importlib.util.find_spec(name) is None for name in ("diffusers", "transformers")):
        print(MISSING)
        return None
    builds = {
        "diffusers": lambda: diffusers_step(batch, size, 2 * size),
        "diffusers_one_view": lambda: diffusers_step(batch, size, size),
        "plain": lambda: plain_step(batch, size),
        "cached": lambda: cached_step(batch, size),
    }
    seconds: dict[str, list[float]] = {name: [] for name in builds}
    peaks = {}
    for _ in range(rounds):
        for name, build in builds.items():
            found, peaks[name] = seconds_per_picture(build, batch, steps)
            seconds[name].append(found)

    def ratio(theirs: str, ours: str, views: int = 1) -> dict[str, float]:
        pairs = zip(seconds[theirs], seconds[ours], strict=True)
        return spread([views * their / our for their, our in pairs])

    return {
        "size": size,
        "batch": batch,
        "dtype": str(precision()).removeprefix("torch."),
        "plain": ratio("diffusers", "plain"),
        "cached": ratio("diffusers", "cached"),
        # Two pictures of one view have as many latent cells as our pair.
        "cached_by_cell_of_one_view": ratio("diffusers_one_view", "cached", 2),
        "seconds": {name: spread(found) for name, found in seconds.items()},
        **({"peak_gb": peaks} if device().type == "cuda" else {}),
    }
