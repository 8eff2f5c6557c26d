"""From label maps to the mask a person sees: the cloth-agnostic mask, nudged, and what it spares."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.errors import MaskError
from catvton_ov.masking.agnostic import cloth_agnostic_mask, protected_area
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.options import MaskAdjustment

Area = npt.NDArray[np.bool_]


def auto_mask(maps: LabelMaps, category: str, adjustment: MaskAdjustment | None = None) -> Image.Image:
    """The area to repaint for a garment of `category`.

    However far it is grown, hands, feet and face stay outside.

    Returns:
        Mode "L", of the photo's size: 255 is repainted.

    Raises:
        MaskError: an unknown category, or nothing on this photo that a garment of the category could replace.
    """
    mask = cloth_agnostic_mask(maps.densepose, maps.lip, maps.atr, category) > 0
    if not mask.any():
        raise MaskError(
            "No person was found whose clothes could be masked: choose a photo that shows one, "
            "or paint the mask by hand."
        )
    if adjustment is not None and adjustment != MaskAdjustment():
        mask = _adjusted(mask, adjustment, body_height(maps)) & ~protected_area(maps.densepose, maps.lip, maps.atr)
        if not mask.any():
            raise MaskError("The mask has shrunk to nothing: shrink it less.")
    return Image.fromarray(mask.astype(np.uint8) * np.uint8(255))


def body_height(maps: LabelMaps) -> int:
    """In pixels: of what DensePose sees, or of all that is worn where it sees nobody."""
    body = maps.densepose > 0 if maps.densepose.any() else maps.lip > 0
    rows = np.nonzero(body.any(axis=1))[0]
    return int(rows[-1] - rows[0] + 1) if rows.size else maps.densepose.shape[0]


def protected_outline(maps: LabelMaps) -> Area:
    """A thin line around the hands, feet and face that no mask covers, (H, W)."""
    area = protected_area(maps.densepose, maps.lip, maps.atr).astype(np.uint8)
    width = 1 + max(area.shape) // 400
    wider = cv2.dilate(area, np.ones((2 * width + 1,) * 2, np.uint8))
    outline: Area = (wider > 0) & (area == 0)
    return outline


def _adjusted(mask: Area, adjustment: MaskAdjustment, height: int) -> Area:
    pixels = {field.name: round(getattr(adjustment, field.name) * height / 100) for field in fields(adjustment)}
    picture: npt.NDArray[Any] = mask.astype(np.uint8)
    if grow := pixels["grow"]:  # by distances, whose cost does not grow with them as that of a disc does
        outside = grow > 0
        distance = cv2.distanceTransform(1 - picture if outside else picture, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        picture = ((distance <= grow) if outside else (distance > -grow)).astype(np.uint8)
    # A pixel is in when one of those that the line covers is; the anchor is where on the line the pixel lies.
    for name, (vertical, at_end) in {"up": (1, 0), "down": (1, 1), "left": (0, 0), "right": (0, 1)}.items():
        if reach := pixels[name]:
            shape = (reach + 1, 1) if vertical else (1, reach + 1)
            end = (0, reach) if vertical else (reach, 0)
            picture = cv2.dilate(picture, np.ones(shape, np.uint8), anchor=end if at_end else (0, 0))
    return picture > 0
