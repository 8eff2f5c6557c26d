"""What is on the page, and where: person | garment | result, and what is folded away below. No events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from catvton_ov.options import MAX_SEED, TryOnOptions
from catvton_ov.page import words
from catvton_ov.page.bounds import Bounds
from catvton_ov.page.editor import PAINT, PAINT_ALPHA
from catvton_ov.page.engine import Engine
from catvton_ov.page.guard import bound_editor
from catvton_ov.page.handlers import CATEGORIES
from catvton_ov.page.tryon import MOST_VARIANTS
from catvton_ov.presets import default_preset
from catvton_ov.samplers import SAMPLERS


@dataclass(frozen=True)
class Person:
    """The photo of the person with the mask on it."""

    editor: gr.ImageEditor
    find: gr.Button
    which: gr.Radio  # of several persons, the largest is 0
    adjusting: gr.Accordion
    percents: list[gr.Slider]  # the fields of MaskAdjustment, in its order
    outlined: gr.Checkbox
    curious: gr.Accordion
    labels: gr.Image
    examples: gr.Gallery
    new_photo: gr.Button  # nobody sees it: page.js presses it when a file is given


@dataclass(frozen=True)
class Garment:
    picture: gr.Image
    category: gr.Radio
    more: gr.Accordion
    rare: gr.Checkbox
    worn: gr.Checkbox
    examples: gr.Gallery


@dataclass(frozen=True)
class Result:
    picture: gr.Image
    before_after: gr.ImageSlider
    together: gr.Gallery  # photo, garment, what was repainted, result
    status: gr.HTML
    start: gr.Button
    cancel: gr.Button
    speed: gr.Radio  # a preset
    size: gr.Dropdown  # (width, height) the model works at, as "384x512"; nothing: its only one
    estimate: gr.HTML  # how long a picture takes
    count: gr.Radio  # of variants
    variants: gr.Gallery
    settings: gr.DownloadButton
    load: gr.UploadButton
    link: gr.HTML


@dataclass(frozen=True)
class Advanced:
    steps: gr.Slider
    guidance: gr.Slider
    sampler: gr.Dropdown
    seed: gr.Number
    randomise: gr.Checkbox
    preview: gr.Checkbox
    device: gr.Dropdown
    model: gr.Dropdown


def person_column(bounds: Bounds) -> Person:
    with gr.Column(min_width=300):
        editor = gr.ImageEditor(
            label="Person",
            elem_id="person",
            type="pil",
            format="png",
            sources=("upload", "clipboard"),
            transforms=(),
            brush=gr.Brush(colors=[(f"rgb{PAINT}", PAINT_ALPHA)], color_mode="fixed", default_size=24),
            layers=gr.LayerOptions(disabled=True),
            canvas_size=(192, 256),
            height=520,
        )
        bound_editor(editor, bounds)
        with gr.Row():
            find = gr.Button("Mask the clothes for me", elem_id="auto-mask", visible=False)
        which = gr.Radio([(words.PERSON[0], 0)], value=0, label="Whose clothes", elem_id="which", visible=False)
        with gr.Accordion("Adjust the mask", open=False, visible=False, elem_id="adjust") as adjusting:
            gr.Markdown(words.ADJUST_HINT, elem_classes="caption")
            percents = [
                gr.Slider(-10, 15, 0, step=0.5, label="Grow or shrink"),
                *(gr.Slider(0, 30, 0, step=1, label=f"Extend {way}") for way in ("up", "down", "left", "right")),
            ]
            outlined = gr.Checkbox(True, label=words.OUTLINE)
            with gr.Accordion("What was recognised", open=False) as curious:
                gr.Markdown(words.LABELS_HINT, elem_classes="caption")
                labels = gr.Image(
                    show_label=False,
                    alt_text="Label maps of the body and the clothes",
                    elem_id="labels",
                    format="png",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                )
        gr.Markdown("Example persons", elem_classes="caption")
        examples = gr.Gallery(**_strip("Example persons"), elem_id="persons")
        new_photo = gr.Button("New photo", elem_id="new-photo")
    return Person(editor, find, which, adjusting, percents, outlined, curious, labels, examples, new_photo)


def garment_column() -> Garment:
    with gr.Column(min_width=260):
        picture = gr.Image(
            label="Garment",
            alt_text="The garment to try on",
            elem_id="garment",
            type="filepath",
            image_mode=None,
            format="png",
            sources=["upload", "clipboard"],
            buttons=[],
            height=420,
        )
        category = gr.Radio(
            [(words.CATEGORY[name], name) for name in CATEGORIES],
            value=CATEGORIES[0],
            label="What it covers",
            elem_id="category",
        )
        with gr.Accordion("More", open=False, visible=False, elem_id="more") as more:
            rare = gr.Checkbox(False, label="Open coats, and what is worn under them", elem_id="rare")
            worn = gr.Checkbox(False, label=words.WORN, elem_id="worn")
        gr.Markdown("Example garments", elem_classes="caption")
        examples = gr.Gallery(**_strip("Example garments"), elem_id="garments")
    return Garment(picture, category, more, rare, worn, examples)


def result_column(device: str) -> Result:
    with gr.Column(min_width=300, elem_id="result-column"):
        with gr.Tabs():
            with gr.Tab("Result"):
                picture = gr.Image(
                    show_label=False,
                    alt_text="The person wearing the garment",
                    elem_id="result",
                    format="png",
                    buttons=["download", "fullscreen"],
                    interactive=False,
                    height=470,
                )
            with gr.Tab("Before and after"):
                before_after = gr.ImageSlider(
                    show_label=False,
                    elem_id="slider",
                    type="filepath",
                    format="png",
                    buttons=["fullscreen"],
                    interactive=False,
                    height=470,
                )
            with gr.Tab("All together"):
                together = gr.Gallery(
                    show_label=False,
                    elem_id="together",
                    format="png",
                    columns=2,
                    height=470,
                    object_fit="contain",
                    buttons=["download", "fullscreen"],
                    interactive=False,
                )
        status = gr.HTML(words.progress("Ready", 0), elem_id="status")
        with gr.Row():
            start = gr.Button("Try on", variant="primary", elem_id="try-on", scale=3)
            cancel = gr.Button("Cancel", elem_id="cancel", scale=1, min_width=90)
        speed = gr.Radio(
            list(words.SPEED), value=default_preset(device), label="Speed", info=words.SPEED_HINT, elem_id="speed"
        )
        size = gr.Dropdown([], value=None, label="Size", info=words.SIZE_HINT, elem_id="size", visible=False)
        estimate = gr.HTML(elem_id="estimate")
        gr.Markdown(words.CONSENT, elem_classes="caption")
        gr.HTML(words.PHOTO_NOTE, elem_id="photo-note")
        count = gr.Radio(
            list(range(1, MOST_VARIANTS + 1)), value=1, label="Variants", info=words.VARIANTS_HINT, elem_id="count"
        )
        variants = gr.Gallery(**_strip("Variants"), elem_id="variants", visible=False)
        with gr.Row():
            settings = gr.DownloadButton("Settings (JSON)", elem_id="settings", size="sm", interactive=False)
            load = gr.UploadButton(
                "Use settings of a file", elem_id="load", size="sm", file_types=[".json"], type="binary"
            )
        link = gr.HTML(elem_id="link")
    return Result(
        picture,
        before_after,
        together,
        status,
        start,
        cancel,
        speed,
        size,
        estimate,
        count,
        variants,
        settings,
        load,
        link,
    )


def advanced_settings(engine: Engine, defaults: TryOnOptions) -> Advanced:
    with gr.Accordion("Advanced settings", open=False, elem_id="advanced"):
        with gr.Row():
            steps = gr.Slider(1, 100, defaults.steps, step=1, label="Quality", info=words.STEPS_HINT, elem_id="steps")
            guidance = gr.Slider(
                0, 6, defaults.guidance_scale, step=0.1, label=words.GUIDANCE, info=words.GUIDANCE_HINT
            )
            sampler = gr.Dropdown(list(SAMPLERS), value=defaults.sampler, label="Sampler", info=words.SAMPLER_HINT)
        with gr.Row():
            seed = gr.Number(0, precision=0, minimum=0, maximum=MAX_SEED, label="Seed", info=words.SEED_HINT)
            randomise = gr.Checkbox(True, label="A new seed every time")
            preview = gr.Checkbox(True, label="Show the picture while it is made")
            device = gr.Dropdown(list(engine.devices), value=engine.device, label="Device")
            model = gr.Dropdown(
                list(engine.sources), value=engine.sources[0], label="Model", visible=len(engine.sources) > 1
            )
    return Advanced(steps, guidance, sampler, seed, randomise, preview, device, model)


def theme() -> gr.themes.Base:
    """Fonts are those of the visitor's device, so that the page asks nobody else for any."""
    return gr.themes.Soft(
        primary_hue="rose", neutral_hue="stone", font=("system-ui", "sans-serif"), font_mono=("monospace",)
    )


def head() -> str:
    """The page's script, and the one rule of style that Gradio would not let reach as far as its own frame."""
    narrow = "@media (max-width: 700px) { .gradio-container > .main { padding: 12px 10px !important; } }"
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    return f"<style>{narrow}</style><script>{script}</script>"


def _strip(label: str) -> dict[str, Any]:
    """A row of example pictures to choose from."""
    return {
        "label": label,
        "show_label": False,
        "height": 112,
        "object_fit": "contain",
        "allow_preview": False,
        "buttons": [],
        "interactive": False,
        "elem_classes": "strip",
        "format": "png",
    }
