"""Flow against the exact flow: end-point error, PCK, cycle error, regions, confidence deciles.

Flows are `[2, H, W]` in pixels of one view, target <- profile, NumPy.
"""

import numpy as np

PCK_SHARES = (0.01, 0.05, 0.10)


def end_point_error(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Length of the difference at every pixel, `[H, W]`, in px. Source: Baker et al., 2011 (Middlebury)."""
    return np.linalg.norm(np.asarray(flow, np.float64) - np.asarray(truth, np.float64), axis=0)


def pck(errors: np.ndarray, width: int, share: float) -> float:
    """Percentage of correct key points: share of errors (px) below `share` of the view's width, in %.

    Source: PCK as used for dense semantic matching (SPair-71k and its users), with the view's width as the object's size.
    """
    return float((np.asarray(errors) < share * width).mean() * 100)


def cycle_error(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    """Distance in px between a target pixel and where it comes back to through the profile, `[H, W]`; needs no truth.

    Args: forward target <- profile, backward profile <- target; both `[2, H, W]` px. The backward flow is read bilinearly and
    held at the border.
    """
    height, width = forward.shape[1:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    px = np.clip(x + forward[0], 0, width - 1)
    py = np.clip(y + forward[1], 0, height - 1)
    x0, y0 = np.floor(px).astype(int), np.floor(py).astype(int)
    x1, y1 = np.minimum(x0 + 1, width - 1), np.minimum(y0 + 1, height - 1)
    fx, fy = px - x0, py - y0
    back = (backward[:, y0, x0] * (1 - fx) + backward[:, y0, x1] * fx) * (1 - fy)
    back += (backward[:, y1, x0] * (1 - fx) + backward[:, y1, x1] * fx) * fy
    return np.linalg.norm(forward + back, axis=0)


def flow_figures(errors: np.ndarray, width: int) -> dict[str, float | int | None]:
    """Median and mean end-point error in px, PCK at 1, 5 and 10 % of the width in %, and the number of pixels."""
    errors = np.asarray(errors)
    names = [f"pck_{share:.2f}" for share in PCK_SHARES]
    if not len(errors):
        return {"epe_px": None, "epe_mean_px": None, **dict.fromkeys(names), "pixels": 0}
    shares = {name: pck(errors, width, share) for name, share in zip(names, PCK_SHARES, strict=True)}
    return {"epe_px": float(np.median(errors)), "epe_mean_px": float(errors.mean()), **shares, "pixels": len(errors)}


def motion_moments(flow: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Sums `[6]` of which `motion_correlation` is made; those of several pictures add up. Args: `[2, N]` px, the same pixels."""
    a, b = np.asarray(flow, np.float64).ravel(), np.asarray(truth, np.float64).ravel()
    return np.array([a.size, a.sum(), b.sum(), a @ a, b @ b, a @ b])


def motion_correlation(moments: np.ndarray) -> float | None:
    """Pearson's correlation of found and true displacements (dx and dy together), -1 .. 1; None when one of them never varies.

    It says whether a matcher has learned to follow motion at all, which a small end-point error does not: no motion scores None.
    """
    n, a, b, aa, bb, ab = moments
    spread = (n * aa - a * a) * (n * bb - b * b)
    return float((n * ab - a * b) / np.sqrt(spread)) if spread > 1e-9 else None


def regions(landmarks: np.ndarray, visible: np.ndarray, face: np.ndarray, hair: np.ndarray) -> dict[str, np.ndarray]:
    """Bool masks `[H, W]` of the target's visible face, hair, eyes and mouth.

    Eyes are discs of 0.3 eye distances around both eyes, the mouth an ellipse round its corners (0.65 of their distance wide,
    0.45 high, from the middle); both only where the face is.

    Args: landmarks `[5, 2]` px (eye, eye, nose, mouth corner, mouth corner); masks `[H, W]`.
    """
    height, width = visible.shape
    y, x = np.mgrid[0:height, 0:width] + 0.5
    visible, face, hair = visible > 0, face > 0, hair > 0
    eyes = np.asarray(landmarks[:2], np.float64)
    radius = 0.3 * np.linalg.norm(eyes[1] - eyes[0])
    near_eye = np.any([np.hypot(x - ex, y - ey) < radius for ex, ey in eyes], axis=0)
    left, right = np.asarray(landmarks[3], np.float64), np.asarray(landmarks[4], np.float64)
    wide = np.linalg.norm(right - left)
    along = (right - left) / wide
    cx, cy = (left + right) / 2
    u = (x - cx) * along[0] + (y - cy) * along[1]
    v = -(x - cx) * along[1] + (y - cy) * along[0]
    near_mouth = (u / (0.65 * wide)) ** 2 + (v / (0.45 * wide)) ** 2 < 1
    return {
        "face": visible & face,
        "hair": visible & hair,
        "eyes": visible & face & near_eye,
        "mouth": visible & face & near_mouth,
    }


def error_by_confidence(errors: np.ndarray, confidence: np.ndarray, parts: int = 10) -> list[float]:
    """Median error (px) of each tenth of the pixels, from the least to the most confident.

    Ties are shared out in the pixels' own order, so the parts are equally large. A confidence that ranks rightly gives falling
    numbers.
    """
    order = np.argsort(np.asarray(confidence), kind="stable")
    return [float(np.median(part)) for part in np.array_split(np.asarray(errors)[order], parts) if len(part)]


def falls_monotonically(values: list[float]) -> bool:
    """Whether every number is at most the one before it."""
    return all(b <= a for a, b in zip(values, values[1:]))
