"""Whether the page can serve: an address for machines to ask, and what the owner reads in the log."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from catvton_ov.errors import TryOnError
from catvton_ov.page import words
from catvton_ov.page.engine import Engine
from catvton_ov.page.private_folder import check_room
from catvton_ov.safety import PART as CHECKER


def health_route(engine: Engine, folder: Path) -> Route:
    """`GET /health`: 200 when visitors can use the first of the page's models, else 503; the states of all as JSON.

    {"state": "loading" | "ready" | "failed", "reason", "models": [{"model", "state", "reason"}, ...]}

    Args:
        folder: of the page's pictures: a page that cannot write there is of no use.
    """

    async def answer(_: Request) -> JSONResponse:
        told = await anyio.to_thread.run_sync(_health, engine, folder)
        return JSONResponse(told, status_code=200 if told["state"] == "ready" else 503)

    return Route("/health", answer)


def _health(engine: Engine, folder: Path) -> dict[str, Any]:
    models = []
    for source in engine.sources:
        state, reason = _condition(engine, source)
        models.append({"model": source, "state": state, "reason": reason})
    first = models[0]  # what visitors see first
    state, reason = first["state"], first["reason"]
    try:
        check_room(folder)
    except OSError as error:
        state, reason = "failed", words.no_folder(error)
    return {"state": state, "reason": reason, "models": models}


def _condition(engine: Engine, source: str) -> tuple[str, str]:
    """How a model is, and why it cannot be used; its files may have gone since it was opened."""
    state, reason = engine.state(source)
    if state == "ready":
        try:
            engine.bundle(source).check_presence()
        except TryOnError as error:
            return "failed", str(error)
    return state, reason


def announce(engine: Engine, safety: bool) -> None:
    """Print, once it is known, whether the first model can be used, why not, and what it lacks."""
    threading.Thread(target=_announce, args=(engine, safety), name="announcer", daemon=True).start()


def _announce(engine: Engine, safety: bool) -> None:
    source = engine.sources[0]
    state, reason = engine.state(source, wait=True)
    print(f"{source}: {state}. {reason}".rstrip(), flush=True)
    if state == "ready" and CHECKER not in engine.bundle(source).manifest.parts:
        print(f"{source} brings no safety checker: results are shown unchecked.", flush=True)
    elif state == "ready" and not safety:
        print("The safety checker is switched off: results are shown unchecked.", flush=True)
