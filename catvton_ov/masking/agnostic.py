"""From three label maps to the cloth-agnostic mask: the area to repaint.

The algorithm of CatVTON's `AutoMasker.cloth_agnostic_mask` (`model/cloth_masker.py`), restated:
everything a garment of the category could cover, as a convex hull, minus what has to stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from catvton_ov.errors import MaskError
from catvton_ov.masking.labels import ATR, DENSEPOSE, LIP, Labels, area

Area = npt.NDArray[np.bool_]

LIMBS = ("Left-arm", "Right-arm", "Left-leg", "Right-leg")
ACCESSORIES = ("Hat", "Glove", "Sunglasses", "Bag", "Left-shoe", "Right-shoe", "Scarf", "Socks")


@dataclass(frozen=True)
class Category:
    """What a garment category repaints and what it spares."""

    body: tuple[str, ...]  # DensePose parts the garment may cover
    clothes: tuple[str, ...]  # clothes it replaces: always repainted
    spared_limbs: tuple[str, ...]  # SCHP parts of the body that keep their pixels
    spared_lip: tuple[str, ...]  # other clothes that stay, by the LIP parser
    spared_atr: tuple[str, ...]  # the same by the ATR parser


_ARMS = ("torso", "big arms", "forearms")
_SHORT_OF_LEGS = ("Left-leg", "Right-leg")

CATEGORIES: dict[str, Category] = {
    "upper": Category(
        body=_ARMS,
        clothes=("Upper-clothes", "Coat", "Dress", "Jumpsuits"),
        spared_limbs=_SHORT_OF_LEGS,
        spared_lip=("Skirt", "Pants"),
        spared_atr=("Skirt", "Pants"),
    ),
    "lower": Category(
        body=("thighs", "legs"),
        clothes=("Pants", "Skirt", "Dress", "Jumpsuits"),
        spared_limbs=("Left-arm", "Right-arm", "Face"),
        spared_lip=("Upper-clothes", "Coat"),
        spared_atr=("Upper-clothes",),
    ),
    "overall": Category(
        body=("torso", "thighs", "legs", "big arms", "forearms"),
        clothes=("Upper-clothes", "Dress", "Pants", "Skirt", "Coat", "Jumpsuits"),
        spared_limbs=(),
        spared_lip=(),
        spared_atr=(),
    ),
    "inner": Category(
        body=("torso",),
        clothes=("Upper-clothes",),
        spared_limbs=_SHORT_OF_LEGS,
        spared_lip=("Dress", "Coat", "Skirt", "Pants", "Jumpsuits"),
        spared_atr=("Dress", "Coat", "Skirt", "Pants"),
    ),
    "outer": Category(
        body=_ARMS,
        clothes=("Coat",),
        spared_limbs=_SHORT_OF_LEGS,
        spared_lip=("Upper-clothes", "Dress", "Pants", "Skirt", "Jumpsuits"),
        spared_atr=("Dress", "Pants", "Skirt"),
    ),
}


def cloth_agnostic_mask(densepose: Labels, schp_lip: Labels, schp_atr: Labels, category: str) -> npt.NDArray[np.uint8]:
    """The area to repaint for a garment of `category`.

    Args:
        densepose: (H, W) uint8, DensePose labels 0..24.
        schp_lip: (H, W) uint8, SCHP LIP labels 0..19.
        schp_atr: (H, W) uint8, SCHP ATR labels 0..17.
        category: "upper", "lower", "overall", "inner" or "outer".

    Returns:
        (H, W) uint8: 255 where the picture is repainted, 0 where it stays.

    Raises:
        MaskError: an unknown category, or label maps that are not three uint8 (H, W) of one size.
    """
    if category not in CATEGORIES:
        raise MaskError(f"Unknown garment category {category!r}; expected one of {', '.join(CATEGORIES)}.")
    densepose, schp_lip, schp_atr = np.asarray(densepose), np.asarray(schp_lip), np.asarray(schp_atr)
    maps = {"densepose": densepose, "schp_lip": schp_lip, "schp_atr": schp_atr}
    if any(m.dtype != np.uint8 or m.ndim != 2 or m.size == 0 or m.shape != densepose.shape for m in maps.values()):
        got = ", ".join(f"{name} {m.dtype}{m.shape}" for name, m in maps.items())
        raise MaskError(f"Expected three uint8 label maps of one height and width; got {got}.")
    kind = CATEGORIES[category]
    longest = max(densepose.shape)
    kernel = _kernel(densepose)

    strong = protected_area(densepose, schp_lip, schp_atr)
    # What stays unless a garment of this category lies on it.
    spared = ("Hair", *ACCESSORIES, *kind.spared_limbs)
    weak = strong | area(schp_lip, (*spared, *kind.spared_lip), LIP) | area(schp_atr, (*spared, *kind.spared_atr), ATR)

    replaced = area(schp_lip, kind.clothes, LIP) | area(schp_atr, kind.clothes, ATR)
    background = area(schp_lip, ("Background",), LIP) & area(schp_atr, ("Background",), ATR)
    body = _coarse_dilate(area(densepose, kind.body, DENSEPOSE), kernel)

    mask = _hulls((~weak & ~background) | body) & ~weak
    size = _odd(longest // 25)
    mask = cv2.GaussianBlur(_picture(mask), (size, size), 0) >= 25
    return _picture(_dilate((mask | replaced) & ~strong, kernel))


def protected_area(densepose: Labels, schp_lip: Labels, schp_atr: Labels) -> Area:
    """What must never be repainted, (H, W): hands and feet where DensePose and SCHP agree on them, and the face."""
    limbs = area(schp_lip, LIMBS, LIP) | area(schp_atr, LIMBS, ATR)
    hands_and_feet = _dilate(area(densepose, ("hands", "feet"), DENSEPOSE), _kernel(densepose)) & limbs
    return hands_and_feet | area(schp_lip, ("Face",), LIP)


def _kernel(labels: Labels) -> npt.NDArray[np.uint8]:
    return np.ones((_odd(max(labels.shape) // 250),) * 2, np.uint8)


def _odd(n: int) -> int:
    return n if n % 2 else n + 1


def _picture(mask: Area) -> npt.NDArray[np.uint8]:
    return mask.astype(np.uint8) * np.uint8(255)


def _dilate(mask: Area, kernel: npt.NDArray[np.uint8], iterations: int = 1) -> Area:
    return cv2.dilate(mask.astype(np.uint8), kernel, iterations=iterations) > 0


def _coarse_dilate(mask: Area, kernel: npt.NDArray[np.uint8]) -> Area:
    """Dilate twice on every fourth pixel, then enlarge fourfold; any size (the reference needs multiples of 4)."""
    height, width = mask.shape
    coarse = _dilate(mask[::4, ::4], kernel, iterations=2)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def _hulls(mask: Area) -> Area:
    """The convex hull of every connected area."""
    contours, _ = cv2.findContours(_picture(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    filled = np.zeros(mask.shape, np.uint8)
    for contour in contours:
        cv2.fillPoly(filled, [cv2.convexHull(contour)], 255)
    return filled > 0
