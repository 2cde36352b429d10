"""Picture against picture: PSNR, SSIM and, where its weights are there, LPIPS."""

import functools
import importlib.util
from pathlib import Path

import numpy as np


def psnr(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB over the mask: -10 log10 of the mean squared error of sRGB values in [0, 1].

    Infinite for equal pictures. Args: pictures float `[H, W, 3]`; mask bool `[H, W]`, None = everywhere. Raises ValueError for an
    empty mask.
    """
    squared = ((np.asarray(picture, np.float64) - np.asarray(truth, np.float64)) ** 2).mean(axis=-1)
    if mask is not None:
        if not mask.any():
            raise ValueError("PSNR needs a mask with at least one pixel; this one is empty.")
        squared = squared[mask]
    error = squared.mean()
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def why_no_ssim() -> str | None:
    """None when SSIM can be measured, else one sentence saying what is missing."""
    if importlib.util.find_spec("skimage") is None:
        return "SSIM not measured: the package scikit-image is not installed"
    return None


def ssim(picture: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float | None:
    """Structural similarity, at most 1, mean over the mask; Gaussian window of sigma 1.5 (Wang et al., 2004), scikit-image.

    None when scikit-image is not there. Args: pictures float `[H, W, 3]` in [0, 1], at least 11 px; mask bool `[H, W]`.
    """
    if why_no_ssim():
        return None
    from skimage.metrics import structural_similarity

    _, local = structural_similarity(
        np.asarray(picture, np.float64),
        np.asarray(truth, np.float64),
        channel_axis=-1,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    local = local.mean(axis=-1)
    return float(local.mean() if mask is None else local[mask].mean())


def why_no_lpips() -> str | None:
    """None when LPIPS can run without a download, else one sentence saying what is missing."""
    if importlib.util.find_spec("lpips") is None:
        return "LPIPS not measured: the package lpips is not installed"
    import torch
    from torchvision.models import AlexNet_Weights

    # The very file torchvision asks for: it would download another.
    weights = Path(torch.hub.get_dir(), "checkpoints", Path(AlexNet_Weights.DEFAULT.url).name)
    if not weights.is_file():
        return f"LPIPS not measured: AlexNet's weights ({weights.name}) are not in {weights.parent}"
    return None


@functools.cache
def _lpips_net():
    import lpips

    return lpips.LPIPS(net="alex", verbose=False).eval()


def lpips_distance(picture: np.ndarray, truth: np.ndarray) -> float | None:
    """LPIPS (AlexNet), 0 = equal; None when its weights are not there. Source: Zhang et al., 2018, the package lpips.

    Args: float `[H, W, 3]` in [0, 1].
    """
    if why_no_lpips():
        return None
    import torch

    pair = [torch.from_numpy(np.asarray(p, np.float32)).movedim(-1, 0)[None] * 2 - 1 for p in (picture, truth)]
    with torch.inference_mode():
        return float(_lpips_net()(*pair))
