"""The target's self-attention reads the profile where the flow says it lies. Beyond the paper; needs no net.

The pair is one wide latent, so self-attention sees the profile anyway, but from everywhere alike. Here the values of the
target's tokens give way to those of the matched place in the profile, as far as the profile shows it; queries and keys stay,
so the picture's structure does. This is appearance matching self-attention (DreamMatcher, arXiv 2402.09812) within one map.

Layout: self-attention's input is `[rows, h * 2w, C]`, a map of h x 2w tokens row by row, the target's w columns left and the
profile's right; rows are the sampler's (chunks * batch). ComfyUI calls the functions of its `attn1_patch` list in order; ours
stands first, because later ones may cut or merge the map. They, and replace patches, get the values it made.
"""

import torch
import torch.nn.functional as functional

from ..errors import UserError
from .correspondence import warp
from .pairs import side_by_side, target_and_profile


class FlowAttention:
    """An `attn1_patch` for one evaluation of the UNet. Its memory grows with the tokens, not with their square."""

    def __init__(self, offsets: torch.Tensor, confidence: torch.Tensor, strength: float, pair: tuple[int, int]):
        """
        Args:
            offsets: `[rows, 2, fh, fw]`, target <- profile, in cells of its own grid.
            confidence: `[rows, 1, fh, fw]` in [0, 1].
            strength: share of the matched values where the flow is sure, 0 .. 1.
            pair: (height, width) of the pair's latent. A picture of other proportions is none: another node runs the UNet on its own.
        """
        self.pair = pair
        self.offsets, self.confidence, self.strength = offsets, confidence, strength
        self.called = False

    def __call__(self, query, key, value, extra_options):
        """The inputs of the three projections, `[rows, h * 2w, C]` each; none is changed in place.

        Raises:
            UserError: tokens that are no map of the pair.
        """
        height, width = extra_options["original_shape"][-2:]
        if height * self.pair[1] != width * self.pair[0]:
            return query, key, value
        self.called = True
        size = map_size(value.shape[1], height, width)
        target, profile = target_and_profile(value.movedim(1, 2).unflatten(2, size))
        share = functional.interpolate(self.confidence, size=target.shape[-2:], mode="bilinear", antialias=True)
        share = self.strength * share.to(target)
        target = target + share * (warp(profile, self.offsets) - target)
        return query, key, side_by_side(target, profile).flatten(2).movedim(1, 2)

    def check(self) -> None:
        """To be asked after the UNet ran. Raises UserError when its self-attention never asked."""
        if not self.called:
            raise UserError(
                "IC-Portrait: another node runs the UNet's attention in its own way, so that attention along the flow had no effect; take "
                "that node off this MODEL, or set `attention` to 0."
            )


def map_size(tokens: int, height: int, width: int) -> tuple[int, int]:
    """(height, width) of the map that `tokens` of self-attention make up, for a latent of `height` x `width` cells.

    Raises:
        UserError: they make up no level of the UNet.
    """
    while height * width > tokens and height % 2 == 0 and width % 2 == 0:
        height, width = height // 2, width // 2
    if height * width != tokens:
        raise UserError(
            f"IC-Portrait: attention along the flow cannot tell how {tokens} tokens lie in the picture: something cut it or merged "
            "them before. Take that away, or set `attention` to 0."
        )
    return height, width


def with_flow_attention(options: dict, attention: FlowAttention) -> dict:
    """ComfyUI's `transformer_options` with `attention` before all other `attn1_patch`es; `options` stays as it was."""
    patches = dict(options.get("patches", {}))
    patches["attn1_patch"] = [attention, *patches.get("attn1_patch", [])]
    return {**options, "patches": patches}


def with_target_maps(options: dict) -> dict:
    """ComfyUI's `transformer_options` in which Self-Attention Guidance keeps the target's own map; `options` stays as it was.

    That node lays the attention map it saw last over the sampler's latent, which is half as wide as what the UNet sees.
    """
    replace = options.get("patches_replace", {})
    attn1 = {
        block: _shown_the_target(function) if getattr(function, "__module__", "").endswith("nodes_sag") else function
        for block, function in replace.get("attn1", {}).items()
    }
    return {**options, "patches_replace": {**replace, "attn1": attn1}} if attn1 else options


def _shown_the_target(record):
    """An attention that `record` computes on the pair, and then once more on the target's half alone, for its own memory."""

    def attend(query, key, value, extra_options):
        size = map_size(query.shape[1], *extra_options["original_shape"][-2:])
        result = record(query, key, value, extra_options)
        halves = [target_and_profile(part.unflatten(1, size).movedim(3, 1))[0] for part in (query, key, value)]
        record(*(half.movedim(1, 3).flatten(1, 2) for half in halves), extra_options)
        return result

    return attend
