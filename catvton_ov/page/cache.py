"""The folder in which Gradio keeps visitors' pictures: our own, readable by us alone, swept by age, gone at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME = "catvton-ov"


@contextmanager
def picture_cache(keep_seconds: float) -> Iterator[Path]:
    """A new folder that Gradio uses, for as long as the context lasts.

    Files older than `keep_seconds` are deleted, also those that a page which was killed has left behind.
    Gradio's own sweep knows only the files that it has handed out; unfinished uploads are not among them.
    """
    root = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()) / NAME
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=root))
    except OSError:  # somebody else's folder
        root = folder = Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # Gradio reads it whenever a component is made
    over = threading.Event()
    sweeper = threading.Thread(
        target=_sweep_until, args=(over, root, folder, keep_seconds), name="sweeper", daemon=True
    )
    sweeper.start()
    try:
        yield folder
    finally:
        over.set()
        sweeper.join(5)
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("GRADIO_TEMP_DIR")
        if before is not None:
            os.environ["GRADIO_TEMP_DIR"] = before


def sweep(folder: Path, keep_seconds: float) -> None:
    """Delete every file in `folder` that was written longer ago, and the folders that this leaves empty."""
    oldest = time.time() - keep_seconds
    for parent, _, names in os.walk(folder, topdown=False):
        for path in (Path(parent, name) for name in names):
            with suppress(OSError):  # deleted meanwhile
                if path.lstat().st_ctime < oldest:  # a copy has its original's mtime
                    path.unlink()
        with suppress(OSError):
            if Path(parent) != folder and Path(parent).stat().st_ctime < oldest:
                Path(parent).rmdir()


def _sweep_until(over: threading.Event, root: Path, own: Path, keep_seconds: float) -> None:
    while not over.wait(min(60.0, keep_seconds / 4)):
        with suppress(OSError):
            os.utime(own)  # in use, however empty
        sweep(root, keep_seconds)
