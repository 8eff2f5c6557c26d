"""What the page's events do. A handler takes and gives component values; it knows the engine, not the layout."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from catvton_ov.errors import ImageError, OptionsError, TryOnError
from catvton_ov.images import open_picture
from catvton_ov.options import TryOnOptions, TryOnStep
from catvton_ov.page import words
from catvton_ov.page.editor import EditorValue, photo_and_mask
from catvton_ov.page.engine import Engine
from catvton_ov.page.examples import Examples

log = logging.getLogger(__name__)
CATEGORIES = ("upper", "lower", "overall")


class Update(NamedTuple):
    """What one turn of a try-on changes on the page, in the order of the outputs."""

    picture: Any  # the result or a preview
    before_after: Any  # (photo, result)
    status: str  # HTML
    seed: Any


class Handlers:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def examples(self, model: str) -> Examples:
        return Examples(self.engine.bundle(model), CATEGORIES)

    def show_model(self, model: str) -> tuple[Any, ...]:
        """The notice, the galleries' pictures, and the first person and garment of a model."""
        try:
            bundle = self.engine.bundle(model)
        except TryOnError as error:
            log.error("%s cannot be used: %s", model, error)
            return words.trouble(error), _gallery([]), _gallery([]), *(gr.skip() for _ in range(4))
        examples = self.examples(model)
        person, garment, category = None, None, CATEGORIES[0]
        name = ""
        if examples.garments:
            garment = str(examples.garments[0])
            category = examples.category(examples.garments[0]) or category
        if examples.persons:
            name = examples.persons[0].stem
            person = examples.person(name, category)
        return (
            words.notice(bundle, model),
            _gallery(examples.persons),
            _gallery(examples.garments),
            person,
            name,
            garment,
            category,
        )

    def pick_person(self, model: str, event: gr.SelectData) -> tuple[None, str]:
        """An emptied editor and the name of the example person to put into it next."""
        return None, self.examples(model).persons[event.index].stem

    def show_person(self, model: str, category: str, name: str) -> EditorValue:
        return self.examples(model).person(name, category)

    def pick_garment(
        self, model: str, category: str, name: str, editor: EditorValue | None, event: gr.SelectData
    ) -> tuple[str, str, Any]:
        """The garment, its category, and the example person's mask for it when the category is another one."""
        examples = self.examples(model)
        path = examples.garments[event.index]
        fitting = examples.category(path) or category
        repainted = gr.skip() if fitting == category else self.repaint_example(model, fitting, name, editor)
        return str(path), fitting, repainted

    def repaint_example(self, model: str, category: str, name: str, editor: EditorValue | None) -> Any:
        """Another category: an example person gets its mask for that; a photo of one's own keeps what is painted."""
        examples = self.examples(model)
        return examples.person(name, category) if name and examples.shows(name, editor) else gr.skip()

    def press_try_on(
        self,
        editor: EditorValue | None,
        garment: str | None,
        category: str,
        steps: float,
        guidance_scale: float,
        sampler: str,
        seed: float | None,
        randomise: bool,
        preview: bool,
        model: str,
        device: str,
    ) -> Iterator[Update]:
        """The button: previews and progress while it runs, the result last."""
        del category  # until a bundle has parsers the mask is what is painted
        with shown_to_visitor():
            person, mask = photo_and_mask(editor)
            options = _options(steps, guidance_scale, sampler, None if randomise else seed)
            flat = open_picture(_given(garment, "garment"), "photo of the garment")
            yield Update(gr.skip(), gr.skip(), words.progress("Preparing the model", 0), gr.skip())
            pipeline = self.engine.pipeline(model, device)
            every = max(1, round(options.steps / 6)) if preview else 0
            for item in pipeline.steps(person, flat, mask, options, preview_every=every):
                if isinstance(item, TryOnStep):
                    text = f"Step {item.step} of {item.total}"
                    picture = gr.skip() if item.preview is None else item.preview
                    yield Update(picture, gr.skip(), words.progress(text, item.step / item.total), gr.skip())
                else:
                    before = person.convert("RGB")
                    yield Update(item.picture, (before, item.picture), words.done(item), item.seed)

    def cancelled(self) -> str:
        return words.progress("Cancelled", 0)

    def try_on_files(
        self,
        person: str | None,
        garment: str | None,
        mask: str | None,
        category: str = CATEGORIES[0],
        steps: float = TryOnOptions.steps,
        guidance_scale: float = TryOnOptions.guidance_scale,
        sampler: str = TryOnOptions.sampler,
        seed: float | None = None,
    ) -> tuple[Image.Image, int, dict[str, float]]:
        """The endpoint `/try_on`: picture files in, the result, its seed and the seconds per stage out.

        Args:
            person: photo of the person.
            garment: photo of the garment.
            mask: white where the person is repainted, of the person photo's size.
            category: "upper", "lower" or "overall".
            steps: denoising steps.
            guidance_scale: how closely to follow the garment.
            sampler: "ddim" or "dpmpp_2m".
            seed: 0 to 4294967295; none draws one.
        """
        with shown_to_visitor():
            if category not in CATEGORIES:
                raise OptionsError(f"Unknown category {category!r}; expected one of {', '.join(CATEGORIES)}.")
            options = _options(steps, guidance_scale, sampler, seed)
            photo = open_picture(_given(person, "person"), "photo of the person")
            flat = open_picture(_given(garment, "garment"), "photo of the garment")
            painted = open_picture(_given(mask, "mask"), "mask")
            pipeline = self.engine.pipeline(self.engine.sources[0], self.engine.device)
            result = pipeline(photo, flat, painted, options)
            return result.picture, result.seed, {name: round(value, 3) for name, value in result.seconds.items()}


@contextmanager
def shown_to_visitor() -> Iterator[None]:
    """What the error tree knows is shown as it is; anything else is logged and shown as one neutral sentence."""
    try:
        yield
    except TryOnError as error:
        raise gr.Error(str(error), title="That did not work", duration=None, print_exception=False) from error
    except Exception as error:
        log.exception("a try-on failed")
        raise gr.Error(words.UNEXPECTED, title="That did not work", print_exception=False) from error


def _gallery(paths: list[Path]) -> Any:
    """The strip's pictures; a strip without any is not shown."""
    return gr.update(value=[str(path) for path in paths], visible=bool(paths))


def _given(file: str | None, what: str) -> str:
    if file is None:
        raise ImageError(f"A picture is missing: add the {what}.")
    return file


def _options(steps: float, guidance_scale: float, sampler: str, seed: float | None) -> TryOnOptions:
    return TryOnOptions(
        steps=_whole(steps, "steps"),
        guidance_scale=_number(guidance_scale, "guidance_scale"),
        sampler=sampler,
        seed=None if seed is None else _whole(seed, "seed"),
    )


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionsError(f"{name} must be a number; got {value!r}.")
    return float(value)


def _whole(value: Any, name: str) -> int:
    """A whole number from a number field, which may send 20.0 for 20."""
    number = _number(value, name)
    if not number.is_integer():  # also refuses NaN and infinity
        raise OptionsError(f"{name} must be a whole number; got {value!r}.")
    return int(number)
