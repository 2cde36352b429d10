"""What the configs in the files' metadata must hold: every key with the kind and range of its value, checked whole before anything is built."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError

ROLES = ("matching", "appearance")


@dataclass(frozen=True)
class Field:
    """What one value may be."""

    words: str
    fits: Callable[[object], bool]
    optional: bool = False


def _whole(low: int, high: int) -> Field:
    return Field(f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def _number(low: float, high: float) -> Field:
    def fits(value) -> bool:
        return type(value) in (int, float) and math.isfinite(value) and low <= value <= high

    return Field(f"a number from {low:g} to {high:g}", fits)


def _wholes(low: int, high: int) -> Field:
    one = _whole(low, high)
    return Field(
        f"a list of whole numbers from {low} to {high}",
        lambda value: isinstance(value, list | tuple) and 0 < len(value) <= 64 and all(map(one.fits, value)),
    )


def _one_of(*options) -> Field:
    words = " or ".join(map(str, options))
    return Field(words, lambda value: any(type(value) is type(option) and value == option for option in options))


def _optional(field: Field) -> Field:
    return Field(field.words, field.fits, optional=True)


def _or_none(field: Field) -> Field:
    return Field(f"{field.words}, or null", lambda value: value is None or field.fits(value), optional=True)


_TEXT = Field("a text", lambda value: isinstance(value, str))
_YES_NO = Field("true or false", lambda value: isinstance(value, bool))

# SD1.5's kind: 4 latent channels. The ranges only keep out what no UNet of that kind has.
UNET = {
    "image_size": _whole(1, 4096),
    "in_channels": _one_of(4),
    "out_channels": _one_of(4),
    "model_channels": _whole(32, 1280),
    "num_res_blocks": _wholes(1, 16),
    "channel_mult": _wholes(1, 8),
    "num_heads": _whole(-1, 256),
    "num_head_channels": _whole(-1, 2048),
    "use_spatial_transformer": _one_of(True),
    "transformer_depth": _wholes(0, 16),
    "transformer_depth_middle": _whole(-2, 16),
    "transformer_depth_output": _wholes(0, 16),
    "context_dim": _whole(1, 4096),
    "legacy": _YES_NO,
    "use_linear_in_transformer": _YES_NO,
    "adm_in_channels": Field("null", lambda value: value is None, optional=True),
}
NET = {
    "role": _one_of(*ROLES),
    "unet": Field("a UNet's configuration", lambda value: isinstance(value, dict)),
    "tap": _whole(0, 64),
    "fine_tap": _or_none(_whole(0, 64)),  # files written before there was one have none
    "alpha": _number(0, 10),
    "beta": _number(0, 10),
    "gate": _optional(_YES_NO),
}
VISION = {
    "attention_dropout": _number(0, 1),
    "dropout": _number(0, 1),
    "hidden_act": _one_of("quick_gelu", "gelu"),
    "hidden_size": _whole(1, 4096),
    "image_size": _whole(16, 1024),
    "intermediate_size": _whole(1, 16384),
    "layer_norm_eps": _number(0, 1),
    "model_type": _one_of("clip_vision_model"),
    "num_attention_heads": _whole(1, 64),
    "num_channels": _one_of(3),
    "num_hidden_layers": _whole(1, 64),
    "patch_size": _whole(4, 64),
    "projection_dim": _whole(1, 4096),
    "torch_dtype": _TEXT,
}
AUTOENCODER = {
    "ddconfig": Field("a configuration", lambda value: isinstance(value, dict)),
    "embed_dim": _one_of(4),
}
DDCONFIG = {
    "double_z": _one_of(True),
    "z_channels": _one_of(4),
    "resolution": _whole(8, 4096),
    "in_channels": _one_of(3),
    "out_ch": _one_of(3),
    "ch": _whole(32, 1024),
    "ch_mult": Field(
        "four whole numbers from 1 to 16 (8 x smaller)", lambda value: _wholes(1, 16).fits(value) and len(value) == 4
    ),
    "num_res_blocks": _whole(1, 16),
    "attn_resolutions": Field("a list of whole numbers", lambda value: value == [] or _wholes(1, 4096).fits(value)),
    "dropout": _number(0, 1),
}


def check_fields(config, fields: Mapping[str, Field], source: str | Path, what: str = "config") -> None:
    """Raises UserError, naming the file and the key, where a config lacks a key, has an unknown one, or a value of another kind."""
    if not isinstance(config, dict):
        raise UserError(
            f"The {what} in the metadata of {source} is no table of names and values; get or make the file anew."
        )
    missing = [name for name, field in fields.items() if name not in config and not field.optional]
    if missing:
        raise UserError(
            f"The {what} in the metadata of {source} lacks {', '.join(missing)}; get or make the file anew."
        )
    unknown = sorted(set(config) - set(fields))
    if unknown:
        raise UserError(
            f"The {what} in the metadata of {source} holds {', '.join(map(repr, unknown))}, which this version does not know; update the "
            "pack, or get the file anew."
        )
    for name, value in config.items():
        if not fields[name].fits(value):
            raise UserError(
                f"{name} in the {what} in the metadata of {source} must be {fields[name].words}, but is {str(value)[:60]!r}."
            )


def check_unet_config(config, source: str | Path, what: str = "config") -> None:
    """Whether a UNet can be built from this config. Raises UserError, see `check_fields`; or values that contradict each other."""
    check_fields(config, UNET, source, what)
    blocks = config["num_res_blocks"]
    lengths = {
        "channel_mult": len(blocks),
        "transformer_depth": sum(blocks),
        "transformer_depth_output": sum(blocks) + len(blocks),
    }
    for name, length in lengths.items():
        if len(config[name]) != length:
            raise UserError(
                f"{name} in the {what} in the metadata of {source} must hold {length} numbers to go with num_res_blocks; it holds "
                f"{len(config[name])}."
            )
    if config["model_channels"] % 32:
        raise UserError(f"model_channels in the {what} in the metadata of {source} must be a multiple of 32.")
    heads, channels = config["num_heads"], config["num_head_channels"]
    if heads <= 0 and channels <= 0:
        raise UserError(f"The {what} in the metadata of {source} names neither num_heads nor num_head_channels.")
    for multiplier in config["channel_mult"]:
        if config["model_channels"] * multiplier % (channels if channels > 0 else heads):
            raise UserError(
                f"The channels in the {what} in the metadata of {source} cannot be divided among its attention heads."
            )


def check_net_config(config, source: str | Path) -> None:
    """Whether this is a whole config of a matching or appearance net. Raises UserError, naming the file and the key."""
    check_fields(config, NET, source)
    check_unet_config(config["unet"], source, "unet")
    last = sum(config["unet"]["num_res_blocks"]) + len(config["unet"]["channel_mult"]) - 1
    fine = config.get("fine_tap")
    if config["tap"] > last:
        raise UserError(
            f"tap in the config in the metadata of {source} is {config['tap']}, but the net's encoder blocks are 0 to {last}."
        )
    if fine is not None and fine >= config["tap"]:
        raise UserError(
            f"fine_tap in the config in the metadata of {source} is {fine}; it must lie before the tap, {config['tap']}."
        )
