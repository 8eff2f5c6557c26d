"""Between the page's image editor and the pipeline: {"background", "layers", "composite"}.

What is painted on any layer, in whatever colour, is the mask; so it is the layers' alpha that counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from catvton_ov.errors import ImageError, MaskError

PAINT = (231, 76, 60)  # what the brush and a given mask look like: see-through red
PAINT_ALPHA = 0.55
_PAINTED = 48  # a layer's alpha from which a pixel counts as painted, of 255

EditorValue = dict[str, Any]


def photo_and_mask(value: EditorValue | None) -> tuple[Image.Image, Image.Image]:
    """The person's photo and the mask (mode "L", of its size) that are in the editor.

    Raises:
        ImageError: no photo. MaskError: nothing painted, or a layer that does not lie on the photo.
    """
    background = (value or {}).get("background")
    if background is None:
        raise ImageError("Add a photo of the person first, or pick one of the examples.")
    mask = np.zeros(background.size[::-1], dtype=bool)
    for layer in (value or {}).get("layers") or []:
        if layer.size != background.size:
            raise MaskError("The painted layer does not fit the photo; clear it and paint again.")
        mask |= np.asarray(layer.convert("RGBA"))[..., 3] >= _PAINTED
    if not mask.any():
        raise MaskError("Paint over the clothes that should change (the brush is left of the photo), then try again.")
    return background, Image.fromarray(mask.astype(np.uint8) * 255)


def editor_value(photo: Image.Image | str, mask: Image.Image | None) -> EditorValue:
    """A value that shows `photo` (or its file) with `mask` (white is repainted) as a layer to paint and erase on."""
    layers = []
    if mask is not None:
        layer = Image.new("RGBA", mask.size, (*PAINT, 0))
        alpha = round(255 * PAINT_ALPHA)
        layer.putalpha(mask.convert("L").point(lambda v: alpha if v >= 128 else 0))
        layers.append(layer)
    return {"background": photo, "layers": layers, "composite": None}
