"""Net files to nets that ComfyUI loads and offloads. Weights are checked strictly: ComfyUI itself would only log."""

from collections.abc import Callable, Iterable
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch

from ..errors import UserError
from ..types import LoadedNet, PortraitNets
from .files import load_net_file
from .portrait_net import build_net

SUPPORTED_DTYPES = [torch.float16, torch.bfloat16, torch.float32]


def patcher_class():
    """ComfyUI's ModelPatcher class; looked up at call time because newer versions replace it at start-up."""
    return getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


def check_keys(missing: Iterable[str], unexpected: Iterable[str], source: str | Path) -> None:
    """Raises UserError naming the file when a state dict lacked tensors or held foreign ones."""
    problems = [
        f"{len(names)} {kind} (first: {names[0]})"
        for kind, names in (("missing", sorted(missing)), ("unexpected", sorted(unexpected)))
        if names
    ]
    if problems:
        raise UserError(f"{source} does not hold the tensors its metadata describe: {', '.join(problems)}.")


def built(build: Callable[[], object], source: str | Path):
    """What `build` makes from a file's metadata. Raises UserError naming the file where the values contradict each other."""
    try:
        return build()
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{source} does not fit the configuration in its own metadata: {lines[-1].strip()}") from error


def load_strictly(load: Callable[[], tuple[list[str], list[str]]], source: str | Path) -> None:
    """Load a state dict that must fit exactly.

    Args:
        load: loads and returns (missing, unexpected) keys, as `load_state_dict(strict=False)` does.

    Raises:
        UserError: missing, unexpected or wrongly shaped tensors; the message names the file and the first ones.
    """
    missing, unexpected = built(load, source)
    check_keys(missing, unexpected, source)


def load_net(path: str | Path, role: str) -> LoadedNet:
    """Load a net file of the given role, `matching` or `appearance`, in the dtype that suits the device.

    Raises:
        UserError: not a readable net file, another role, or tensors that do not fit.
    """
    tensors, config, training = load_net_file(path, role)
    weight_dtype = comfy.utils.weight_dtype(tensors)
    dtype = comfy.model_management.unet_dtype(
        model_params=-1, supported_dtypes=SUPPORTED_DTYPES, weight_dtype=weight_dtype
    )
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    cast_dtype = comfy.model_management.unet_manual_cast(dtype, load_device)
    operations = comfy.ops.pick_operations(dtype, cast_dtype)
    net = built(lambda: build_net(config, dtype=dtype, device=offload_device, operations=operations), path).eval()
    load_strictly(lambda: net.load_state_dict(tensors, strict=False), path)
    patcher = patcher_class()(net, load_device=load_device, offload_device=offload_device)
    data = training.get("data", "")
    return LoadedNet(patcher, config, cast_dtype or dtype, data if isinstance(data, str) else "")


def load_portrait_nets(matching_path: str | Path, appearance_path: str | Path) -> PortraitNets:
    """Load both nets and check that they were made for one UNet.

    Raises:
        UserError: see `load_net`; or the two nets differ in width or context.
    """
    nets = PortraitNets(load_net(matching_path, "matching"), load_net(appearance_path, "appearance"))
    matching, appearance = nets.matching.config["unet"], nets.appearance.config["unet"]
    for key in ("model_channels", "channel_mult", "context_dim"):
        if matching[key] != appearance[key]:
            raise UserError(
                f"The two nets were made for different UNets: {key} is {matching[key]} in {matching_path} and "
                f"{appearance[key]} in {appearance_path}; load two nets of one training run."
            )
    return nets
