"""What one visitor may ask of the page, and the doorkeeper that holds every request to it before any work is done."""

from __future__ import annotations

import ipaddress
import json
import logging
import re
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass, fields
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException
from starlette.responses import JSONResponse

from catvton_ov.errors import OptionsError, RefusedError, TryOnError
from catvton_ov.page import words
from catvton_ov.page.private_folder import is_no_room

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
log = logging.getLogger(__name__)
MAX_EPILOGUE = 1000  # bytes behind the last boundary of a body that carries files; clients send a line break at most

# Gradio's addresses that this page has no use for: they fetch what others name, or write what visitors send to disk.
_CLOSED = re.compile(
    r"/gradio_api/(proxy=|stream/|vibe|undo-vibe|process_recording|run-history|runs|deep_link|dev/|profiling"
    r"|custom_component)|/monitoring|/gradio_api/file[=/]\s*[a-z][a-z0-9+.-]*:/",
    re.IGNORECASE,
)
_JOB = re.compile(r"/gradio_api/(?:queue/join|(?:call(?:/v2)?|run|api)/([^/]*))/?$")
_ELSEWHERE = re.compile(r"\s*(https?|ftp|file):", re.IGNORECASE)


@dataclass(frozen=True)
class Bounds:
    """The owner's limits; a request beyond one is refused in words, and costs no work."""

    request_bytes: int = 32_000_000  # of one request, whatever it carries
    json_bytes: int = 1_000_000  # of one that carries values; `data:` URLs count as such
    json_depth: int = 24
    editor_pixels: int = 16_000_000  # of a photo in the page's editor; the endpoints take images.MAX_PIXELS
    editor_layers: int = 8
    drafts_bytes: int = 256_000_000  # of contents of editors that no event has used yet, of all visitors
    waiting: int = 32  # events in the queue, of all visitors
    jobs_per_minute: int = 30  # of one visitor: try-ons and searches for clothes
    requests_per_minute: int = 900  # of one visitor: everything that is sent, sliders and brush strokes too
    job_seconds: float = 1800.0  # after which a try-on is stopped, at the end of a step
    keep_seconds: float = 3600.0  # the age at which files with photos are deleted
    sessions: int = 128  # visitors whose photo's label maps are remembered

    def __post_init__(self) -> None:
        """Raises OptionsError unless every bound is a positive number."""
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise OptionsError(f"{field.name} must be above 0; got {getattr(self, field.name)!r}.")


class Doorkeeper:
    """ASGI middleware: refuses with 413, 429, 403, 404 or 400 and one sentence; lets everything else pass.

    It reads bodies that carry values, and counts those that carry files while they pass.
    """

    def __init__(self, app: App, bounds: Bounds, jobs: Collection[int], names: Collection[str]) -> None:
        """
        Args:
            jobs: indices of the page's functions that run the model.
            names: of the endpoints that run it.
        """
        self.app = app
        self.bounds = bounds
        self.jobs = frozenset(jobs)
        self.names = frozenset(names)
        self._requests = Rate(bounds.requests_per_minute)
        self._jobs = Rate(bounds.jobs_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, await self._admitted(scope, receive), watched)
        except RefusedError as refusal:
            if not begun:
                await _answer(refusal, scope, receive, send)
        except TryOnError as error:
            await _answer(RefusedError(400, str(error)), scope, receive, send)
        except Exception as error:
            if begun:
                raise
            log.error("a request to %s failed: %s", scope["path"], type(error).__name__)  # not what it carried
            answer = RefusedError(400, "This request could not be understood.")
            if is_no_room(error):
                answer = RefusedError(507, words.no_folder(error))
            await _answer(answer, scope, receive, send)

    async def _admitted(self, scope: Scope, receive: Receive) -> Receive:
        """What to read the request from; raises RefusedError."""
        path: str = scope["path"]
        if _CLOSED.search(path):
            raise RefusedError(403, "This page does not offer that.")
        if scope["method"] not in ("POST", "PUT", "PATCH"):
            return receive
        headers = dict(scope["headers"])
        for name in (b"content-type", b"content-length"):  # of two, what is behind this door would read the other one
            if [key for key, _ in scope["headers"]].count(name) > 1:
                raise RefusedError(400, "This request could not be understood.")
        announced = headers.get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self.bounds.request_bytes:
            raise RefusedError(413, f"At most {self.bounds.request_bytes / 1e6:.0f} MB are accepted at once.")
        visitor = client_of(scope)
        if not self._requests.allows(visitor):
            raise RefusedError(429, "That was very much in one minute; wait a moment, then try again.")
        kind = headers.get(b"content-type", b"")
        if kind.strip().lower().startswith(b"multipart/"):
            return _counted(receive, self.bounds.request_bytes, _boundary(kind))
        body = await _read(receive, self.bounds.json_bytes)
        values = _parsed(body)
        _check(values, self.bounds.json_depth)
        if self._is_job(path, values) and not self._jobs.allows(visitor):
            raise RefusedError(
                429, f"At most {self.bounds.jobs_per_minute} try-ons a minute; wait a moment, then press again."
            )
        return _replayed(body, receive)

    def _is_job(self, path: str, values: Any) -> bool:
        place = _JOB.search(path)
        if place is None:
            return False
        index = values.get("fn_index") if isinstance(values, dict) else None
        return place[1] in self.names or (isinstance(index, int) and index in self.jobs)


class Rate:
    """How often each visitor came within the last minute; remembers the latest few thousand of them."""

    def __init__(self, per_minute: int, now: Callable[[], float] = time.monotonic, visitors: int = 4096) -> None:
        self._most = per_minute
        self._now = now
        self._visitors = visitors
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def allows(self, visitor: str) -> bool:
        """Whether the visitor may come once more; counts it if so."""
        now = self._now()
        times = self._times.setdefault(visitor, deque())
        self._times.move_to_end(visitor)
        if len(self._times) > self._visitors:
            self._times.popitem(last=False)
        while times and times[0] <= now - 60:
            times.popleft()
        if len(times) >= self._most:
            return False
        times.append(now)
        return True


def client_of(scope: Scope) -> str:
    """The visitor's address: the last public one that proxies on private networks report, else who connected.

    What a visitor writes into the header stands left of that, so nobody passes for somebody else.
    """
    client = scope.get("client")
    nearest = str(client[0]) if client else ""
    if not _is_private(nearest):
        return nearest
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    hops = [hop.strip() for hop in ",".join(forwarded).split(",") if hop.strip()]
    return next((hop for hop in reversed(hops) if not _is_private(hop)), nearest)


def _is_private(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_private
    except ValueError:
        return False


async def _read(receive: Receive, most: int) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "The request was cut off.")
        body += message.get("body", b"")
        if len(body) > most:
            raise RefusedError(413, f"At most {most / 1e6:.0f} MB of values are accepted; upload pictures as files.")
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, then whatever comes next."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return pending.pop() if pending else await receive()

    return read


def _boundary(content_type: bytes) -> bytes:
    """What separates the parts of a body that carries files; raises RefusedError where that is not told."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise RefusedError(400, "This request could not be understood.")
    return boundary


def _counted(receive: Receive, most: int, boundary: bytes) -> Receive:
    """A body that carries files. The exception is the one on which Gradio deletes what it has written of them.

    A body that ends without its last boundary is no whole one, and what was written of it would stay.
    """
    seen, over, ending = 0, False, b""
    last = b"\r\n--" + boundary + b"--"

    async def read() -> Message:
        nonlocal seen, over, ending
        message = await receive()
        body = message.get("body", b"")
        seen += len(body)
        if seen > most:
            raise MultiPartException("File size exceeded maximum allowed size.")
        if message["type"] == "http.disconnect" and not over:
            raise MultiPartException("The upload was cut off.")
        over = not message.get("more_body", False)
        ending = (ending + body)[-MAX_EPILOGUE - len(last) :]
        if over and last not in ending:
            raise MultiPartException("The upload was cut off.")
        return message

    return read


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError:
        raise RefusedError(400, "The request is nested too deeply.") from None
    except ValueError:
        return None  # a form, or nothing; what expects JSON says so itself


def _check(values: Any, depth: int) -> None:
    """Raise RefusedError for what is nested too deeply, and for a file that lies elsewhere: nothing is fetched."""
    level = [values]
    for _ in range(depth):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                if isinstance(path := value.get("path"), str) and _ELSEWHERE.match(path):
                    raise RefusedError(400, "Addresses are not fetched: upload the picture itself.")
                below.extend(value.values())
            elif isinstance(value, list):
                below.extend(value)
        if not below:
            return
        level = below
    raise RefusedError(400, "The request is nested too deeply.")


async def _answer(refusal: RefusedError, scope: Scope, receive: Receive, send: Send) -> None:
    """The reason where both Gradio's page and its client look for it."""
    response = JSONResponse({"detail": str(refusal), "error": str(refusal)}, status_code=refusal.status)
    await response(scope, receive, send)
