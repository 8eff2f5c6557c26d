"""The page: components and events. `python app.py --help` lists its settings."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from catvton_ov.errors import OptionsError, TryOnError  # before gradio: importing catvton_ov turns telemetry off

import gradio as gr  # isort: skip
from starlette.middleware import Middleware

from catvton_ov.page import words
from catvton_ov.page.bounds import Doorkeeper
from catvton_ov.page.endpoints import Endpoints
from catvton_ov.page.engine import Engine
from catvton_ov.page.guard import GuardedBlocks
from catvton_ov.page.handlers import CATEGORIES, Handlers
from catvton_ov.page.health import announce, health_route
from catvton_ov.page.layout import advanced_settings, garment_column, head, person_column, result_column, theme
from catvton_ov.page.private_folder import picture_folder, private_folder
from catvton_ov.page.serving import Serving, serving
from catvton_ov.page.tryon import TryOn
from catvton_ov.pictures.reader import PictureReader, page_reader
from catvton_ov.presets import default_preset, preset
from catvton_ov.sources import BUNDLED

STYLE = Path(__file__).parent / "catvton_ov" / "page" / "style.css"
MODEL_JOBS = "model"  # one job at a time touches the model, whatever event it comes from
ONE_JOB: dict[str, Any] = {"concurrency_id": MODEL_JOBS, "concurrency_limit": 1}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(engine: Engine, how: Serving, reader: PictureReader, folder: Path) -> gr.Blocks:
    """The page for an engine; a model is opened when a browser opens the page, and compiled by the first try-on.

    Args:
        reader: reads what visitors send.
        folder: in which Gradio keeps pictures.
    """
    bounds, defaults = how.bounds, preset(default_preset(engine.device))
    handlers = Handlers(engine, reader, folder)
    trying = TryOn(engine, reader, bounds, how.corner_mark, str(folder))
    with GuardedBlocks(bounds, reader, title=words.TITLE, analytics_enabled=False) as page:
        gr.Markdown(f"# {words.TITLE}\n{words.LEAD}", elem_id="lead")
        notice = gr.HTML()
        # For what the editor is an output of: Gradio sends its pictures anew with every status of whatever event, once
        # the editor has shown that of any.
        aside = {**QUIET, "show_progress_on": notice}
        with gr.Row(elem_id="stage"):
            person = person_column(bounds)
            garment = garment_column()
            result = result_column(engine.device)
        advanced = advanced_settings(engine, defaults)
        gr.Markdown(words.privacy(bounds.keep_seconds, how.share), elem_id="privacy")
        licence = gr.HTML(elem_id="licence")
        example = gr.State("")  # the name of the example person that was put into the editor last
        pending = gr.State(None)  # what is put into the editor next
        followed = gr.State(None)  # changes when settings were opened that the mask is to follow, see follow_settings
        shown = gr.JSON(visible=False)  # what the results that are shown were made with, see Shown
        parsed = gr.State(None, time_to_live=round(bounds.keep_seconds))  # the label maps of the photo in the editor
        editor, category, model = person.editor, garment.category, advanced.model

        parsing = [person.find, person.adjusting, garment.more]  # of use where the model brings parsers
        opening = [notice, person.examples, garment.examples, editor, example, garment.picture, category, licence]
        opening += [result.size, *parsing]
        opened = page.load(handlers.show_model, model, opening, concurrency_limit=None, **aside)
        # Said by the browser: what the handler cannot tell, such as a disk that is full when its pictures are sent.
        opened.failure(None, None, notice, js=f"() => {json.dumps(words.trouble(words.NOT_OPENED))}", **QUIET)
        chosen = [advanced.steps, advanced.guidance, advanced.sampler, advanced.seed, advanced.randomise]
        # What decides the time.
        timed = [result.speed, model, advanced.device, result.size, advanced.steps, advanced.guidance]
        told = [category, *chosen, result.speed, result.size, garment.worn, *person.percents]  # what settings hold
        told += [garment.rare, followed]
        timing = {"fn": trying.estimate, "inputs": timed, "outputs": result.estimate, **QUIET}
        changed = model.change(handlers.show_model, model, opening, concurrency_limit=None, **aside)
        changed.then(**timing)
        linked = opened.then(handlers.open_link, [model, category], told, **QUIET)
        result.load.upload(handlers.open_settings, [result.load, model, category], told, **QUIET).then(**timing)
        # Emptied first: Gradio's editor puts a layer in the middle of whatever larger photo it showed before.
        person.examples.select(handlers.pick_person, model, [editor, example], **aside).then(
            handlers.show_person, [model, category, example], editor, **aside
        )
        masked = [model, category, example, editor, parsed, person.outlined, *person.percents]
        garment.examples.select(handlers.pick_garment, masked, [garment.picture, category, editor, parsed], **aside)
        category.input(handlers.change_category, masked, [editor, parsed], **aside)
        followed.change(handlers.follow_settings, [followed, *masked], [editor, parsed], **aside)
        masking = [editor, parsed, person.which, category, person.outlined, model, advanced.device]
        finding = gr.on(
            [person.find.click, person.which.input],
            handlers.press_auto_mask,
            [*masking, *person.percents],
            [editor, pending, parsed, person.which, result.status],
            **ONE_JOB,
            **aside,
        )
        placed = finding.success(handlers.put_pending, pending, [editor, pending], **aside)
        gr.on(
            [person.outlined.input, *(event for slider in person.percents for event in (slider.input, slider.release))],
            handlers.adjust_mask,
            [editor, parsed, category, person.outlined, *person.percents],
            [editor, parsed],
            trigger_mode="always_last",
            **aside,
        )
        person.curious.expand(handlers.show_labels, [editor, parsed], person.labels, api_visibility="private")
        gr.on(
            [person.new_photo.click, person.examples.select, example.change],
            handlers.forget_persons,
            None,
            [person.which, person.labels],
            **QUIET,
        )
        garment.rare.input(handlers.show_categories, [garment.rare, category], category, api_visibility="private")
        chosen_speed = [advanced.steps, advanced.guidance, advanced.sampler, result.estimate]
        result.speed.input(trying.choose_speed, timed[:4], chosen_speed, **QUIET)
        gr.on(
            [advanced.steps.release, advanced.guidance.release, advanced.device.input, result.size.input],
            **timing,
        )
        wanted = [garment.picture, garment.worn, result.count, result.speed, result.size]
        views = [result.picture, result.before_after, result.together, result.variants]
        running = result.start.click(
            trying.press,
            [*masking, *wanted, *chosen, advanced.preview, *person.percents],
            [
                *views,
                result.status,
                result.estimate,
                advanced.seed,
                result.settings,
                result.link,
                shown,
                editor,
                parsed,
                person.which,
            ],
            show_progress="minimal",  # the place in the queue, and how long it may take
            show_progress_on=result.status,
            api_visibility="private",
            **ONE_JOB,
        )
        picked = result.variants.select(
            trying.pick_variant,
            [result.variants, result.together, result.before_after, shown],
            [*views[:3], result.status, advanced.seed, result.settings, result.link, shown],
            **QUIET,
        )
        result.cancel.click(None, cancels=[running, finding], **QUIET)
        # Said in the browser, after what had arrived of the run was shown; a message says why, unless it was Cancel.
        stopped = f"() => {json.dumps(words.progress('Stopped', 0))}"
        for recognised in (running, placed):
            recognised.success(handlers.show_labels, [editor, parsed], person.labels, **QUIET)
        for job in (running, finding):
            job.failure(None, None, result.status, js=stopped, **QUIET)
        # A reload brings results back: the browser keeps the names of their files, for as long as its tab is open.
        kept = [result.before_after, result.together, result.variants, shown]
        result.status.change(None, kept, None, js="keepResults", **QUIET)
        picked.then(None, kept, None, js="keepResults", **QUIET)
        brought = linked.then(None, None, [result.picture, *kept, result.status], js="keptResults", **QUIET)
        used = [result.settings, result.link, advanced.seed, *timed[3:], advanced.sampler, result.speed]
        recalled = brought.then(trying.recall, [shown, model], used, **QUIET)
        recalled.then(**timing)
        _endpoints(Endpoints(engine, reader, bounds, how.corner_mark), trying)
    return page.queue(max_size=bounds.waiting, api_open=False)  # nobody passes the queue by


def _endpoints(endpoints: Endpoints, trying: TryOn) -> None:
    """`/try_on`, `/mask` and `/presets`: plain files and values for scripts; invisible on the page."""
    with gr.Column(visible=False):
        given = [
            gr.File(label="person", type="filepath"),
            gr.File(label="garment", type="filepath"),
            gr.File(label="mask", type="filepath"),
            gr.Textbox(CATEGORIES[0], label="category"),
            gr.Number(None, label="steps"),
            gr.Number(None, label="guidance_scale"),
            gr.Textbox(None, label="sampler"),
            gr.Number(None, label="seed"),
            gr.Textbox(None, label="preset"),
            gr.Textbox(None, label="size"),
            gr.Number(1, label="person_number"),
            gr.Checkbox(False, label="worn"),
        ]
        answers = [gr.Image(label="image", format="png"), gr.Number(label="seed"), gr.JSON(label="timings")]
        gr.Button().click(endpoints.try_on_files, given, answers, api_name="try_on", **ONE_JOB)
        reach = [gr.Number(0, label=name) for name in ("grow", "up", "down", "left", "right")]
        reach.append(gr.Number(1, label="person_number"))
        photo = gr.File(label="person", type="filepath")
        kind = gr.Textbox(CATEGORIES[0], label="category")
        mask = gr.Image(label="mask", format="png")
        gr.Button().click(trying.speed.presets, None, gr.JSON(label="presets"), api_name="presets")
        gr.Button().click(endpoints.mask_file, [photo, kind, *reach], mask, api_name="mask", **ONE_JOB)


def main() -> int:
    how = serving()
    try:
        tools = tools_for_agents(how)
        engine = Engine(how.models, how.device, how.cache_dir, how.safety_checker, how.keep_parsers)
    except TryOnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if BUNDLED in engine.sources:
        print(f"Serving {BUNDLED}, a demonstration model for drawn figures. For photos: {words.REAL_MODEL}")
    engine.opening(engine.sources[0])  # begins, and fetches what has to be fetched, before anybody comes
    announce(engine, how.safety_checker)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # whoever stops the page is no fault
    try:
        pictures = picture_folder(private_folder(how.bounds.keep_seconds))
        launch(build(engine, how, page_reader(), pictures), engine, how, tools, pictures)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: The page cannot be served: {error.strerror or error}{where}.", file=sys.stderr)
        return 1
    return 0


def tools_for_agents(how: Serving) -> dict[str, Any]:
    """What the application serves them with, if that is wanted; raises OptionsError without the extra for it."""
    if not how.mcp:
        return {}
    try:
        from catvton_ov.page.mcp_tools import agent_tools
    except ImportError:
        raise OptionsError("--mcp needs one package more: pip install -r requirements-mcp.txt.") from None
    return agent_tools("" if how.share else how.host)


def launch(page: gr.Blocks, engine: Engine, how: Serving, tools: dict[str, Any], folder: Path) -> None:
    """Serve until the program is ended.

    Args:
        tools: for agents, see `tools_for_agents`.
        folder: in which Gradio keeps pictures.
    """
    jobs = {index: function for index, function in page.fns.items() if function.concurrency_id == MODEL_JOBS}
    names = [str(function.api_name) for function in jobs.values() if function.api_visibility == "public"]
    doorkeeper = Middleware(Doorkeeper, bounds=how.bounds, jobs=list(jobs), names=names)
    page.launch(
        server_name=how.host,
        server_port=how.port,
        share=how.share,
        auth=how.auth,
        theme=theme(),
        css_paths=STYLE,
        head=head(),
        max_file_size=how.bounds.request_bytes,
        state_session_capacity=how.bounds.sessions,
        app_kwargs={
            **tools,
            "middleware": [doorkeeper],
            "routes": [health_route(engine, folder), *tools.get("routes", [])],
        },
        show_error=False,
        enable_monitoring=False,
        run_history=False,
        mcp_server=False,  # Gradio's own, which an environment variable could switch on: it keeps and fetches files
        footer_links=["api"],
        ssr_mode=False,
    )


if __name__ == "__main__":
    sys.exit(main())
