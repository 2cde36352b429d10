"""Cost volumes of matching nets, the base UNet and raw pixels on held-out pairs, kept so that many read-outs share one pass.

Everything is on one grid a source; a read-out (method, window, temperature, prior) then costs milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_management
import cv2
import numpy as np
import torch
import torch.nn.functional as functional

from ...models.faces.pixels import to_bytes
from ...models.method.correspondence import cost_volume
from ...models.method.encoding import encode_picture, encode_profile
from ...models.method.matching import hint_pair, net_inputs, noisy_pair
from ...models.method.pairs import side_by_side, target_and_profile
from ...models.method.pixel_sampling import sample_pixels
from ...models.nets.portrait_net import taps as own_taps
from ...models.types import LoadedNet, Profile
from ..core.diffusion import keyed_generator
from .cases import Case
from .models_used import Models

SHARE = 0.1  # kept pixels while the flow is measured: the mean of the training range
LIGHTS = (
    "target",
    "style",
)  # whose picture stands in the target half: the person's own, or another person's in that place


@dataclass(frozen=True)
class Draw:
    """One noisy look at a pair."""

    timestep: int = 100
    noise: int = 0
    """Seed of the noise on both halves and of the kept pixels."""
    profile_side: str = "right"


class MatchBench:
    """Features of held-out pairs at any draw, tap and net."""

    def __init__(self, models: Models):
        self.models = models
        self._encoded: dict[tuple[str, str], tuple[Profile, torch.Tensor]] = {}

    def encoded(self, case: Case, lit_by: str) -> tuple[Profile, torch.Tensor]:
        """(profile, latent of the picture in the target half); kept for the case worked on."""
        key = (case.key, lit_by)
        if key not in self._encoded:
            if any(known != case.key for known, _ in self._encoded):
                self._encoded = {}
            picture = _lit(case, lit_by)
            self._encoded[key] = (
                encode_profile(case.profile.picture, self.models.vae, self.models.vision),
                encode_picture(self.models.vae, picture, "style crop"),
            )
        return self._encoded[key]

    def net_features(
        self, net: LoadedNet, case: Case, draw: Draw, lit_by: str = "target", taps: tuple[int, ...] | None = None
    ) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        """Tap -> (target, profile) features `[1, C, h, w]` of a matching net's single blocks.

        Without `taps`: what the net itself matches by, its fine tap included where it has one, under its own tap.
        """
        profile, latent = self.encoded(case, lit_by)
        sampled, _ = sample_pixels(_lit(case, lit_by), SHARE, keyed_generator(draw.noise, case.key))
        hint = side_by_side(*target_and_profile(hint_pair(sampled, profile.image)), draw.profile_side)
        comfy.model_management.load_models_gpu([net.patcher])
        device = net.patcher.load_device
        hint_features = net.module.encode_hint(hint.to(device=device, dtype=net.dtype))
        base = self.models.model.model
        pair, sigma = noisy_pair(base, profile, latent, draw.timestep, draw.noise, device, draw.profile_side)
        inputs = net_inputs(net, base.model_sampling, pair, sigma, profile.embedding)
        if taps is None:
            found = {net.config["tap"]: net.module.features(*inputs, hint_features, *own_taps(net.config))}
        else:
            found = net.module.block_features(*inputs, hint_features, taps)
        return {tap: target_and_profile(h.float().cpu(), draw.profile_side) for tap, h in found.items()}

    def base_features(
        self, case: Case, draw: Draw, taps: list[str], lit_by: str = "target"
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """Tap (`input 5`, `output 4`) -> (target, profile) features of the base UNet itself: zero training steps, no hint."""
        profile, latent = self.encoded(case, lit_by)
        model = self.models.model
        comfy.model_management.load_models_gpu([model])
        base, unet, device = model.model, model.model.diffusion_model, model.load_device
        pair, sigma = noisy_pair(base, profile, latent, draw.timestep, draw.noise, device, draw.profile_side)
        found, hooks = {}, []
        for tap in taps:
            side, index = tap.split()
            # ComfyUI runs a block's layers one by one and never calls the block itself: hook its last layer.
            last = getattr(unet, f"{side}_blocks")[int(index)][-1]
            hooks.append(last.register_forward_hook(lambda _, __, out, tap=tap: found.__setitem__(tap, out)))
        try:
            # Through ComfyUI's own call, which casts to the UNet's dtype.
            base.apply_model(pair, sigma, c_crossattn=profile.embedding.to(device))
        finally:
            for hook in hooks:
                hook.remove()
        return {tap: target_and_profile(out.float().cpu(), draw.profile_side) for tap, out in found.items()}


def _lit(case: Case, lit_by: str) -> torch.Tensor:
    return {"target": case.truth, "style": case.style}[lit_by].picture


def mean_cost(pairs: list[tuple[torch.Tensor, torch.Tensor]], upsample: int = 1) -> torch.Tensor:
    """Mean cost volume `[1, N, N]` of several draws' features; `upsample` magnifies the features (bicubic) first."""
    total = None
    for target, profile in pairs:
        if upsample > 1:
            target, profile = (
                functional.interpolate(f, scale_factor=upsample, mode="bicubic", align_corners=False)
                for f in (target, profile)
            )
        cost = cost_volume(target, profile)
        total = cost if total is None else total + cost
    return total / len(pairs)


def pixel_features(
    case: Case, lit_by: str = "target", cell: int = 8, patch: int = 3
) -> tuple[torch.Tensor, torch.Tensor]:
    """Raw pixels as features: colours averaged over `cell` px, `patch` x `patch` cells together, their mean taken off."""
    out = []
    for picture in (_lit(case, lit_by), case.profile.picture):
        small = functional.avg_pool2d(picture.movedim(-1, 1), cell)
        padded = functional.pad(small, [patch // 2] * 4, mode="replicate")
        stacked = functional.unfold(padded, patch).unflatten(-1, small.shape[-2:])
        out.append(stacked - stacked.mean(dim=1, keepdim=True))
    return out[0], out[1]


def dis_flow(case: Case, lit_by: str = "target") -> np.ndarray:
    """OpenCV's DIS optical flow (Kroeger et al., 2016; preset medium), target <- profile, `[2, H, W]` px, on grey pictures."""
    grey = [cv2.cvtColor(to_bytes(p[0]), cv2.COLOR_RGB2GRAY) for p in (_lit(case, lit_by), case.profile.picture)]
    solver = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return solver.calc(*grey, None).transpose(2, 0, 1)


def truth_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """(exact flow `[2, H, W]` px, bool `[H, W]` of the scored pixels: visible in both views, not hair)."""
    record = case.record
    return record["flow"], (record["visible"] > 0) & ~(record["hair"] > 0)
