"""Net files: safetensors with ldm key names and everything needed to rebuild the net in the metadata."""

import hashlib
import json
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file

from ..errors import UserError
from ..writing import replacing
from .portrait_config import check_net_config

FORMAT = "icportrait-net-1"
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
"""Of weights in files."""


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names and values, in hexadecimal: equal digests mean equal weights, whatever a file's metadata say."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        hashed.update(name.encode())
        hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def save_tensors(path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    """Write a safetensors file atomically: a reader sees the old file or the new one, never half of one.

    Equal tensors and metadata give equal files, byte for byte.

    Args:
        metadata: JSON-ready; each value is stored as a JSON string, as safetensors allows only strings. Where all tensors are of one
            dtype, `dtype` names it, so that a reader knows a relabelled file.

    Raises:
        OSError: the disk is full or the folder cannot be written; a file that was there is kept.
    """
    path = Path(path)
    dtypes = {_name(tensor.dtype) for tensor in tensors.values()}
    if len(dtypes) == 1:
        metadata = {**metadata, "dtype": dtypes.pop()}
    try:
        with replacing(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode  # the library's own files are for their owner alone
            save_file(  # from the tensors' own memory: the bytes of a whole checkpoint would be gigabytes more
                {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()},
                temporary,
                {name: json.dumps(value) for name, value in metadata.items()},
            )
            temporary.chmod(mode)
            _order_metadata(temporary)
    except (OSError, safetensors.SafetensorError) as error:  # the latter is how it reports a full disk
        raise OSError(f"{path} could not be written: {error}") from error


def _order_metadata(path: Path) -> None:
    """Bring the metadata of a safetensors file into the order of their names; the library's order changes each time."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # the same text in another order: always so
            file.seek(8)
            file.write(text.ljust(size))


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Read a safetensors file and its metadata.

    Raises:
        UserError: not a safetensors file, or a truncated or corrupt one; the message names the file.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise UserError(f"The file {path} does not exist.") from None
    except Exception as error:
        raise UserError(
            f"{path} is not a readable safetensors file (truncated, corrupt or another format): {error}"
        ) from error
    return tensors, {name: _parse(value) for name, value in metadata.items()}


def _parse(value: str):
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value  # files of other programs hold plain strings


def read_metadata(path: str | Path) -> dict:
    """Only the metadata of a safetensors file; cheap. Raises UserError as `read_tensors` does."""
    try:
        with safetensors.safe_open(str(path), framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"The file {path} does not exist.") from None
    except Exception as error:
        raise UserError(
            f"{path} is not a readable safetensors file (truncated, corrupt or another format): {error}"
        ) from error
    return {name: _parse(value) for name, value in metadata.items()}


def save_net(
    path: str | Path, state_dict: dict[str, torch.Tensor], config: dict, training: dict, dtype=torch.float16
) -> None:
    """Write a matching or appearance net.

    Args:
        config: from `nets.net_config`.
        training: facts a user should be able to read: steps, data, base, licence.
    """
    tensors = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state_dict.items()}
    save_tensors(
        path,
        tensors,
        {"format": FORMAT, "config": config, "training": training, "license": training.get("license", "")},
    )


def load_net_file(path: str | Path, role: str | None = None) -> tuple[dict[str, torch.Tensor], dict, dict]:
    """Read a net file.

    Returns:
        (state dict, config, training facts).

    Raises:
        UserError: not a net file of this project, or of another role than asked for.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT or "config" not in metadata:
        raise UserError(
            f"{path} is not an IC-Portrait net (its metadata lack format {FORMAT}); load a file made by `icportrait export`."
        )
    config = metadata["config"]
    check_net_config(config, path)
    check_tensors(tensors, metadata, path)
    if role is not None and config["role"] != role:
        raise UserError(
            f"{path} holds the {config['role']} net, but the {role} net is wanted here; swap the two files."
        )
    training = metadata.get("training", {})
    return tensors, config, training if isinstance(training, dict) else {}


def check_tensors(tensors: dict[str, torch.Tensor], metadata: dict, source: str | Path) -> None:
    """Whether these can be weights: floating-point numbers of one kind, none of them NaN or infinite.

    Args:
        metadata: the file's; `dtype` in it must be the tensors'.

    Raises:
        UserError: they cannot, naming the file and a tensor.
    """
    if not tensors:
        raise UserError(f"{source} holds no tensors.")
    kind = next(iter(tensors.values())).dtype
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES or tensor.dtype != kind:
            raise UserError(
                f"{source} does not hold weights of one kind (float16, bfloat16 or float32): {name} is {_name(tensor.dtype)}; it is "
                "damaged or was changed, so get or make it anew."
            )
        if not torch.isfinite(tensor).all():
            raise UserError(
                f"{source} holds NaN or infinite weights (in {name}); it is damaged, so get or make it anew."
            )
    if metadata.get("dtype", _name(kind)) != _name(kind):
        raise UserError(
            f"{source} was written as {metadata['dtype']}, but its tensors are labelled {_name(kind)}; it was changed, so get or make it anew."
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
