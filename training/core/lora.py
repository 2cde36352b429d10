"""LoRA on a UNet's transformers (Hu et al. 2021, arXiv 2106.09685), saved under the names ComfyUI's own loader reads.

Own code, because peft saves names of its own, and the converters to `lora_unet_...` know the layers of diffusers' UNet, not of ComfyUI's.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as functional

from ...models.errors import UserError
from ...models.nets.files import save_tensors


class Lora(torch.nn.Module):
    """Low-rank additions to the linear layers and 1x1 convolutions of a UNet's `SpatialTransformer` blocks.

    The UNet itself is left as it is: the additions are hooks, and `detach` takes them off. At the start they add nothing.

    Args:
        rank: of each addition.
        generator: draws the first factor; the second starts at zero.
    """

    def __init__(self, unet: torch.nn.Module, rank: int, generator: torch.Generator):
        super().__init__()
        if rank < 1:
            raise UserError(f"--rank must be at least 1; {rank} came.")
        self.rank, self.alpha = rank, float(rank)
        self.names: list[str] = []
        self.down, self.up = torch.nn.ParameterDict(), torch.nn.ParameterDict()
        self._hooks = []
        for name, layer in _layers(unet).items():
            key = name.replace(".", "_")
            columns = layer.weight[0].numel()
            bound = 1 / math.sqrt(columns)
            self.names.append(key)
            self.down[key] = (torch.rand(rank, columns, generator=generator) * 2 - 1) * bound
            self.up[key] = torch.zeros(layer.weight.shape[0], rank)
            self._hooks.append(layer.register_forward_hook(self._hook(key)))
        if not self.names:
            raise UserError("This UNet has no transformer a LoRA could be added to.")

    def _hook(self, key: str):
        def add(layer, arguments, out):
            x, down, up = arguments[0], self.down[key], self.up[key]
            if isinstance(layer, torch.nn.Conv2d):
                low = functional.conv2d(x, down[:, :, None, None].to(x.dtype))
                return out + self.scale * functional.conv2d(low, up[:, :, None, None].to(x.dtype))
            return out + self.scale * functional.linear(functional.linear(x, down.to(x.dtype)), up.to(x.dtype))

        return add

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by: alpha / rank."""
        return self.alpha / self.rank

    def detach(self) -> None:
        """Take the hooks off: the UNet computes what it did before."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def save(self, path: str | Path, facts: dict, dtype=torch.float16) -> None:
        """Write `lora_unet_<layer>.lora_down.weight`, `.lora_up.weight` and `.alpha`, the layer by its ldm name."""
        tensors = {}
        for key in self.names:
            tensors[f"lora_unet_{key}.lora_down.weight"] = self.down[key].detach().to(dtype)
            tensors[f"lora_unet_{key}.lora_up.weight"] = self.up[key].detach().to(dtype)
            tensors[f"lora_unet_{key}.alpha"] = torch.tensor(self.alpha)
        save_tensors(path, tensors, {"format": "icportrait-lora-1", "training": facts})


def _layers(unet: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Linear layers and 1x1 convolutions inside the transformers, by their name in the UNet."""
    found = {}
    for prefix, block in unet.named_modules():
        if type(block).__name__ == "SpatialTransformer":
            for name, layer in block.named_modules():
                one_by_one = isinstance(layer, torch.nn.Conv2d) and tuple(layer.kernel_size) == (1, 1)
                if isinstance(layer, torch.nn.Linear) or one_by_one:
                    found[f"{prefix}.{name}"] = layer
    return found
