"""Whether the page can serve: an address for machines to ask, and what the owner reads in the log."""

from __future__ import annotations

import threading

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from catvton_ov.page.engine import Engine
from catvton_ov.safety import PART as CHECKER


def health_route(engine: Engine) -> Route:
    """`GET /health`: 200 when the first of the page's models is ready, else 503; the states of all as JSON.

    {"state": "loading" | "ready" | "failed", "models": [{"model", "state", "reason"}, ...]}
    """

    async def answer(_: Request) -> JSONResponse:
        models = []
        for source in engine.sources:
            state, reason = engine.state(source)
            models.append({"model": source, "state": state, "reason": reason})
        first = models[0]["state"]  # what visitors see first
        return JSONResponse({"state": first, "models": models}, status_code=200 if first == "ready" else 503)

    return Route("/health", answer)


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
