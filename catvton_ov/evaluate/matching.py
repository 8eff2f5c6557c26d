"""Which result belongs to which truth, and the size they are compared at: the protocol of CatVTON's eval.py."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from catvton_ov.errors import BatchError, ImageError
from catvton_ov.pictures.reading import Size, read_photo

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Match:
    name: str  # of the result
    result: Path
    truth: Path


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in a folder, by name; raises BatchError when there is none."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES and path.is_file())
    except OSError as error:
        raise BatchError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
    if not found:
        raise BatchError(f"There are no pictures in {folder}.")
    return found


def match(results: Iterable[Path], truths: Iterable[Path]) -> tuple[list[Match], list[str]]:
    """Results with their truths, and a sentence about every result that has none.

    By the whole name without its ending, in any capitals; else by the reference's rule, the eight characters from the
    first digit on ("00006_00" of VITON-HD, "013563_0" of DressCode).
    """
    by_stem: dict[str, list[Path]] = {}
    by_id: dict[str, list[Path]] = {}
    for truth in truths:
        by_stem.setdefault(truth.stem.casefold(), []).append(truth)
        by_id.setdefault(_id(truth), []).append(truth)
    matches, unmatched = [], []
    for result in results:
        found = by_stem.get(result.stem.casefold()) or (by_id.get(_id(result), []) if _id(result) else [])
        if len(found) == 1:
            matches.append(Match(result.stem, result, found[0]))
        else:
            what = "no truth" if not found else f"several truths ({', '.join(path.name for path in found[:3])})"
            unmatched.append(f"{result.name} has {what}.")
    return matches, unmatched


def open_match(pair: Match) -> tuple[Image.Image, Image.Image]:
    """Result and truth in RGB, the truth at the result's height.

    Raises:
        ImageError: one cannot be read, or their shapes differ.
    """
    result = open_rgb(pair.result)
    truth = at_height(open_rgb(pair.truth), result.height)
    if truth.size != result.size:
        raise ImageError(
            f"{pair.name} has {result.width}x{result.height} pixels and its truth, at that height, "
            f"{truth.width}x{truth.height}: they must have one shape."
        )
    return result, truth


def open_rgb(path: Path) -> Image.Image:
    """A picture file in RGB; raises ImageError naming it."""
    return read_photo(path, f"picture {path.name}")


def at_height(picture: Image.Image, height: int) -> Image.Image:
    """Scaled to a height, Lanczos (the reference's `resize`)."""
    size: Size = (picture.width * height // picture.height, height)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _id(path: Path) -> str:
    first = re.search(r"\d", path.name)
    return path.name[first.start() :][:8] if first else ""
