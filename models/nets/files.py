"""Net files: safetensors with ldm key names and everything needed to rebuild the net in the metadata."""

import hashlib
import json
import os
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save_file

from ..errors import UserError

FORMAT = "icportrait-net-1"


def digest(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of names and values, in hexadecimal: equal digests mean equal weights, whatever a file's metadata say."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        hashed.update(name.encode())
        hashed.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def save_tensors(path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict) -> None:
    """Write a safetensors file atomically: a reader sees the old file or the new one, never half of one.

    Args:
        metadata: JSON-ready; each value is stored as a JSON string, as safetensors allows only strings.

    Raises:
        OSError: the disk is full or the folder cannot be written; a file that was there is kept.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + f".{os.getpid()}.tmp")
    try:
        save_file(
            {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()},
            temporary,
            metadata={name: json.dumps(value) for name, value in metadata.items()},
        )
    except safetensors.SafetensorError as error:  # how it reports a full disk
        raise OSError(f"{path} could not be written: {error}") from error
    else:
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    except json.JSONDecodeError:
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
    if role is not None and config["role"] != role:
        raise UserError(
            f"{path} holds the {config['role']} net, but the {role} net is wanted here; swap the two files."
        )
    return tensors, config, metadata.get("training", {})
