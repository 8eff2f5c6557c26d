"""The button "Try on": what happens from the press to the pictures, and what may be done with them afterwards."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import numpy.typing as npt
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image

from catvton_ov.errors import OptionsError
from catvton_ov.marking import marked
from catvton_ov.options import MAX_SEED, MaskAdjustment, TryOnResult, TryOnStep
from catvton_ov.page import words
from catvton_ov.page.bounds import Bounds
from catvton_ov.page.editor import PAINT, EditorValue, photo_and_paint
from catvton_ov.page.engine import Engine
from catvton_ov.page.masks import Parsed, Wish, cut_out, parse, persons_of, put_mask, was_corrected
from catvton_ov.page.shown import Shown
from catvton_ov.page.sizes import fitting, offered
from catvton_ov.page.sizes import shown as shown_size
from catvton_ov.page.speed import Speed, preset_of, previews
from catvton_ov.page.values import chosen, given, options_of, shown_to_visitor, whole, within
from catvton_ov.pictures.reader import PictureReader
from catvton_ov.pipeline import Array, Encode, TryOnPipeline
from catvton_ov.settings import TryOnSettings
from catvton_ov.stopwatch import Stopwatch

MOST_VARIANTS = 4
SETTINGS_FILE = "try-on-settings.json"


class Update(NamedTuple):
    """What one turn of a try-on changes on the page, in the order of the outputs."""

    picture: Any  # the result or a preview
    before_after: Any  # (photo, result)
    together: Any  # photo, garment, what was repainted, result
    variants: Any  # the results, where more than one was asked for
    status: str  # HTML
    estimate: Any  # HTML: how long the next one takes
    seed: Any
    settings: Any  # file
    link: Any  # HTML
    shown: Any  # what the results that are shown were made with: the value of a Shown
    editor: Any  # the person's photo, with an auto-mask
    parsed: Any  # what the session knows of the photo
    which: Any  # of the persons on it

    @classmethod
    def of(cls, status: str, **changes: Any) -> Update:
        """The status and what else changes."""
        return cls(**{name: changes.get(name, gr.skip()) for name in cls._fields if name != "status"}, status=status)


class TryOn:
    def __init__(self, engine: Engine, reader: PictureReader, bounds: Bounds, corner_mark: bool, cache: str) -> None:
        """
        Args:
            reader: reads what visitors send.
            corner_mark: whether results bear a visible mark.
            cache: where files to download are put.
        """
        self.engine = engine
        self.reader = reader
        self.bounds = bounds
        self.corner_mark = corner_mark
        self.cache = cache
        self.speed = Speed(engine)

    def press(
        self,
        editor: EditorValue | None,
        parsed: Parsed | None,
        which: int,
        category: str,
        outlined: bool,
        model: str,
        device: str,
        garment: str | None,
        worn: bool,
        variants: float,
        speed: str,
        size: str | None,
        steps: float,
        guidance_scale: float,
        sampler: str,
        seed: float | None,
        randomise: bool,
        preview: bool,
        *percents: float,
    ) -> Iterator[Update]:
        """Previews and progress while it runs, the results last. Without paint, the auto-mask is used."""
        with shown_to_visitor():
            wish = Wish.of(category, outlined, percents)
            person, painted = photo_and_paint(editor)
            options = options_of(speed, steps, guidance_scale, sampler, None if randomise else seed, size)
            count = whole(variants, "variants")
            if not 1 <= count <= MOST_VARIANTS:
                raise OptionsError(f"There may be 1 to {MOST_VARIANTS} variants; got {count}.")
            flat = self.reader.read(given(garment, "garment"), "photo", "photo of the garment")
            yield Update.of(words.progress("Preparing the model", 0))
            for download in self.engine.watch(model):
                yield Update.of(words.progress(*words.fetched(download)))
            options = fitting(options, self.engine.bundle(model).manifest, device)
            self._check_time(self.speed.estimate(model, device, options))
            pipeline, parser = self.engine.pipeline(model, device), self.engine.parser(model, device)
            if not painted.any():
                yield Update.of(words.progress(words.PARSING, 0))
                parsed = parse(person, parser, parsed, which)
                value, parsed = put_mask(editor, parsed, wish)
                yield Update.of(words.found(parsed.maps), editor=value, parsed=parsed, which=persons_of(parsed))
                _, painted = photo_and_paint(value)
            if worn:
                flat = cut_out(flat, parser, category)
            settings = TryOnSettings(
                category,
                options,
                wish.adjustment if parsed is not None and parsed.of(person) else MaskAdjustment(),
                was_corrected(person, painted, parsed),
                pipeline.bundle.manifest.name,
                1 + parsed.person if parsed is not None and parsed.of(person) else 1,
                worn,
            )
            views = Views(person, flat, painted)
            yield from self._variants(pipeline, views, settings, count, preview, (model, device))

    def _check_time(self, guess: float | None) -> None:
        """Raises OptionsError for a picture that would surely be stopped: better before than after half an hour."""
        if guess is not None and guess > 1.25 * self.bounds.job_seconds:
            raise OptionsError(
                f"This would take {words.duration(guess)} here, and the page stops after "
                f"{words.duration(self.bounds.job_seconds)}: choose a faster preset, fewer steps or a smaller size."
            )

    def _variants(
        self,
        pipeline: TryOnPipeline,
        views: Views,
        settings: TryOnSettings,
        count: int,
        preview: bool,
        where: tuple[str, str],
    ) -> Iterator[Update]:
        """The try-ons with seeds n, n + 1, and so on; every result is there as soon as it is done.

        Args:
            where: model and device, for estimates of time.
        """
        options = settings.options
        mask = Image.fromarray(views.painted.astype(np.uint8) * np.uint8(255))
        results: list[tuple[Image.Image, str]] = []
        told: list[TryOnSettings] = []
        first = options.seed
        encode = _once(pipeline.encode)  # person and garment are the same for all
        for number in range(count):
            seed = None if first is None else (first + number) % (MAX_SEED + 1)
            wanted = replace(options, seed=seed)
            clock = self.speed.clock(*where, wanted)
            every, kind = previews(clock)
            clock.preview_every = every if preview else 0
            running = pipeline.steps(
                views.person, views.garment, mask, wanted, clock.preview_every, preview_kind=kind, encode=encode
            )
            since, before = time.monotonic(), 0.0
            for item in within(self.bounds.job_seconds, running):
                if isinstance(item, TryOnStep):
                    shown = {} if item.preview is None else {"picture": self._screened(item.preview, mask)}
                    besides = time.monotonic() - since - item.seconds
                    if item.step == 1:
                        before = besides
                    elif shown:
                        clock.preview(besides)
                    left = clock.step(item.seconds)
                    if item.step == 2:
                        self.speed.glimpse(*where, clock, before)
                    left += (count - number - 1) * clock.so_far().picture(clock.plan)  # the variants still to come
                    yield Update.of(words.step(item, number, count, left), **shown)
                    since = time.monotonic()
                else:
                    first = item.seed if first is None else first
                    watch = Stopwatch()
                    with watch("check"):
                        result = self._screened(item.picture, mask)
                    done = replace(item, seconds={**item.seconds, **watch.seconds})
                    if number == 0:  # the others have less to do
                        self.speed.learn(*where, clock, done)
                    results.append((result, words.VARIANT.format(number + 1)))
                    told.append(replace(settings, options=replace(options, seed=item.seed)))
                    yield self._shown(done, views, results, told, count, where)

    def _shown(
        self,
        item: TryOnResult,
        views: Views,
        results: list[tuple[Image.Image, str]],
        told: list[TryOnSettings],
        count: int,
        where: tuple[str, str],
    ) -> Update:
        """The result that is done, in every view; in the gallery beside those before it."""
        result = results[-1][0]
        return Update.of(
            words.done(item, len(results), count),
            picture=result,
            before_after=(views.person, result),
            together=views.together(result),
            variants=gr.update(value=list(results), visible=count > 1, selected_index=None),
            estimate=words.estimate(self.speed.estimate(*where, told[-1].options)),
            seed=item.seed,
            settings=self._file(told[-1]),
            link=words.link(told[-1]),
            shown=Shown(tuple(told), len(told) - 1).value(),
        )

    def pick_variant(
        self,
        gallery: list[tuple[str, str]] | None,
        together: list[tuple[str, str]] | None,
        photo: tuple[str | None, str | None] | None,
        shown: Any,
        event: gr.SelectData,
    ) -> tuple[Any, ...]:
        """The variant that was clicked, in every view; its seed, settings and link, and the status."""
        with shown_to_visitor():
            path = chosen([Path(path) for path, _ in gallery or []], event)
            picked = replace(Shown.of(shown), chosen=event.index)
            settings = picked.current
            result = marked(self.reader.read(path, "photo", "variant"))
            before = gr.skip()
            if photo is not None and photo[0] is not None:
                before = (self.reader.read(Path(photo[0]), "photo", "photo of the person"), result)
            views = gr.skip()
            if together:
                views = [*together[:-1], (result, together[-1][1])]
            used = settings.options.seed, self._file(settings), words.link(settings)
            status = words.picked(event.index + 1, len(picked.settings), settings.options.seed)
            return result, before, views, status, *used, picked.value()

    def recall(self, shown: Any, model: str, request: gr.Request) -> tuple[Any, ...]:
        """What belongs to a result that the browser has brought back: settings, link, and the values it was made with.

        The values (seed, size, steps, guidance, sampler, preset) stay where the page's address has brought others.
        """
        with shown_to_visitor():
            if shown is None:
                return tuple(gr.skip() for _ in range(8))
            settings = Shown.of(shown).current
            options = settings.options
            size = shown_size(options.size, offered(self.engine, model), self.engine.device)
            shown_values = (options.steps, options.guidance_scale, options.sampler, preset_of(options))
            values = (options.seed, size, *shown_values)
            if TryOnSettings.from_query(dict(request.query_params)) is not None:
                values = tuple(gr.skip() for _ in values)
            return self._file(settings), words.link(settings), *values

    def _screened(self, picture: Image.Image, mask: Image.Image) -> Image.Image:
        return marked(self.engine.screened(picture, mask), self.corner_mark)

    def _file(self, settings: TryOnSettings) -> Any:
        """The button that downloads settings."""
        path = save_bytes_to_cache(settings.to_json(), SETTINGS_FILE, self.cache)
        return gr.update(value=str(path), interactive=True)

    def estimate(
        self, speed: str, model: str, device: str, size: str | None, steps: float, guidance_scale: float
    ) -> str:
        """How long a picture takes with these settings; said on the page before anything runs."""
        with shown_to_visitor():
            options = options_of(speed, steps, guidance_scale, None, None, size)
            return words.estimate(self.speed.estimate(model, device, options))

    def choose_speed(self, speed: str, model: str, device: str, size: str | None) -> tuple[int, float, str, str]:
        """A preset's steps, guidance and sampler in their places, and how long a picture takes with it."""
        with shown_to_visitor():
            options = options_of(speed, None, None, None, None, size)
            said = words.estimate(self.speed.estimate(model, device, options))
            return options.steps, options.guidance_scale, options.sampler, said


def _once(encode: Encode) -> Encode:
    """The same, for which every picture is encoded once."""
    known: dict[bytes, Array] = {}

    def remembering(picture: Array) -> Array:
        key = hashlib.sha256(np.ascontiguousarray(picture).data).digest()
        if key not in known:
            known[key] = encode(picture)
        return known[key]

    return remembering


class Views(NamedTuple):
    """What was put in."""

    person: Image.Image
    garment: Image.Image
    painted: npt.NDArray[np.bool_]  # (H, W)

    def together(self, result: Image.Image) -> list[tuple[Image.Image, str]]:
        """What went in, what was repainted and what came out, with captions."""
        pixels = np.asarray(self.person).copy()
        pixels[self.painted] = (pixels[self.painted] * 0.35 + np.array(PAINT) * 0.65).astype(np.uint8)
        shown = (self.person, self.garment, Image.fromarray(pixels), result)
        return list(zip(shown, words.TOGETHER, strict=True))
