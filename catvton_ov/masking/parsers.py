"""From a photo to its label maps: one interface, and the parsers a bundle may bring."""

from __future__ import annotations

from typing import Protocol

from PIL import Image

from catvton_ov.bundle import Bundle
from catvton_ov.masking.compact import CompactParser
from catvton_ov.masking.densepose import PARTS as DENSEPOSE_PARTS
from catvton_ov.masking.densepose import DensePoseParser
from catvton_ov.masking.labels import LabelMaps, Labels
from catvton_ov.masking.schp import ATR_KIND, LIP_KIND, SchpParser
from catvton_ov.pictures.reading import as_rgb
from catvton_ov.runtime import Network, Runtime

PUBLISHED = ("schp_lip", "schp_atr", *DENSEPOSE_PARTS)  # parts of a bundle
COMPACT = "parser"


class Parser(Protocol):
    """Labels every pixel of a photo. For one thread at a time."""

    def __call__(self, picture: Image.Image, person: int = 0) -> LabelMaps:
        """The label maps of an upright photo of any size, each of that size.

        Args:
            person: whose body: the largest is 0, the next 1.
        """

    def release(self) -> None:
        """Give the compiled networks' memory back; the next call compiles again."""


def has_parser(bundle: Bundle) -> bool:
    """Whether a bundle brings a parser."""
    return COMPACT in bundle.manifest.parts or all(part in bundle.manifest.parts for part in PUBLISHED)


def open_parser(bundle: Bundle, runtime: Runtime, *, frugal: bool = True) -> Parser | None:
    """The parser that a bundle brings; None if it brings none. Nothing is read yet.

    Args:
        frugal: keep no more than one of the published networks in memory, at the price of compiling again.
    """
    parts = bundle.manifest.parts
    if all(part in parts for part in PUBLISHED):
        return PublishedParser(bundle, runtime, frugal=frugal)
    if COMPACT in parts:
        return CompactParser(Network(runtime, lambda: bundle.part(COMPACT)))
    return None


class PublishedParser:
    """DensePose for the body's parts and SCHP, twice, for what is worn."""

    def __init__(self, bundle: Bundle, runtime: Runtime, *, frugal: bool = True) -> None:
        self.densepose = DensePoseParser(runtime, bundle.part)
        self.lip = SchpParser(Network(runtime, lambda: bundle.part("schp_lip")), LIP_KIND)
        self.atr = SchpParser(Network(runtime, lambda: bundle.part("schp_atr")), ATR_KIND)
        self.frugal = frugal

    def __call__(self, picture: Image.Image, person: int = 0) -> LabelMaps:
        """Parse a photo.

        Args:
            picture: upright, of any size.
            person: whose body: the largest is 0, the next 1.

        Raises:
            ImageError: a picture that cannot be used. OptionsError: there is no such person.
            BundleDamagedError, DeviceError: a network cannot be loaded or run.
        """
        photo = as_rgb(picture, "photo of the person")
        found = self.densepose(photo)
        body = found.label_map(person)
        if self.frugal:
            self.densepose.release()
        lip, atr = self._worn(self.lip, photo), self._worn(self.atr, photo)
        return LabelMaps(body, lip, atr, persons=len(found.persons))

    def _worn(self, parser: SchpParser, photo: Image.Image) -> Labels:
        labels = parser(photo)
        if self.frugal:
            parser.network.release()
        return labels

    def release(self) -> None:
        self.densepose.release()
        self.lip.network.release()
        self.atr.network.release()
