"""Human parsing of the drawn figures: one small network in place of DensePose and both SCHP networks.

It belongs to the bundled demonstration model and is trained by `tools/paper_doll`; photos are not its world.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.errors import ImageError
from catvton_ov.images import Frame, Size, as_rgb, to_array
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.runtime import Array, Network

SIZE: Size = (192, 256)  # (width, height) the network sees

# What its logits stand for: first the DensePose labels of drawn figures, who always face us; then what they show
# to the other two parsers, a pair of labels (LIP, ATR) for each kind of thing.
DENSEPOSE_CLASSES = (0, 2, 3, 4, 5, 6, 9, 10, 13, 14, 17, 18, 21, 22, 23, 24)
CLOTHES_CLASSES = (
    (0, 0),  # background
    (2, 2),  # hair
    (13, 11),  # face
    (14, 14),  # left arm
    (15, 15),  # right arm
    (16, 12),  # left leg
    (17, 13),  # right leg
    (18, 9),  # left shoe
    (19, 10),  # right shoe
    (5, 4),  # upper clothes
    (6, 7),  # dress
    (9, 6),  # trousers
    (12, 5),  # skirt
)
PERSON_PIXELS = 64  # of a body, in the network's picture: with fewer there is nobody
CLASSES = len(DENSEPOSE_CLASSES) + len(CLOTHES_CLASSES)

_DENSEPOSE = np.array(DENSEPOSE_CLASSES, np.uint8)
_LIP, _ATR = np.array(CLOTHES_CLASSES, np.uint8).T


class CompactParser:
    """The compiled network and what goes before and after it; see `catvton_ov.masking.parsers.Parser`."""

    def __init__(self, network: Network) -> None:
        """`network`: `picture` (1, 3, 256, 192) in [-1, 1] -> `logits` (1, CLASSES, 256, 192), float32."""
        self.network = network

    def __call__(self, picture: Image.Image | npt.NDArray[np.uint8], person: int = 0) -> LabelMaps:
        """Label every pixel three times.

        Args:
            picture: upright, of any size; an array is RGB, (H, W, 3) uint8.
            person: ignored, as everybody in the picture is labelled.

        Returns:
            Label maps (H, W) of the picture's size. `persons` is 1, however many there are, or 0 with all background.

        Raises:
            ImageError: not such a picture, or one too small or too large.
            BundleDamagedError, DeviceError: see Network.
        """
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ImageError(f"Expected a picture as RGB uint8 (H, W, 3); got {picture.dtype}{picture.shape}.")
            picture = Image.fromarray(picture)
        photo = as_rgb(picture, "picture of the person")
        frame = Frame.whole(photo.size, SIZE)
        left, top, right, bottom = frame.place
        logits = self.network(picture=to_array(frame.cut(photo)))[0, :, top:bottom, left:right]
        body, clothes = np.split(logits, [len(DENSEPOSE_CLASSES)])
        if np.count_nonzero(body.argmax(axis=0)) < PERSON_PIXELS:
            nothing = np.zeros(photo.size[::-1], np.uint8)
            return LabelMaps(nothing, nothing, nothing, persons=0)
        shown = likeliest(clothes, photo.size)
        return LabelMaps(_DENSEPOSE[likeliest(body, photo.size)], _LIP[shown], _ATR[shown])

    def release(self) -> None:
        """Give the compiled network's memory back; the next call compiles again."""
        self.network.release()


def likeliest(logits: Array, size: Size) -> npt.NDArray[np.uint8]:
    """The most likely class at every pixel of a picture of `size`, (H, W) uint8; logits (C, h, w) of any resolution."""
    highest = np.full(size[::-1], -np.inf, np.float32)
    classes = np.zeros(size[::-1], np.uint8)
    for number, values in enumerate(logits):  # one class at a time: little memory, no stack
        enlarged = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
        classes[enlarged > highest] = number
        np.maximum(highest, enlarged, out=highest)
    return classes
