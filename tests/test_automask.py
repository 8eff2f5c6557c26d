"""The auto-mask from a photo to the try-on: parsers in a bundle, the page's way and the command line's."""

from __future__ import annotations

from pathlib import Path

import cv2
import gradio as gr
import numpy as np
import pytest
from PIL import Image

from catvton_ov import cli
from catvton_ov.bundle import Bundle
from catvton_ov.errors import MaskError, OptionsError
from catvton_ov.masking import CATEGORIES
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.masking.parsers import has_parser, open_parser
from catvton_ov.masking.show import picture_of_labels
from catvton_ov.masking.worn import worn_garment
from catvton_ov.options import MaskAdjustment
from catvton_ov.page.bounds import Bounds
from catvton_ov.page.editor import editor_value, photo_and_paint
from catvton_ov.page.endpoints import Endpoints
from catvton_ov.page.engine import Engine
from catvton_ov.page.handlers import Handlers
from catvton_ov.page.masks import Parsed, Wish, parse, put_mask, readjusted
from catvton_ov.page.tryon import TryOn
from catvton_ov.pictures.reader import OwnProcess
from catvton_ov.pictures.reading import open_picture
from catvton_ov.runtime import Runtime, RuntimeOptions
from catvton_ov.sources import bundled_folder

EXAMPLES = bundled_folder() / "examples"
PERSON = EXAMPLES / "person" / "Ada.png"
PLAIN = (0, 0, 0, 0, 0)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(["paper_doll"])


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return open_picture(PERSON).convert("RGB")


@pytest.fixture(scope="module")
def parsed(engine: Engine, photo: Image.Image) -> Parsed:
    return parse(photo, engine.parser("paper_doll", "CPU"), None)


def wish(category: str = "upper", outlined: bool = False, **adjustment: float) -> Wish:
    return Wish(category, MaskAdjustment(**adjustment), outlined)


def painted(value: dict[str, object]) -> np.ndarray:
    return photo_and_paint(value)[1]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_the_bundled_parser_masks_the_examples_much_as_their_true_labels_do(engine: Engine) -> None:
    parser = engine.parser("paper_doll", "CPU")
    found: dict[str, list[float]] = {}
    for path in sorted((EXAMPLES / "mask").glob("*.png")):
        name, category = path.stem.rsplit("-", 1)
        person = open_picture(EXAMPLES / "person" / f"{name}.png")
        value, _ = put_mask(editor_value(person, None), parse(person, parser, None), wish(category))
        found.setdefault(category, []).append(iou(painted(value), np.asarray(open_picture(path).convert("L")) >= 128))
    means = {category: float(np.mean(values)) for category, values in found.items()}
    assert {category: value for category, value in means.items() if value < 0.92} == {}
    assert means["overall"] > 0.97


def test_a_photo_is_parsed_once_and_another_one_anew(engine: Engine, photo: Image.Image, parsed: Parsed) -> None:
    parser = engine.parser("paper_doll", "CPU")
    assert parse(photo, None, parsed) is parsed  # no parser is asked
    other = open_picture(EXAMPLES / "person" / "Ben.png")
    assert parse(other, parser, parsed).digest != parsed.digest
    with pytest.raises(MaskError, match="brings no parsers"):
        parse(other, None, parsed)


def test_of_two_persons_the_second_is_masked_when_chosen_and_the_choice_ends_with_the_photo(
    engine: Engine, photo: Image.Image, tmp_path: Path
) -> None:
    handlers = Handlers(engine, OwnProcess(), tmp_path)
    both = Image.new("RGB", (2 * photo.width, photo.height))
    both.paste(photo, (0, 0))
    both.paste(open_picture(EXAMPLES / "person" / "Ben.png").resize(photo.size), (photo.width, 0))
    places, parsed, which = [], None, 0
    for which in (0, 1):
        *_, answer = handlers.press_auto_mask(
            editor_value(both, None), parsed, which, "upper", False, "paper_doll", "CPU", *PLAIN
        )
        _, value, parsed, choice, status = answer
        assert (choice["visible"], choice["value"], len(choice["choices"])) == (True, which, 2)
        assert "2 persons were found" in status
        places.append(painted(value).any(axis=0))
    left = [float(place[: photo.width].sum() / place.sum()) for place in places]
    assert max(left) > 0.9
    assert min(left) < 0.1
    *_, answer = handlers.press_auto_mask(
        editor_value(photo, None), parsed, which, "upper", False, "paper_doll", "CPU", *PLAIN
    )
    assert (answer[3]["visible"], answer[3]["value"]) == (False, 0)
    assert parse(photo, None, answer[2], which) is answer[2]  # the choice that is left over counts no more


def test_what_the_visitor_paints_and_erases_outlives_a_change_of_the_mask(photo: Image.Image, parsed: Parsed) -> None:
    value, masked = put_mask(editor_value(photo, None), parsed, wish(outlined=True))
    auto = painted(value)
    assert masked.mask is not None
    assert np.array_equal(auto, masked.mask)  # the outline is drawn, and is no mask
    blue = (np.asarray(value["layers"][0]) == (0, 120, 255, 255)).all(axis=-1)
    assert blue.any()

    rows = np.nonzero(auto)[0]
    erased = np.zeros_like(auto)
    erased[rows.min() : rows.min() + 30] = True
    added = np.zeros_like(auto)
    added[-20:-5, 5:40] = True
    own = editor_value(photo, Image.fromarray(((auto & ~erased) | added).astype(np.uint8) * np.uint8(255)))
    grown, _ = readjusted(own, masked, wish(grow=5))
    after = painted(grown)
    assert not (after & erased & auto).any(), "what was erased came back"
    assert after[added].all(), "what was painted is gone"
    assert after.sum() > auto.sum()

    # Moved back, only the visitor's own changes are left.
    back, _ = readjusted(grown, readjusted(own, masked, wish(grow=5))[1], wish())
    # But for a line where the plain mask reaches into what is protected, which a grown one does not.
    assert (painted(back) != ((auto & ~erased) | added)).mean() < 0.003


def test_strokes_outlive_masks_that_covered_them_and_that_left_them(photo: Image.Image, parsed: Parsed) -> None:
    value, masked = put_mask(editor_value(photo, None), parsed, wish())
    auto = painted(value)
    kernel = np.ones((9, 9), np.uint8)
    rim = cv2.dilate(auto.astype(np.uint8), kernel) - auto > 0  # a grown mask covers it
    inner = auto & (cv2.erode(auto.astype(np.uint8), kernel) == 0)  # a shrunken one leaves it
    left = np.arange(auto.shape[1]) < auto.shape[1] // 2
    stroke, gap = rim & left, inner & ~left
    own = editor_value(photo, Image.fromarray(((auto | stroke) & ~gap).astype(np.uint8) * np.uint8(255)))
    here = readjusted(own, masked, wish())
    for away in ({"grow": 10}, {"grow": -5}):
        there = readjusted(*here, wish(**away))
        here = readjusted(*there, wish())
        after = painted(here[0])
        assert after[stroke].mean() > 0.97, away
        assert after[gap].mean() < 0.03, away
    # An editor that sends what it showed before the last change has no strokes to tell of.
    late = readjusted(here[0], readjusted(*here, wish(grow=8))[1], wish(grow=2))
    assert np.array_equal(painted(late[0]), painted(readjusted(*here, wish(grow=2))[0]))
    # What is undone by hand is undone, be it to what the editor showed before.
    undone = editor_value(photo, Image.fromarray(auto.astype(np.uint8) * np.uint8(255)))
    back = readjusted(*readjusted(undone, here[1], wish(grow=2)), wish())
    assert (painted(back[0]) != auto).mean() < 0.003


def test_opened_settings_bring_their_mask_but_paint_stays_where_they_keep_the_category(
    engine: Engine, photo: Image.Image, tmp_path: Path
) -> None:
    handlers = Handlers(engine, OwnProcess(), tmp_path)
    own = editor_value(photo, Image.fromarray(np.eye(512, 384, dtype=np.uint8) * np.uint8(255)))
    masked = ("paper_doll", "lower", "Ada", own, None, False, *PLAIN)
    assert handlers.follow_settings((False, "a"), *masked) == (gr.skip(), gr.skip())
    value, _ = handlers.follow_settings((True, "b"), *masked)
    expected = np.asarray(open_picture(EXAMPLES / "mask" / "Ada-lower.png").convert("L")) >= 128
    assert np.array_equal(np.asarray(Image.open(value["layers"][0]))[..., 3] > 0, expected)


def test_where_all_paint_is_gone_a_mask_that_is_asked_for_comes_anew_and_sliders_do_nothing(
    photo: Image.Image, parsed: Parsed
) -> None:
    value, masked = put_mask(editor_value(photo, None), parsed, wish())
    bare = editor_value(photo, None)
    again, _ = put_mask(bare, masked, wish())
    assert np.array_equal(painted(again), painted(value))
    assert readjusted(bare, masked, wish(grow=5)) == (gr.skip(), gr.skip())


def test_sliders_leave_a_mask_alone_that_is_all_the_visitors_own(photo: Image.Image, parsed: Parsed) -> None:
    own = editor_value(photo, open_picture(EXAMPLES / "mask" / "Ada-lower.png"))
    for known in (None, parsed):  # nothing parsed; parsed, but no auto-mask put in
        assert readjusted(own, known, wish(grow=5)) == (gr.skip(), gr.skip())
    other = editor_value(open_picture(EXAMPLES / "person" / "Ben.png"), None)
    _, masked = put_mask(editor_value(photo, None), parsed, wish())
    assert readjusted(other, masked, wish(grow=5)) == (gr.skip(), gr.skip())


def test_try_on_without_paint_uses_the_auto_mask_and_shows_it(
    engine: Engine, photo: Image.Image, tmp_path: Path
) -> None:
    garment = str(EXAMPLES / "garment" / "upper-dots.png")
    updates = list(
        TryOn(engine, OwnProcess(), Bounds(), False, str(tmp_path)).press(
            editor_value(photo, None), None, 0, "upper", True, "paper_doll", "CPU", garment, False,
            1, "fast", None, 1, 1.0, "ddim", 0, False, False, *PLAIN,
        )
    )  # fmt: skip
    shown = [update.editor for update in updates if update.editor != gr.skip()]
    assert len(shown) == 1
    mask = painted(shown[0])
    changed = (np.asarray(updates[-1].picture) != np.asarray(photo)).any(axis=-1)
    assert changed[mask].mean() > 0.9
    assert not changed[:40].any()


def test_the_endpoint_gives_the_mask_and_try_on_uses_it(engine: Engine, photo: Image.Image) -> None:
    endpoints = Endpoints(engine, OwnProcess())
    masks = {grow: np.asarray(endpoints.mask_file(str(PERSON), "upper", grow)) > 0 for grow in (0, 5)}
    assert masks[0].shape == photo.size[::-1]
    assert (masks[0] & ~masks[5]).mean() < 0.003  # where the plain mask reaches into what is protected
    assert masks[5].sum() > masks[0].sum()
    garment = str(EXAMPLES / "garment" / "upper-dots.png")
    picture, *_ = endpoints.try_on_files(str(PERSON), garment, None, "upper", steps=1, seed=0)
    changed = (np.asarray(picture) != np.asarray(photo)).any(axis=-1)
    assert changed[masks[0]].mean() > 0.9
    with pytest.raises(gr.Error, match="percent"):
        endpoints.mask_file(str(PERSON), "upper", grow=99)
    with pytest.raises(gr.Error, match="expected one of"):
        endpoints.mask_file(str(PERSON), "hat")


def test_mask_by_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], photo: Image.Image) -> None:
    out, labels = tmp_path / "mask.png", tmp_path / "labels.png"
    arguments = ["mask", "--model", "paper_doll", "--person", str(PERSON), "--out", str(out), "--labels", str(labels)]
    assert cli.main([*arguments, "--category", "lower", "--down", "2"]) == 0
    with Image.open(out) as mask, Image.open(labels) as picture:
        assert (mask.mode, mask.size) == ("L", photo.size)
        assert picture.size == (3 * photo.width, photo.height)
    result = tmp_path / "result.png"
    garment = str(EXAMPLES / "garment" / "lower-plain.png")
    assert cli.main(["try-on", "--person", str(PERSON), "--garment", garment, "--category", "lower", "--steps", "1",
                     "--out", str(result)]) == 0  # fmt: skip
    assert result.is_file()
    assert cli.main([*arguments, "--grow", "80"]) == 1
    assert "percent" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(60, 80), (64, 256), (256, 64), (500, 700)])
def test_photos_of_every_shape_get_a_mask_or_one_sentence(engine: Engine, size: tuple[int, int]) -> None:
    parser = engine.parser("paper_doll", "CPU")
    for source in (PERSON, EXAMPLES / "garment" / "upper-plain.png"):
        person = open_picture(source).convert("RGB").resize(size)
        for category in CATEGORIES:
            try:
                value, _ = put_mask(editor_value(person, None), parse(person, parser, None), wish(category))
            except MaskError as error:
                assert str(error).endswith(".")  # noqa: PT017
                continue
            assert painted(value).shape == size[::-1]


def test_a_worn_garment_is_cut_out(photo: Image.Image, parsed: Parsed) -> None:
    maps = parsed.maps
    cut = worn_garment(photo, maps, "upper")
    rows, columns = np.nonzero(np.isin(maps.lip, (5, 6)))
    assert abs(cut.height - (np.ptp(rows) + 1)) < 0.2 * cut.height
    assert abs(cut.width - (np.ptp(columns) + 1)) < 0.3 * cut.width
    pixels = np.asarray(cut)
    assert (pixels[:4] == 255).all()
    own = np.asarray(photo)[maps.lip == 5]
    inside = pixels[(pixels != 255).any(axis=-1)]
    assert np.abs(np.median(inside, axis=0) - np.median(own, axis=0)).max() < 12
    nothing = np.zeros_like(maps.lip)
    with pytest.raises(MaskError, match="No such garment"):
        worn_garment(photo, LabelMaps(nothing, nothing, nothing), "upper")


def test_label_maps_have_a_picture_with_a_colour_for_every_label() -> None:
    ramp = np.arange(24, dtype=np.uint8).reshape(4, 6)
    picture = np.asarray(picture_of_labels(LabelMaps(ramp, ramp % 20, ramp % 18)))
    assert picture.shape == (4, 18, 3)
    assert len({tuple(pixel) for pixel in picture[:, :6].reshape(-1, 3)}) == 24
    assert (picture[0, 0] == 0).all()


def test_a_bundle_without_parsers_says_so(golden_bundle: Path) -> None:
    bundle = Bundle.open(golden_bundle)
    assert not has_parser(bundle)
    assert open_parser(bundle, Runtime(RuntimeOptions())) is None
    with pytest.raises(OptionsError):
        Wish.of("upper", True, (99, 0, 0, 0, 0))
