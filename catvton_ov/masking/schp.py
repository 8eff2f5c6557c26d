"""Human parsing with SCHP: a photo in, the label of every pixel out.

Self-Correction for Human Parsing, arXiv 1910.09777, as CatVTON's `model/SCHP/__init__.py` runs it: the photo is fitted
into a square, the network gives coarse logits for the square, and these are enlarged and brought back to the photo.
Equal to the reference with OpenCV 5; earlier versions round positions to 1/32 of a pixel, which moves some edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.errors import ImageError
from catvton_ov.masking.labels import ATR, LIP, Labels
from catvton_ov.runtime import Array, Network

Pixels = npt.NDArray[np.uint8]

# The statistics are ImageNet's in BGR order, yet the reference applies them to RGB, and so must we.
_MEAN = np.array([0.406, 0.456, 0.485], np.float32)
_STD = np.array([0.225, 0.224, 0.229], np.float32)


@dataclass(frozen=True)
class SchpKind:
    """One of the published networks."""

    name: str
    labels: Mapping[str, tuple[int, ...]]  # its table in catvton_ov.masking.labels
    side: int  # of the square the network sees, in pixels

    @property
    def classes(self) -> int:
        return len(self.labels)


LIP_KIND = SchpKind("lip", LIP, 473)
ATR_KIND = SchpKind("atr", ATR, 512)


class SchpParser:
    """A compiled network and what goes before and after it."""

    def __init__(self, network: Network, kind: SchpKind) -> None:
        """`network`: `picture` (1, 3, H, W) -> `logits` (1, classes, h, w), float32."""
        self.network = network
        self.kind = kind

    def __call__(self, picture: Image.Image | Pixels) -> Labels:
        """Label every pixel.

        Args:
            picture: RGB; a PIL image, or shape = (H, W, 3), uint8.

        Returns:
            shape = (H, W), uint8: numbers of `kind.labels`.

        Raises:
            ImageError: of another mode, type or shape, or a single pixel.
            BundleDamagedError, DeviceError: see Network.
        """
        pixels = np.asarray(picture)
        logits = self.network(picture=network_input(pixels, self.kind))
        return label_map(logits, pixels.shape[:2], self.kind)


def network_input(pixels: Pixels, kind: SchpKind) -> Array:
    """Fit a picture into the middle of the network's square, black around it, and normalise.

    Args:
        pixels: shape = (H, W, 3), uint8, RGB.

    Returns:
        shape = (1, 3, side, side), float32.

    Raises:
        ImageError: of another type or shape, or a single pixel.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size <= 3:
        raise ImageError(f"Human parsing needs a uint8 RGB picture (H, W, 3); got {pixels.dtype}{pixels.shape}.")
    photo, square = _corresponding_points(pixels.shape[:2], kind)
    size = (kind.side, kind.side)
    fitted = cv2.warpAffine(pixels, cv2.getAffineTransform(photo, square), size, flags=cv2.INTER_LINEAR)
    levels = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    normalised = cv2.LUT(fitted, ((levels - _MEAN) / _STD)[None])  # each of the 256 levels, a channel at a time
    return np.ascontiguousarray(normalised.transpose(2, 0, 1), np.float32)[None]


def label_map(logits: Array, shape: tuple[int, ...], kind: SchpKind) -> Labels:
    """The most likely class of every pixel of the picture.

    Args:
        logits: shape = (1, classes, h, w), float32: what the network says of its square, at any resolution.
        shape: (H, W) of the picture.

    Returns:
        shape = (H, W), uint8; the lower label where two are equal.
    """
    height, width = shape
    photo, square = _corresponding_points(shape, kind)
    back = cv2.getAffineTransform(square, photo)
    labels = np.zeros((height, width), np.uint8)
    highest = np.full((height, width), -np.inf, np.float32)
    for label, wide in enumerate(_enlarge(logits[0], -1, kind.side)):  # one class at a time: little memory, no stack
        enlarged = _enlarge(wide, -2, kind.side)
        values = cv2.warpAffine(enlarged, back, (width, height), flags=cv2.INTER_LINEAR)
        labels[values > highest] = label
        np.maximum(highest, values, out=highest)
    return labels


def _corresponding_points(shape: tuple[int, ...], kind: SchpKind) -> tuple[Array, Array]:
    """Three points of the picture and where they lie in the network's square: its middle, top and top left.

    The longer side of the picture spans the square, from the middle of its first pixel to the middle of its last.
    (`get_affine_transform` in the reference's `utils/transforms.py`, without rotation.)
    """
    height, width = shape
    x, y, reach = (width - 1) / 2, (height - 1) / 2, (max(width, height) - 1) / 2
    middle = (kind.side - 1) / 2
    photo = np.array([(x, y), (x, y - reach), (x - reach, y - reach)], np.float32)
    return photo, np.array([(middle, middle), (middle, 0), (0, 0)], np.float32)


def _enlarge(values: Array, axis: int, size: int) -> Array:
    """Linear interpolation along an axis (-1 or -2), the first and last values staying first and last.

    To the last bit what `torch.nn.Upsample(align_corners=True)` gives on a CPU with fused multiply-add:
    a (1 - t) + round(b t), rounded once; for which double precision stands in here.
    """
    last = values.shape[axis] - 1
    position = np.arange(size, dtype=np.float32) * (np.float32(last) / np.float32(size - 1))
    low = np.minimum(position.astype(np.intp), last)
    t = (position - low.astype(np.float32)).reshape(-1, *[1] * (-1 - axis))
    b = values.take(np.minimum(low + 1, last), axis)
    result: npt.NDArray[np.float64] = np.multiply(values.take(low, axis), 1 - t, dtype=np.float64)
    result += b * t
    return result.astype(np.float32)
