"""The real page in a process of its own, on a free loopback port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def served_page(folder: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """Serve `python app.py ARGUMENTS`; gives its address. Gradio's cache and the log are kept in `folder`."""
    with served_process(folder, *arguments, **environment) as (url, _):
        yield url


@contextmanager
def served_process(
    folder: Path, *arguments: str, prefix: Sequence[str] = (), **environment: str
) -> Iterator[tuple[str, int]]:
    """The same, with the process's id.

    The page runs in a working directory of its own, which holds neither the checkout nor any bundle.

    Args:
        prefix: a command that runs the page, as another user for instance.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    log, elsewhere, system = folder / "page.log", folder / "elsewhere", folder / "system"
    for made in (elsewhere, system):
        made.mkdir(exist_ok=True)
    env = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    env["TMPDIR"] = str(system)  # the system's folder for temporary files
    env["XDG_CACHE_HOME"] = str(folder / "facts")  # what a page remembers of this machine
    env |= {"CATVTON_OV_JOBS_PER_MINUTE": "100000", **environment}  # tests are in a hurry
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*prefix, sys.executable, str(ROOT / "app.py"), "--port", str(port), *arguments],
            cwd=elsewhere,
            env=env,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    answer.read(1)
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError(f"the page did not start:\n{log.read_text()}") from None
                time.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)
        place = Path(env["GRADIO_TEMP_DIR"] or env["TMPDIR"])
        deadline = time.monotonic() + 30
        while any(place.glob("catvton-ov-*")) and time.monotonic() < deadline:  # the janitor is at it
            time.sleep(0.1)
    assert list(place.glob("catvton-ov-*")) == [], "pictures outlive the page"
