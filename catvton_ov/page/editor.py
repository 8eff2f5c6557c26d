"""Between the page's image editor and the pipeline: {"background": RGB, "layers": [RGBA, ...], "composite": None}.

What is painted on any layer, in whatever colour, is the mask; so it is the layers' alpha that counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.errors import ImageError, MaskError

PAINT = (231, 76, 60)  # what the brush and a given mask look like: see-through red
PAINT_ALPHA = 0.55
OUTLINE = (0, 120, 255)  # around what a mask spares
_PAINTED = 48  # a layer's alpha from which a pixel counts as painted, of 255

EditorValue = dict[str, Any]


def photo_and_paint(value: EditorValue | None) -> tuple[Image.Image, npt.NDArray[np.bool_]]:
    """The person's photo and what is painted on it, (H, W) of its size; nothing, where nothing is.

    Raises:
        ImageError: no photo. MaskError: a layer that does not lie on the photo.
    """
    background = (value or {}).get("background")
    if background is None or _is_blank(background):
        raise ImageError("Add a photo of the person first, or pick one of the examples.")
    painted = np.zeros(background.size[::-1], dtype=bool)
    for layer in (value or {}).get("layers") or []:
        if layer.size != background.size:
            raise MaskError("The painted layer does not fit the photo; clear it and paint again.")
        pixels = np.asarray(layer)
        painted |= (pixels[..., 3] >= _PAINTED) & ~(pixels == (*OUTLINE, 255)).all(axis=-1)
    return background, painted


def _is_blank(background: Image.Image) -> bool:
    """Whether this is what the editor gives for a canvas that was cleared: nothing but white."""
    return [colour for _, colour in background.getcolors(1) or ()] == [(255, 255, 255)]


def photo_and_mask(value: EditorValue | None) -> tuple[Image.Image, Image.Image]:
    """The person's photo and the mask (mode "L", of its size) that are in the editor.

    Raises:
        ImageError: no photo. MaskError: nothing painted, or a layer that does not lie on the photo.
    """
    photo, painted = photo_and_paint(value)
    if not painted.any():
        raise MaskError("Paint over the clothes that should change (the brush is left of the photo), then try again.")
    return photo, Image.fromarray(painted.astype(np.uint8) * np.uint8(255))


def editor_value(
    photo: Image.Image | str, mask: Image.Image | None, outline: npt.NDArray[np.bool_] | None = None
) -> EditorValue:
    """A value that shows `photo` (or its file) with `mask` (white is repainted) as a layer to paint and erase on.

    Args:
        outline: (H, W), drawn onto the layer in a colour of its own, which never counts as painted.
    """
    layers = [] if mask is None else [mask_layer(mask, outline)]
    return {"background": photo, "layers": layers, "composite": None}


def mask_layer(mask: Image.Image, outline: npt.NDArray[np.bool_] | None = None) -> Image.Image:
    """A mask as the layer that `editor_value` describes: RGBA, of its size."""
    pixels = np.zeros((*mask.size[::-1], 4), np.uint8)
    pixels[..., :3] = PAINT
    pixels[..., 3] = np.where(np.asarray(mask.convert("L")) >= 128, round(255 * PAINT_ALPHA), 0)
    if outline is not None:
        pixels[outline & (pixels[..., 3] == 0)] = (*OUTLINE, 255)
    return Image.fromarray(pixels)
