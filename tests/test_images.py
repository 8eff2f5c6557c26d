"""Pictures: opened safely whatever they are, framed for the model, pasted back without touching the rest."""

from __future__ import annotations

import io
import itertools
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from catvton_ov.errors import ImageError, MaskError
from catvton_ov.images import Frame, blur_mask, fit_garment, repaint, to_array, to_picture
from catvton_ov.options import FRAMINGS
from catvton_ov.pictures.reading import FORMATS, accepted_formats, as_mask, as_rgb, open_picture, read_photo
from tests.hostile import heic

GOLDEN = Path(__file__).parent / "golden" / "tryon"
MODEL = (64, 128)  # of the goldens
RESULTS = sorted(path.name for path in GOLDEN.glob("result_*.png"))


def golden(name: str) -> Image.Image:
    return Image.open(GOLDEN / name)


def difference(actual: Image.Image, expected: Image.Image) -> int:
    assert (actual.size, actual.mode) == (expected.size, expected.mode)
    return int(np.abs(np.asarray(actual, int) - np.asarray(expected, int)).max())


def colours(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Every pixel another: what resizing or shifting would not leave as it is."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=format, **options)
    return stream.getvalue()


# --- the same as the reference -----------------------------------------------------------------------------------


def test_cropping_padding_and_blurring_give_the_reference_pictures() -> None:
    person, mask = golden("person.png"), golden("mask.png")
    frame = Frame.center(person.size, MODEL)
    assert difference(frame.cut(person), golden("person_cropped.png")) <= 1
    assert difference(frame.cut_mask(mask), golden("mask_cropped.png")) <= 1
    assert difference(blur_mask(frame.cut_mask(mask), 9), golden("mask_blurred.png")) <= 1
    assert difference(fit_garment(golden("garment.png"), MODEL), golden("garment_padded.png")) <= 1


@pytest.mark.parametrize("name", RESULTS)
def test_repainting_gives_the_reference_picture(name: str) -> None:
    picture = repaint(golden(name), golden("person_cropped.png"), golden("mask_blurred.png"))
    assert difference(picture, golden(name.replace("result", "repainted"))) <= 1


def test_a_picture_survives_the_way_to_the_model_and_back() -> None:
    picture = colours((9, 17))
    array = to_array(picture)
    assert array.shape == (1, 3, 17, 9)
    assert (array.min(), array.max()) == (-1, 1)
    assert difference(to_picture(array), picture) == 0
    assert to_picture(np.full((1, 3, 1, 1), 7, np.float32)).getpixel((0, 0)) == (255, 255, 255)


# --- framing -----------------------------------------------------------------------------------------------------

PHOTOS = [(16, 16), (17, 67), (40, 160), (160, 40), (63, 129), (64, 128), (101, 117), (333, 501), (16, 900), (900, 17)]
MODELS = [(64, 128), (128, 64), (48, 48)]


def blob(size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """A mask of `size` with the box (in parts of the photo) white."""
    (w, h), (x0, y0, x1, y1) = size, box
    mask = np.zeros((h, w), np.uint8)
    mask[int(y0 * h) : max(int(y1 * h), int(y0 * h) + 1), int(x0 * w) : max(int(x1 * w), int(x0 * w) + 1)] = 255
    return Image.fromarray(mask)


BLOBS = [(0.3, 0.3, 0.7, 0.6), (0, 0, 0.2, 0.2), (0.85, 0.9, 1, 1), (0, 0.4, 1, 0.6)]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_any_photo_is_framed_within_its_bounds_and_pasted_back_untouched_around(framing: str) -> None:
    for photo_size, model, box in itertools.product(PHOTOS, MODELS, BLOBS):
        mask = blob(photo_size, box)
        frame = Frame.of(framing, mask, model)
        case = f"{framing} {photo_size} {model} {box}: {frame}"

        x0, y0, x1, y1 = frame.seen
        left, top, right, bottom = frame.place
        assert 0 <= x0 < x1 <= photo_size[0], case
        assert 0 <= y0 < y1 <= photo_size[1], case
        assert 0 <= left < right <= model[0], case
        assert 0 <= top < bottom <= model[1], case
        # Neither stretched nor squeezed, but for the rounding to whole pixels.
        scales = ((right - left) / (x1 - x0), (bottom - top) / (y1 - y0))
        assert abs(scales[0] - scales[1]) <= max(1 / (x1 - x0), 1 / (y1 - y0)) * max(1, *scales) + 1e-9, case

        photo = colours(photo_size)
        seen, soft = frame.cut(photo), blur_mask(frame.cut_mask(mask), 4)
        assert (seen.size, soft.size) == (model, model), case
        result = frame.paste_back(photo, Image.new("RGB", model, (255, 0, 255)), soft)
        assert (result.size, result.mode) == (photo_size, "RGB"), case
        weight = np.zeros((photo_size[1], photo_size[0]), np.uint8)
        weight[y0:y1, x0:x1] = soft.crop(frame.place).resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
        kept = weight == 0
        assert np.array_equal(np.asarray(result)[kept], np.asarray(photo)[kept]), case
        painted = weight == 255
        assert (np.asarray(result)[painted] == (255, 0, 255)).all(), case


@pytest.mark.parametrize("photo_size", PHOTOS)
def test_whole_shows_everything_and_mask_shows_the_whole_mask(photo_size: tuple[int, int]) -> None:
    for model, box in itertools.product(MODELS, BLOBS):
        mask = blob(photo_size, box)
        assert Frame.of("whole", mask, model).seen == (0, 0, *photo_size)
        x0, y0, x1, y1 = Frame.of("mask", mask, model).seen
        m0, n0, m1, n1 = mask.getbbox()
        assert x0 <= m0 < m1 <= x1
        assert y0 <= n0 < n1 <= y1


def test_mask_framing_looks_closer_than_whole() -> None:
    mask = blob((800, 1000), (0.4, 0.4, 0.6, 0.5))
    x0, y0, x1, y1 = Frame.of("mask", mask, MODEL).seen
    assert (x1 - x0) * (y1 - y0) < 0.2 * 800 * 1000


def test_padding_repeats_the_edge_and_is_not_repainted() -> None:
    photo = colours((100, 20))
    frame = Frame.whole(photo.size, MODEL)
    assert frame.place == (0, 58, 64, 70)
    seen = np.asarray(frame.cut(photo))
    assert (seen[:58] == seen[58]).all()
    assert (seen[70:] == seen[69]).all()
    mask = np.asarray(frame.cut_mask(Image.new("L", photo.size, 255)))
    assert (mask[58:70] == 255).all()
    assert not mask[:58].any()
    assert not mask[70:].any()


# --- picture modes -----------------------------------------------------------------------------------------------

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def halves(mode: str, left: object, right: object) -> Image.Image:
    image = Image.new(mode, (32, 32), left)
    image.paste(right, (16, 0, 32, 32))
    return image


def palette(mode: str) -> Image.Image:
    """Red on the left, transparent on the right."""
    if mode == "PA":
        return halves("RGBA", (*RED, 255), (*BLUE, 0)).convert("PA")
    image = halves("P", 0, 1)
    image.putpalette([*RED, *BLUE])
    image.info["transparency"] = 1
    return image


def floats(low: float, high: float) -> Image.Image:
    values = np.full((32, 32), low, np.float32)
    values[:, 16:] = high
    values[0, 0] = np.nan
    values[1, 0] = -np.inf
    return Image.fromarray(values)


GRAY = (128, 128, 128)
MODES: dict[str, tuple[Callable[[], Image.Image], tuple[int, ...], tuple[int, ...]]] = {
    "1": (lambda: halves("1", 0, 1), (0, 0, 0), WHITE),
    "L": (lambda: halves("L", 0, 128), (0, 0, 0), GRAY),
    "LA, transparent is white": (lambda: halves("LA", (128, 255), (0, 0)), GRAY, WHITE),
    "P with transparency": (lambda: palette("P"), RED, WHITE),
    "PA": (lambda: palette("PA"), RED, WHITE),
    "RGBA": (lambda: halves("RGBA", (*RED, 255), (*BLUE, 0)), RED, WHITE),
    "RGBA, half transparent": (lambda: halves("RGBA", (*RED, 255), (0, 0, 0, 127)), RED, GRAY),
    "CMYK": (lambda: halves("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)), RED, BLUE),
    "I;16": (lambda: Image.fromarray(np.asarray(halves("L", 0, 128)).astype(np.uint16) * 257), (0, 0, 0), GRAY),
    "I": (lambda: Image.fromarray(np.asarray(halves("L", 0, 128)).astype(np.int32) * 257), (0, 0, 0), GRAY),
    "F, 0..1": (lambda: floats(0, 128 / 255), (0, 0, 0), GRAY),
    "F, 0..255": (lambda: floats(255, 128), WHITE, GRAY),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_plain_rgb(mode: str) -> None:
    make, left, right = MODES[mode]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = as_rgb(make())
    assert (image.mode, image.info) == ("RGB", {})
    assert [image.getpixel((x, 9)) for x in (4, 28)] == [left, right]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_photo_taken_sideways_is_the_upright_one(tmp_path: Path, format: str, orientation: int) -> None:
    original = Image.new("RGB", (48, 32), "white")
    original.paste(RED, (0, 0, 16, 16))
    original.paste(BLUE, (32, 16, 48, 32))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = original.transpose(undo[orientation]) if orientation in undo else original
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    (tmp_path / "photo").write_bytes(encoded(stored, format, exif=exif, **lossless))

    opened = as_rgb(open_picture(tmp_path / "photo"))
    assert difference(opened, original) <= (2 if format == "JPEG" else 0)
    assert difference(as_rgb(Image.open(tmp_path / "photo")), opened) == 0  # a lazily opened file as well
    assert not opened.getexif()


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, format: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "white")]
    lossless = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], duration=50, **lossless)
    (tmp_path / "animation").write_bytes(data)
    with Image.open(tmp_path / "animation") as image:
        assert image.n_frames == 3
    picture = as_rgb(open_picture(tmp_path / "animation"))
    assert np.abs(np.asarray(picture, int) - RED).max() <= 1


@pytest.mark.parametrize("format", [*FORMATS, "MPO"])
def test_every_format_on_the_list_is_opened(format: str) -> None:
    image = Image.new("RGB", (32, 24), (200, 30, 60))
    opened = as_rgb(open_picture(io.BytesIO(encoded(image, format))))
    assert difference(opened, image) <= 8


def test_exif_that_cannot_be_read_does_not_spoil_a_photo() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    data = encoded(Image.new("RGB", (32, 24)), "JPEG", exif=exif)
    spoiled = data.replace(b"MM\x00*", b"M?\x00*")
    assert spoiled != data
    assert as_rgb(open_picture(io.BytesIO(spoiled))).size == (32, 24)


# --- what is refused ---------------------------------------------------------------------------------------------


def refusal(file: object, what: str = "photo of the person") -> str:
    """The one sentence about a picture, quiet otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError) as raised:
            as_rgb(open_picture(file, what), what)  # type: ignore[arg-type]
    message = str(raised.value)
    assert what in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP"])
def test_a_picture_cut_off_anywhere_is_refused_in_one_sentence(format: str) -> None:
    data = encoded(colours((48, 40)), format)
    for length in (0, 1, 9, 30, 64, len(data) // 4, len(data) // 2, len(data) * 9 // 10):
        assert "damaged, cut off" in (text := refusal(io.BytesIO(data[:length]))) or "not a picture" in text


def test_a_cut_off_picture_that_was_opened_by_the_caller_is_refused_alike() -> None:
    data = encoded(colours((48, 40)), "PNG")
    for read in (as_rgb, lambda image: as_mask(image, (48, 40))):
        with pytest.raises(ImageError, match="damaged, cut off"):
            read(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_a_heic_is_read_where_its_extra_is_installed_and_refused_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Image.new("RGB", (64, 48), (200, 30, 60))
    content = heic(photo)
    assert difference(read_photo(io.BytesIO(content)), photo) <= 4
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    accepted_formats.cache_clear()
    try:
        assert "not a picture in a format known here (PNG, JPEG, WEBP, GIF, BMP, AVIF)" in refusal(io.BytesIO(content))
    finally:
        accepted_formats.cache_clear()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello\n" * 50, b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"></svg>', b"%PDF-1.4\n"],
)
def test_a_file_that_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "photo.png").write_bytes(content)
    assert "is not a picture in a format known here (PNG, JPEG" in refusal(tmp_path / "photo.png")


@pytest.mark.parametrize(
    ("size", "fault"),
    [
        ((1, 1), "is 1x1 pixels; both sides need at least 16"),
        ((2000, 15), "is 2000x15 pixels; both sides need at least 16"),
        ((12000, 9000), "has 12000x9000 pixels; at most 64 megapixels"),
        ((20000, 20000), "too many pixels; at most 64 megapixels"),  # above Pillow's own bound
    ],
)
def test_too_small_and_too_large_are_refused_before_decoding(size: tuple[int, int], fault: str) -> None:
    assert fault in refusal(io.BytesIO(encoded(Image.new("1", size), "PNG")))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "There is no file for the photo of the person" in refusal(tmp_path / "nowhere.png")
    assert "cannot be read: Is a directory." in refusal(tmp_path)
    assert "File name too long." in refusal(tmp_path / ("x" * 300))


def test_a_photo_has_the_colours_that_its_profile_means(tmp_path: Path) -> None:
    photo = Image.open(GOLDEN / "person.png").convert("RGB")
    to_xyz = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
    red, green, blue = photo.split()
    swapped = Image.merge("RGB", (blue, green, red))
    swapped.save(tmp_path / "swapped.png", icc_profile=_profile(to_xyz[:, ::-1]))
    found = as_rgb(open_picture(tmp_path / "swapped.png"))
    assert np.abs(np.asarray(found, np.int16) - np.asarray(photo, np.int16)).max() <= 2
    assert "icc_profile" not in found.info
    see_through = swapped.copy()
    see_through.putpixel((0, 0), (1, 2, 3))
    see_through.save(tmp_path / "keyed.png", icc_profile=_profile(to_xyz[:, ::-1]), transparency=(1, 2, 3))
    keyed = np.asarray(as_rgb(open_picture(tmp_path / "keyed.png")))
    assert tuple(keyed[0, 0]) == (255, 255, 255)
    assert np.abs(keyed[1:].astype(np.int16) - np.asarray(photo, np.int16)[1:]).max() <= 2
    swapped.save(tmp_path / "damaged.png", icc_profile=b"no profile")
    assert np.array_equal(np.asarray(as_rgb(open_picture(tmp_path / "damaged.png"))), np.asarray(swapped))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo.save(tmp_path / "plain.png", icc_profile=srgb)
    assert np.array_equal(np.asarray(as_rgb(open_picture(tmp_path / "plain.png"))), np.asarray(photo))


def _profile(to_xyz: np.ndarray) -> bytes:
    """sRGB's profile with other primaries: the columns of `to_xyz`."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    places = {}
    for index in range(count):
        name, offset, _ = struct.unpack(">4sII", data[132 + 12 * index : 144 + 12 * index])
        places[name] = offset
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), to_xyz.T, strict=True):
        data[places[name] + 8 : places[name] + 20] = struct.pack(">3i", *(round(value * 65536) for value in column))
    return bytes(data).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))  # its name


# --- masks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "fault"),
    [
        (Image.new("L", (31, 32), 255), "The mask has 31x32 pixels, the photo of the person 32x32"),
        (Image.new("L", (32, 32), 0), "The mask is empty"),
        (Image.new("L", (32, 32), 127), "The mask is empty"),
        (Image.new("L", (32, 32), 1), "brightest value is 1, and 255 is repainted"),
        (Image.new("RGBA", (32, 32), (255, 255, 255, 0)), "The mask is empty"),
        (Image.new("F", (32, 32), float("nan")), "The mask is empty"),
        (Image.new("L", (32, 32), 255), "The mask covers the whole photo"),
        (Image.new("1", (32, 32), 1), "The mask covers the whole photo"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused(mask: Image.Image, fault: str) -> None:
    with pytest.raises(MaskError, match=fault):
        as_mask(mask, (32, 32))


@pytest.mark.parametrize(
    ("mask", "left", "right"),
    [
        (halves("1", 0, 1), 0, 255),
        (halves("L", 10, 200), 10, 200),  # a soft edge stays soft
        (halves("RGB", (0, 0, 0), (255, 255, 255)), 0, 255),
        (halves("RGBA", (255, 255, 255, 0), (255, 255, 255, 255)), 0, 255),
        (halves("RGBA", (255, 255, 255, 0), (255, 255, 255, 200)), 0, 200),
        (halves("LA", (255, 0), (255, 255)), 0, 255),
        (Image.fromarray(np.asarray(halves("L", 0, 128)).astype(np.uint16) * 257), 0, 128),
        (floats(0, 1), 0, 255),
    ],
)
def test_a_mask_is_white_where_it_is_light_and_opaque(mask: Image.Image, left: int, right: int) -> None:
    read = as_mask(mask, (32, 32))
    assert read.mode == "L"
    assert [read.getpixel((x, 9)) for x in (4, 28)] == [left, right]


def test_a_mask_is_turned_upright_like_its_photo() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    mask = Image.open(io.BytesIO(encoded(halves("L", 0, 255).resize((48, 32)), "PNG", exif=exif)))
    read = as_mask(mask, (32, 48))
    assert [read.getpixel((9, y)) for y in (4, 44)] == [0, 255]
