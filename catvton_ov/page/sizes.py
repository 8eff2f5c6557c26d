"""The sizes a page's models work at: only those a model was trained for, of which this machine's own is the default."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from catvton_ov.bundle import Manifest
from catvton_ov.errors import OptionsError
from catvton_ov.options import TryOnOptions
from catvton_ov.page import words
from catvton_ov.page.engine import Engine
from catvton_ov.pictures.reading import Size
from catvton_ov.presets import default_size


def fitting(options: TryOnOptions, manifest: Manifest, device: str) -> TryOnOptions:
    """The options with one of the model's sizes: this machine's where they name none.

    Raises:
        OptionsError: they name another one, which might take hours and all the memory there is.
    """
    sizes = manifest.sizes
    if options.size is None:
        return options if len(sizes) == 1 else replace(options, size=default_size(sizes, device))
    if options.size not in sizes:
        expected = ", ".join(map(words.size, sizes))
        raise OptionsError(f"This model works at {expected}; got the size {words.size(options.size)}.")
    return options


def offered(engine: Engine, model: str) -> tuple[Size, ...]:
    """What there is to choose from: nothing while the model is not open, or where it has but one size."""
    sizes = engine.sizes(model)
    return sizes if len(sizes) > 1 else ()


def shown(size: Size | None, sizes: tuple[Size, ...], device: str) -> str | None:
    """A size that settings name, as the page shows it; without one they mean the model's first.

    Args:
        sizes: see `offered`.
    """
    if not sizes:
        return None
    if size is not None and size not in sizes:
        gr.Warning(f"{words.UNUSED_SIZE} {words.size(size)}.")
        return words.size(default_size(sizes, device))
    return words.size(size or sizes[0])
