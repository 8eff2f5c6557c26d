"""The cloth-agnostic mask: the authors' to the pixel, and for sizes theirs breaks on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from catvton_ov.errors import MaskError, OptionsError
from catvton_ov.masking import CATEGORIES, cloth_agnostic_mask
from catvton_ov.masking.agnostic import protected_area
from catvton_ov.masking.automask import auto_mask, body_height, protected_outline
from catvton_ov.masking.labels import ATR, DENSEPOSE, LIP, LabelMaps, area
from catvton_ov.options import GARMENT_CATEGORIES, MaskAdjustment

GOLDEN = Path(__file__).parent / "golden" / "cloth_agnostic_mask"
CASES = sorted(path.name for path in GOLDEN.glob("case*.npz"))
Maps = tuple[np.ndarray, np.ndarray, np.ndarray]


def label_maps(case: str) -> Maps:
    with np.load(GOLDEN / case) as vectors:
        return vectors["densepose"], vectors["schp_lip"], vectors["schp_atr"]


def scaled(maps: Maps, size: tuple[int, int]) -> Maps:
    return tuple(cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for m in maps)  # type: ignore[return-value]


def test_the_goldens_are_there() -> None:
    assert tuple(CATEGORIES) == GARMENT_CATEGORIES
    assert len(CASES) == 4


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("case", CASES)
def test_the_mask_is_the_authors_to_the_pixel(case: str, category: str) -> None:
    with np.load(GOLDEN / case) as vectors:
        mask = cloth_agnostic_mask(vectors["densepose"], vectors["schp_lip"], vectors["schp_atr"], category)
        assert (mask.dtype, mask.shape) == (np.uint8, vectors["densepose"].shape)
        assert np.array_equal(mask, vectors[f"mask_{category}"])
        pictures = [Image.fromarray(vectors[name]) for name in ("densepose", "schp_lip", "schp_atr")]
        assert np.array_equal(cloth_agnostic_mask(*pictures, category), mask)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (191, 255), (193, 257), (130, 61), (1, 300), (385, 514)])
@pytest.mark.parametrize("category", CATEGORIES)
def test_sizes_that_are_no_multiple_of_four_work(category: str, size: tuple[int, int]) -> None:
    maps = scaled(label_maps(CASES[0]), size)
    before = [m.copy() for m in maps]
    mask = cloth_agnostic_mask(*maps, category)
    assert (mask.dtype, mask.shape) == (np.uint8, size[::-1])
    assert set(np.unique(mask)) <= {0, 255}
    assert all(np.array_equal(m, b) for m, b in zip(maps, before, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_an_odd_size_differs_from_its_even_neighbour_only_at_edges(case: str) -> None:
    maps = scaled(label_maps(case), (256, 340))
    cropped = tuple(m[:-1, :-3] for m in maps)
    for category in CATEGORIES:
        even, odd = cloth_agnostic_mask(*maps, category), cloth_agnostic_mask(*cropped, category)
        assert (even[:-1, :-3] != odd).mean() < 0.02


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("crop", [0, 1])
def test_face_hands_and_feet_are_never_painted_over(case: str, category: str, crop: int) -> None:
    densepose, lip, atr = (m[crop:, crop:] for m in label_maps(case))
    mask = cloth_agnostic_mask(densepose, lip, atr, category)
    limbs = ("Left-arm", "Right-arm", "Left-leg", "Right-leg")
    hands_and_feet = area(densepose, ("hands", "feet"), DENSEPOSE) & (area(lip, limbs, LIP) | area(atr, limbs, ATR))
    protected = area(lip, ("Face",), LIP) | hands_and_feet
    # The last dilation may eat into the rim of what is protected, by half of its kernel; no deeper.
    rim = max(densepose.shape) // 250 + 1
    kernel = np.ones((2 * rim + 1,) * 2, np.uint8)
    assert not mask[cv2.erode(protected.astype(np.uint8), kernel) > 0].any()


@pytest.mark.parametrize("case", CASES)
def test_what_a_garment_replaces_is_painted_over(case: str) -> None:
    densepose, lip, atr = label_maps(case)
    for category, kind in CATEGORIES.items():
        mask = cloth_agnostic_mask(densepose, lip, atr, category)
        clothes = area(lip, kind.clothes, LIP) & area(atr, kind.clothes, ATR)
        parts = area(densepose, ("hands", "feet", "face"), DENSEPOSE) | area(lip, ("Face",), LIP)
        away_from_parts = cv2.dilate(parts.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
        assert (mask[clothes & away_from_parts] == 255).all(), category


def test_a_picture_of_nobody_needs_no_mask() -> None:
    nothing = np.zeros((120, 90), np.uint8)
    for category in CATEGORIES:
        assert not cloth_agnostic_mask(nothing, nothing, nothing, category).any()


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda m: m.astype(np.int64), r"Expected three uint8 label maps .* schp_lip int64\(512, 384\)"),
        (lambda m: m[:-1], r"schp_lip uint8\(511, 384\)"),
        (lambda m: m.T.copy(), r"schp_lip uint8\(384, 512\)"),
        (lambda m: m[..., None], r"schp_lip uint8\(512, 384, 1\)"),
    ],
)
def test_label_maps_that_disagree_are_refused(spoil: Callable[[np.ndarray], np.ndarray], fault: str) -> None:
    densepose, lip, atr = label_maps("case2_384x512.npz")
    with pytest.raises(MaskError, match=fault):
        cloth_agnostic_mask(densepose, spoil(lip), atr, "upper")


def test_an_unknown_category_and_empty_maps_are_refused() -> None:
    maps = label_maps(CASES[0])
    with pytest.raises(MaskError, match="Unknown garment category 'shoes'; expected one of upper, lower, overall"):
        cloth_agnostic_mask(*maps, "shoes")
    with pytest.raises(MaskError, match="Expected three uint8 label maps"):
        cloth_agnostic_mask(*(m[:0] for m in maps), "upper")


@pytest.mark.slow  # a clock: not for machines that are busy with something else
@pytest.mark.parametrize("category", CATEGORIES)
def test_a_mask_of_768x1024_takes_a_tenth_of_a_second_on_one_thread(category: str) -> None:
    maps = scaled(label_maps("case2_384x512.npz"), (768, 1024))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        seconds = []
        for _ in range(7):
            start = time.perf_counter()
            cloth_agnostic_mask(*maps, category)
            seconds.append(time.perf_counter() - start)
    finally:
        cv2.setNumThreads(threads)
    assert min(seconds) <= 0.1


def maps_of(case: str) -> LabelMaps:
    return LabelMaps(*label_maps(case), persons=1)


def mask_of(case: str, **adjustment: float) -> np.ndarray:
    return np.asarray(auto_mask(maps_of(case), "upper", MaskAdjustment(**adjustment))) > 0


@pytest.mark.parametrize("case", CASES)
def test_a_nudged_mask_moves_as_far_as_asked_and_never_onto_hands_or_face(case: str) -> None:
    plain = mask_of(case)
    assert np.array_equal(plain, cloth_agnostic_mask(*label_maps(case), "upper") > 0)
    spared = protected_area(*label_maps(case))
    height = body_height(maps_of(case))
    free = ~cv2.dilate(spared.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    reach = round(0.05 * height)
    assert reach >= 5

    grown = mask_of(case, grow=5)
    assert not (grown & spared).any()
    distance = cv2.distanceTransform((~plain).astype(np.uint8), cv2.DIST_L2, 5)
    assert (grown | ~free)[distance <= reach - 1].all()
    assert not grown[distance > reach + 1].any()
    shrunk = mask_of(case, grow=-2)
    assert shrunk.sum() < plain.sum()
    assert not (shrunk & ~plain).any()

    for name, (dy, dx) in {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}.items():
        moved = mask_of(case, **{name: 5.0})
        expected = plain.copy()
        for step in range(1, reach + 1):
            expected |= np.roll(plain, (step * dy, step * dx), (0, 1)) & _not_wrapped(plain.shape, step * dy, step * dx)
        assert np.array_equal(moved, expected & ~spared), name


def test_growing_far_costs_no_more_than_growing_little() -> None:
    maps = LabelMaps(*scaled(label_maps(CASES[0]), (1500, 2000)), persons=1)

    def seconds(grow: float) -> float:
        start = time.perf_counter()
        auto_mask(maps, "upper", MaskAdjustment(grow=grow))
        return time.perf_counter() - start

    little, far = (min(seconds(grow) for _ in range(3)) for grow in (0.1, 30))
    assert far < 3 * little


def _not_wrapped(shape: tuple[int, ...], dy: int, dx: int) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - dy >= 0) & (y - dy < shape[0]) & (x - dx >= 0) & (x - dx < shape[1])


def test_the_outline_goes_around_what_is_protected() -> None:
    maps = maps_of(CASES[2])
    line, inside = protected_outline(maps), protected_area(*label_maps(CASES[2]))
    assert line.any()
    assert not (line & inside).any()
    near = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert not (line & ~near).any()


def test_nobody_and_nothing_left_are_said() -> None:
    nobody = LabelMaps(*(np.zeros((64, 48), np.uint8) for _ in range(3)), persons=0)
    with pytest.raises(MaskError, match="No person was found"):
        auto_mask(nobody, "upper")
    with pytest.raises(MaskError, match="shrink it less"):
        auto_mask(maps_of(CASES[0]), "upper", MaskAdjustment(grow=-30))
    for wrong in ({"grow": 31}, {"up": -1}, {"left": float("nan")}, {"down": True}):
        with pytest.raises(OptionsError, match="percent"):
            MaskAdjustment(**wrong)  # type: ignore[arg-type]
