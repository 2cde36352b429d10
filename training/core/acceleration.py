"""Less memory and less time for the same numbers: gradient checkpointing and compilation, block by block.

Both work on the UNet's and the nets' residual blocks and transformers (ComfyUI's `ResBlock`, `SpatialTransformer`). The
flag ComfyUI's own blocks have for checkpointing is not used: it asks for gradients of all weights, also of frozen ones.
"""

import functools
from collections.abc import Callable, Iterable

import torch
from torch.utils._pytree import tree_map
from torch.utils.checkpoint import checkpoint

BLOCKS = ("ResBlock", "SpatialTransformer")


def blocks_of(modules: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    """The residual blocks and transformers inside these modules, each once."""
    found = {id(child): child for module in modules for child in module.modules() if type(child).__name__ in BLOCKS}
    return list(found.values())


def use_checkpointing(modules: Iterable[torch.nn.Module]) -> int:
    """Forget what a block computed and compute it again in the backward pass; returns the number of blocks.

    Gradients keep their bits. May be called again.
    """
    blocks = blocks_of(modules)
    for block in blocks:
        if not isinstance(block.forward, functools.partial):
            # No block draws at random, so no generator needs to be kept.
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    return len(blocks)


def compile_blocks(modules: Iterable[torch.nn.Module], **options) -> int:
    """Let torch.compile compile each block (equal blocks share the work); returns the number of blocks.

    Args:
        options: of `torch.nn.Module.compile`, e.g. `backend`.
    """
    blocks = blocks_of(modules)
    for block in blocks:
        block.compile(**options)
    return len(blocks)


def in_own_precision(module: torch.nn.Module, function: Callable | None = None) -> Callable:
    """`module`, or another `function` of it, with all in its own dtype, whatever autocast says around.

    For frozen models, which the loop holds in half precision: autocast would turn what their norms take into float32 and back: a fifth
    of the operations of the appearance net's step before its backward pass.
    """
    like = next(module.parameters())

    def cast(value):
        return value.to(like.dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    def run(*arguments, **options):
        with torch.autocast(like.device.type, enabled=False):
            return (function or module)(*tree_map(cast, arguments), **tree_map(cast, options))

    return run
