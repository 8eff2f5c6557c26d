"""Reading a photo or a mask, whoever gives it: safely, upright, in sRGB, and in one way everywhere.

Pictures come out as PIL images, RGB, upright, without metadata. Masks are mode "L": 255 where the picture is repainted.
Sizes are (width, height), as in PIL.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from catvton_ov.errors import ImageError, MaskError

Size = tuple[int, int]

# Formats that cameras, phones, shops and the page itself write. TIFF is not among them: a strip of it that is shorter
# than it says decodes to whatever the memory held before (GHSA-q45j-58j2-45rg, mended in Pillow 13).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
MAX_PIXELS = 64_000_000  # a photo above this is refused before it is decoded
MIN_SIDE = 16
BAND_PIXELS = 4_000_000  # of what is worked on at once, where more would double a large photo's memory
# What Pillow raises over the content of a bad file.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, RuntimeError, EOFError, struct.error)


@cache
def accepted_formats() -> tuple[str, ...]:
    """FORMATS, as PIL calls them; and HEIF, which iPhones save (HEIC), where requirements-heic.txt is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return FORMATS
    register_heif_opener(thumbnails=False)
    return (*FORMATS, "HEIF")


def read_photo(file: str | Path | BinaryIO, what: str = "picture", most: int = MAX_PIXELS) -> Image.Image:
    """A photo from a file: RGB, upright, sRGB, transparent pixels white, without metadata.

    Args:
        what: the photo's name in messages.
        most: pixels that are accepted.

    Raises:
        ImageError: see `open_picture`.
    """
    picture = open_picture(file, what, most)
    with _reading(what):
        return _rgb(picture)


def read_mask(file: str | Path | BinaryIO, what: str = "mask", most: int = MAX_PIXELS) -> Image.Image:
    """A mask from a file: mode "L", upright, transparent pixels black; takes and raises what `read_photo` does."""
    return as_gray(open_picture(file, what, most), what)


def read_layer(file: str | Path | BinaryIO, what: str = "layer", most: int = MAX_PIXELS) -> Image.Image:
    """A layer of the page's editor: RGBA; takes and raises what `read_photo` does."""
    picture = open_picture(file, what, most)
    with _reading(what):
        return picture.convert("RGBA")


def open_picture(file: str | Path | BinaryIO, what: str = "picture", most: int = MAX_PIXELS) -> Image.Image:
    """Decode a picture file, upright, in whatever mode it has; the first frame of an animation.

    Raises:
        ImageError: not a picture in an accepted format, cut off, more than `most` pixels, or a side below MIN_SIDE.
    """
    with _reading(what):
        try:
            with Image.open(file, formats=accepted_formats()) as image:
                check_pixels(image, what, most)
                return upright(image)
        except FileNotFoundError:
            raise ImageError(f"There is no file for the {what} at {file}.") from None
        except OSError as error:
            if error.errno is None:  # of the picture, not of the file
                raise
            raise ImageError(f"The {what} cannot be read: {error.strerror}.") from None


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Make one ImageError of everything Pillow raises over a file's content, and keep its warnings quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError:
        known = ", ".join(accepted_formats())
        raise ImageError(f"The {what} is not a picture in a format known here ({known}).") from None
    except Image.DecompressionBombError:
        raise ImageError(f"The {what} has too many pixels; at most {MAX_PIXELS / 1e6:.0f} megapixels.") from None
    except MemoryError:
        raise ImageError(f"The {what} takes more memory than there is for one picture: save it smaller.") from None
    except _DAMAGE as error:
        raise ImageError(
            f"The {what} is damaged, cut off or of an unusual kind and cannot be read; save it again as PNG or JPEG."
        ) from error


def check_pixels(image: Image.Image, what: str = "picture", most: int = MAX_PIXELS) -> None:
    """Raise ImageError unless the number of pixels lies within the bounds."""
    width, height = image.size
    if width * height > most:
        raise ImageError(
            f"The {what} has {width}x{height} pixels; at most {most / 1e6:.0f} megapixels are accepted. "
            "Shrink it first."
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"The {what} is {width}x{height} pixels; both sides need at least {MIN_SIDE}.")


def upright(image: Image.Image) -> Image.Image:
    """The picture, or a copy turned the way its EXIF orientation says; EXIF that cannot be read says nothing."""
    image.load()
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except _DAMAGE:
        return image


def as_rgb(image: Image.Image, what: str = "picture") -> Image.Image:
    """Any PIL image as upright RGB without metadata; transparent pixels become white."""
    check_pixels(image, what)
    with _reading(what):
        result = _rgb(upright(image))
        return result.copy() if result is image else result


def _rgb(image: Image.Image) -> Image.Image:
    """An upright picture as RGB without metadata; the same object where it is that already."""
    if image.mode == "RGB" and not image.info:
        return image
    image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode == "P":
        image = image.convert("RGB")
    image = _in_srgb(image)
    image = _on(image, "white") if image.mode == "RGBA" else image.convert("RGB")
    image.info = {}
    return image


def as_gray(image: Image.Image, what: str = "mask") -> Image.Image:
    """Any PIL image as an upright mask (mode "L"), white where it is repainted; transparent pixels become black."""
    with _reading(what):
        image = _eight_bits(upright(image))
        if image.has_transparency_data:
            image = _on(image.convert("RGBA"), "black")
        image = image.convert("L")
    image.info = {}
    return image


def as_mask(image: Image.Image, size: Size) -> Image.Image:
    """Any PIL image as a mask of `size`: white is repainted; transparent pixels count as black.

    Raises:
        MaskError: of another size than the photo, nothing white in it, or nothing but white.
    """
    mask = as_gray(image)
    if mask.size != size:
        raise MaskError(
            f"The mask has {mask.size[0]}x{mask.size[1]} pixels, the photo of the person {size[0]}x{size[1]}; "
            "they must have the same size."
        )
    values = np.asarray(mask)
    if values.max() < 128:
        faint = f" Its brightest value is {values.max()}, and 255 is repainted." if values.max() else ""
        raise MaskError(f"The mask is empty: paint over the clothes that should change.{faint}")
    if values.min() >= 128:
        raise MaskError("The mask covers the whole photo: leave out at least the face and the background.")
    return mask


def _in_srgb(image: Image.Image) -> Image.Image:
    """The colours that its profile means, as those of sRGB, which is what everything here takes pixels for.

    Phones save photos in Display P3. A profile that cannot be used says nothing.
    """
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "L", "CMYK"):
        return image
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(given):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        srgb = ImageCms.profileToProfile(image, given, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, *_DAMAGE):
        return image
    return image if srgb is None else srgb


def _on(image: Image.Image, ground: str) -> Image.Image:
    """An RGBA picture as RGB, in front of a colour."""
    result = Image.new("RGB", image.size)
    for box in bands(image.size, BAND_PIXELS):
        band = image.crop(box)
        result.paste(Image.alpha_composite(Image.new("RGBA", band.size, ground), band).convert("RGB"), box[:2])
    return result


def _eight_bits(image: Image.Image) -> Image.Image:
    """Gray values of more than 8 bits as mode "L", any other picture as it is; integers are taken for 16 bits."""
    if image.mode.startswith("F"):
        return Image.fromarray(_float_to_gray(np.asarray(image)))
    if not image.mode.startswith("I"):
        return image
    result = Image.new("L", image.size)
    for box in bands(image.size, BAND_PIXELS):
        values = np.asarray(image.crop(box)).astype(np.int64).clip(0, 65535)
        result.paste(Image.fromarray(((values + 128) // 257).astype(np.uint8)), box[:2])  # v / 257, rounded
    return result


def _float_to_gray(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Floats of 0..1 or 0..255 to 0..255."""
    gray = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=255.0, neginf=0.0)
    if gray.max() <= 1.0:
        gray = gray * 255
    return np.clip(gray, 0, 255).round().astype(np.uint8)


def bands(size: Size, pixels: int) -> Iterator[tuple[int, int, int, int]]:
    """Boxes of whole rows that cover a picture, each of about so many pixels."""
    width, height = size
    rows = max(1, pixels // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(top + rows, height)
