"""A task whose inputs are drawn on the CPU, by the loop's own process or by others beside it."""

import torch


class DrawingTask(torch.nn.Module):
    """`items(step, batch)` says what a step's global batch holds, `draw(step, items)` makes the inputs of a part of it, as CPU
    tensors and plain values, and `loss(step, drawn)` computes on the device. Everything drawn is decided by (seed, step,
    position in the global batch), so it does not matter who draws."""

    def forward(self, step: int, items, **options) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and figures of `items`, or of what `draw` made of them."""
        return self.loss(step, self.draw(step, items) if isinstance(items, list) else items, **options)
