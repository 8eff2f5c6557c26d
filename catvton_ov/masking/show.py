"""Label maps as a picture, for the curious and for bug reports."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.masking.labels import LabelMaps


def picture_of_labels(maps: LabelMaps) -> Image.Image:
    """The three maps side by side, RGB: DensePose, LIP, ATR. A label has the same colour everywhere; 0 is black."""
    palette = _palette()
    return Image.fromarray(np.concatenate([palette[each] for each in (maps.densepose, maps.lip, maps.atr)], axis=1))


def _palette() -> npt.NDArray[np.uint8]:
    """(256, 3): hues far apart for neighbouring numbers."""
    number = np.arange(256)
    hsv = np.stack([number * 67 % 180, np.full(256, 170), 140 + 55 * (number % 3)], axis=1).astype(np.uint8)
    palette: npt.NDArray[np.uint8] = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    palette[0] = 0
    return palette
