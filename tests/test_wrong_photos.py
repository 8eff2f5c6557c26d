"""Photos that nobody should choose and somebody will: each gets a usable mask or one sentence, with the bundled parser.

What the published parsers make of them cannot be shown without their weights; tests/test_densepose.py holds what they
do with nobody and with several persons.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catvton_ov import cli
from catvton_ov.errors import MaskError, OptionsError
from catvton_ov.masking import CATEGORIES, cloth_agnostic_mask
from catvton_ov.masking.automask import auto_mask
from catvton_ov.masking.compact import CompactParser
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.masking.parsers import Parser, open_parser
from catvton_ov.page import words
from catvton_ov.presets import preset
from catvton_ov.runtime import Runtime, RuntimeOptions
from catvton_ov.settings import TryOnSettings
from catvton_ov.sources import open_bundle
from tools.paper_doll.data import scene_of
from tools.paper_doll.evaluate_parser import EVALUATION_SEED
from tools.paper_doll.examples import SIZE
from tools.paper_doll.figures import Figure, draw

FIGURES = [draw(scene_of(EVALUATION_SEED + 1000 + number), SIZE) for number in range(2)]
Maps = tuple[np.ndarray, ...]  # DensePose, LIP, ATR


@pytest.fixture(scope="module")
def parser() -> Parser:
    found = open_parser(open_bundle("paper_doll"), Runtime(RuntimeOptions()))
    assert found is not None
    return found


def labels(figure: Figure) -> Maps:
    return figure.densepose, figure.lip, figure.atr


def agreement(parser: Parser, picture: np.ndarray, truth: Sequence[np.ndarray], category: str) -> float:
    """IoU of the auto-mask with the one made from the true labels."""
    wanted = cloth_agnostic_mask(*truth, category) > 0
    mask = np.asarray(auto_mask(parser(Image.fromarray(picture)), category)) > 0
    assert mask.shape == picture.shape[:2]
    return float((mask & wanted).sum() / (mask | wanted).sum())


def padded(figure: Figure, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[np.ndarray, Maps]:
    """A figure with more wall and floor around it."""
    picture = np.pad(figure.person, (rows, columns, (0, 0)), mode="edge")
    return picture, tuple(np.pad(each, (rows, columns)) for each in labels(figure))


@pytest.mark.parametrize("category", ["upper", "lower", "overall"])
def test_of_two_persons_the_larger_is_masked_or_whoever_is_chosen(parser: Parser, category: str) -> None:
    small = Image.fromarray(FIGURES[1].person).resize((288, 384), Image.Resampling.LANCZOS)
    picture = np.full((512, 384 + 288, 3), FIGURES[0].person[0, 0], np.uint8)
    picture[:, :384], picture[128:, 384:] = FIGURES[0].person, np.asarray(small)
    for person, place, figure in ((0, np.s_[:, :384], FIGURES[0]), (1, np.s_[128:, 384:], FIGURES[1])):
        maps = parser(Image.fromarray(picture), person)
        assert maps.persons == 2
        mask = np.asarray(auto_mask(maps, category)) > 0
        wanted = np.zeros(mask.shape, bool)
        own = Image.fromarray(cloth_agnostic_mask(*labels(figure), category))
        wanted[place] = np.asarray(own.resize(wanted[place].shape[::-1])) > 127
        assert (mask & wanted).sum() / (mask | wanted).sum() > 0.6
    with pytest.raises(OptionsError, match="There is no person number 3, the largest being the first; found: 2"):
        parser(Image.fromarray(picture), 2)


def test_the_command_masks_whoever_is_chosen_says_who_there_is_and_cuts_out_what_somebody_wears(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Image.fromarray(FIGURES[1].person).resize((288, 384), Image.Resampling.LANCZOS)
    picture = np.full((512, 384 + 288, 3), FIGURES[0].person[0, 0], np.uint8)
    picture[:, :384], picture[128:, 384:] = FIGURES[0].person, np.asarray(small)
    files = {name: tmp_path / f"{name}.png" for name in ("both", "worn", "nobody", "mask", "result")}
    Image.fromarray(picture).save(files["both"])
    Image.fromarray(FIGURES[1].person).save(files["worn"])
    Image.new("RGB", (384, 512), "gray").save(files["nobody"])

    def run(command: str, person: str, *more: str) -> tuple[int, str]:
        out = str(files["mask" if command == "mask" else "result"])
        code = cli.main([command, "--person", str(files[person]), "--category", "upper", "--out", out, *more])
        return code, capsys.readouterr().err

    def left_of_the_middle() -> float:
        with Image.open(files["mask"]) as mask:
            area = np.asarray(mask) > 0
        return float(area[:, :384].sum() / area.sum())

    assert run("mask", "both") == (0, "2 persons were found; the mask is for the largest (--person-number).\n")
    assert left_of_the_middle() > 0.9
    assert run("mask", "both", "--person-number", "2") == (0, "")
    assert left_of_the_middle() < 0.1
    for number, message in (
        ("3", "no person number 3, the largest being the first; found: 2"),
        ("0", "no person number 0, the largest being the first; found: 2"),
    ):
        code, said = run("mask", "both", "--person-number", number)
        assert (code, message in said) == (1, True)
    code, said = run("mask", "nobody")
    assert code == 1
    sentence = (
        "No person was found whose clothes could be masked: choose a photo that shows one, or paint the mask by hand."
    )
    assert said == f"error: {sentence}\n"

    def tried_on(*more: str) -> bytes:
        code, said = run("try-on", "both", "--garment", str(files["worn"]), "--preset", "fast", "--seed", "1", *more)
        assert code == 0, said
        return files["result"].read_bytes()

    plain, cut = tried_on("--person-number", "2"), tried_on("--person-number", "2", "--worn")
    assert plain != cut
    settings = tmp_path / "settings.json"
    settings.write_bytes(TryOnSettings(options=preset("fast", seed=1), person_number=2, worn=True).to_json())
    assert run("try-on", "both", "--garment", str(files["worn"]), "--settings", str(settings))[0] == 0
    assert files["result"].read_bytes() == cut


def test_where_densepose_sees_nobody_the_clothes_alone_make_a_mask_which_is_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = FIGURES[0]
    maps = LabelMaps(np.zeros_like(figure.densepose), figure.lip, figure.atr, persons=0)
    mask, whole = (np.asarray(auto_mask(each, "upper")) > 0 for each in (maps, LabelMaps(*labels(figure))))
    assert (mask & whole).sum() > 0.7 * mask.sum() > 0
    monkeypatch.setattr(CompactParser, "__call__", lambda self, picture, person=0: maps)
    Image.fromarray(figure.person).save(tmp_path / "person.png")
    out = tmp_path / "mask.png"
    assert cli.main(["mask", "--person", str(tmp_path / "person.png"), "--out", str(out)]) == 0
    assert "No body was recognised; the mask follows the clothes alone" in capsys.readouterr().err
    assert "No body was recognised" in words.found(maps)
    with Image.open(out) as written:
        assert np.array_equal(np.asarray(written) > 0, mask)


@pytest.mark.parametrize("category", ["upper", "lower", "overall"])
@pytest.mark.parametrize("shape", ["1:4", "4:1"])
def test_a_person_in_a_very_long_photo_is_masked(parser: Parser, shape: str, category: str) -> None:
    width, height = SIZE
    more = 4 * width - height if shape == "1:4" else 4 * height - width
    rows, columns = ((0, more), (0, 0)) if shape == "1:4" else ((0, 0), (more // 2, more - more // 2))
    assert agreement(parser, *padded(FIGURES[0], rows, columns), category) > 0.6


@pytest.mark.parametrize(("rows", "columns"), [((0, 330), (0, 384)), ((0, 512), (0, 215)), ((90, 512), (0, 384))])
def test_a_person_cut_at_the_frame_is_masked_up_to_it(
    parser: Parser, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    part = slice(*rows), slice(*columns)
    truth = tuple(np.ascontiguousarray(each[part]) for each in labels(FIGURES[0]))
    assert agreement(parser, np.ascontiguousarray(FIGURES[0].person[part]), truth, "upper") > 0.7


@pytest.mark.parametrize("category", ["upper", "lower", "overall"])
def test_a_photo_of_60_pixels_is_masked(parser: Parser, category: str) -> None:
    size = (60, 80)
    picture = np.asarray(Image.fromarray(FIGURES[0].person).resize(size, Image.Resampling.LANCZOS))
    truth = tuple(
        np.asarray(Image.fromarray(each).resize(size, Image.Resampling.NEAREST)) for each in labels(FIGURES[0])
    )
    assert agreement(parser, picture, truth, category) > 0.6


def test_a_person_behind_a_bar_is_one_person(parser: Parser) -> None:
    figure = FIGURES[0]
    picture, bar = figure.person.copy(), np.s_[250:300, 40:344]
    picture[bar] = (90, 70, 60)
    truth = [each.copy() for each in labels(figure)]
    for each in truth:
        each[bar] = 0
    maps = parser(Image.fromarray(picture))
    assert maps.persons == 1
    assert agreement(parser, picture, truth, "overall") > 0.6


@pytest.mark.parametrize("what", ["garment", "wall", "black"])
def test_where_nobody_is_one_sentence_says_what_to_do(parser: Parser, what: str) -> None:
    pictures = {
        "garment": FIGURES[0].garment,
        "wall": FIGURES[0].person[:, :1].repeat(384, axis=1),
        "black": np.zeros((512, 384, 3), np.uint8),
    }
    maps = parser(Image.fromarray(pictures[what]))
    assert maps == LabelMaps(maps.densepose, maps.lip, maps.atr, persons=0)
    for category in CATEGORIES:
        with pytest.raises(MaskError, match="No person was found whose clothes could be masked: choose a photo"):
            auto_mask(maps, category)
