"""The label tables of the three parsers: what each number in a label map means.

DensePose: 25 labels (`densepose_rcnn_R_50_FPN_s1x`, "part surfaces"; front and back are two labels).
SCHP LIP: 20 labels and SCHP ATR: 18 labels (Self-Correction for Human Parsing, arXiv 1910.09777).
Left and right are the person's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LabelMaps:
    """What a parser says of every pixel of a photo: three uint8 arrays (H, W) of the photo's size."""

    densepose: Labels  # of DENSEPOSE
    lip: Labels  # of LIP
    atr: Labels  # of ATR
    persons: int = 1  # how many were found; 0 is nobody


DENSEPOSE: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "background": (0,),
        "torso": (1, 2),
        "hands": (3, 4),
        "feet": (5, 6),
        "thighs": (7, 8, 9, 10),
        "legs": (11, 12, 13, 14),
        "big arms": (15, 16, 17, 18),
        "forearms": (19, 20, 21, 22),
        "face": (23, 24),
    }
)

LIP: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "Background": (0,),
        "Hat": (1,),
        "Hair": (2,),
        "Glove": (3,),
        "Sunglasses": (4,),
        "Upper-clothes": (5,),
        "Dress": (6,),
        "Coat": (7,),
        "Socks": (8,),
        "Pants": (9,),
        "Jumpsuits": (10,),
        "Scarf": (11,),
        "Skirt": (12,),
        "Face": (13,),
        "Left-arm": (14,),
        "Right-arm": (15,),
        "Left-leg": (16,),
        "Right-leg": (17,),
        "Left-shoe": (18,),
        "Right-shoe": (19,),
    }
)

ATR: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "Background": (0,),
        "Hat": (1,),
        "Hair": (2,),
        "Sunglasses": (3,),
        "Upper-clothes": (4,),
        "Skirt": (5,),
        "Pants": (6,),
        "Dress": (7,),
        "Belt": (8,),
        "Left-shoe": (9,),
        "Right-shoe": (10,),
        "Face": (11,),
        "Left-leg": (12,),
        "Right-leg": (13,),
        "Left-arm": (14,),
        "Right-arm": (15,),
        "Bag": (16,),
        "Scarf": (17,),
    }
)


def area(labels: Labels, names: Iterable[str], table: Mapping[str, tuple[int, ...]]) -> npt.NDArray[np.bool_]:
    """The pixels of `labels` (H, W) that carry one of `names`; names the table lacks have no pixels."""
    wanted = np.zeros(256, dtype=np.bool_)
    for name in names:
        wanted[list(table.get(name, ()))] = True
    return wanted[labels]
