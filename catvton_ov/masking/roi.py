"""Pooling boxes from feature maps (ROIAlign, arXiv 1703.06870, section 3), and enlarging what was predicted for them.

Linear interpolation along two axes is two matrix products. Restates torchvision's `roi_align` with `aligned=False` and
two samples a bin and side, `detectron2/modeling/poolers.py`, and torch's bilinear `interpolate`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from catvton_ov.masking.detection import STRIDES, Array

SAMPLES = 2  # points a bin and side


def interpolation(points: Array, length: int) -> Array:
    """(n, length) weights that read a row of cells at `points` (n,), linearly; beyond its ends, the end's cell."""
    distances = np.clip(points, 0, length - 1)[:, None] - np.arange(length, dtype=np.float32)
    weights: Array = np.maximum(1 - np.abs(distances), 0)
    return weights


def resize(maps: Array, size: tuple[int, int]) -> Array:
    """Scale maps (C, h, w) to `size` (width, height), linearly, without smoothing: (C, height, width)."""
    width, height = size
    rows = interpolation(_centres(height, maps.shape[1]), maps.shape[1])
    columns = interpolation(_centres(width, maps.shape[2]), maps.shape[2])
    resized: Array = rows @ (maps @ columns.T)
    return resized


def roi_align(features: Array, box: Array, stride: int, size: int) -> Array:
    """Pool a box of the picture from features (C, H, W), `stride` pixels a cell: (C, size, size)."""
    left, top, right, bottom = (box / np.float32(stride)).tolist()
    rows, used_rows = _bins(top, bottom, features.shape[1], size)
    columns, used_columns = _bins(left, right, features.shape[2], size)
    pooled: Array = rows @ (features[:, used_rows, used_columns] @ columns.T)
    return pooled


def pool(pyramid: Sequence[Array], boxes: Array, size: int) -> Array:
    """Pool each box from the level that fits it: (N, C, size, size).

    Args:
        pyramid: (1, C, H, W) of p2..p5.
        boxes: (N, 4) in pixels of the picture.
    """
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    # arXiv 1612.03144, equation 1: a box of 224 pixels, ImageNet's size, belongs to p4.
    levels = np.floor(4 + np.log2(sides / 224 + 1e-8)).clip(2, 1 + len(pyramid)).astype(int) - 2
    pooled = np.empty((len(boxes), pyramid[0].shape[1], size, size), np.float32)
    for out, box, level in zip(pooled, boxes, levels, strict=True):
        out[:] = roi_align(pyramid[level][0], box, STRIDES[level], size)
    return pooled


def _centres(count: int, cells: int) -> Array:
    """Where the centres of `count` pixels lie on a row of `cells` of the same length."""
    return ((np.arange(count) + 0.5) * (cells / count) - 0.5).astype(np.float32)


def _bins(start: float, end: float, length: int, size: int) -> tuple[Array, slice]:
    """(size, n) weights that average the samples of each bin, and the slice of n cells that they read."""
    extent = max(end - start, 1.0)
    points = start + (np.arange(size * SAMPLES, dtype=np.float32) + np.float32(0.5)) * np.float32(
        extent / (size * SAMPLES)
    )
    weights = interpolation(points, length)
    weights[(points < -1) | (points > length)] = 0
    first, last = np.clip(points[[0, -1]].astype(int), 0, length - 1)
    used = slice(int(first), int(last) + 2)
    return weights[:, used].reshape(size, SAMPLES, -1).mean(axis=1), used
