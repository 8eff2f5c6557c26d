"""The page: components and events. `python app.py --help` lists its settings."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from catvton_ov.errors import TryOnError  # before gradio: importing catvton_ov turns telemetry off

import gradio as gr  # isort: skip

from catvton_ov.options import MAX_SEED, TryOnOptions
from catvton_ov.page import words
from catvton_ov.page.editor import PAINT, PAINT_ALPHA
from catvton_ov.page.endpoints import Endpoints
from catvton_ov.page.engine import Engine
from catvton_ov.page.handlers import CATEGORIES, Handlers
from catvton_ov.samplers import SAMPLERS
from catvton_ov.sources import BUNDLED

STYLE = Path(__file__).parent / "catvton_ov" / "page" / "style.css"
MODEL_JOBS = "model"  # one job at a time touches the model, whatever event it comes from


def build(engine: Engine) -> gr.Blocks:
    """The page for an engine; a model is opened when a browser opens the page, and compiled by the first try-on."""
    handlers = Handlers(engine)
    defaults = TryOnOptions()
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.Markdown(f"# {words.TITLE}\n{words.LEAD}", elem_id="lead")
        notice = gr.HTML()
        with gr.Row(elem_id="stage"):
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
                with gr.Row():
                    find = gr.Button("Mask the clothes for me", elem_id="auto-mask", visible=False)
                with gr.Accordion("Adjust the mask", open=False, visible=False, elem_id="adjust") as adjusting:
                    gr.Markdown(words.ADJUST_HINT, elem_classes="caption")
                    percents = [
                        gr.Slider(-10, 15, 0, step=0.5, label="Grow or shrink"),
                        *(
                            gr.Slider(0, 30, 0, step=1, label=f"Extend {way}")
                            for way in ("up", "down", "left", "right")
                        ),
                    ]
                    outlined = gr.Checkbox(True, label=words.OUTLINE)
                    with gr.Accordion("What was recognised", open=False) as curious:
                        labels = gr.Image(
                            show_label=False,
                            alt_text="Label maps of the body and the clothes",
                            elem_id="labels",
                            format="png",
                            interactive=False,
                            buttons=["download"],
                        )
                gr.Markdown("Example persons", elem_classes="caption")
                persons = gr.Gallery(**_strip("Example persons"), elem_id="persons")
            with gr.Column(min_width=260):
                garment = gr.Image(
                    label="Garment",
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
                garments = gr.Gallery(**_strip("Example garments"), elem_id="garments")
            with gr.Column(min_width=300):
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
                            type="pil",
                            format="png",
                            buttons=["fullscreen"],
                            interactive=False,
                            height=470,
                        )
                status = gr.HTML(words.progress("Ready", 0), elem_id="status")
                with gr.Row():
                    start = gr.Button("Try on", variant="primary", elem_id="try-on", scale=3)
                    cancel = gr.Button("Cancel", elem_id="cancel", scale=1, min_width=90)
        with gr.Accordion("Advanced settings", open=False, elem_id="advanced"):
            with gr.Row():
                steps = gr.Slider(1, 100, defaults.steps, step=1, label="Quality", info=words.STEPS_HINT)
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
        gr.Markdown(words.PRIVACY, elem_id="privacy")
        example = gr.State("")  # the name of the example person that was put into the editor last
        pending = gr.State(None)  # what is put into the editor next
        parsed = gr.State(None, time_to_live=3600)  # the label maps of the photo in the editor

        shown = [notice, persons, garments, editor, example, garment, category, find, adjusting, more]
        gr.on(
            [page.load, model.change],
            handlers.show_model,
            model,
            shown,
            show_progress="hidden",
            concurrency_limit=None,
            api_visibility="private",
        )
        # Emptied first: Gradio's editor puts a layer in the middle of whatever larger photo it showed before.
        persons.select(
            handlers.pick_person, model, [editor, example], show_progress="hidden", api_visibility="private"
        ).then(
            handlers.show_person, [model, category, example], editor, show_progress="hidden", api_visibility="private"
        )
        masked = [model, category, example, editor, parsed, outlined, *percents]
        garments.select(
            handlers.pick_garment,
            masked,
            [garment, category, editor, parsed],
            show_progress="hidden",
            api_visibility="private",
        )
        category.input(
            handlers.change_category, masked, [editor, parsed], show_progress="hidden", api_visibility="private"
        )
        masking = [editor, parsed, category, outlined, model, device]
        one_job: dict[str, Any] = {"concurrency_id": MODEL_JOBS, "concurrency_limit": 1, "show_progress": "hidden"}
        finding = find.click(
            handlers.press_auto_mask,
            [*masking, *percents],
            [editor, pending, parsed, status],
            api_visibility="private",
            **one_job,
        )
        finding.success(
            handlers.put_pending, pending, [editor, pending], show_progress="hidden", api_visibility="private"
        )
        gr.on(
            [outlined.input, *(slider.change for slider in percents)],
            handlers.adjust_mask,
            [*masking[:4], *percents],
            [editor, parsed],
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )
        curious.expand(handlers.show_labels, [editor, parsed], labels, api_visibility="private")
        rare.input(handlers.show_categories, [rare, category], category, api_visibility="private")
        settings = [*masking, garment, worn, steps, guidance, sampler, seed, randomise, preview, *percents]
        running = start.click(
            handlers.press_try_on,
            settings,
            [picture, before_after, status, seed, editor, parsed],
            api_visibility="private",
            **one_job,
        )
        cancel.click(handlers.cancelled, None, status, cancels=[running, finding], api_visibility="private")
        _endpoints(Endpoints(engine), defaults)
    return page.queue(max_size=32)


def _strip(label: str) -> dict[str, object]:
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


def _endpoints(endpoints: Endpoints, defaults: TryOnOptions) -> None:
    """`/try_on` and `/mask`: plain files and values for scripts; invisible on the page."""
    one_job: dict[str, Any] = {"concurrency_id": MODEL_JOBS, "concurrency_limit": 1}
    with gr.Column(visible=False):
        given = [
            gr.File(label="person", type="filepath"),
            gr.File(label="garment", type="filepath"),
            gr.File(label="mask", type="filepath"),
            gr.Textbox(CATEGORIES[0], label="category"),
            gr.Number(defaults.steps, label="steps"),
            gr.Number(defaults.guidance_scale, label="guidance_scale"),
            gr.Textbox(defaults.sampler, label="sampler"),
            gr.Number(None, label="seed"),
        ]
        answers = [gr.Image(label="image", format="png"), gr.Number(label="seed"), gr.JSON(label="timings")]
        gr.Button().click(endpoints.try_on_files, given, answers, api_name="try_on", **one_job)
        reach = [gr.Number(0, label=name) for name in ("grow", "up", "down", "left", "right")]
        photo = gr.File(label="person", type="filepath")
        kind = gr.Textbox(CATEGORIES[0], label="category")
        mask = gr.Image(label="mask", format="png")
        gr.Button().click(endpoints.mask_file, [photo, kind, *reach], mask, api_name="mask", **one_job)


def theme() -> gr.themes.Base:
    """Fonts are those of the visitor's device, so that the page asks nobody else for any."""
    return gr.themes.Soft(
        primary_hue="rose", neutral_hue="stone", font=("system-ui", "sans-serif"), font_mono=("monospace",)
    )


def settings() -> argparse.Namespace:
    """The command line; for a Space, environment variables of the same meaning."""
    env = os.environ.get
    parser = argparse.ArgumentParser(
        description="The try-on page.", epilog="Every setting is also read from CATVTON_OV_<NAME>."
    )
    add = parser.add_argument
    model_help = "folder, paper_doll, or Hub owner/name[@revision]; may be given several times to let visitors choose"
    add("--model", metavar="SOURCE", action="append", help=model_help)
    add("--device", default=env("CATVTON_OV_DEVICE", "CPU"), help="what OpenVINO lists, or AUTO")
    add("--host", default=env("CATVTON_OV_HOST", "0.0.0.0" if env("SYSTEM") == "spaces" else "127.0.0.1"))
    add("--port", type=int, default=env("CATVTON_OV_PORT", "7860"))
    add("--share", action="store_true", default=env("CATVTON_OV_SHARE") == "1", help="a public link")
    add("--auth", metavar="USER:PASSWORD", default=env("CATVTON_OV_AUTH"), help="ask visitors for it")
    add("--cache-dir", type=Path, default=env("CATVTON_OV_CACHE_DIR"), help="keeps compiled models between starts")
    no_checker = "do not use the model's safety checker, if it brings one"
    add("--no-safety-checker", action="store_true", default=env("CATVTON_OV_NO_SAFETY_CHECKER") == "1", help=no_checker)
    args = parser.parse_args()
    args.model = args.model or env("CATVTON_OV_MODEL", BUNDLED).split()
    if args.auth and ":" not in args.auth:
        parser.error("--auth takes USER:PASSWORD")
    return args


def main() -> int:
    args = settings()
    try:
        engine = Engine(args.model, args.device, args.cache_dir, safety=not args.no_safety_checker)
    except TryOnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if BUNDLED in engine.sources:
        print(f"Serving {BUNDLED}, a demonstration model for drawn figures. For photos: {words.REAL_MODEL}")
    engine.opening(engine.sources[0])  # begins, and fetches what has to be fetched, before anybody comes
    build(engine).launch(
        server_name=args.host,
        server_port=args.port,
        share=args.share,
        auth=tuple(args.auth.split(":", 1)) if args.auth else None,
        theme=theme(),
        css_paths=STYLE,
        max_file_size="32mb",
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=["api"],
        ssr_mode=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
