"""The auto-mask on the page: the mask of the photo in the editor, kept apart from what the visitor paints."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.errors import MaskError
from catvton_ov.masking.automask import auto_mask, protected_outline
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.masking.parsers import Parser
from catvton_ov.masking.worn import worn_garment
from catvton_ov.options import MaskAdjustment
from catvton_ov.page import words
from catvton_ov.page.editor import EditorValue, editor_value, photo_and_paint

Area = npt.NDArray[np.bool_]
REMEMBERED = 16  # states of the paint: an editor may send one that sliders have moved on from
NO_PARSER = (
    "Paint over the clothes that should change (the brush is left of the photo), then try again: "
    "this model brings no parsers, which could find them."
)


@dataclass(frozen=True)
class Wish:
    """What the visitor asks of the mask."""

    category: str
    adjustment: MaskAdjustment
    outlined: bool  # whether to draw what is protected

    @classmethod
    def of(cls, category: str, outlined: bool, percents: Sequence[float]) -> Wish:
        """`percents` are those of MaskAdjustment, in its order; raises OptionsError outside their range."""
        return cls(category, MaskAdjustment(*percents), outlined)


class Put(NamedTuple):
    """Paint that was put into the editor: a mask with the visitor's own strokes."""

    digest: str
    added: Area  # what was painted by hand beside the masks of this photo
    erased: Area  # what was erased by hand from them


@dataclass(frozen=True)
class Parsed:
    """What a session remembers of one photo: parsing it takes seconds, another mask of it does not."""

    digest: str  # of the photo
    maps: LabelMaps
    person: int = 0  # whose maps these are, the largest is 0
    mask: Area | None = None  # the mask that was last put into the editor
    put: tuple[Put, ...] = ()  # what the editor was given last, and may still send

    def of(self, photo: Image.Image) -> bool:
        return self.digest == digest(photo)


def digest(photo: Image.Image) -> str:
    return hashlib.sha256(repr(photo.size).encode() + photo.tobytes()).hexdigest()


def parse(photo: Image.Image, parser: Parser | None, parsed: Parsed | None, person: int = 0) -> Parsed:
    """The label maps of a photo, from memory if they are of this photo and person.

    Args:
        person: whose, the largest is 0; counts only where the photo is known already and has so many, since persons
            are not numbered before they were found.

    Raises:
        MaskError: there is no parser. ImageError, BundleDamagedError, DeviceError: see Parser.
    """
    known = parsed is not None and parsed.of(photo)
    person = person if parsed is not None and known and person < parsed.maps.persons else 0
    if parsed is not None and known and parsed.person == person:
        return parsed
    if parser is None:
        raise MaskError(NO_PARSER)
    return Parsed(digest(photo), parser(photo, person), person)


def put_mask(editor: EditorValue | None, parsed: Parsed, wish: Wish) -> tuple[EditorValue, Parsed]:
    """The editor with the auto-mask in it, but for what was ever painted and erased by hand on this photo.

    Raises:
        MaskError: nothing on this photo to mask.
    """
    photo, painted = photo_and_paint(editor)
    mask = np.asarray(auto_mask(parsed.maps, wish.category, wish.adjustment)) > 0
    paint = _paint_digest(painted)
    known = next((each for each in parsed.put if each.digest == paint), None)
    added = erased = np.zeros_like(mask)
    if known is not None:
        added, erased = known.added, known.erased
    elif parsed.put and parsed.mask is not None and painted.any():  # where all is gone, a mask is wanted
        added = (parsed.put[-1].added | (painted & ~parsed.mask)) & painted
        erased = (parsed.put[-1].erased | (parsed.mask & ~painted)) & ~painted
    shown = (mask | added) & ~erased
    put = (*parsed.put[1 - REMEMBERED :], Put(_paint_digest(shown), added, erased))
    outline = protected_outline(parsed.maps) if wish.outlined else None
    layer = Image.fromarray(shown.astype(np.uint8) * np.uint8(255))
    return editor_value(photo, layer, outline), replace(parsed, mask=mask, put=put)


def _paint_digest(paint: Area) -> str:
    return hashlib.sha256(np.packbits(paint).tobytes()).hexdigest()


def readjusted(editor: EditorValue | None, parsed: Parsed | None, wish: Wish) -> tuple[Any, Any]:
    """The editor after a slider or the category moved; nothing changes where the mask is the visitor's own, or gone."""
    photo = (editor or {}).get("background")
    if photo is None or parsed is None or parsed.mask is None or not parsed.of(photo):
        return gr.skip(), gr.skip()
    if not photo_and_paint(editor)[1].any():
        return gr.skip(), gr.skip()
    return put_mask(editor, parsed, wish)


def persons_of(parsed: Parsed) -> Any:
    """The choice of whose clothes are masked; not shown where there is none."""
    count = parsed.maps.persons
    choices = [(words.PERSON[min(number, len(words.PERSON) - 1)].format(number + 1), number) for number in range(count)]
    return gr.update(choices=choices or [(words.PERSON[0], 0)], value=parsed.person, visible=count > 1)


def was_corrected(photo: Image.Image, painted: Area, parsed: Parsed | None) -> bool:
    """Whether what is painted is anything else than the auto-mask alone."""
    if parsed is None or parsed.mask is None or not parsed.of(photo) or parsed.mask.shape != painted.shape:
        return True
    return not np.array_equal(parsed.mask, painted)


def cut_out(garment: Image.Image, parser: Parser | None, category: str) -> Image.Image:
    """The garment that somebody wears in its photo (RGB), alone on white.

    Raises:
        MaskError: there is no parser, or it sees no such garment.
    """
    if parser is None:
        raise MaskError("This model brings no parsers, which could cut out a worn garment: switch that off.")
    return worn_garment(garment, parser(garment), category)
