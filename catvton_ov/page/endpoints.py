"""What scripts call: plain files and values, not what is in the page's components."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from catvton_ov.errors import MaskError, OptionsError
from catvton_ov.marking import marked
from catvton_ov.masking import CATEGORIES
from catvton_ov.masking.automask import auto_mask
from catvton_ov.masking.parsers import Parser
from catvton_ov.options import MaskAdjustment, TryOnResult
from catvton_ov.page.bounds import Bounds
from catvton_ov.page.engine import Engine
from catvton_ov.page.masks import NO_PARSER, cut_out
from catvton_ov.page.sizes import fitting
from catvton_ov.page.values import given, number, options_of, shown_to_visitor, whole, within
from catvton_ov.pictures.reader import PictureReader
from catvton_ov.pictures.reading import as_mask
from catvton_ov.presets import default_preset


class Endpoints:
    """The first of the page's models, on its device."""

    def __init__(
        self, engine: Engine, reader: PictureReader, bounds: Bounds | None = None, corner_mark: bool = False
    ) -> None:
        self.engine = engine
        self.reader = reader
        self.bounds = bounds or Bounds()
        self.corner_mark = corner_mark

    def try_on_files(
        self,
        person: str | None,
        garment: str | None,
        mask: str | None,
        category: str = "upper",
        steps: float | None = None,
        guidance_scale: float | None = None,
        sampler: str | None = None,
        seed: float | None = None,
        preset: str | None = None,
        size: str | None = None,
        person_number: float = 1,
        worn: bool = False,
    ) -> tuple[Image.Image, int, dict[str, float]]:
        """The endpoint `/try_on`: picture files in, the result, its seed and the seconds per stage out.

        Args:
            person: photo of the person.
            garment: photo of the garment.
            mask: white where the person is repainted, of the person photo's size; none asks for the auto-mask.
            category: "upper", "lower", "overall", "inner" or "outer": what the auto-mask is for.
            steps: denoising steps; none takes the preset's.
            guidance_scale: how closely to follow the garment; none takes the preset's.
            sampler: "ddim" or "dpmpp_2m"; none takes the preset's.
            seed: 0 to 4294967295; none draws one.
            preset: "fast", "balanced" or "reference"; none takes what `/presets` calls the default.
            size: of the model's, as "384x512"; none takes what `/presets` calls the default.
            person_number: whose clothes the auto-mask is for, where there are several: the largest is 1.
            worn: whether the garment photo shows somebody who wears it, out of which it is cut.
        """
        with shown_to_visitor():
            _check_category(category)
            wanted = preset or default_preset(self.engine.device)
            options = options_of(wanted, steps, guidance_scale, sampler, seed, size)
            photo = self.reader.read(given(person, "person"), "photo", "photo of the person")
            flat = self.reader.read(given(garment, "garment"), "photo", "photo of the garment")
            painted = None if mask is None else self.reader.read(Path(mask), "mask", "mask")
            if painted is None:
                painted = self._auto_mask(photo, category, person_number)
            if worn:
                flat = cut_out(flat, self._parser(), category)
            pipeline = self.engine.pipeline(self.engine.sources[0], self.engine.device)
            options = fitting(options, pipeline.bundle.manifest, self.engine.device)
            *_, result = within(self.bounds.job_seconds, pipeline.steps(photo, flat, painted, options))
            assert isinstance(result, TryOnResult)
            picture = self.engine.screened(result.picture, as_mask(painted, result.picture.size))
            picture = marked(picture, self.corner_mark)
            return picture, result.seed, {name: round(value, 3) for name, value in result.seconds.items()}

    def mask_file(
        self,
        person: str | None,
        category: str = "upper",
        grow: float = 0,
        up: float = 0,
        down: float = 0,
        left: float = 0,
        right: float = 0,
        person_number: float = 1,
    ) -> Image.Image:
        """The endpoint `/mask`: a photo of a person in, the mask out, white where it is repainted.

        Args:
            person: photo of the person.
            category: "upper", "lower", "overall", "inner" or "outer".
            grow: percent of the body's height, negative shrinks.
            up: percent of the body's height to extend the mask by; likewise down, left and right.
            person_number: whose clothes, where there are several persons: the largest is 1.
        """
        with shown_to_visitor():
            _check_category(category)
            reach = {"grow": grow, "up": up, "down": down, "left": left, "right": right}
            adjustment = MaskAdjustment(**{name: number(value, name) for name, value in reach.items()})
            photo = self.reader.read(given(person, "person"), "photo", "photo of the person")
            return self._auto_mask(photo, category, person_number, adjustment)

    def _auto_mask(
        self, photo: Image.Image, category: str, person_number: float, adjustment: MaskAdjustment | None = None
    ) -> Image.Image:
        parser = self._parser()
        if parser is None:
            raise MaskError(NO_PARSER)
        return auto_mask(parser(photo, whole(person_number, "person_number") - 1), category, adjustment)

    def _parser(self) -> Parser | None:
        return self.engine.parser(self.engine.sources[0], self.engine.device)


def _check_category(category: str) -> None:
    if category not in CATEGORIES:
        raise OptionsError(f"Unknown category {category!r}; expected one of {', '.join(CATEGORIES)}.")
