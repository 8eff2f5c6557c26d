"""Photos that nobody should choose and somebody will: each gets a usable mask or one sentence, with the bundled parser.

What the published parsers make of them cannot be shown without their weights; tests/test_densepose.py holds what they
do with nobody and with several persons.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from catvton_ov.errors import MaskError, OptionsError
from catvton_ov.masking import CATEGORIES, cloth_agnostic_mask
from catvton_ov.masking.automask import auto_mask
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.masking.parsers import Parser, open_parser
from catvton_ov.runtime import Runtime, RuntimeOptions
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
    with pytest.raises(OptionsError, match="There is no person number 2; 2 were found"):
        parser(Image.fromarray(picture), 2)


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
