"""What the page's events do. A handler takes and gives component values; it knows the engine, not the layout."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from catvton_ov.errors import TryOnError
from catvton_ov.images import open_picture
from catvton_ov.masking.parsers import has_parser
from catvton_ov.masking.show import picture_of_labels
from catvton_ov.options import GARMENT_CATEGORIES, TryOnStep
from catvton_ov.page import words
from catvton_ov.page.bounds import Bounds
from catvton_ov.page.editor import EditorValue, photo_and_paint
from catvton_ov.page.engine import Engine
from catvton_ov.page.examples import Examples
from catvton_ov.page.masks import Parsed, Wish, cut_out, parse, put_mask, readjusted
from catvton_ov.page.values import chosen, given, options_of, shown_to_visitor, within

log = logging.getLogger(__name__)
CATEGORIES = ("upper", "lower", "overall")  # those that examples and the page's first choice know


class Update(NamedTuple):
    """What one turn of a try-on changes on the page, in the order of the outputs."""

    picture: Any  # the result or a preview
    before_after: Any  # (photo, result)
    status: str  # HTML
    seed: Any
    editor: Any  # the person's photo, with an auto-mask
    parsed: Any  # what the session knows of the photo

    @classmethod
    def of(cls, status: str, **changes: Any) -> Update:
        """The status and what else changes."""
        return cls(**{name: changes.get(name, gr.skip()) for name in cls._fields if name != "status"}, status=status)


class Handlers:
    def __init__(self, engine: Engine, bounds: Bounds | None = None) -> None:
        self.engine = engine
        self.bounds = bounds or Bounds()

    def examples(self, model: str) -> Examples:
        return Examples(self.engine.bundle(model), CATEGORIES)

    def show_model(self, model: str) -> Iterator[tuple[Any, ...]]:
        """The notice, the galleries' pictures, and the first person and garment of a model; first its download."""
        try:
            for download in self.engine.watch(model):
                yield words.fetching(download), *(gr.skip() for _ in range(9))
            bundle = self.engine.bundle(model)
        except TryOnError as error:
            log.error("%s cannot be used: %s", model, error)
            yield words.trouble(error), _gallery([]), _gallery([]), *(gr.skip() for _ in range(7))
            return
        examples = self.examples(model)
        person, garment, category = None, None, CATEGORIES[0]
        name = ""
        if examples.garments:
            garment = str(examples.garments[0])
            category = examples.category(examples.garments[0]) or category
        if examples.persons:
            name = examples.persons[0].stem
            person = examples.person(name, category)
        yield (
            words.notice(bundle, model),
            _gallery(examples.persons),
            _gallery(examples.garments),
            person,
            name,
            garment,
            gr.update(choices=_choices(CATEGORIES), value=category),
            *(gr.update(visible=has_parser(bundle)) for _ in range(3)),
        )

    def show_categories(self, rare: bool, category: str) -> Any:
        """All five garment categories, or the three that most people need."""
        offered = GARMENT_CATEGORIES if rare else CATEGORIES
        return gr.update(choices=_choices(offered), value=category if category in offered else offered[0])

    def pick_person(self, model: str, event: gr.SelectData) -> tuple[None, str]:
        """An emptied editor and the name of the example person to put into it next."""
        with shown_to_visitor():
            return None, chosen(self.examples(model).persons, event).stem

    def show_person(self, model: str, category: str, name: str) -> EditorValue:
        return self.examples(model).person(name, category)

    def pick_garment(
        self,
        model: str,
        category: str,
        name: str,
        editor: EditorValue | None,
        parsed: Parsed | None,
        outlined: bool,
        event: gr.SelectData,
        *percents: float,
    ) -> tuple[str, str, Any, Any]:
        """The garment, its category, and the mask for it when the category is another one than before."""
        examples = self.examples(model)
        with shown_to_visitor():
            path = chosen(examples.garments, event)
        fitting = examples.category(path) or category
        if fitting == category:
            return str(path), category, gr.skip(), gr.skip()
        return str(path), fitting, *self.change_category(model, fitting, name, editor, parsed, outlined, *percents)

    def change_category(
        self,
        model: str,
        category: str,
        name: str,
        editor: EditorValue | None,
        parsed: Parsed | None,
        outlined: bool,
        *percents: float,
    ) -> tuple[Any, Any]:
        """Another category: an auto-mask follows, an example person gets its mask for that.

        What is painted on a photo of one's own stays.
        """
        with shown_to_visitor():
            value, parsed = readjusted(editor, parsed, Wish.of(category, outlined, percents))
        examples = self.examples(model)
        if value == gr.skip() and name and examples.shows(name, editor):
            value = examples.person(name, category)
        return value, parsed

    def press_auto_mask(
        self,
        editor: EditorValue | None,
        parsed: Parsed | None,
        category: str,
        outlined: bool,
        model: str,
        device: str,
        *percents: float,
    ) -> Iterator[tuple[Any, Any, Any, str]]:
        """An emptied editor, what is to be put into it next, what is known of the photo now, and the status line.

        Emptied first, because the editor would keep what is painted under the new mask.
        """
        with shown_to_visitor():
            wish = Wish.of(category, outlined, percents)
            photo, _ = photo_and_paint(editor)
            yield gr.skip(), gr.skip(), gr.skip(), words.progress(words.PARSING, 0)
            parsed = parse(photo, self.engine.parser(model, device), parsed)
            value, parsed = put_mask(editor, parsed, wish)
            yield None, value, parsed, words.found(parsed.maps)

    def put_pending(self, pending: EditorValue) -> tuple[EditorValue, None]:
        return pending, None

    def adjust_mask(
        self, editor: EditorValue | None, parsed: Parsed | None, category: str, outlined: bool, *percents: float
    ) -> tuple[Any, Any]:
        """The same at once, when only the wish has changed."""
        with shown_to_visitor():
            return readjusted(editor, parsed, Wish.of(category, outlined, percents))

    def show_labels(self, editor: EditorValue | None, parsed: Parsed | None) -> Image.Image | None:
        """A picture of what the parsers said of the photo in the editor."""
        photo = (editor or {}).get("background")
        return picture_of_labels(parsed.maps) if photo is not None and parsed is not None and parsed.of(photo) else None

    def press_try_on(
        self,
        editor: EditorValue | None,
        parsed: Parsed | None,
        category: str,
        outlined: bool,
        model: str,
        device: str,
        garment: str | None,
        worn: bool,
        steps: float,
        guidance_scale: float,
        sampler: str,
        seed: float | None,
        randomise: bool,
        preview: bool,
        *percents: float,
    ) -> Iterator[Update]:
        """The button: previews and progress while it runs, the result last. Without paint, the auto-mask is used."""
        with shown_to_visitor():
            wish = Wish.of(category, outlined, percents)
            person, painted = photo_and_paint(editor)
            options = options_of(steps, guidance_scale, sampler, None if randomise else seed)
            flat = open_picture(given(garment, "garment"), "photo of the garment")
            yield Update.of(words.progress("Preparing the model", 0))
            for download in self.engine.watch(model):
                yield Update.of(words.progress(*words.fetched(download)))
            pipeline, parser = self.engine.pipeline(model, device), self.engine.parser(model, device)
            if not painted.any():
                yield Update.of(words.progress(words.PARSING, 0))
                parsed = parse(person, parser, parsed)
                value, parsed = put_mask(editor, parsed, wish)
                yield Update.of(words.found(parsed.maps), editor=value, parsed=parsed)
                _, painted = photo_and_paint(value)
            if worn:
                flat = cut_out(flat, parser, category)
            mask = Image.fromarray(painted.astype(np.uint8) * np.uint8(255))
            every = max(1, round(options.steps / 6)) if preview else 0
            for item in within(self.bounds.job_seconds, pipeline.steps(person, flat, mask, options, every)):
                if isinstance(item, TryOnStep):
                    status = words.progress(f"Step {item.step} of {item.total}", item.step / item.total)
                    shown = {} if item.preview is None else {"picture": self.engine.screened(item.preview, mask)}
                    yield Update.of(status, **shown)
                else:
                    result = self.engine.screened(item.picture, mask)
                    both = (person.convert("RGB"), result)
                    yield Update.of(words.done(item), picture=result, before_after=both, seed=item.seed)

    def cancelled(self) -> str:
        return words.progress("Cancelled", 0)


def _choices(categories: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(words.CATEGORY[name], name) for name in categories]


def _gallery(paths: list[Path]) -> Any:
    """The strip's pictures; a strip without any is not shown."""
    return gr.update(value=[str(path) for path in paths], visible=bool(paths))
