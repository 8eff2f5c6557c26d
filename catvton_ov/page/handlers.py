"""What the page's events do. A handler takes and gives component values; it knows the engine, not the layout."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from catvton_ov.bundle import Bundle
from catvton_ov.errors import TryOnError
from catvton_ov.masking.parsers import has_parser
from catvton_ov.masking.show import picture_of_labels
from catvton_ov.options import GARMENT_CATEGORIES, MaskAdjustment
from catvton_ov.page import words
from catvton_ov.page.editor import EditorValue, photo_and_paint
from catvton_ov.page.engine import Engine
from catvton_ov.page.examples import Examples
from catvton_ov.page.masks import Parsed, Wish, parse, persons_of, put_mask, readjusted
from catvton_ov.page.private_folder import check_room
from catvton_ov.page.sizes import offered, shown
from catvton_ov.page.speed import preset_of
from catvton_ov.page.values import chosen, shown_to_visitor
from catvton_ov.pictures.reader import PictureReader
from catvton_ov.presets import default_size
from catvton_ov.settings import TryOnSettings

log = logging.getLogger(__name__)
SETTINGS_PLACES = 11 + len(fields(MaskAdjustment))  # values of `show_settings`
CATEGORIES = ("upper", "lower", "overall")  # those that examples and the page's first choice know


class Handlers:
    def __init__(self, engine: Engine, reader: PictureReader, folder: Path) -> None:
        """
        Args:
            reader: reads pictures.
            folder: of the page's pictures, which Gradio may show.
        """
        self.engine = engine
        self.reader = reader
        self.folder = folder

    def examples(self, model: str) -> Examples:
        return Examples(self.engine.bundle(model), CATEGORIES, self.reader, self.folder)

    def show_model(self, model: str) -> Iterator[tuple[Any, ...]]:
        """The notice, the galleries' pictures, and the first person and garment of a model; first its download."""
        try:
            for download in self.engine.watch(model):
                yield words.fetching(download), *(gr.skip() for _ in range(11))
            yield self._opened(model, self.engine.bundle(model))
        except TryOnError as error:
            log.error("%s cannot be used: %s", model, error)
            yield self._unopened(str(error))
        except OSError as error:  # of the page's own folder
            log.error("the page cannot write to %s: %s", self.folder, error.strerror)
            yield self._unopened(words.no_folder(error))
        except Exception:
            log.exception("%s cannot be shown", model)
            yield self._unopened(words.NOT_OPENED)

    def _opened(self, model: str, bundle: Bundle) -> tuple[Any, ...]:
        """What `show_model` shows of a model that is open.

        Raises:
            BundleError: its files have gone or changed since. OSError: the page cannot keep any picture.
        """
        bundle.check_presence()
        check_room(self.folder)
        examples = self.examples(model)
        person, garment, category = None, None, CATEGORIES[0]
        name = ""
        if examples.garments:
            garment = examples.copy(examples.garments[0])
            category = examples.category(examples.garments[0]) or category
        if examples.persons:
            name = examples.persons[0].stem
            person = examples.person(name, category)
        return (
            words.notice(bundle, model),
            _gallery(examples, examples.persons),
            _gallery(examples, examples.garments),
            person,
            name,
            garment,
            gr.update(choices=_choices(CATEGORIES), value=category),
            words.licence(bundle),
            self._sizes(model),
            *(gr.update(visible=has_parser(bundle)) for _ in range(3)),
        )

    def _unopened(self, reason: str) -> tuple[Any, ...]:
        """What `show_model` shows where there is no model to show."""
        none = gr.update(value=[], visible=False)
        return words.trouble(reason), none, none, *(gr.skip() for _ in range(9))

    def show_categories(self, rare: bool, category: str) -> Any:
        """All five garment categories, or the three that most people need."""
        kinds = GARMENT_CATEGORIES if rare else CATEGORIES
        return gr.update(choices=_choices(kinds), value=category if category in kinds else kinds[0])

    def pick_person(self, model: str, event: gr.SelectData) -> tuple[None, str]:
        """An emptied editor and the name of the example person to put into it next."""
        with shown_to_visitor():
            return None, chosen(self.examples(model).persons, event).stem

    def show_person(self, model: str, category: str, name: str) -> EditorValue:
        with shown_to_visitor():
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
            copy = examples.copy(path)
        fitting = examples.category(path) or category
        if fitting == category:
            return copy, category, gr.skip(), gr.skip()
        return copy, fitting, *self.change_category(model, fitting, name, editor, parsed, outlined, *percents)

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

    def follow_settings(self, followed: tuple[bool, str], *masked: Any) -> tuple[Any, Any]:
        """The mask for settings that were opened; where they keep the category, one that was painted stays.

        Args:
            followed: whether the category is another one than before, and a value that was never there.
            masked: what `change_category` takes.
        """
        if followed[0]:
            return self.change_category(*masked)
        _, category, _, editor, parsed, outlined, *percents = masked
        return self.adjust_mask(editor, parsed, category, outlined, *percents)

    def press_auto_mask(
        self,
        editor: EditorValue | None,
        parsed: Parsed | None,
        which: int,
        category: str,
        outlined: bool,
        model: str,
        device: str,
        *percents: float,
    ) -> Iterator[tuple[Any, Any, Any, Any, str]]:
        """An emptied editor, what is to be put into it next, what is known of the photo, whom to choose, the status.

        Emptied first, because the editor would keep what is painted under the new mask.
        """
        with shown_to_visitor():
            wish = Wish.of(category, outlined, percents)
            photo, _ = photo_and_paint(editor)
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip(), words.progress(words.PARSING, 0)
            parsed = parse(photo, self.engine.parser(model, device), parsed, which)
            value, parsed = put_mask(editor, parsed, wish)
            yield None, value, parsed, persons_of(parsed), words.found(parsed.maps)

    def put_pending(self, pending: EditorValue) -> tuple[EditorValue, None]:
        return pending, None

    def adjust_mask(
        self, editor: EditorValue | None, parsed: Parsed | None, category: str, outlined: bool, *percents: float
    ) -> tuple[Any, Any]:
        """The same at once, when only the wish has changed."""
        with shown_to_visitor():
            return readjusted(editor, parsed, Wish.of(category, outlined, percents))

    def forget_persons(self) -> tuple[Any, None]:
        """Another photo: nobody was recognised on it yet, so that there is nobody to choose."""
        return gr.update(choices=[(words.PERSON[0], 0)], value=0, visible=False), None

    def show_labels(self, editor: EditorValue | None, parsed: Parsed | None) -> Image.Image | None:
        """A picture of what the parsers said of the photo in the editor."""
        photo = (editor or {}).get("background")
        return picture_of_labels(parsed.maps) if photo is not None and parsed is not None and parsed.of(photo) else None

    def open_link(self, model: str, category: str, request: gr.Request) -> tuple[Any, ...]:
        """The settings in the page's address, if there are any, as `show_settings` shows them."""
        try:
            settings = TryOnSettings.from_query(dict(request.query_params))
        except TryOnError as error:
            gr.Warning(f"{words.UNUSED_LINK}. {words.sentence(error)}")
            settings = None
        if settings is None:
            return tuple(gr.skip() for _ in range(SETTINGS_PLACES))
        return self.show_settings(settings, model, category)

    def open_settings(self, content: bytes, model: str, category: str) -> tuple[Any, ...]:
        """The settings in a file, as `show_settings` shows them."""
        with shown_to_visitor():
            return self.show_settings(TryOnSettings.from_json(content), model, category)

    def show_settings(self, settings: TryOnSettings, model: str, category: str) -> tuple[Any, ...]:
        """Settings in their places: category, steps, guidance, sampler, seed, drawing one, preset, size, worn, mask.

        Then whether rare categories are shown, and what makes the mask follow, see `follow_settings`.
        """
        options = settings.options
        if settings.painted:
            gr.Info(words.PAINTED_SETTINGS)
        elif settings.person_number > 1:
            gr.Info(words.PERSON_OF_SETTINGS.format(settings.person_number))
        rare = settings.category not in CATEGORIES
        return (
            # No choice is taken away: what a slider has sent may still name it.
            gr.update(value=settings.category, choices=_choices(GARMENT_CATEGORIES))
            if rare
            else gr.update(value=settings.category),
            options.steps,
            options.guidance_scale,
            options.sampler,
            options.seed if options.seed is not None else gr.skip(),
            options.seed is None,
            preset_of(options),
            shown(options.size, offered(self.engine, model), self.engine.device),
            settings.worn,
            *astuple(settings.adjustment),
            True if rare else gr.skip(),
            (settings.category != category, secrets.token_hex(8)),
        )

    def _sizes(self, model: str) -> Any:
        """The sizes a model works at, of which this machine's own is chosen; not shown where there is but one."""
        sizes = offered(self.engine, model)
        if not sizes:
            return gr.update(choices=[], value=None, visible=False)
        best = default_size(sizes, self.engine.device)
        return gr.update(choices=[words.size(size) for size in sorted(sizes)], value=words.size(best), visible=True)


def _choices(categories: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(words.CATEGORY[name], name) for name in categories]


def _gallery(examples: Examples, paths: list[Path]) -> Any:
    """The strip's pictures, named by their files; a strip without any is not shown."""
    pictures = [(examples.copy(path), path.stem.replace("-", ", ")) for path in paths]
    return gr.update(value=pictures, visible=bool(pictures))
