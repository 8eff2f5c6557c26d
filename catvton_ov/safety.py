"""The safety checker of Stable Diffusion: which results are not shown, and what is shown in their place.

CLIP's image encoder gives the picture a direction; a score is its cosine with the direction of a concept, minus that
concept's threshold. The network is exported with concepts and thresholds inside; what comes before and after is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydantic import TypeAdapter, ValidationError

from catvton_ov.bundle import Bundle
from catvton_ov.errors import BundleDamagedError, DeviceError
from catvton_ov.pictures.reading import Size
from catvton_ov.runtime import Array, Network, Runtime

CONCEPTS = 17  # what is not to be shown
SPECIAL_CARE = 3  # what makes the checker stricter about the concepts
PART = "safety_checker"  # of a bundle
SETTINGS = f"{PART}/preprocessing.json"  # holds the fields of Preprocessing
WITHHELD = "The safety checker withheld this result."


@dataclass(frozen=True)
class Preprocessing:
    """How CLIP sees a picture. The defaults are CLIP's own, published with Stable Diffusion 1.5 too."""

    size: int = 224  # pixels: the side of the square in the picture's middle that is seen
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)  # RGB, of values in [0, 1]
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)


def open_checker(bundle: Bundle, runtime: Runtime, locate: Callable[[str], Path] | None = None) -> SafetyChecker | None:
    """The safety checker that a bundle brings, None if it brings none; compiled when it is first asked.

    Args:
        locate: gives the path of a part's IR; `bundle.part` if not given.

    Raises:
        BundleDamagedError: its settings cannot be read.
    """
    if PART not in bundle.manifest.parts:
        return None
    try:
        bundle.verify(SETTINGS)
        settings = TypeAdapter(Preprocessing).validate_json((bundle.folder / SETTINGS).read_bytes())
    except (KeyError, OSError, ValidationError) as error:
        raise BundleDamagedError(f"{SETTINGS} of the bundle is missing or cannot be read.") from error
    return SafetyChecker(Network(runtime, lambda: (locate or bundle.part)(PART)), settings)


class SafetyChecker:
    """Tells whether a picture may be shown."""

    def __init__(self, network: Network, preprocessing: Preprocessing) -> None:
        """`network` takes `pixel_values` (1, 3, size, size) and gives the scores that `decide` reads, both float32."""
        self.network = network
        self.preprocessing = preprocessing

    def flagged(self, picture: Image.Image) -> bool:
        """Whether the picture is to be withheld; errors are those of `scores`."""
        return bool(decide(self.scores(picture))[0])

    def scores(self, picture: Image.Image) -> Array:
        """The scores of an upright picture of any size, as `decide` reads them.

        Raises:
            BundleDamagedError: the network is not this checker's.
            DeviceError: the device cannot run it, or computes something that is no number.
        """
        scores = self.network(pixel_values=preprocess(picture, self.preprocessing))
        if scores.shape != (1, CONCEPTS + SPECIAL_CARE):
            raise BundleDamagedError(
                f"The safety checker must give {CONCEPTS + SPECIAL_CARE} scores; it gave {scores.shape}."
            )
        if not np.isfinite(scores).all():  # which no comparison would flag
            raise DeviceError("The safety checker gave no usable scores on this device, so no result can be shown.")
        return scores


def preprocess(picture: Image.Image, how: Preprocessing) -> Array:
    """The picture as CLIP takes it (transformers' CLIPImageProcessor, to the bit).

    The shorter side is scaled to `how.size` (bicubic), the middle of the longer one is kept.

    Returns:
        shape = (1, 3, size, size), float32, RGB: values in [0, 1], minus the mean, by the deviation.
    """
    size = how.size
    picture = _middle(picture)
    width, height = picture.size
    longer = size * max(width, height) // min(width, height)
    scaled = picture.convert("RGB").resize(
        (size, longer) if width <= height else (longer, size), Image.Resampling.BICUBIC
    )
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    seen = np.asarray(scaled.crop((left, top, left + size, top + size)))
    values = (seen * (1 / 255)).astype(np.float32)
    mean, std = np.array(how.mean, np.float32), np.array(how.std, np.float32)
    return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1)[None])


def _middle(picture: Image.Image, most: int = 16) -> Image.Image:
    """The picture without what lies so far from its middle that scaling it would only cost memory."""
    width, height = picture.size
    reach = most * min(width, height)
    left, top = max(width - reach, 0) // 2, max(height - reach, 0) // 2
    return picture.crop((left, top, width - left, height - top)) if left or top else picture


def decide(scores: Array) -> npt.NDArray[np.bool_]:
    """The rule of diffusers' StableDiffusionSafetyChecker: which pictures are flagged.

    A score counts as positive if it still is once rounded to three decimals. A picture with a positive special-care
    score has 0.01 added to each of its concept scores; one with a positive concept score is flagged.

    Args:
        scores: shape = (N, 20), float32, not rounded: of the 17 concepts, then of the 3 special-care concepts.

    Returns:
        shape = (N,), bool.
    """
    concepts, special = scores[:, :CONCEPTS], scores[:, CONCEPTS:]
    care = np.any(np.round(special, 3) > 0, axis=1, keepdims=True)
    adjusted = concepts + np.float32(0.01) * care
    flags: npt.NDArray[np.bool_] = np.any(np.round(adjusted, 3) > 0, axis=1)
    return flags


def notice_picture(size: Size) -> Image.Image:
    """A plain RGB picture of `size` (width, height) that says in one sentence that the result was withheld.

    The letters are as large as the picture allows, up to a twelfth of its shorter side; where not even the smallest
    legible ones fit, it stays blank.
    """
    notice = Image.new("RGB", size, (236, 236, 236))
    draw = ImageDraw.Draw(notice)
    width, height = size
    points = max(min(size) / 12, 10.0)
    while points >= 7:
        font = ImageFont.load_default(points)
        text = _wrap(WITHHELD, font, 0.9 * width)
        left, top, right, bottom = draw.multiline_textbbox((0, 0), text, font, align="center")
        if right - left <= 0.9 * width and bottom - top <= 0.9 * height:
            corner = ((width - left - right) / 2, (height - top - bottom) / 2)
            draw.multiline_text(corner, text, (64, 64, 64), font, align="center")
            break
        points *= 0.9
    return notice


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Break the text between words so that lines are no wider than `width`, if its words are not."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)
