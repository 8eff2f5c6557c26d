"""A garment out of a photo of somebody who wears it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from catvton_ov.errors import MaskError
from catvton_ov.masking.agnostic import CATEGORIES
from catvton_ov.masking.labels import ATR, LIP, LabelMaps, area

LEAST = 0.002  # of the photo; what is smaller is no garment


def worn_garment(photo: Image.Image, maps: LabelMaps, category: str) -> Image.Image:
    """The worn clothes of `category` on white, cut to their box with a margin.

    Args:
        photo: RGB, upright.
        maps: of this photo; a pixel belongs to the garment when both LIP and ATR say so, or the only one of them
            that sees any.

    Raises:
        MaskError: an unknown category, or no such garment in the photo.
    """
    if category not in CATEGORIES:
        raise MaskError(f"Unknown garment category {category!r}; expected one of {', '.join(CATEGORIES)}.")
    clothes = CATEGORIES[category].clothes
    lip, atr = area(maps.lip, clothes, LIP), area(maps.atr, clothes, ATR)
    garment = lip & atr if lip.any() and atr.any() else lip | atr
    if garment.mean() < LEAST:
        raise MaskError("No such garment was found on the garment photo; switch off cutting it out, or choose another.")
    pixels = np.where(garment[..., None], np.asarray(photo), np.uint8(255)).astype(np.uint8)
    rows, columns = np.nonzero(garment.any(axis=1))[0], np.nonzero(garment.any(axis=0))[0]
    margin = max(8, (rows[-1] - rows[0]) // 20)
    box = (columns[0] - margin, rows[0] - margin, columns[-1] + 1 + margin, rows[-1] + 1 + margin)
    cut = Image.new("RGB", (int(box[2] - box[0]), int(box[3] - box[1])), "white")
    cut.paste(Image.fromarray(pixels), (-int(box[0]), -int(box[1])))
    return cut
