"""Dense correspondence between the two halves of a pair: cost volume (eq. 5), flow (eq. 6), confidence, warp.

A flow is `[B, 2, h, w]`, channel 0 = dx, 1 = dy, in cells of its own grid, target <- profile: target cell (x, y)
takes its content from profile cell (x + dx, y + dy). All matching runs in float32: half precision makes ties.
"""

import torch
import torch.nn.functional as functional

METHODS = ("window", "paper")


def cost_volume(target_features: torch.Tensor, profile_features: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of every target cell with every profile cell (eq. 5).

    Args:
        target_features: `[B, C, h, w]`.
        profile_features: `[B, C, h', w']`.

    Returns:
        float32 `[B, h * w, h' * w']` in [-1, 1], rows and columns in raster order.
    """
    target = functional.normalize(target_features.float().flatten(2), dim=1)
    profile = functional.normalize(profile_features.float().flatten(2), dim=1)
    return target.transpose(1, 2) @ profile


def cell_grid(height: int, width: int, device=None) -> torch.Tensor:
    """Cell coordinates `[2, h, w]` (x, y), float32, top-left cell at (0, 0)."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack((x, y)).float()


def flow_from_cost_volume(
    cost: torch.Tensor,
    height: int,
    width: int,
    method: str = "window",
    window: int = 2,
    temperature: float = 0.05,
) -> torch.Tensor:
    """Flow by the best match of each target cell (eq. 6), both halves being `height x width` cells.

    Args:
        cost: `[B, h * w, h * w]` from `cost_volume`.
        method: `paper` is the plain argmax; `window` refines it by a softmax-weighted mean over the
            (2 * window + 1)^2 cells around the argmax (window soft-argmax, as in GeoAware-SC, beyond the paper).
        temperature: of that softmax, in units of cosine similarity.

    Returns:
        float32 `[B, 2, h, w]`, in cells.
    """
    if method not in METHODS:
        raise ValueError(f"Unknown matching method {method!r}; choose one of {', '.join(METHODS)}.")
    grid = cell_grid(height, width, cost.device).flatten(1)  # [2, N]
    best = cost.argmax(dim=-1)  # [B, N]
    position = grid[:, best].permute(1, 0, 2)  # [B, 2, N]
    if method == "window":
        distance = (grid[:, None, :] - position[:, :, :, None]).abs().amax(dim=1)  # Chebyshev, [B, N, N]
        weights = (cost / temperature).masked_fill(distance > window, float("-inf")).softmax(dim=-1)
        position = torch.einsum("bij,cj->bci", weights, grid)
    return (position - grid).unflatten(-1, (height, width))


def cycle_confidence(flow_forward: torch.Tensor, flow_backward: torch.Tensor, tolerance: float = 1.0) -> torch.Tensor:
    """Two-way consistency: how near a target cell comes back to itself through the profile.

    Args:
        flow_forward: target <- profile, `[B, 2, h, w]` in cells.
        flow_backward: profile <- target, `[B, 2, h, w]` in cells.
        tolerance: cycle error in cells at which the confidence has fallen to exp(-1/2). One cell is the relaxed
            setting that DIY-SC found better than a strict one.

    Returns:
        `[B, 1, h, w]` in [0, 1].
    """
    error = (flow_forward + warp(flow_backward, flow_forward)).norm(dim=1, keepdim=True)
    return torch.exp(-0.5 * (error / tolerance) ** 2)


def match(
    target_features: torch.Tensor,
    profile_features: torch.Tensor,
    method: str = "window",
    window: int = 2,
    temperature: float = 0.05,
    tolerance: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow target <- profile and its confidence from the two halves' features `[B, C, h, w]`.

    Returns:
        (flow `[B, 2, h, w]` in cells, confidence `[B, 1, h, w]` in [0, 1]).
    """
    height, width = target_features.shape[-2:]
    cost = cost_volume(target_features, profile_features)
    forward = flow_from_cost_volume(cost, height, width, method, window, temperature)
    backward = flow_from_cost_volume(cost.transpose(1, 2), height, width, method, window, temperature)
    return forward, cycle_confidence(forward, backward, tolerance)


def resize_flow(flow: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The same flow on another grid `[B, 2, height, width]`, values rescaled to that grid's cells."""
    scale = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]])[None, :, None, None]
    if flow.shape[-2:] != (height, width):
        flow = functional.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
    return flow * scale


def warp(features: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Bring profile features to the target: `out(x, y) = features(x + dx, y + dy)`, bilinear, border-clamped.

    Args:
        features: `[B, C, h, w]`.
        flow: `[B, 2, fh, fw]` in cells of its own grid; resized to the features' grid when they differ.

    Returns:
        `[B, C, h, w]` in the features' dtype.
    """
    height, width = features.shape[-2:]
    position = cell_grid(height, width, features.device) + resize_flow(flow.to(features.device).float(), height, width)
    size = position.new_tensor([width, height])[None, :, None, None]
    grid = ((position + 0.5) / size * 2 - 1).permute(0, 2, 3, 1)  # align_corners=False
    warped = functional.grid_sample(features.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.to(features.dtype)
