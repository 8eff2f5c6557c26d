"""Faster R-CNN's boxes (arXiv 1506.01497): anchors, proposals and detections out of what its networks predict.

Restates `detectron2/modeling/{anchor_generator,box_regression}.py`, `proposal_generator/{rpn,proposal_utils}.py`
and `roi_heads/fast_rcnn.py`, with the settings of `densepose_rcnn_R_50_FPN_s1x`. Boxes are (N, 4) float32: left, top,
right, bottom in pixels of the network's picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

STRIDES = (4, 8, 16, 32, 64)  # of p2..p6
ANCHOR_SIZES = (32, 64, 128, 256, 512)  # on p2..p6: square roots of the area in pixels
ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # height to width
PROPOSALS = 1000  # at most: of each level before suppression, and of all after
PROPOSAL_OVERLAP = 0.7  # what overlaps a better proposal of its level by more is dropped
PERSON_OVERLAP = 0.5  # likewise for detections
PERSONS = 100  # detections at most
DELTA_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # what the box head's deltas were multiplied by in training
MAX_LOG_SCALE = math.log(1000 / 16)  # no box grows by more


class Boxes(NamedTuple):
    boxes: Array  # (N, 4), best first
    scores: Array  # (N,)


def anchors(grids: Sequence[tuple[int, int]]) -> list[Array]:
    """Each level's anchors (rows * columns * 3, 4), in that order; `grids` gives (rows, columns) of p2..p6."""
    levels = []
    for (rows, columns), stride, size in zip(grids, STRIDES, ANCHOR_SIZES, strict=True):
        widths = size / np.sqrt(ANCHOR_RATIOS)
        half = np.stack([widths, widths * ANCHOR_RATIOS], axis=1) / 2
        cell = np.concatenate([-half, half], axis=1).astype(np.float32)
        y, x = np.meshgrid(np.arange(rows) * stride, np.arange(columns) * stride, indexing="ij")
        corners = np.stack([x, y, x, y], axis=-1).astype(np.float32)
        levels.append((corners[:, :, None] + cell).reshape(-1, 4))
    return levels


def apply_deltas(deltas: Array, boxes: Array, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Array:
    """Move and scale `boxes` (N, 4) by predicted `deltas` (N, 4) (arXiv 1311.2524, appendix C, equations 1 to 4)."""
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = boxes[:, :2] + sides / 2
    deltas = np.divide(deltas, np.asarray(weights, np.float32))
    centres = deltas[:, :2] * sides + centres
    half = np.exp(np.minimum(deltas[:, 2:], MAX_LOG_SCALE)) * sides / 2
    moved: Array = np.concatenate([centres - half, centres + half], axis=1)
    return moved


def clip(boxes: Array, size: tuple[int, int]) -> Array:
    """Boxes cut at the edges of a picture of `size` (width, height)."""
    return np.clip(boxes, 0, np.array(size * 2, np.float32))


def suppress(boxes: Array, scores: Array, overlap: float) -> npt.NDArray[np.intp]:
    """Non-maximum suppression: the indices of boxes that no better kept one overlaps by more, best first."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    left = np.argsort(-scores, kind="stable")
    kept = []
    while left.size:
        best, left = left[0], left[1:]
        kept.append(best)
        sides = np.minimum(boxes[best, 2:], boxes[left, 2:]) - np.maximum(boxes[best, :2], boxes[left, :2])
        shared = np.maximum(sides, 0).prod(axis=1)
        left = left[shared <= np.float32(overlap) * (areas[best] + areas[left] - shared)]
    return np.array(kept, np.intp)


def propose(objectness: Array, deltas: Array, grids: Sequence[tuple[int, int]], size: tuple[int, int]) -> Boxes:
    """Where something may be.

    Args:
        objectness: (A,) logits, for the anchors of all levels (see `anchors`).
        deltas: (A, 4).
        grids: (rows, columns) of p2..p6.
        size: (width, height) of the picture without its padding.

    Returns:
        At most PROPOSALS boxes with their logits.
    """
    levels = anchors(grids)
    ends = np.cumsum([len(level) for level in levels])[:-1]
    found = []
    for level, logits, moves in zip(levels, np.split(objectness, ends), np.split(deltas, ends), strict=True):
        top = np.argsort(-logits, kind="stable")[:PROPOSALS]
        boxes, logits = _within(apply_deltas(moves[top], level[top]), logits[top], size)
        kept = suppress(boxes, logits, PROPOSAL_OVERLAP)
        found.append(Boxes(boxes[kept], logits[kept]))
    boxes, logits = (np.concatenate(part) for part in zip(*found, strict=True))
    best = np.argsort(-logits, kind="stable")[:PROPOSALS]
    return Boxes(boxes[best], logits[best])


def detect(cls_score: Array, deltas: Array, proposals: Array, size: tuple[int, int], min_score: float) -> Boxes:
    """Which proposals are persons.

    Args:
        cls_score: (N, 2) logits of person and background.
        deltas: (N, 4).
        proposals: (N, 4).
        size: (width, height) of the picture without its padding.
        min_score: probability a detection must exceed.

    Returns:
        At most PERSONS boxes with their probabilities; none where nobody was found.
    """
    scores = np.exp(cls_score - cls_score.max(axis=1, keepdims=True))
    scores = scores[:, 0] / scores.sum(axis=1)
    boxes = apply_deltas(deltas, proposals, DELTA_WEIGHTS)
    sure = scores > min_score
    boxes, scores = _within(boxes[sure], scores[sure], size)
    kept = suppress(boxes, scores, PERSON_OVERLAP)[:PERSONS]
    return Boxes(boxes[kept], scores[kept])


def _within(boxes: Array, scores: Array, size: tuple[int, int]) -> Boxes:
    """Boxes cut at the picture's edges, without those that are empty then or not finite to begin with."""
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    boxes, scores = clip(boxes[finite], size), scores[finite]
    filled = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return Boxes(boxes[filled], scores[filled])
