"""The paper's equations written out as loops over float64 numbers, to test the real code against. Slow on purpose.

Arrays are numpy, `[..., y, x]`; a flow is `[2, h, w]` (dx, dy), target <- profile.
"""

import math

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two vectors."""
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / (math.sqrt(sum(float(x) ** 2 for x in a)) * math.sqrt(sum(float(y) ** 2 for y in b)))


def cost_volume(target: np.ndarray, profile: np.ndarray) -> dict:
    """Eq. 5: {((x, y) in the target, (x, y) in the profile): similarity} of two feature maps `[C, h, w]`."""
    height, width = target.shape[1:]
    cells = [(x, y) for y in range(height) for x in range(width)]
    return {(u, v): cosine(target[:, u[1], u[0]], profile[:, v[1], v[0]]) for u in cells for v in cells}


def argmax_flow(target: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Eq. 6: for each target cell the offset to the most similar profile cell."""
    height, width = target.shape[1:]
    cost = cost_volume(target, profile)
    flow = np.zeros((2, height, width))
    for y in range(height):
        for x in range(width):
            best, where = -2.0, None
            for profile_y in range(height):
                for profile_x in range(width):
                    similarity = cost[(x, y), (profile_x, profile_y)]
                    if similarity > best:
                        best, where = similarity, (profile_x, profile_y)
            flow[:, y, x] = where[0] - x, where[1] - y
    return flow


def window_flow(target: np.ndarray, profile: np.ndarray, window: int, temperature: float) -> np.ndarray:
    """The argmax, refined by the mean position of its (2 * window + 1)^2 neighbours, weighted by exp(similarity / T)."""
    height, width = target.shape[1:]
    cost, coarse = cost_volume(target, profile), argmax_flow(target, profile)
    flow = np.zeros_like(coarse)
    for y in range(height):
        for x in range(width):
            centre_x, centre_y = x + int(coarse[0, y, x]), y + int(coarse[1, y, x])
            total = sum_x = sum_y = 0.0
            for profile_y in range(centre_y - window, centre_y + window + 1):
                for profile_x in range(centre_x - window, centre_x + window + 1):
                    if 0 <= profile_x < width and 0 <= profile_y < height:
                        weight = math.exp(cost[(x, y), (profile_x, profile_y)] / temperature)
                        total, sum_x, sum_y = total + weight, sum_x + weight * profile_x, sum_y + weight * profile_y
            flow[:, y, x] = sum_x / total - x, sum_y / total - y
    return flow


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """`[C, h, w]` read at a position in cells; outside, the border's value."""
    height, width = image.shape[1:]
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = int(math.floor(x)), int(math.floor(y))
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    fx, fy = x - left, y - top
    upper = (1 - fx) * image[:, top, left] + fx * image[:, top, right]
    lower = (1 - fx) * image[:, bottom, left] + fx * image[:, bottom, right]
    return (1 - fy) * upper + fy * lower


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, cell centres at half-integers (align_corners=False), no antialiasing."""
    out = np.zeros((image.shape[0], height, width))
    for y in range(height):
        for x in range(width):
            source_x = (x + 0.5) * image.shape[2] / width - 0.5
            source_y = (y + 0.5) * image.shape[1] / height - 0.5
            out[:, y, x] = bilinear(image, source_x, source_y)
    return out


def resize_flow(flow: np.ndarray, height: int, width: int) -> np.ndarray:
    """The flow on another grid, in that grid's cells."""
    out = resize(flow, height, width)
    out[0] *= width / flow.shape[2]
    out[1] *= height / flow.shape[1]
    return out


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """out(x, y) = image(x + dx, y + dy)."""
    out = np.zeros_like(image)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            out[:, y, x] = bilinear(image, x + flow[0, y, x], y + flow[1, y, x])
    return out


def aggregate(
    residuals: list[np.ndarray],
    flow: np.ndarray,
    alpha: float,
    beta: float,
    confidence: np.ndarray | None = None,
    profile_side: str = "right",
) -> list[np.ndarray]:
    """Eq. 7 on one sample: residuals `[C, h, 2w]` in encoder order, the middle block last."""
    out = []
    blocks = len(residuals) - 1  # L
    for level, residual in enumerate(residuals):
        weight = (1 - level / blocks) * alpha + beta
        height, width = residual.shape[1], residual.shape[2] // 2
        left, right = residual[:, :, :width], residual[:, :, width:]
        target, profile = (left, right) if profile_side == "right" else (right, left)
        warped = warp(profile, resize_flow(flow, height, width))
        if confidence is not None:
            warped = warped * resize(confidence, height, width)
        blended = target + weight * warped
        pair = (blended, profile) if profile_side == "right" else (profile, blended)
        out.append(np.concatenate(pair, axis=2))
    return out
