"""The target half alone, beside what an earlier evaluation of the whole pair left of the profile half. Beyond the paper.

Inside the UNet the profile's half reaches the target's in three ways: as keys and values of self-attention, in the statistics of
group norms, and in the one column that a convolution sees beyond the seam. They change little from step to step, so they are kept,
and the target half runs alone at half the cost. With what the same evaluation left it comes out as in the pair, but for rounding.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from comfy.patcher_extension import WrappersMP

from .attention import map_size
from .pairs import target_and_profile


class _Tokens:
    """Keys or values of self-attention, `[rows, tokens, C]`: the target's queries find those of the profile behind its own."""

    def __init__(self, module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, pair: tuple[int, int]):
        size = map_size(y.shape[1], *pair)
        self.profile = y.unflatten(1, size)[:, :, size[1] // 2 :].flatten(1, 2)

    def beside(self, forward, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((forward(x), self.profile), dim=1)


class _Norm:
    """A group norm: two values with the profile's mean and spread stand for its cells."""

    def __init__(self, module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, pair: tuple[int, int]):
        groups = target_and_profile(x)[1].float().unflatten(1, (module.num_groups, -1)).flatten(2)
        spread, mean = torch.std_mean(groups, dim=2, correction=0)
        two = torch.stack((mean - spread, mean + spread), dim=2)
        self.profile = two.repeat_interleave(x.shape[1] // module.num_groups, dim=1).to(x.dtype)

    def beside(self, forward, x: torch.Tensor) -> torch.Tensor:
        cells = x.flatten(2)
        target = cells if cells.shape[2] % 2 == 0 else cells.repeat(1, 1, 2)  # both values have to come equally often
        both = torch.cat((target, self.profile.repeat(1, 1, target.shape[2] // 2)), dim=2)
        return forward(both)[:, :, : cells.shape[2]].unflatten(2, x.shape[2:])


class _Seam:
    """A convolution over 3 x 3 cells: the profile's first column."""

    def __init__(self, module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, pair: tuple[int, int]):
        self.profile = target_and_profile(x)[1][..., :1].clone()

    def beside(self, forward, x: torch.Tensor) -> torch.Tensor:
        return forward(torch.cat((x, self.profile), dim=-1))[..., :-1]


def _kind(name: str, module: torch.nn.Module) -> type | None:
    """What a module of the UNet keeps; one that looks at each cell alone, or in steps of two from the left, keeps nothing."""
    if name.endswith(("attn1.to_k", "attn1.to_v")):
        return _Tokens
    if isinstance(module, torch.nn.GroupNorm):
        return _Norm
    if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3) and module.stride == (1, 1):
        return _Seam
    return None


class KeptProfile:
    """What one evaluation of a UNet on the pair leaves for later ones of the target half."""

    def __init__(self, unet: torch.nn.Module):
        kinds = ((module, _kind(name, module)) for name, module in unet.named_modules())
        self._kinds = {module: kind for module, kind in kinds if kind is not None}
        self._parts: dict[torch.nn.Module, _Tokens | _Norm | _Seam] = {}
        self.residuals: list[torch.Tensor | None] = []
        """The target half of the residuals that were added, as `aggregate_residuals` orders them."""
        self.uses = 0
        """How often it was used."""

    @property
    def complete(self) -> bool:
        """Whether the UNet ran as a whole, so that every module left its part."""
        return len(self._parts) == len(self._kinds)

    @contextlib.contextmanager
    def keeping(self, pair: tuple[int, int]) -> Iterator[None]:
        """While the UNet runs on the pair, a latent of `pair` = (height, two widths) cells, its profile half is kept."""

        def run(module, forward, x):
            y = forward(x)
            self._parts[module] = self._kinds[module](module, x, y, pair)
            return y

        with _replaced(self._kinds, run):
            yield

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """While the UNet runs on the target half alone, it sees what was kept."""
        self.uses += 1
        with _replaced(self._kinds, lambda module, forward, x: self._parts[module].beside(forward, x)):
            yield


@contextlib.contextmanager
def _replaced(modules, run) -> Iterator[None]:
    """While this lasts, each module computes `run(module, its own forward, x)`."""
    before = {module: module.__dict__.get("forward") for module in modules}
    try:
        for module in modules:
            module.forward = functools.partial(run, module, module.forward)
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                module.__dict__.pop("forward", None)
            else:
                module.forward = forward


def can_reuse(options: dict) -> bool:
    """Whether no other node looks at the UNet's maps, which would then be of two sizes, or runs it in its own way.

    Args:
        options: ComfyUI's `transformer_options`.
    """
    wrappers = options.get("wrappers", {})
    return (
        not any(options.get("patches", {}).values())
        and not any(options.get("patches_replace", {}).values())
        and not wrappers.get(WrappersMP.DIFFUSION_MODEL)
        and "torch.compile" not in wrappers.get(WrappersMP.APPLY_MODEL, {})
    )
