"""Cross-attention to a single token, the image embedding: every query gets the same answer, so one is asked.

A softmax over one key is 1, whatever the query. Attention adds its answer to all cells, so an answer of one cell is added to all.
"""

import torch


def one_query(query: torch.Tensor, context: torch.Tensor, value: torch.Tensor, extra_options: dict) -> tuple:
    """An `attn2_patch`: the first query alone where the context is one token. Shapes `[rows, tokens, C]`."""
    return (query[:, :1] if context.shape[1] == 1 else query), context, value


def with_one_query(options: dict) -> dict:
    """ComfyUI's `transformer_options` with `one_query`, unless another node has to do with cross-attention; `options` stays as it was."""
    patches = options.get("patches", {})
    if patches.keys() & {"attn2_patch", "attn2_output_patch"} or options.get("patches_replace", {}).get("attn2"):
        return options
    return {**options, "patches": {**patches, "attn2_patch": [one_query]}}
