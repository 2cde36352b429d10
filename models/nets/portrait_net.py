"""The matching net and the appearance net: ControlNet-structured copies of the UNet encoder (paper, section 3.3).

Both are one class. A *config* is the dict that builds it again and is stored in the file's metadata, because head
counts cannot be read from tensor shapes: `{"role", "unet": {...}, "tap", "fine_tap", "alpha", "beta", "gate"}`.
"""

from collections.abc import Sequence

import comfy.cldm.cldm
import comfy.ops
import torch
import torch.nn.functional as functional
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding

from ..errors import UserError
from .portrait_config import ROLES

# The UNet settings that decide a net's structure; ComfyUI's own names.
UNET_KEYS = (
    "image_size",
    "in_channels",
    "out_channels",
    "model_channels",
    "num_res_blocks",
    "channel_mult",
    "num_heads",
    "num_head_channels",
    "use_spatial_transformer",
    "transformer_depth",
    "transformer_depth_middle",
    "transformer_depth_output",
    "context_dim",
    "legacy",
    "use_linear_in_transformer",
    "adm_in_channels",
)

SD15_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "context_dim": 768,
    "legacy": False,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
}


class PortraitNet(comfy.cldm.cldm.ControlNet):
    """A ControlNet that can stop at a tap and takes its hint already encoded, so that a run encodes it once."""

    def encode_hint(self, hint: torch.Tensor) -> torch.Tensor:
        """Features of the condition c_f (eq. 1): `[B, 3, H, 2W]` in [0, 1] -> `[B, model_channels, H/8, 2W/8]`."""
        # channels_last halves the time of these wide, thin convolutions on a CPU and suits tensor cores.
        hint = hint.contiguous(memory_format=torch.channels_last)
        return self.input_hint_block(hint, None, None).contiguous()

    def _encoder(self, x, timesteps, context, hint_features, options: dict | None = None):
        """Yield (block index, features after the block, time embedding); the hint enters after block 0."""
        embedding = self.time_embed(timestep_embedding(timesteps, self.model_channels, repeat_only=False).to(x.dtype))
        h = x
        for index, block in enumerate(self.input_blocks):
            h = block(h, embedding, context, options or {})
            if index == 0:
                h = h + hint_features
            yield index, h, embedding

    def features(self, x, timesteps, context, hint_features, tap: int, fine_tap: int | None = None) -> torch.Tensor:
        """Encoder features D after block `tap` (eq. 5); no later block is run.

        With `fine_tap` (beyond the paper) the features of that earlier block, which lie on a finer grid, are put beside
        those of `tap`, both at unit length a cell: their cosine is the mean of the two blocks' cosines. The coarse
        block tells the place in the face, the fine one the place within a coarse cell.

        Args:
            x: noisy pair in model scale, `[B, 4, h, 2w]`.
            timesteps: `[B]`, 0 .. 999.
            context: `[B, tokens, context_dim]`.
            hint_features: from `encode_hint`, `[B or 1, model_channels, h, 2w]`.

        Raises:
            UserError: a tap that does not exist, or a fine tap that is not before `tap`.
        """
        if fine_tap is not None and not 0 <= fine_tap < tap:
            raise UserError(f"The fine tap ({fine_tap}) must be an encoder block before the tap ({tap}).")
        wanted = (tap,) if fine_tap is None else (fine_tap, tap)
        found = self.block_features(x, timesteps, context, hint_features, wanted)
        return found[tap] if fine_tap is None else _side_by_side_features(found[tap], found[fine_tap])

    def block_features(self, x, timesteps, context, hint_features, taps: Sequence[int]) -> dict[int, torch.Tensor]:
        """Tap -> features after that encoder block, in the encoder's order; no block after the last tap is run.

        Args: as for `features`.

        Raises:
            UserError: a tap that does not exist.
        """
        last = len(self.input_blocks) - 1
        for tap in taps:
            if not 0 <= tap <= last:
                raise UserError(f"Tap {tap} does not exist: this net has encoder blocks 0 to {last}.")
        found = {}
        for index, h, _ in self._encoder(x, timesteps, context, hint_features):
            if index in taps:
                found[index] = h
            if index == max(taps):
                break
        return found

    def residuals(self, x, timesteps, context, hint_features, options: dict | None = None) -> list[torch.Tensor]:
        """All ControlNet residuals of the pair in encoder order, the middle block last (13 for SD1.5).

        Args:
            options: ComfyUI's `transformer_options`, or None.
        """
        out = []
        for index, h, embedding in self._encoder(x, timesteps, context, hint_features, options):
            out.append(self.zero_convs[index](h, embedding, context))
        h = self.middle_block(h, embedding, context, options or {})
        out.append(self.middle_block_out(h, embedding, context))
        return out


def _side_by_side_features(coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """Coarse features on the fine grid and the fine ones as one feature, each at unit length, float32.

    The two halves of the pair are upsampled apart, so that nothing leaks across the seam.
    """
    size = (fine.shape[-2], fine.shape[-1] // 2)
    halves = [
        functional.interpolate(half.float(), size=size, mode="bilinear", align_corners=False)
        for half in coarse.chunk(2, dim=-1)
    ]
    parts = (torch.cat(halves, dim=-1), fine.float())
    return torch.cat([functional.normalize(part, dim=1) for part in parts], dim=1)


def unet_settings(unet_config: dict) -> dict:
    """The part of a ComfyUI UNet config that decides a net's structure, JSON-ready.

    Raises:
        UserError: a key is missing.
    """
    missing = [key for key in UNET_KEYS if key not in unet_config]
    missing = [key for key in missing if key not in ("adm_in_channels", "image_size", "num_heads", "num_head_channels")]
    if "num_heads" not in unet_config and "num_head_channels" not in unet_config:
        missing.append("num_heads or num_head_channels")  # weights fit any head count: a guess would go unnoticed
    if missing:
        raise UserError(f"The UNet configuration lacks {', '.join(missing)}.")
    settings = {key: unet_config.get(key, SD15_UNET[key]) for key in UNET_KEYS}
    if "num_heads" not in unet_config and "num_head_channels" in unet_config:
        settings["num_heads"] = -1
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def net_config(
    role: str,
    unet_config: dict,
    tap: int | None = None,
    alpha: float = 1.0,
    beta: float = 0.0,
    gate: bool = False,
    fine_tap: int | None = None,
) -> dict:
    """The config of a net that fits a UNet.

    Args:
        role: `matching` or `appearance`.
        unet_config: ComfyUI's UNet config (e.g. `model.model.model_config.unet_config`).
        tap: encoder block whose output feeds the cost volume; default: the last block at the second resolution.
        alpha, beta: annealing constants of eq. 7 that the net was trained with.
        gate: the warped features were scaled by the flow's confidence in training (beyond the paper).
        fine_tap: an earlier encoder block whose features refine those of the tap (beyond the paper); None = without.
    """
    if role not in ROLES:
        raise UserError(f"Unknown role {role!r}; choose one of {', '.join(ROLES)}.")
    unet = unet_settings(unet_config)
    if tap is None:
        blocks = unet["num_res_blocks"]
        tap = (blocks[0] + 1) + blocks[1]  # input conv, level 0, its downsampling conv, level 1
    return {
        "role": role,
        "unet": unet,
        "tap": tap,
        "fine_tap": fine_tap,
        "alpha": alpha,
        "beta": beta,
        "gate": gate,
    }


def taps(config: dict) -> tuple[int, int | None]:
    """(tap, fine tap or None) of a net's config; files written before there was a fine tap have none."""
    return config["tap"], config.get("fine_tap")


def build_net(config: dict, dtype=torch.float32, device=None, operations=comfy.ops.disable_weight_init) -> PortraitNet:
    """An empty net (weights uninitialised under ComfyUI's default operations) from its config."""
    return PortraitNet(hint_channels=3, dtype=dtype, device=device, operations=operations, **config["unet"])


def initialise_from_unet(net: PortraitNet, unet: torch.nn.Module, generator: torch.Generator) -> None:
    """ControlNet's initialisation: encoder and middle block copied from the UNet, zero convolutions zero.

    The hint block is drawn from `generator` except for its last layer, which is zero (Zhang et al. 2023), so that at
    step 0 the net computes exactly the UNet's own encoder features.
    """
    source = unet.state_dict()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name in source:
                parameter.copy_(source[name])
            elif name.startswith("input_hint_block.") and not name.startswith("input_hint_block.14."):
                if parameter.ndim > 1:
                    fan_in = parameter[0].numel()
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan_in) ** 0.5)
                else:
                    parameter.zero_()
            else:
                parameter.zero_()
