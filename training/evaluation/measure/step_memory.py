"""What ComfyUI is told that a denoising step needs, against what the step takes: SD1.5's shapes, made-up weights.

Both are beside the weights and counted from the moment ComfyUI has loaded the models. On a GPU the allocator tells the peak. On a CPU
the bytes of all live tensors are counted, in float32, and ComfyUI's estimate is asked for as if fused attention ran, as it does
in training and tests; it would otherwise reckon with attention of another kind.
"""

import contextlib
import weakref
from collections.abc import Iterator
from unittest import mock

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from ....models.method.injection import SPEEDS, Settings, apply_portrait
from ....models.nets.loading import patcher_class
from ....models.nets.portrait_net import SD15_UNET, build_net, net_config
from ....models.types import LoadedNet, PortraitNets, Profile
from ...core.modules import build_unet
from .timing import device

VALUE = 1e-3  # of every weight: what a step takes does not depend on it
STEPS = 1 + SPEEDS["fast"]  # `fast` runs the pair twice in them


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that were made since it began and still live."""

    def __init__(self):
        super().__init__()
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        found = operation(*args, **(kwargs or {}))
        before = {
            value.untyped_storage()._cdata for value in tree_iter((args, kwargs)) if isinstance(value, torch.Tensor)
        }
        for value in tree_iter(found):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in before | self._known:
                    self._add(storage)
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def _dtype() -> torch.dtype:
    return torch.float16 if device().type == "cuda" else torch.float32


def _net(role: str) -> LoadedNet:
    config = net_config(role, SD15_UNET)
    net = build_net(config, dtype=_dtype()).eval()
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, VALUE)
    management = comfy.model_management
    patcher = patcher_class()(
        net, load_device=management.get_torch_device(), offload_device=management.unet_offload_device()
    )
    return LoadedNet(patcher, config, _dtype())


def _model():
    with torch.device("meta"):
        shapes = {name: values.shape for name, values in build_unet(SD15_UNET).state_dict().items()}
    weights = {name: torch.full(shape, VALUE, dtype=_dtype()) for name, shape in shapes.items()}
    return comfy.sd.load_diffusion_model_state_dict(weights)


@contextlib.contextmanager
def _peak() -> Iterator[dict[str, float]]:
    """Notes, while one sampling runs, the bytes `declared` when the models were loaded and those `taken` since then."""
    found: dict[str, float] = {}
    load = comfy.model_management.load_models_gpu
    before = 0

    def noted(models, memory_required=0, **options):
        nonlocal before
        found["declared"] = memory_required
        load(models, memory_required=memory_required, **options)
        if device().type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(comfy.model_management, "load_models_gpu", noted))
        if device().type == "cuda":
            yield found
            found["taken"] = torch.cuda.max_memory_allocated() - before
        else:
            fused = mock.patch.object(comfy.model_management, "pytorch_attention_flash_attention", lambda: True)
            stack.enter_context(fused)
            live = stack.enter_context(LiveBytes())
            yield found
            found["taken"] = live.peak


def memory_estimate_error(size: int) -> dict:
    """`errors` of the stock model and of ours by `speed`, on views of `size` px."""
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(1, 4, size // 8, size // 8, generator=generator)
    picture = torch.rand(1, size, size, 3, generator=generator)
    profile = Profile(picture, latent, torch.randn(1, 1, 768, generator=generator))
    nets = PortraitNets(_net("matching"), _net("appearance"))
    try:
        found = errors(_model(), nets, profile)
    finally:
        comfy.model_management.unload_all_models()
    return {"size": size, "dtype": str(_dtype()).removeprefix("torch."), **found}


@torch.inference_mode()
def errors(model, nets: PortraitNets, profile: Profile) -> dict[str, dict[str, float]]:
    """Of the MODEL as it is (`stock`) and patched, by `speed`: GB declared and taken by steps of two rows, |declared - taken| / taken.

    Args:
        profile: its picture is the style crop, too.
    """
    models = {"stock": model}
    for speed, every in SPEEDS.items():
        settings = Settings(pair_every=every)
        models[speed] = apply_portrait(model, nets, profile, profile.image, settings, style_latent=profile.latent)
    found = {}
    # On a GPU twice, as libraries take their workspace the first time.
    for name in (["stock"] if device().type == "cuda" else []) + list(models):
        with _peak() as peak:
            comfy.sample.sample_custom(
                models[name],
                torch.zeros_like(profile.latent),
                2.0,
                comfy.samplers.sampler_object("euler"),
                torch.linspace(10, 0, STEPS + 1),
                [[profile.embedding, {}]],
                [[torch.zeros_like(profile.embedding), {}]],
                profile.latent,
                disable_pbar=True,
                seed=0,
            )
        declared, taken = peak["declared"], peak["taken"]
        found[name] = {"declared_gb": declared / 1e9, "taken_gb": taken / 1e9, "error": abs(declared - taken) / taken}
    return found
