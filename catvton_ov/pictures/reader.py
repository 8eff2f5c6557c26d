"""How the page reads what visitors send: in processes of their own, which know no other visitor's photo."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol

from PIL import Image

from catvton_ov.errors import ImageError
from catvton_ov.pictures.decoder import (
    LENGTH,
    MEGABYTE,
    NO_FORK,
    READINGS,
    READY,
    SENT_PIXELS,
    Answer,
    Kind,
    Request,
    receive,
    receive_bytes,
    receive_into,
    send,
)
from catvton_ov.pictures.reading import MAX_PIXELS, Size, bands

log = logging.getLogger(__name__)
MAX_REFUSAL = 500  # letters
STARTING_SECONDS = 20.0  # in which a process is ready, however busy the machine is
FORKING_SECONDS = 10.0  # in which it forks


class PictureReader(Protocol):
    """Reads pictures from files; how is the business of who reads."""

    def read(self, file: Path | bytes, kind: Kind, what: str, most: int = MAX_PIXELS) -> Image.Image:
        """A picture.

        Args:
            file: its path, or what it holds.
            kind: "photo" gives RGB, "mask" L, "layer" RGBA; see pictures/reading.py.
            what: its name in messages.
            most: pixels that are accepted.

        Raises:
            ImageError: it cannot be read, or takes more than one picture may.
        """


class OwnProcess:
    """Reads pictures in this very process: for files of the program's own user."""

    def read(self, file: Path | bytes, kind: Kind, what: str, most: int = MAX_PIXELS) -> Image.Image:
        return READINGS[kind].read(BytesIO(file) if isinstance(file, bytes) else file, what, most)


@dataclass(frozen=True)
class DecodingBounds:
    """What decoding one picture may take: one of 63 megapixels takes up to 0.8 GB; of WebP, 58 megapixels fit."""

    memory: int = 1200 * MEGABYTE  # bytes
    cpu_seconds: int = 8  # of a core
    seconds: float = 45.0  # until the answer is here, on a machine that is busy with a model
    at_once: int = 2  # pictures
    waiting_seconds: float = 60.0  # for its turn


class StrangersReader:
    """Has every picture decoded in a process of its own, see decoder.py. Any number of threads may read."""

    def __init__(self, bounds: DecodingBounds = DecodingBounds()) -> None:
        """Nothing is started yet."""
        self.bounds = bounds
        self._turns = threading.BoundedSemaphore(bounds.at_once)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._is_ready = False

    def start(self) -> None:
        """Start the process that forks, so that the first picture does not wait for it."""
        with self._lock:
            if self._process is None:
                self._begin()

    def read(self, file: Path | bytes, kind: Kind, what: str, most: int = MAX_PIXELS) -> Image.Image:
        bounds = self.bounds
        request = Request(kind, what, most, bounds.memory, bounds.cpu_seconds)
        if not self._turns.acquire(timeout=bounds.waiting_seconds):
            raise ImageError(f"The {what} could not be read: too many pictures are being read. Try again in a minute.")
        try:
            with _opened(file, what) as descriptor:
                return self._read(descriptor.fileno(), request)
        finally:
            self._turns.release()

    def close(self) -> None:
        """End the process that forks, as the end of this one does; another starts with the next picture."""
        with self._lock:
            self._end()

    def _read(self, file: int, request: Request) -> Image.Image:
        here, child = self._fork(file, request.what)
        deadline = time.monotonic() + self.bounds.seconds
        with here:
            try:
                send(here, request)
                answer = Answer(**receive(here, deadline))
                if answer.refusal:
                    raise ImageError(str(answer.refusal)[:MAX_REFUSAL])
                return _received(here, answer.mode, _checked_size(answer, request), deadline)
            except TimeoutError:
                _end_fork(child)
                raise ImageError(
                    f"The {request.what} takes too long to read, over {self.bounds.seconds:.0f} s: "
                    "save it again as JPEG or PNG."
                ) from None
            except (OSError, ValueError, TypeError):
                _end_fork(child)
                raise ImageError(
                    f"The {request.what} cannot be read: it is damaged, or takes more memory or time than one picture "
                    "may. Save it again as JPEG or PNG."
                ) from None

    def _fork(self, file: int, what: str) -> tuple[socket.socket, int]:
        """A fork that will read `file`: the line to it, and its process id. What fails here is not the picture's fault.

        A process that has died or does not answer is replaced, once.
        """
        reason = ""
        for _ in range(2):
            process = None
            here, there = socket.socketpair()
            try:
                with there, self._lock:
                    control, process = self._started(), self._process
                    socket.send_fds(control, [b"\0"], [there.fileno(), file])
                (child,) = LENGTH.unpack(receive_bytes(here, LENGTH.size, time.monotonic() + FORKING_SECONDS))
                if child != NO_FORK:
                    return here, child
                reason = "it cannot fork: too many processes, or too little memory"
            except OSError as error:
                reason = str(error)
                with self._lock:
                    if process is not None and self._process is process:  # no other thread has replaced it yet
                        self._end()
            here.close()
        log.error("the process that reads pictures does not: %s", reason)
        raise ImageError(f"The {what} could not be read: something is wrong on the server. Try again later.")

    def _started(self) -> socket.socket:
        """The line to the process that forks, which is ready; raises OSError where none can be started."""
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._control is None:
            self._begin()
        assert self._control is not None
        if not self._is_ready:
            self._control.settimeout(STARTING_SECONDS)
            try:
                self._is_ready = self._control.recv(1) == READY
            finally:
                if not self._is_ready:
                    self._end()
            if self._control is None:
                raise ConnectionError("it ended while it started")
        return self._control

    def _begin(self) -> None:
        control, there = socket.socketpair()
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "catvton_ov.pictures.decoder", str(there.fileno())],
                pass_fds=(there.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
                start_new_session=True,  # Ctrl-C in a terminal is the page's business
            )
        self._control = control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None
        self._is_ready = False


def _end_fork(child: int) -> None:
    """Kill a fork that has not answered as it should."""
    if child > 1:
        with suppress(OSError):  # it has ended by itself
            os.kill(child, signal.SIGKILL)


@contextmanager
def _opened(file: Path | bytes, what: str) -> Iterator[IO[bytes]]:
    """A file as an open one; raises ImageError where there is none."""
    if isinstance(file, bytes):
        with os.fdopen(os.memfd_create("picture"), "w+b") if hasattr(os, "memfd_create") else TemporaryFile() as stream:
            stream.write(file)
            stream.seek(0)
            yield stream
        return
    try:
        found = file.open("rb")
    except OSError:
        raise ImageError(f"The {what} is not there any more: it was deleted after its time. Add it again.") from None
    with found:
        yield found


def _checked_size(answer: Answer, request: Request) -> Size:
    """The size a fork tells; raises ValueError for what was not asked for: a fork is not to be trusted."""
    width, height = answer.size
    if answer.mode != READINGS[request.kind].mode or not (width > 0 and height > 0 and width * height <= request.most):
        raise ValueError("another picture than was asked for")
    return width, height


def _received(line: socket.socket, mode: str, size: Size, deadline: float) -> Image.Image:
    """The pixels that a fork sends; raises OSError where it sends too few, or too slowly."""
    picture = Image.new(mode, size)
    buffer = bytearray(max(SENT_PIXELS, size[0]) * len(mode))
    for box in bands(size, SENT_PIXELS):
        shape = (box[2], box[3] - box[1])
        space = memoryview(buffer)[: shape[0] * shape[1] * len(mode)]
        receive_into(line, space, deadline)
        picture.paste(Image.frombuffer(mode, shape, space, "raw", mode, 0, 1), box[:2])  # type: ignore[arg-type]
    return picture


def page_reader() -> PictureReader:
    """What reads visitors' pictures here, ready: processes of their own, where the system can fork (Windows cannot)."""
    if not (hasattr(os, "fork") and hasattr(socket, "send_fds")):
        return OwnProcess()
    reader = StrangersReader()
    reader.start()
    return reader


def _environment() -> dict[str, str]:
    """What Python needs to find its modules, and no more: no token of ours is in the memory of what decodes."""
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    libraries = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")  # without which some Pythons do not start
    return {name: os.environ[name] for name in libraries if name in os.environ} | {
        "PYTHONPATH": paths,
        "OPENBLAS_NUM_THREADS": "1",  # what forks must have no threads
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # a fork's memory is all new: large pages save a quarter
        "PYTHONDONTWRITEBYTECODE": "1",
    }
