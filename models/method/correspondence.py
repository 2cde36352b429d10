"""Dense correspondence between the two halves of a pair: cost volume (eq. 5), flow (eq. 6), confidence, warp.

A flow is `[B, 2, h, w]`, channel 0 = dx, 1 = dy, in cells of its own grid, target <- profile: target cell (x, y)
takes its content from profile cell (x + dx, y + dy). All matching runs in float32: half precision makes ties.
"""

import math

import torch
import torch.nn.functional as functional

from ..errors import UserError

METHODS = ("smooth", "window", "paper")
"""`paper` is eq. 6 as written; what the others gain: `icportrait measure matching`."""
FLOW_METHOD = METHODS[0]
"""The read-out of training, validation and, unless another is chosen, of inference."""

PRIOR = 1 / 8
"""Spread of motions between two aligned crops, in view widths: p(F) of eq. 4 for `smooth`."""
SMOOTHNESS = 1.0
"""Radius (sigma) in cells within which `smooth` takes the flow as nearly affine."""


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
    if method not in ("window", "paper"):
        raise UserError(f"Unknown matching method {method!r}; choose one of {', '.join(METHODS)}.")
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
    method: str = FLOW_METHOD,
    **options,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow target <- profile and its confidence from the two halves' features `[B, C, h, w]`; options as for `match_costs`."""
    cost = cost_volume(target_features, profile_features)
    return match_costs(cost, *target_features.shape[-2:], method, **options)


def match_costs(
    cost: torch.Tensor,
    height: int,
    width: int,
    method: str = FLOW_METHOD,
    window: int = 2,
    temperature: float = 0.05,
    tolerance: float = 1.0,
    prior: float = PRIOR,
    smoothness: float = SMOOTHNESS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow target <- profile and its confidence from a cost volume `[B, N, N]`, which may be the mean of several.

    Args:
        method: one of `METHODS`. `smooth` adds to `window` the prior of eq. 4: motions between aligned crops are small, and
            neighbours move alike. `prior` and `smoothness` belong to it alone.
        window, temperature: of the soft-argmax, see `flow_from_cost_volume`.
        tolerance: cycle error in cells, see `cycle_confidence`.
        prior: spread of motions in view widths; 0 or infinity switches it off.
        smoothness: radius of the robust local affine fit in cells; 0 switches it off.

    Returns:
        (flow `[B, 2, h, w]` in cells, confidence `[B, 1, h, w]` in [0, 1]).
    """
    backwards = cost.transpose(1, 2)
    if method != "smooth":
        forward = flow_from_cost_volume(cost, height, width, method, window, temperature)
        backward = flow_from_cost_volume(backwards, height, width, method, window, temperature)
        return forward, cycle_confidence(forward, backward, tolerance)
    penalty = motion_penalty(height, width, prior, cost.device) * temperature
    forward = flow_from_cost_volume(cost - penalty, height, width, "window", window, temperature)
    backward = flow_from_cost_volume(backwards - penalty, height, width, "window", window, temperature)
    confidence = cycle_confidence(forward, backward, tolerance)
    confidence = confidence * peak_share(cost - penalty, forward, window, temperature)
    if smoothness <= 0:
        return forward, confidence
    fitted = smooth_flow(forward, confidence, smoothness, tolerance)
    residual = (forward - fitted).norm(dim=1, keepdim=True)
    return fitted, confidence * torch.exp(-0.5 * (residual / tolerance) ** 2)


def motion_penalty(height: int, width: int, prior: float, device=None) -> torch.Tensor:
    """Minus the log of a Gaussian prior on the motion, `[h * w, h * w]`: 0 for no motion.

    Args:
        prior: standard deviation in view widths; 0 or infinity gives no penalty anywhere.
    """
    grid = cell_grid(height, width, device).flatten(1)
    if prior <= 0 or math.isinf(prior):
        return torch.zeros(grid.shape[1], grid.shape[1], device=device)
    return torch.cdist(grid.T, grid.T).pow(2) / (2 * (prior * width) ** 2)


def peak_share(cost: torch.Tensor, flow: torch.Tensor, window: int, temperature: float) -> torch.Tensor:
    """How surely one place is meant: the probability within the window around the flow, `[B, 1, h, w]` in [0, 1].

    Two alike eyes, or a bare wall, share the probability and score low: this rejects left-right mistakes.
    """
    height, width = flow.shape[-2:]
    grid = cell_grid(height, width, cost.device).flatten(1)
    position = grid + flow.flatten(2)  # [B, 2, N]
    near = (grid[:, None, :] - position[:, :, :, None]).abs().amax(dim=1) <= window + 0.5
    share = (cost / temperature).softmax(dim=-1).masked_fill(~near, 0).sum(dim=-1)
    return share.unflatten(-1, (height, width))[:, None]


def _blurred(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian sums over `[B, C, h, w]`; nothing beyond the border."""
    radius = max(1, math.ceil(3 * sigma))
    x = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    batch, channels, height, width = maps.shape
    flat = maps.reshape(batch * channels, 1, height, width)
    flat = functional.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, radius))
    flat = functional.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(radius, 0))
    return flat.view(batch, channels, height, width)


def _local_affine_fit(flow: torch.Tensor, weight: torch.Tensor, sigma: float) -> torch.Tensor:
    """At each cell the value of the affine motion that fits its Gaussian neighbourhood best; float64 in and out."""
    grid = cell_grid(*flow.shape[-2:], device=flow.device).to(flow)[None]
    x, y = grid[:, :1], grid[:, 1:]
    moments = (weight, weight * x, weight * y, weight * x * x, weight * x * y, weight * y * y)
    sums = _blurred(torch.cat((*moments, weight * flow, weight * x * flow, weight * y * flow), dim=1), sigma)
    total = sums[:, :1].clamp_min(1e-12)
    means = sums[:, 1:] / total
    mean_x, mean_y, flow_mean = means[:, 0:1], means[:, 1:2], means[:, 5:7]
    # A little of the neighbourhood's own size keeps lone cells from dictating a slope.
    ridge = 1e-3 * sigma**2
    xx = means[:, 2:3] - mean_x**2 + ridge
    xy = means[:, 3:4] - mean_x * mean_y
    yy = means[:, 4:5] - mean_y**2 + ridge
    x_flow = means[:, 7:9] - mean_x * flow_mean
    y_flow = means[:, 9:11] - mean_y * flow_mean
    determinant = xx * yy - xy**2
    slope_x = (yy * x_flow - xy * y_flow) / determinant
    slope_y = (xx * y_flow - xy * x_flow) / determinant
    return flow_mean + slope_x * (x - mean_x) + slope_y * (y - mean_y)


def smooth_flow(
    flow: torch.Tensor, confidence: torch.Tensor, sigma: float, tolerance: float = 1.0, iterations: int = 4
) -> torch.Tensor:
    """Robust smoothing: moving least squares with an affine model, outliers and unsure cells counting less each time.

    The smoothness part of eq. 4's prior. An affine motion with full confidence is returned unchanged.

    Args:
        flow: `[B, 2, h, w]` in cells.
        confidence: `[B, 1, h, w]` in [0, 1].
        sigma: radius in cells.
        tolerance: residual in cells at which a cell counts half (Cauchy weights).

    Returns:
        float32 `[B, 2, h, w]`.
    """
    flow, weight = flow.double(), confidence.double() + 1e-3  # where nothing is sure, all cells count alike
    fitted = _local_affine_fit(flow, weight, sigma)
    for _ in range(iterations - 1):
        squared = (flow - fitted).pow(2).sum(dim=1, keepdim=True)
        fitted = _local_affine_fit(flow, weight / (1 + squared / tolerance**2), sigma)
    return fitted.float()


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
