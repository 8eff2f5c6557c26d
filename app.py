"""The page: components and events. `python app.py --help` lists its settings."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from catvton_ov.errors import TryOnError  # before gradio: importing catvton_ov turns telemetry off

import gradio as gr  # isort: skip

from catvton_ov.options import MAX_SEED, TryOnOptions
from catvton_ov.page import words
from catvton_ov.page.editor import PAINT, PAINT_ALPHA
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

        shown = [notice, persons, garments, editor, example, garment, category]
        gr.on([page.load, model.change], handlers.show_model, model, shown, api_visibility="private")
        # Emptied first: Gradio's editor puts a layer in the middle of whatever larger photo it showed before.
        persons.select(
            handlers.pick_person, model, [editor, example], show_progress="hidden", api_visibility="private"
        ).then(
            handlers.show_person, [model, category, example], editor, show_progress="hidden", api_visibility="private"
        )
        garments.select(
            handlers.pick_garment,
            [model, category, example, editor],
            [garment, category, editor],
            show_progress="hidden",
            api_visibility="private",
        )
        category.input(
            handlers.repaint_example,
            [model, category, example, editor],
            editor,
            show_progress="hidden",
            api_visibility="private",
        )

        settings = [editor, garment, category, steps, guidance, sampler, seed, randomise, preview, model, device]
        running = start.click(
            handlers.press_try_on,
            settings,
            [picture, before_after, status, seed],
            show_progress="hidden",
            concurrency_id=MODEL_JOBS,
            concurrency_limit=1,
            api_visibility="private",
        )
        cancel.click(handlers.cancelled, None, status, cancels=[running], api_visibility="private")
        _endpoint(handlers, defaults)
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


def _endpoint(handlers: Handlers, defaults: TryOnOptions) -> None:
    """`/try_on`: plain files and values for scripts; invisible on the page."""
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
        gr.Button().click(
            handlers.try_on_files,
            given,
            answers,
            api_name="try_on",
            concurrency_id=MODEL_JOBS,
            concurrency_limit=1,
        )


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
    args = parser.parse_args()
    args.model = args.model or env("CATVTON_OV_MODEL", BUNDLED).split()
    if args.auth and ":" not in args.auth:
        parser.error("--auth takes USER:PASSWORD")
    return args


def main() -> int:
    args = settings()
    try:
        engine = Engine(args.model, args.device, args.cache_dir)
    except TryOnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if BUNDLED in engine.sources:
        print(f"Serving {BUNDLED}, a demonstration model for drawn figures. For photos: {words.REAL_MODEL}")
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
