"""Framing pictures for the model, and putting the result back.

Pictures are PIL images, RGB, upright. Masks are mode "L": 255 where the picture is repainted.
Sizes are (width, height), boxes (left, top, right, bottom), as in PIL.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from catvton_ov.pictures.reading import Size

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Frame:
    """How a photo meets the model: the part of the photo that is seen, and where it lies in the model's picture."""

    seen: Box  # in the photo
    place: Box  # in the model's picture; what is around it repeats the photo's edge
    size: Size  # of the model's picture

    @classmethod
    def of(cls, framing: str, mask: Image.Image, size: Size) -> Frame:
        """By the name of the framing: "whole", "mask" or "center"; `mask` has the photo's size."""
        if framing == "mask":
            return cls.around(mask, size)
        return cls.whole(mask.size, size) if framing == "whole" else cls.center(mask.size, size)

    @classmethod
    def center(cls, photo: Size, size: Size) -> Frame:
        """The largest centred crop of the model's aspect (the reference's `resize_and_crop`)."""
        (w, h), (tw, th) = photo, size
        if w / h < tw / th:
            nw, nh = w, w * th // tw
        else:
            nw, nh = h * tw // th, h
        nw, nh = max(nw, 1), max(nh, 1)
        return cls(((w - nw) // 2, (h - nh) // 2, (w + nw) // 2, (h + nh) // 2), (0, 0, tw, th), size)

    @classmethod
    def whole(cls, photo: Size, size: Size) -> Frame:
        """All of the photo, padded to the model's aspect."""
        return cls._fit((0, 0, *photo), size)

    @classmethod
    def around(cls, mask: Image.Image, size: Size, context: float = 0.3) -> Frame:
        """The mask's surroundings: its box, grown by `context` of its larger side, at the model's aspect.

        The box is shifted to stay within the photo; the whole photo where it is not smaller.
        """
        (w, h), (tw, th) = mask.size, size
        left, top, right, bottom = mask.point(lambda v: 255 * (v >= 128)).getbbox() or (0, 0, w, h)
        margin = context * max(right - left, bottom - top)
        bw, bh = right - left + 2 * margin, bottom - top + 2 * margin
        bw, bh = max(bw, bh * tw / th), max(bh, bw * th / tw)
        if bw >= w and bh >= h:
            return cls.whole(mask.size, size)
        spans = []
        for low, high, extent, limit in ((left, right, bw, w), (top, bottom, bh, h)):
            length = min(round(extent), limit)
            start = min(max(round((low + high - length) / 2), 0), limit - length)
            spans.append((start, start + length))
        (x0, x1), (y0, y1) = spans
        return cls._fit((x0, y0, x1, y1), size)

    @classmethod
    def _fit(cls, seen: Box, size: Size) -> Frame:
        w, h = seen[2] - seen[0], seen[3] - seen[1]
        fw, fh = _fitted((w, h), size)
        left, top = (size[0] - fw) // 2, (size[1] - fh) // 2
        return cls(seen, (left, top, left + fw, top + fh), size)

    def cut(self, photo: Image.Image) -> Image.Image:
        """The model's picture of an RGB photo; padding repeats the edge."""
        left, top, right, bottom = self.place
        seen = photo.crop(self.seen).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        pads = ((top, self.size[1] - bottom), (left, self.size[0] - right), (0, 0))
        return Image.fromarray(np.pad(np.asarray(seen), pads, mode="edge"))

    def cut_mask(self, mask: Image.Image) -> Image.Image:
        """The model's picture of a mask; padding is not repainted."""
        left, top, right, bottom = self.place
        cut = Image.new("L", self.size, 0)
        cut.paste(mask.crop(self.seen).resize((right - left, bottom - top), Image.Resampling.LANCZOS), (left, top))
        return cut

    def paste_back(self, photo: Image.Image, picture: Image.Image, mask: Image.Image) -> Image.Image:
        """The photo with the model's `picture` blended in by the model's `mask`, at the photo's own size.

        Where the mask is 0, and outside what was seen, the pixels are the photo's own.
        """
        extent = (self.seen[2] - self.seen[0], self.seen[3] - self.seen[1])
        picture = picture.crop(self.place).resize(extent, Image.Resampling.LANCZOS)
        mask = mask.crop(self.place).resize(extent, Image.Resampling.BILINEAR)
        result = photo.copy()
        result.paste(repaint(picture, photo.crop(self.seen), mask), self.seen[:2])
        return result


def fit_garment(garment: Image.Image, size: Size) -> Image.Image:
    """The RGB garment fitted into `size` and padded with white (the reference's `resize_and_padding`)."""
    fw, fh = _fitted(garment.size, size)
    fitted = Image.new("RGB", size, "white")
    fitted.paste(garment.resize((fw, fh), Image.Resampling.LANCZOS), ((size[0] - fw) // 2, (size[1] - fh) // 2))
    return fitted


def blur_mask(mask: Image.Image, radius: int) -> Image.Image:
    """The soft mask (diffusers' `VaeImageProcessor.blur`; the reference's factor is 9)."""
    return mask.filter(ImageFilter.GaussianBlur(radius))


def repaint(picture: Image.Image, person: Image.Image, mask: Image.Image) -> Image.Image:
    """`picture` where the mask is white, `person` where it is black (the reference's `repaint_result`)."""
    weight = np.asarray(mask, dtype=np.float64)[..., None] / 255
    blend = np.asarray(picture) * weight + np.asarray(person) * (1 - weight)
    return Image.fromarray(blend.astype(np.uint8))


def to_array(picture: Image.Image) -> npt.NDArray[np.float32]:
    """An RGB picture as (1, 3, H, W) float32 in [-1, 1]."""
    return (np.asarray(picture, dtype=np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]


def to_picture(array: npt.NDArray[np.float32]) -> Image.Image:
    """(1, 3, H, W) float32, nominally in [-1, 1], as an RGB picture."""
    scaled = np.clip(array[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1) * 255
    return Image.fromarray(scaled.round().astype(np.uint8))


def _fitted(inner: Size, outer: Size) -> Size:
    """`inner` scaled to lie within `outer`, aspect kept, by the reference's integer rule."""
    (w, h), (tw, th) = inner, outer
    fitted = (w * th // h, th) if w / h < tw / th else (tw, h * tw // w)
    return max(fitted[0], 1), max(fitted[1], 1)
