"""Small operations on pictures as arrays, by OpenCV."""

from __future__ import annotations

import numpy as np

LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Rec. 709, of linear RGB."""


def smoothstep(x: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, 3t^2 - 2t^3 between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `[S, S]` or `[S, S, C]`, float32; sigma in pixels. Wide ones are made on a smaller picture."""
    import cv2

    factor = 2 ** max(0, int(np.log2(max(sigma, 0.05) / 3)))
    size = -(-x.shape[0] // factor)
    small = resized(x, size)
    # The mean over factor x factor pixels is a part of the blur.
    rest = np.sqrt(max((sigma / factor) ** 2 - (1 / 6 if factor > 1 else 0), 0.05**2))
    small = cv2.GaussianBlur(small, (0, 0), rest, borderType=cv2.BORDER_REPLICATE)
    return resized(small, x.shape[0]).reshape(x.shape)  # OpenCV drops a single channel


def blurred_within(x: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Normalised convolution: the blur of `x` `[S, S, C]` where `weight` `[S, S]` says that it is known (Knutsson and Westin, 1993)."""
    return blur(x * weight[..., None], sigma) / (blur(weight, sigma) + 1e-4)[..., None]


def detail_contrast(picture: np.ndarray, finer_than: float, around: float) -> np.ndarray:
    """How strong the detail finer than a sigma is, in CIE L, as the mean around each pixel, `[S, S]`; both sigmas in pixels.

    Args:
        picture: `[S, S, 3]`, sRGB.
    """
    lightness = to_lab(picture)[..., 0]
    return blur(abs(lightness - blur(lightness, finer_than)), around)


def joined(mask: np.ndarray, seeds: np.ndarray | tuple[np.ndarray, np.ndarray], connectivity: int = 4) -> np.ndarray:
    """The parts of a mask `[S, S]` in which a seed lies, bool `[S, S]`; `seeds` index the mask, `connectivity` is 4 or 8."""
    import cv2

    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=connectivity)
    return np.isin(parts, np.setdiff1d(parts[seeds], [0]))


def mean_within(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean `[C]` of `x` `[S, S, C]`."""
    return (x * weight[..., None]).sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6)


def sampled(picture: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The picture `[S, S]` or `[S, S, C]` at `places` `[S', S', 2]` (x, y in its pixels), float32; edges go on outside.

    Bicubic for colours, bilinear for masks, which must stay in their range.
    """
    import cv2

    at = (places - 0.5).astype(np.float32)
    kernel = cv2.INTER_LINEAR if picture.ndim == 2 else cv2.INTER_CUBIC
    return cv2.remap(picture.astype(np.float32), at[..., 0], at[..., 1], kernel, borderMode=cv2.BORDER_REPLICATE)


def resized(x: np.ndarray, size: int) -> np.ndarray:
    """`[S, S]` or `[S, S, C]` at another side, float32."""
    import cv2

    if x.shape[0] == size:
        return x.astype(np.float32)
    kernel = cv2.INTER_AREA if size < x.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(x.astype(np.float32), (size, size), interpolation=kernel)


def to_linear(x: np.ndarray) -> np.ndarray:
    """sRGB to linear light (IEC 61966-2-1)."""
    x = np.clip(x, 0, 1)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(x: np.ndarray) -> np.ndarray:
    """Linear light to sRGB (IEC 61966-2-1)."""
    x = np.clip(x, 0, 1)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


def to_lab(x: np.ndarray) -> np.ndarray:
    """sRGB to CIE Lab, L in 0 .. 100."""
    import cv2

    return cv2.cvtColor(np.clip(x, 0, 1).astype(np.float32), cv2.COLOR_RGB2LAB)


def from_lab(x: np.ndarray) -> np.ndarray:
    """CIE Lab to sRGB in [0, 1]."""
    import cv2

    return np.clip(cv2.cvtColor(x.astype(np.float32), cv2.COLOR_LAB2RGB), 0, 1)


def blended(front: np.ndarray, back: np.ndarray, mask: np.ndarray, levels: int = 5) -> np.ndarray:
    """`front` over `back` `[S, S, 3]` by a mask `[S, S]`, each band of frequencies over its own width.

    P. Burt and E. Adelson, A multiresolution spline with application to image mosaics, 1983.
    """
    import cv2

    front, back, mask = (np.ascontiguousarray(x, np.float32) for x in (front, back, mask))
    stack = [(front, back, mask)]
    for _ in range(levels):
        stack.append(tuple(cv2.pyrDown(x) for x in stack[-1]))
    front, back, mask = stack.pop()
    result = front * mask[..., None] + back * (1 - mask[..., None])
    for finer in reversed(stack):
        side = finer[2].shape[::-1]
        front, back = (fine - cv2.pyrUp(coarse, dstsize=side) for fine, coarse in zip(finer, (front, back)))
        result = cv2.pyrUp(result, dstsize=side) + front * finer[2][..., None] + back * (1 - finer[2][..., None])
        front, back, mask = finer
    return result
