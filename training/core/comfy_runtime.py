"""Make ComfyUI's modules importable outside a running ComfyUI, for the command line and for training."""

import os
import sys
from pathlib import Path

from ...models.errors import UserError


def start_comfy(cpu: bool | None = None, options: tuple[str, ...] = ()) -> None:
    """Put ComfyUI on the import path and settle its options. Call before anything imports `comfy`; idempotent.

    Args:
        cpu: force CPU; None = CPU exactly when torch sees no CUDA device.
        options: ComfyUI's own, e.g. `--lowvram`.

    Raises:
        UserError: ComfyUI cannot be found.
    """
    if "comfy.model_management" in sys.modules:
        return
    root = os.environ.get("COMFYUI_PATH")
    pack = Path(__file__).resolve().parents[2]
    if root is None and (pack.parents[1] / "comfy" / "sd.py").is_file():
        root = str(pack.parents[1])
    if root and root not in sys.path:
        sys.path.insert(0, root)
    try:
        import comfy.options
    except ImportError:
        raise UserError(
            "ComfyUI was not found: set COMFYUI_PATH to its folder, or use `python run.py icportrait ...`."
        ) from None
    if cpu is None:
        import torch

        cpu = not torch.cuda.is_available()
    arguments, sys.argv = (
        sys.argv,
        ["icportrait", "--use-pytorch-cross-attention", *options] + (["--cpu"] if cpu else []),
    )
    try:
        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401 (parses once, here)
        import comfy.model_management  # noqa: F401
    finally:
        sys.argv = arguments
