"""A process that decodes strangers' pictures, one process a picture. `python -m catvton_ov.pictures.decoder FD`.

A decoder with a fault may crash, run for minutes, take all the memory there is, or hand out what the memory held before
(GHSA-q45j-58j2-45rg). So the page decodes nothing that visitors send: it asks this process, which has read Pillow and
nothing else, to fork for every picture. The fork knows one file, has bounds, and ends with its answer.

The process at the other end of the socket FD gets a byte once this one is ready. For every picture it sends a byte with
two file descriptors, a socket and the file. Over that socket go, in this order:

    here -> page    the fork's process id, 4 bytes; NO_FORK where there can be none now
    page -> here    a Request as JSON, 4 bytes of length before it
    here -> page    an Answer as JSON, likewise; where it tells a size, then that picture's pixels, row by row
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from PIL import Image

from catvton_ov.errors import ImageError
from catvton_ov.pictures.reading import Size, accepted_formats, bands, read_layer, read_mask, read_photo

MEGABYTE = 2**20
READY = b"r"
NO_FORK = 2**32 - 1  # in the place of a process id
LENGTH = struct.Struct(">I")
SENT_PIXELS = 300_000  # at once, so that a large photo is not held a second time to be sent
Kind = Literal["photo", "mask", "layer"]


class Reading(NamedTuple):
    read: Callable[[BinaryIO | Path, str, int], Image.Image]
    mode: str  # of the pictures it gives


READINGS: dict[str, Reading] = {
    "photo": Reading(read_photo, "RGB"),
    "mask": Reading(read_mask, "L"),
    "layer": Reading(read_layer, "RGBA"),
}


@dataclass(frozen=True)
class Request:
    kind: Kind
    what: str  # the picture's name in messages
    most: int  # pixels
    memory: int  # bytes that decoding may take
    seconds: int  # of a core


@dataclass(frozen=True)
class Answer:
    mode: str = ""  # PIL's
    size: Size = (0, 0)
    refusal: str = ""  # why there is no picture


def send(line: socket.socket, message: Request | Answer) -> None:
    content = json.dumps(asdict(message)).encode()
    line.sendall(LENGTH.pack(len(content)) + content)


def receive(line: socket.socket, deadline: float | None = None, longest: int = 10_000) -> dict[str, Any]:
    """A message's fields.

    Args:
        deadline: on the monotonic clock.

    Raises:
        OSError: the line ended, or the deadline passed (TimeoutError). ValueError: that was no message.
    """
    (length,) = LENGTH.unpack(receive_bytes(line, LENGTH.size, deadline))
    if length > longest:
        raise ValueError(f"a message of {length} bytes")
    fields: dict[str, Any] = json.loads(receive_bytes(line, length, deadline))
    return fields


def receive_bytes(line: socket.socket, count: int, deadline: float | None = None) -> bytes:
    """So many bytes; raises OSError as `receive` does."""
    content = bytearray(count)
    receive_into(line, memoryview(content), deadline)
    return bytes(content)


def receive_into(line: socket.socket, space: memoryview, deadline: float | None = None) -> None:
    """Fill `space` with what comes; raises OSError as `receive` does."""
    while space:
        if deadline is not None:
            line.settimeout(max(deadline - time.monotonic(), 0.001))
        received = line.recv_into(space)
        if not received:
            raise ConnectionError("the line has ended")
        space = space[received:]


def serve(control: socket.socket) -> None:
    """Fork for every picture until the page closes its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system clears up after the forks
    accepted_formats()  # else every fork would import them anew
    Image.init()
    with suppress(BrokenPipeError):  # the page has ended meanwhile
        control.sendall(READY)
    while True:
        asked, descriptors, _, _ = socket.recv_fds(control, 1, 2)
        if not asked:
            return
        try:
            child = os.fork()
        except OSError:  # too many processes, or too little memory
            child = NO_FORK
        if child == 0:
            control.close()
            _answer(*descriptors)
        with suppress(OSError):  # the page waits no more
            os.write(descriptors[0], LENGTH.pack(child))
        for descriptor in descriptors:
            os.close(descriptor)


def _answer(line_descriptor: int, file_descriptor: int) -> None:
    """Decode one picture, and end the process."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries say of a picture does not go to the log
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # a picture that takes the last memory there is costs its own process
        with socket.socket(fileno=line_descriptor) as line, os.fdopen(file_descriptor, "rb") as file:
            request = Request(**receive(line))
            _bound(request)
            try:
                picture = READINGS[request.kind].read(file, request.what, request.most)
            except ImageError as error:
                send(line, Answer(refusal=str(error)))
            else:
                send(line, Answer(picture.mode, picture.size))
                for box in bands(picture.size, SENT_PIXELS):
                    line.sendall(picture.crop(box).tobytes())
    finally:
        os._exit(0)  # not by way of an exception, which would go on in `serve`


def _bound(request: Request) -> None:
    """Let the system end this process, or refuse it memory and files, beyond what a picture may take."""
    import resource  # which Windows lacks, where none of this runs

    memory = _address_space() + request.memory
    limits = {"RLIMIT_AS": memory, "RLIMIT_CPU": request.seconds, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    if sys.platform == "darwin":  # whose kernel refuses this limit
        del limits["RLIMIT_AS"]
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, name), (most, most))


def _address_space() -> int:
    """Bytes of this process's address space; half a gigabyte where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 512 * MEGABYTE


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as page:
        serve(page)
