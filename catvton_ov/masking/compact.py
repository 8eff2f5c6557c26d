"""Human parsing of the drawn figures: one small network in place of DensePose and both SCHP networks.

It belongs to the bundled demonstration model and is trained by `tools/paper_doll`; photos are not its world.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.errors import ImageError, OptionsError
from catvton_ov.images import Frame, to_array
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.pictures.reading import Size, as_rgb
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
SOMEBODY = 0.3  # of the largest body's area: with less it is no other person
MOST = 0.7  # of the picture: what covers more is no body, but a picture that shows nothing
SMALL = 0.6  # of the picture's height: a body that is less high is looked at again, larger
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
            person: whose labels: the largest is 0, the next 1.

        Returns:
            Label maps (H, W) of the picture's size; all background where nobody is found.

        Raises:
            ImageError: not such a picture, or one too small or too large. OptionsError: there is no such person.
            BundleDamagedError, DeviceError: see Network.
        """
        if isinstance(picture, np.ndarray):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ImageError(f"Expected a picture as RGB uint8 (H, W, 3); got {picture.dtype}{picture.shape}.")
            picture = Image.fromarray(picture)
        photo = as_rgb(picture, "picture of the person")
        frame = Frame.whole(photo.size, SIZE)
        body, clothes = self._look(photo, frame)
        found = bodies(_DENSEPOSE[body.argmax(axis=0)])
        maps = np.zeros((3, *photo.size[::-1]), np.uint8)
        if not found and person == 0:
            return LabelMaps(maps[0], maps[1], maps[2], persons=0)
        if not 0 <= person < len(found):
            raise OptionsError(
                f"There is no person number {person + 1}, the largest being the first; found: {len(found)}."
            )
        if len(found) > 1 or found[person].any(axis=1).sum() < SMALL * SIZE[1]:
            area = Image.fromarray(found[person].astype(np.uint8) * np.uint8(255))
            frame = Frame.around(area.resize(photo.size, Image.Resampling.NEAREST), SIZE)
            body, clothes = self._look(photo, frame)
        left, top, right, bottom = frame.seen
        extent = right - left, bottom - top
        shown = likeliest(clothes, extent)
        maps[:, top:bottom, left:right] = _DENSEPOSE[likeliest(body, extent)], _LIP[shown], _ATR[shown]
        if len(found) > 1:
            theirs = _nearer_to_others(found, person).astype(np.uint8)
            maps[:, cv2.resize(theirs, photo.size, interpolation=cv2.INTER_NEAREST) > 0] = 0
        return LabelMaps(maps[0], maps[1], maps[2], persons=len(found))

    def _look(self, photo: Image.Image, frame: Frame) -> list[Array]:
        """The logits of body and of clothes where the photo lies in the network's picture, (C, h, w) each."""
        left, top, right, bottom = frame.place
        logits = self.network(picture=to_array(frame.cut(photo)))[0, :, top:bottom, left:right]
        return np.split(logits, [len(DENSEPOSE_CLASSES)])

    def release(self) -> None:
        """Give the compiled network's memory back; the next call compiles again."""
        self.network.release()


def bodies(densepose: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.bool_]]:
    """Everybody in DensePose labels (h, w), the largest first, each (h, w).

    Parts of a body hang together or lie above each other; who stands beside is somebody else, unless it is small.
    """
    body = densepose > 0
    if not PERSON_PIXELS <= np.count_nonzero(body) <= MOST * body.size:
        return []
    count, parts, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(body.astype(np.uint8), np.ones((3, 3))))
    least = max(PERSON_PIXELS, SOMEBODY * stats[1:, cv2.CC_STAT_AREA].max())
    numbers = [number for number in range(1, count) if stats[number, cv2.CC_STAT_AREA] >= least]
    persons: list[npt.NDArray[np.bool_]] = []
    for part in sorted((parts == number for number in numbers), key=np.count_nonzero, reverse=True):
        columns = part.any(axis=0)
        same = next((each for each in persons if (each.any(axis=0) & columns).sum() > 0.5 * columns.sum()), None)
        if same is None:
            persons.append(part)
        else:
            same |= part
    if len(persons) < 2:
        return [body]  # with its small parts
    return sorted((each & body for each in persons), key=np.count_nonzero, reverse=True)


def _nearer_to_others(found: list[npt.NDArray[np.bool_]], person: int) -> npt.NDArray[np.bool_]:
    others = np.any([each for number, each in enumerate(found) if number != person], axis=0)
    near, far = (cv2.distanceTransform((~each).astype(np.uint8), cv2.DIST_L2, 3) for each in (others, found[person]))
    return np.asarray(near < far)


def likeliest(logits: Array, size: Size) -> npt.NDArray[np.uint8]:
    """The most likely class at every pixel of a picture of `size`, (H, W) uint8; logits (C, h, w) of any resolution."""
    highest = np.full(size[::-1], -np.inf, np.float32)
    classes = np.zeros(size[::-1], np.uint8)
    for number, values in enumerate(logits):  # one class at a time: little memory, no stack
        enlarged = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
        classes[enlarged > highest] = number
        np.maximum(highest, enlarged, out=highest)
    return classes
