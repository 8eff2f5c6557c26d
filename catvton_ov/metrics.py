"""How alike two pictures are."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[Any]


def psnr(picture: Picture, truth: Picture, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB, over all values of two arrays of one shape; infinite for equal ones.

    Args:
        peak: the distance of the lightest from the darkest value: 255 for 8 bits, 2 for [-1, 1].
    """
    error = float(np.mean((picture.astype(np.float64) - truth.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(peak**2 / error))


def ssim(picture: Picture, truth: Picture, peak: float = 255.0) -> float:
    """Mean structural similarity (Wang et al. 2004, equation 13) of two pictures (H, W, C), averaged over channels.

    The window is the paper's: Gaussian, 11 pixels wide, sigma 1.5. As torchmetrics does it: the picture is
    mirrored at its borders, and every pixel counts.
    """
    a, b = picture.astype(np.float64), truth.astype(np.float64)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_a, mean_b = _window(a), _window(b)
    var_a = _window(a * a) - mean_a**2
    var_b = _window(b * b) - mean_b**2
    covariance = _window(a * b) - mean_a * mean_b
    index = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    index /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float(index.mean())


def _window(values: Picture) -> Picture:
    return cv2.GaussianBlur(values, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101)
