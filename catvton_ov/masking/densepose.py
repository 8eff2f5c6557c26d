"""DensePose (arXiv 1802.00434): the persons in a photo, and which of 24 parts of the body each pixel shows.

::

    photo --> backbone --> p2..p6 --> proposals --> pooled --> box head --> persons' boxes
                  +------> decoder ------------------------> pooled --> head --> label maps

Restates `DefaultPredictor` of detectron2 with `densepose_rcnn_R_50_FPN_s1x`, as CatVTON uses it
(`model/DensePose/__init__.py`). The networks are made by `catvton_ov.export.densepose`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.errors import ImageError, OptionsError
from catvton_ov.masking.detection import Array, clip, detect, propose
from catvton_ov.masking.labels import Labels
from catvton_ov.masking.roi import pool, resize
from catvton_ov.pictures.reading import Size, as_rgb
from catvton_ov.runtime import Network, Runtime

PARTS = ("densepose_backbone", "densepose_box_head", "densepose_head")  # of a bundle

_MEAN = np.array([103.53, 116.28, 123.675], np.float32)  # of the training pictures, BGR
_MULTIPLE = 32  # the network's picture is padded to this
_BOX_BINS = 7  # a side, for the box head
_PART_BINS = 28  # a side, for the DensePose head


@dataclass(frozen=True)
class DensePoseOptions:
    min_score: float = 0.8  # probability above which a detection is a person; CatVTON's
    max_persons: int = 8  # the largest so many are parsed
    label_side: int = 1024  # photos with a longer side are parsed at this size and their labels enlarged; CatVTON's
    short_side: int = 800  # of the network's picture, in pixels, unless the long side would exceed its bound
    long_side: int = 1333

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise OptionsError(f"min_score must be between 0 and 1; got {self.min_score}.")
        for name in ("max_persons", "label_side", "short_side", "long_side"):
            if getattr(self, name) < 1:
                raise OptionsError(f"{name} must be at least 1; got {getattr(self, name)}.")


@dataclass(frozen=True)
class Person:
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels of the photo
    score: float  # probability that this is a person
    labels: Labels  # (h, w) uint8, 0..24, of the whole photo, at most `label_side` long


@dataclass(frozen=True)
class Detections:
    """Who was found in a photo: nobody, where `persons` is empty."""

    size: Size  # (width, height) of the photo
    persons: tuple[Person, ...]  # the largest first

    def label_map(self, person: int = 0) -> Labels:
        """The labels of one person, the largest unless another is chosen.

        Returns:
            (H, W) uint8 of the photo's size: 0 is background, 1..24 are parts of the body (see `labels.DENSEPOSE`).
            All background where nobody was found.

        Raises:
            OptionsError: there is no such person.
        """
        if not self.persons and person == 0:
            return np.zeros(self.size[::-1], np.uint8)
        if not 0 <= person < len(self.persons):
            raise OptionsError(
                f"There is no person number {person + 1}, the largest being the first; found: {len(self.persons)}."
            )
        labels = Image.fromarray(self.persons[person].labels)
        return np.array(labels.resize(self.size, Image.Resampling.NEAREST))


class Features(NamedTuple):
    """What the backbone finds in a picture, read from the memory of the network: valid until its next picture."""

    pyramid: tuple[Array, ...]  # p2..p6, each (1, 256, H / stride, W / stride)
    decoder: Array  # (1, 256, H / 4, W / 4)
    objectness: Array  # (A,)
    anchor_deltas: Array  # (A, 4)

    @property
    def grids(self) -> list[tuple[int, int]]:
        """(rows, columns) of p2..p6."""
        return [(level.shape[2], level.shape[3]) for level in self.pyramid]


class DensePoseParser:
    """Finds the persons in a photo and labels their bodies. For one thread at a time."""

    def __init__(self, runtime: Runtime, part: Callable[[str], Path], options: DensePoseOptions | None = None) -> None:
        """`part` gives the path of a verified IR by its name in PARTS, as `Bundle.part` does."""
        self.backbone = Network(runtime, lambda: part("densepose_backbone"))
        self.box_head = Network(runtime, lambda: part("densepose_box_head"), open_shapes=True)
        self.head = Network(runtime, lambda: part("densepose_head"))
        self.options = options or DensePoseOptions()

    def __call__(self, picture: Image.Image | npt.NDArray[np.uint8]) -> Detections:
        """Parse a photo.

        Args:
            picture: an upright photo of any size; an array is RGB, (H, W, 3) uint8.

        Raises:
            ImageError: not such a picture, or one too small or too large.
            BundleDamagedError, DeviceError: a network cannot be loaded or run.
        """
        photo = _as_photo(picture)
        seen = _shrink(photo, self.options.label_side)
        shown_size = _shown_size(seen.size, self.options.short_side, self.options.long_side)
        shown = seen.resize(shown_size, Image.Resampling.BILINEAR)
        features = self.features(network_input(shown))
        proposals, _ = propose(features.objectness, features.anchor_deltas, features.grids, shown.size)
        cls_score, deltas = self.classify(features, proposals)
        boxes, scores = detect(cls_score, deltas, proposals, shown.size, self.options.min_score)

        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        largest = np.argsort(-areas, kind="stable")[: self.options.max_persons]
        persons = []
        for box, score in zip(boxes[largest], scores[largest], strict=True):
            coarse, fine = self.segment(features, box)
            labels = _paste(coarse, fine, _scaled(box, shown.size, seen.size), seen.size)
            left, top, right, bottom = _scaled(box, shown.size, photo.size).tolist()
            persons.append(Person((left, top, right, bottom), float(score), labels))
        return Detections(photo.size, tuple(persons))

    def features(self, picture: Array) -> Features:
        """Run the backbone on what `network_input` gives."""
        found = self.backbone.outputs(picture=picture)
        pyramid = tuple(found[f"p{level}"] for level in range(2, 7))
        return Features(pyramid, found["decoder"], found["objectness"], found["anchor_deltas"])

    def classify(self, features: Features, boxes: Array) -> tuple[Array, Array]:
        """For boxes (N, 4): the logits of person and background (N, 2), and the deltas to a person's box (N, 4)."""
        found = self.box_head.outputs(pooled=pool(features.pyramid[:4], boxes, _BOX_BINS))
        return found["cls_score"], found["bbox_pred"]

    def segment(self, features: Features, box: Array) -> tuple[Array, Array]:
        """For one box (4,): the logits of body or not (2, 112, 112), and of the part of the body (25, 112, 112)."""
        found = self.head.outputs(pooled=pool([features.decoder], box[None], _PART_BINS))
        return found["coarse_segm"][0], found["fine_segm"][0]

    def release(self) -> None:
        """Give the compiled networks' memory back; the next call compiles again."""
        for network in (self.backbone, self.box_head, self.head):
            network.release()


def network_input(picture: Image.Image) -> Array:
    """A picture as the backbone takes it: (1, 3, H, W) BGR in 0..255 less the mean, padded to multiples of 32."""
    width, height = picture.size
    padded = np.zeros((1, 3, -(-height // _MULTIPLE) * _MULTIPLE, -(-width // _MULTIPLE) * _MULTIPLE), np.float32)
    padded[0, :, :height, :width] = (np.asarray(picture)[:, :, ::-1] - _MEAN).transpose(2, 0, 1)
    return padded


def box_labels(coarse: Array, fine: Array, size: Size) -> Labels:
    """The labels of a box (h, w) uint8 from its logits, see `DensePoseParser.segment`; `size` is (w, h) in pixels."""
    body = resize(coarse, size).argmax(axis=0) > 0
    labels: Labels = (resize(fine, size).argmax(axis=0) * body).astype(np.uint8)
    return labels


def _paste(coarse: Array, fine: Array, box: Array, size: Size) -> Labels:
    """The label map of a picture of `size` that shows a person in `box`."""
    left, top = box[:2].astype(int)
    width, height = np.maximum((box[2:] - box[:2]).astype(int), 1)
    labels = np.zeros(size[::-1], np.uint8)
    labels[top : top + height, left : left + width] = box_labels(coarse, fine, (width, height))
    return labels


def _scaled(box: Array, size: Size, to: Size) -> Array:
    """A box in a picture of `size`, in the same picture at another size."""
    return clip(box * np.divide(to * 2, size * 2, dtype=np.float32), to)


def _as_photo(picture: Image.Image | npt.NDArray[np.uint8]) -> Image.Image:
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ImageError(f"Expected a photo as RGB uint8 (H, W, 3); got {picture.dtype}{picture.shape}.")
        picture = Image.fromarray(picture)
    return as_rgb(picture, "photo of the person")


def _shrink(photo: Image.Image, longest: int) -> Image.Image:
    """The photo, or as the reference shrinks it if it has a longer side."""
    scale = longest / max(photo.size)
    if scale >= 1:
        return photo
    size = tuple(max(int(side * scale), 1) for side in photo.size)
    return Image.fromarray(cv2.resize(np.asarray(photo), size))


def _shown_size(size: Size, short_side: int, long_side: int) -> Size:
    """The size to show the network a picture of `size` at (detectron2's `ResizeShortestEdge`)."""
    scale = short_side / min(size)
    width, height = (short_side if side == min(size) else side * scale for side in size)
    scale = min(long_side / max(width, height), 1)
    return int(width * scale + 0.5), int(height * scale + 0.5)
