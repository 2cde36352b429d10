"""Dense correspondence between the two halves of a pair: cost volume (eq. 5), flow (eq. 6), confidence, warp.

A flow is `[B, 2, h, w]`, channel 0 = dx, 1 = dy, in cells of its own grid, target <- profile: target cell (x, y)
takes its content from profile cell (x + dx, y + dy). All matching runs in float32: half precision makes ties.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as functional

from ..errors import UserError

METHODS = ("smooth", "window", "paper")
"""`paper` is eq. 6 as written; what the others gain: `icportrait measure matching`."""
FLOW_METHOD = METHODS[0]
"""The read-out of training, validation and, unless another is chosen, of inference."""

TEMPERATURE = 0.05
"""Of the softmax over a window, in units of cosine similarity."""
PRIOR = 1 / 8
"""Spread of motions between two aligned crops, in view widths: p(F) of eq. 4 for `smooth`."""
SMOOTHNESS = 1.0
"""Radius (sigma) in cells within which `smooth` takes the flow as nearly affine."""
BLOCK = 2**24
"""Entries of the cost volume, or of gathered features, that matching holds at a time: 64 MB."""


def cost_volume(target_features: torch.Tensor, profile_features: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of every target cell with every profile cell (eq. 5).

    Args:
        target_features: `[B, C, h, w]`.
        profile_features: `[B, C, h', w']`.

    Returns:
        float32 `[B, h * w, h' * w']` in [-1, 1], rows and columns in raster order.
    """
    return unit_features(target_features).transpose(1, 2) @ unit_features(profile_features)


def unit_features(features: torch.Tensor) -> torch.Tensor:
    """Features `[B, C, h, w]` as float32 `[B, C, h * w]` of unit length."""
    return functional.normalize(features.float().flatten(2), dim=1)


def cell_grid(height: int, width: int, device=None) -> torch.Tensor:
    """Cell coordinates `[2, h, w]` (x, y), float32, top-left cell at (0, 0)."""
    y, x = torch.meshgrid(torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij")
    return torch.stack((x, y)).float()


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
    temperature: float = TEMPERATURE,
    prior: float = PRIOR,
    **options,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow target <- profile and its confidence from the two halves' features `[B, C, h, w]`, without ever holding their whole
    cost volume; options as for `match_costs`."""
    height, width = target_features.shape[-2:]
    # Over the temperature, so that costs are what the softmax takes.
    target, profile = unit_features(target_features) / temperature, unit_features(profile_features)
    target, profile = with_prior(target, profile, height, width, prior if method == "smooth" else 0)

    def rows(start: int, stop: int) -> torch.Tensor:
        return target[:, :, start:stop].transpose(1, 2) @ profile

    return _match(rows, target.shape[0], height, width, target.device, method, **options)


def match_costs(
    cost: torch.Tensor,
    height: int,
    width: int,
    method: str = FLOW_METHOD,
    temperature: float = TEMPERATURE,
    prior: float = PRIOR,
    **options,
):
    """The same from a cost volume `[B, N, N]`, which may be the mean of several.

    Args:
        method: one of `METHODS`. `smooth` adds to `window` the prior of eq. 4: motions between aligned crops are small, and
            neighbours move alike. `prior` and `smoothness` belong to it alone.
        window, temperature: `window` refines the argmax of eq. 6 by a softmax-weighted mean over the (2 * window + 1)^2 cells
            around it (window soft-argmax, as in GeoAware-SC, beyond the paper); of that softmax, in units of cosine similarity.
        tolerance: cycle error in cells, see `cycle_confidence`.
        prior: spread of motions in view widths; 0 or infinity switches it off.
        smoothness: radius of the robust local affine fit in cells; 0 switches it off.
        block: entries of the cost volume that are worked on at a time.

    Returns:
        (flow `[B, 2, h, w]` in cells, confidence `[B, 1, h, w]` in [0, 1]).
    """
    nothing = torch.zeros(cost.shape[0], 0, cost.shape[-1], device=cost.device)
    ours, theirs = with_prior(nothing, nothing, height, width, prior if method == "smooth" else 0)

    def rows(start: int, stop: int) -> torch.Tensor:
        return cost[:, start:stop] / temperature + ours[:, :, start:stop].transpose(1, 2) @ theirs

    return _match(rows, cost.shape[0], height, width, cost.device, method, **options)


def _match(
    rows: Callable[[int, int], torch.Tensor],
    batch: int,
    height: int,
    width: int,
    device,
    method: str,
    window: int = 2,
    tolerance: float = 1.0,
    smoothness: float = SMOOTHNESS,
    block: int = BLOCK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`match_costs` of a volume that comes in blocks.

    Args:
        rows: (start, stop) -> the costs of these target cells with all profile cells, over the temperature, `[B, stop - start, N]`;
            they are changed here.
    """
    if method not in METHODS:
        raise UserError(f"Unknown matching method {method!r}; choose one of {', '.join(METHODS)}.")
    smooth = method == "smooth"
    window = 0 if method == "paper" else window
    cells = height * width
    step = max(1, block // (cells * batch * width)) * width  # whole rows of the picture
    places, shares, backward = [], [], _Backward(height, width, window)
    for start in range(0, cells, step):
        cost = rows(start, min(start + step, cells))
        backward.add(cost, start)
        _, column = _greatest(cost, 2, width)
        x, y, index, inside = _window(column % width, column // width, height, width, window)
        places.append(_mean_place(cost.gather(2, index).masked_fill(~inside, -math.inf), x, y))
        if smooth:
            shares.append(_peak_share(cost, places[-1], height, width, window))
    grid = cell_grid(height, width, device)
    forward = torch.cat(places, dim=2).unflatten(-1, (height, width)) - grid
    confidence = cycle_confidence(forward, backward.places().unflatten(-1, (height, width)) - grid, tolerance)
    if not smooth:
        return forward, confidence
    confidence = confidence * torch.cat(shares, dim=1).unflatten(-1, (height, width))[:, None]
    if smoothness <= 0:
        return forward, confidence
    fitted = smooth_flow(forward, confidence, smoothness, tolerance)
    residual = (forward - fitted).norm(dim=1, keepdim=True)
    return fitted, confidence * torch.exp(-0.5 * (residual / tolerance) ** 2)


def with_prior(target, profile, height: int, width: int, prior: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The vectors `[B, C, N]` with four entries more, whose products are the log of a Gaussian prior on the motion.

    -s |p - q|^2 = 2 s p q - s |p|^2 - s |q|^2 for places p and q: so the matrix product adds it, both ways alike.

    Args:
        prior: standard deviation in view widths; 0 or infinity adds nothing.
    """
    if prior <= 0 or math.isinf(prior):
        return target, profile
    s = 1 / (2 * (prior * width) ** 2)
    grid = cell_grid(height, width, target.device).flatten(1)
    places = grid - grid.mean(dim=1, keepdim=True)  # small numbers lose the fewest digits
    square, one = s * places.pow(2).sum(dim=0, keepdim=True), torch.ones_like(places[:1])
    ours, theirs = torch.cat((2 * s * places, -square, one)), torch.cat((places, one, -square))
    batch = target.shape[0]
    return (
        torch.cat((target, ours.expand(batch, -1, -1)), dim=1),
        torch.cat((profile, theirs.expand(batch, -1, -1)), dim=1),
    )


def _greatest(cost: torch.Tensor, dim: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`cost.max(dim)` by way of the picture's rows, whose greatest are found without their places, several times as fast.

    Args:
        cost: `[B, n, N]`, along `dim` whole rows of `width` cells.
    """
    rows = cost.unflatten(dim, (-1, width))
    value, row = rows.amax(dim=dim + 1).max(dim=dim)
    wanted = row.unsqueeze(dim).unsqueeze(dim)
    shape = [*rows.shape[:dim], 1, *rows.shape[dim + 1 :]]
    return value, row * width + rows.gather(dim, wanted.expand(shape)).squeeze(dim).argmax(dim=dim)


def _window(centre_x: torch.Tensor, centre_y: torch.Tensor, height: int, width: int, radius: int):
    """The cells around some places, `[B, n]` whole numbers, in both directions as far as `radius`.

    Returns:
        (x, y, number in raster order, whether it lies within the border), each `[B, n, k]`; beyond the border the number is that of
        the nearest cell.
    """
    side = torch.arange(-radius, radius + 1, device=centre_x.device)
    y, x = torch.meshgrid(side, side, indexing="ij")
    x, y = centre_x[..., None] + x.flatten(), centre_y[..., None] + y.flatten()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return x, y, y.clamp(0, height - 1) * width + x.clamp(0, width - 1), inside


def _mean_place(cost: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean of places `[B, n, k]`, weighted by a softmax of their costs: `[B, 2, n]`."""
    weights = cost.softmax(dim=-1)
    return torch.stack([(weights * axis).sum(dim=-1) for axis in (x, y)], dim=1)


class _Backward:
    """The best target cell of each profile cell, and the costs around it, from a volume that comes in blocks of target cells."""

    def __init__(self, height: int, width: int, window: int):
        self._shape = height, width, window
        self._before = self._best = self._cell = self._around = None

    def add(self, cost: torch.Tensor, start: int) -> None:
        """Take in the block `[B, n, N]` of the target cells from number `start` on: whole rows of the picture, in order."""
        height, width, window = self._shape
        best, cell = _greatest(cost, 1, width)
        cell = cell + start
        if self._best is not None:
            better = best > self._best
            best, cell = torch.where(better, best, self._best), torch.where(better, cell, self._cell)
        self._best, self._cell = best, cell
        # The window around a best cell may begin in the blocks before, whose last rows are held, and end in those to come.
        _, _, index, _ = _window(cell % width, cell // width, height, width, window)
        if self._around is None:
            self._around = torch.zeros_like(index, dtype=cost.dtype)
        parts = [cost] if self._before is None else [self._before, cost]
        first = start + cost.shape[1] - sum(part.shape[1] for part in parts)
        for part in parts:
            place = index - first
            held = (place >= 0) & (place < part.shape[1])
            found = part.transpose(1, 2).gather(2, place.clamp(0, part.shape[1] - 1))
            self._around = torch.where(held, found, self._around)
            first += part.shape[1]
        rows = max(1, window) * width
        self._before = torch.cat([part[:, -rows:] for part in parts], dim=1)[:, -rows:].clone()

    def places(self) -> torch.Tensor:
        """The matched places, `[B, 2, N]`, after the last block."""
        height, width, window = self._shape
        x, y, _, inside = _window(self._cell % width, self._cell // width, height, width, window)
        return _mean_place(self._around.masked_fill(~inside, -math.inf), x, y)


def _peak_share(cost, places, height: int, width: int, window: int) -> torch.Tensor:
    """How surely one place is meant: the probability within the window around the match, `[B, n]` in [0, 1].

    Two alike eyes, or a bare wall, share the probability and score low: this rejects left-right mistakes.

    Args:
        cost: `[B, n, N]`; changed here.
        places: the matches, `[B, 2, n]`.
    """
    middle = places.round().long()
    x, y, index, inside = _window(middle[:, 0], middle[:, 1], height, width, window + 1)
    near = ((x - places[:, 0, :, None]).abs() <= window + 0.5) & ((y - places[:, 1, :, None]).abs() <= window + 0.5)
    likely = torch.softmax(cost, dim=-1, out=cost)  # in place, a row at a time: the volume is read and written once
    return likely.gather(2, index).masked_fill(~(inside & near), 0).sum(dim=-1)


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
