"""Between components and the pipeline: values checked, and errors in words."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from catvton_ov.errors import BundleError, ImageError, OptionsError, RefusedError, TryOnError
from catvton_ov.options import TryOnOptions, TryOnResult, TryOnStep, size_of
from catvton_ov.page import words
from catvton_ov.page.caller import is_awaited
from catvton_ov.page.private_folder import is_no_room
from catvton_ov.presets import preset

log = logging.getLogger(__name__)


@contextmanager
def shown_to_visitor() -> Iterator[None]:
    """What the error tree knows is shown as it is; anything else is logged and shown as one neutral sentence."""
    try:
        yield
    except TryOnError as error:
        if isinstance(error, BundleError):
            log.error("%s", error)  # which is the owner's business
        raise gr.Error(words.sentence(error), title=words.REFUSED, duration=None, print_exception=False) from error
    except Exception as error:
        if is_no_room(error):
            raise gr.Error(words.no_folder(error), title=words.REFUSED, print_exception=False) from error
        log.exception("a try-on failed")
        raise gr.Error(words.UNEXPECTED, title=words.REFUSED, print_exception=False) from error


def given(file: str | None, what: str) -> Path:
    """The path of a file that has to be there; raises ImageError where nothing was given."""
    if file is None:
        raise ImageError(f"A picture is missing: add the {what}.")
    return Path(file)


def chosen(paths: Sequence[Path], event: gr.SelectData) -> Path:
    """Which of the shown files a click in a gallery means; raises OptionsError for none of them."""
    if not (isinstance(event.index, int) and 0 <= event.index < len(paths)):
        raise OptionsError(words.NO_EXAMPLE)
    return paths[event.index]


def options_of(
    preset_name: str | None,
    steps: float | None,
    guidance_scale: float | None,
    sampler: str | None,
    seed: float | None,
    size: str | None = None,
) -> TryOnOptions:
    """A preset's options, or the plain ones without a preset, with what else is given; `size` as "384x512"."""
    given_values = {
        "steps": None if steps is None else whole(steps, "steps"),
        "guidance_scale": None if guidance_scale is None else number(guidance_scale, "guidance_scale"),
        "sampler": sampler or None,
        "seed": None if seed is None else whole(seed, "seed"),
        "size": size_of(size) if size else None,
    }
    if preset_name:
        return preset(preset_name, **given_values)
    return TryOnOptions(**{name: value for name, value in given_values.items() if value is not None})  # type: ignore[arg-type]


def within(seconds: float, steps: Iterator[TryOnStep | TryOnResult]) -> Iterator[TryOnStep | TryOnResult]:
    """The steps of a try-on, which is stopped after a step that ends later than so many seconds from now.

    Likewise when nobody waits for it any more.

    Raises:
        OptionsError: it took too long. RefusedError: nobody waits.
    """
    end = time.monotonic() + seconds
    for item in steps:
        yield item
        if not is_awaited():
            raise RefusedError(499, "Nobody waits for this try-on any more.")
        if time.monotonic() > end and isinstance(item, TryOnStep):
            raise OptionsError(
                f"This try-on was stopped after {seconds / 60:.0f} minutes, the most that this page gives to one: "
                "choose fewer steps, or a smaller size."
            )


def number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionsError(f"{name} must be a number; got {value!r}.")
    return float(value)


def whole(value: Any, name: str) -> int:
    """A whole number from a number field, which may send 20.0 for 20."""
    given_number = number(value, name)
    if not given_number.is_integer():  # also refuses NaN and infinity
        raise OptionsError(f"{name} must be a whole number; got {value!r}.")
    return int(given_number)
