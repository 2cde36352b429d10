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
    **options,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow target <- profile and its confidence from the two halves' features `[B, C, h, w]`, without ever holding their whole
    cost volume; options as for `match_costs`."""
    size = target_features.shape[-2:]
    target, profile = unit_features(target_features), unit_features(profile_features)
    return _match(target, profile, *size, method, **options)


def match_costs(cost: torch.Tensor, height: int, width: int, method: str = FLOW_METHOD, **options):
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
    # A volume is the product of itself with the identity, exactly.
    identity = torch.eye(cost.shape[-1], device=cost.device).expand_as(cost)
    return _match(cost.float().transpose(1, 2), identity, height, width, method, **options)


def _match(
    target: torch.Tensor,
    profile: torch.Tensor,
    height: int,
    width: int,
    method: str,
    window: int = 2,
    temperature: float = 0.05,
    tolerance: float = 1.0,
    prior: float = PRIOR,
    smoothness: float = SMOOTHNESS,
    block: int = BLOCK,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`match_costs` of the volume target^T profile, of vectors `[B, C, N]`."""
    if method not in METHODS:
        raise UserError(f"Unknown matching method {method!r}; choose one of {', '.join(METHODS)}.")
    smooth = method == "smooth"
    grid = cell_grid(height, width, target.device).flatten(1)
    target = target / temperature  # so that costs are what the softmax takes
    if smooth:
        target, profile = with_prior(target, profile, grid, width, prior)
    there, back, total = _best_matches(target, profile, block, totals=smooth)
    if method == "paper":
        forward, backward = (
            (grid[:, best].movedim(0, 1) - grid).unflatten(-1, (height, width)) for best in (there, back)
        )
        return forward, cycle_confidence(forward, backward, tolerance)
    # Cells first: a neighbour's features then lie side by side.
    target, profile = (vectors.transpose(1, 2).contiguous() for vectors in (target, profile))
    forward = _soft_argmax(target, profile, there, height, width, window, block)
    backward = _soft_argmax(profile, target, back, height, width, window, block)
    confidence = cycle_confidence(forward, backward, tolerance)
    if not smooth:
        return forward, confidence
    confidence = confidence * _peak_share(target, profile, forward, total, window, block)
    if smoothness <= 0:
        return forward, confidence
    fitted = smooth_flow(forward, confidence, smoothness, tolerance)
    residual = (forward - fitted).norm(dim=1, keepdim=True)
    return fitted, confidence * torch.exp(-0.5 * (residual / tolerance) ** 2)


def with_prior(target, profile, grid, width: int, prior: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The vectors `[B, C, N]` with four entries more, whose products are the log of a Gaussian prior on the motion.

    -s |p - q|^2 = 2 s p q - s |p|^2 - s |q|^2 for places p and q: so the matrix product adds it, both ways alike.

    Args:
        grid: the cells' places, `[2, N]`.
        prior: standard deviation in view widths; 0 or infinity adds nothing.
    """
    if prior <= 0 or math.isinf(prior):
        return target, profile
    s = 1 / (2 * (prior * width) ** 2)
    places = grid - grid.mean(dim=1, keepdim=True)  # small numbers lose the fewest digits
    square, one = s * places.pow(2).sum(dim=0, keepdim=True), torch.ones_like(places[:1])
    ours, theirs = torch.cat((2 * s * places, -square, one)), torch.cat((places, one, -square))
    batch = target.shape[0]
    return (
        torch.cat((target, ours.expand(batch, -1, -1)), dim=1),
        torch.cat((profile, theirs.expand(batch, -1, -1)), dim=1),
    )


def _best_matches(target, profile, block: int, totals: bool):
    """One pass over the cost volume in blocks of rows, both directions at once.

    Returns:
        (best profile cell of each target cell `[B, N]`, best target cell of each profile cell, log of the sum of exp(cost) of
        each row or None).
    """
    batch, _, cells = target.shape
    rows = max(1, block // (cells * batch))
    there, sums = [], []
    best = torch.full((batch, cells), -math.inf, device=target.device)
    back = torch.zeros((batch, cells), dtype=torch.long, device=target.device)
    for start in range(0, cells, rows):
        cost = target[:, :, start : start + rows].transpose(1, 2) @ profile
        top, column = cost.max(dim=-1)
        there.append(column)
        value, row = cost.max(dim=1)
        better = value > best
        best, back = torch.where(better, value, best), torch.where(better, row + start, back)
        if totals:  # in place: the block is not needed any more
            sums.append(top + cost.sub_(top[..., None]).exp_().sum(dim=-1).log())
    return torch.cat(there, dim=1), back, torch.cat(sums, dim=1) if totals else None


def _costs_around(target, profile, centres, height: int, width: int, radius: int):
    """Costs of some target cells with the cells around given places.

    Args:
        target: `[B, n, C]`.
        profile: all cells, `[B, h * w, C]`.
        centres: `[B, 2, n]`, whole numbers: x, y of the middle of each neighbourhood.

    Returns:
        (costs `[B, n, k]`, -inf beyond the border; x and y of the places `[B, n, k]`).
    """
    side = torch.arange(-radius, radius + 1, device=target.device)
    x = (centres[:, 0, :, None, None] + side[None, None, None, :]).expand(-1, -1, len(side), -1).flatten(2)
    y = (centres[:, 1, :, None, None] + side[None, None, :, None]).expand(-1, -1, -1, len(side)).flatten(2)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    cost = torch.stack(
        [
            torch.bmm(there.index_select(0, near.flatten()).view(*near.shape, -1), here[:, :, None])[..., 0]
            for here, there, near in zip(target, profile, index, strict=True)
        ]
    )
    return cost.masked_fill(~inside, -math.inf), x, y


def _blocks(target, neighbours: int, block: int):
    """Numbers of target cells, so many at a time that their neighbours' features stay within `block` entries."""
    _, cells, channels = target.shape
    return torch.arange(cells, device=target.device).split(max(1, block // (channels * neighbours)))


def _soft_argmax(target, profile, best, height: int, width: int, window: int, block: int) -> torch.Tensor:
    """Flow `[B, 2, h, w]`: the mean place within the window around the best match, weighted by softmax."""
    places = []
    for cells in _blocks(target, (2 * window + 1) ** 2, block):
        chosen = best[:, cells]
        centres = torch.stack((chosen % width, chosen.div(width, rounding_mode="floor")), dim=1)
        cost, x, y = _costs_around(target[:, cells], profile, centres, height, width, window)
        weights = cost.softmax(dim=-1)
        places.append(torch.stack([(weights * axis).sum(dim=-1) for axis in (x, y)], dim=1))
    return torch.cat(places, dim=2).unflatten(-1, (height, width)) - cell_grid(height, width, target.device)


def _peak_share(target, profile, flow, total, window: int, block: int) -> torch.Tensor:
    """How surely one place is meant: the probability within the window around the flow, `[B, 1, h, w]` in [0, 1].

    Two alike eyes, or a bare wall, share the probability and score low: this rejects left-right mistakes.

    Args:
        total: log of the sum of exp(cost) over all profile cells, `[B, N]`.
    """
    height, width = flow.shape[-2:]
    places = (cell_grid(height, width, flow.device) + flow).flatten(2)
    shares = []
    for cells in _blocks(target, (2 * window + 3) ** 2, block):
        place = places[:, :, cells]
        cost, x, y = _costs_around(target[:, cells], profile, place.round().long(), height, width, window + 1)
        near = ((x - place[:, 0, :, None]).abs() <= window + 0.5) & ((y - place[:, 1, :, None]).abs() <= window + 0.5)
        shares.append((cost - total[:, cells, None]).exp().masked_fill(~near, 0).sum(dim=-1))
    return torch.cat(shares, dim=1).unflatten(-1, (height, width))[:, None]


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
