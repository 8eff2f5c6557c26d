"""The published parsers, SCHP and DensePose, to the parts of a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import openvino as ov

from catvton_ov.export.densepose import DensePose, convert_densepose, load_densepose
from catvton_ov.export.schp import AugmentCE2P, convert_schp, load_schp
from catvton_ov.masking.schp import ATR_KIND, LIP_KIND

# Within zhengchong/CatVTON, in the order in which load_parsers takes them.
FILES = (
    "SCHP/exp-schp-201908261155-lip.pth",
    "SCHP/exp-schp-201908301523-atr.pth",
    "DensePose/model_final_162be9.pkl",
)


class Parsers(NamedTuple):
    lip: AugmentCE2P
    atr: AugmentCE2P
    densepose: DensePose


def load_parsers(lip: Path, atr: Path, densepose: Path) -> Parsers:
    """The networks with their published weights; raises ExportError for a file that cannot be used."""
    return Parsers(load_schp(lip, LIP_KIND), load_schp(atr, ATR_KIND), load_densepose(densepose))


def convert_parsers(parsers: Parsers) -> Iterator[tuple[str, ov.Model]]:
    """The name and model of each part, one at a time: let go of it before the next.

    Raises:
        ExportError: OpenVINO cannot follow a network.
    """
    yield "schp_lip", convert_schp(parsers.lip)
    yield "schp_atr", convert_schp(parsers.atr)
    yield from convert_densepose(parsers.densepose)
