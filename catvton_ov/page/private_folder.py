"""Everything the page writes lies in one folder: readable by its own user alone, swept by age, gone when it ends.

    catvton-ov-RANDOM/
        in-use.lock    held for as long as the page runs, so that no other page takes the folder for an abandoned one
        pictures/      uploads and results: what Gradio calls its cache
        temporary/     whatever else is written meanwhile, such as uploads that are still arriving

Whatever ends the page, a process that watches it (the janitor) deletes the folder. Where that was killed as well, the
next page of the same user does.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from catvton_ov.files import is_private_folder

PREFIX = "catvton-ov-"
LOCK = "in-use.lock"
BEGINNING_SECONDS = 10.0  # a younger folder may belong to a page that is about to take its lock
_VARIABLES = ("GRADIO_TEMP_DIR", "TMPDIR")
# The end of what it reads comes with the end of the page, however that comes.
_JANITOR = "import shutil, sys; sys.stdin.buffer.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


@contextmanager
def private_folder(keep_seconds: float) -> Iterator[Path]:
    """A new folder (mode 0700) in which this process writes whatever is temporary, for as long as the context lasts.

    It is made in $GRADIO_TEMP_DIR, else in the system's folder for temporary files; meanwhile both mean a place in it.
    Files in it that are older than `keep_seconds` are deleted, those that Gradio knows nothing of included.

    Raises:
        OSError: there is no place where a folder can be made.
    """
    place = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).absolute()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    with FileLock(folder / LOCK), _cleared_up(folder), _as_temporary(folder), _swept(folder, place, keep_seconds):
        yield folder


def picture_folder(folder: Path) -> Path:
    """Where uploads and results lie in a private folder."""
    return folder / "pictures"


@contextmanager
def _cleared_up(folder: Path) -> Iterator[None]:
    """Delete the folder at the end; if this process does not come to that, the janitor does."""
    janitor = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _JANITOR, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder.anchor,
        start_new_session=True,  # what ends the page, such as Ctrl-C in its terminal, does not reach it
    )
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        janitor.communicate()


@contextmanager
def _as_temporary(folder: Path) -> Iterator[None]:
    """Let Gradio, and everything that uses `tempfile` here or in child processes, write into the folder."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    before_python = tempfile.tempdir
    for part in (picture_folder(folder), folder / "temporary"):
        part.mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(picture_folder(folder))  # Gradio reads it whenever a component is made
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "temporary")
    try:
        yield
    finally:
        tempfile.tempdir = before_python
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _swept(folder: Path, place: Path, keep_seconds: float) -> Iterator[None]:
    over = threading.Event()

    def sweep_until_over() -> None:
        while not over.wait(min(60.0, keep_seconds / 4)):
            for part in (picture_folder(folder), folder / "temporary"):
                sweep(part, keep_seconds)
            remove_abandoned(place)

    sweeper = threading.Thread(target=sweep_until_over, name="sweeper", daemon=True)
    sweeper.start()
    try:
        yield
    finally:
        over.set()
        sweeper.join(5)


def sweep(folder: Path, keep_seconds: float) -> None:
    """Delete every file in `folder` that was written longer ago, and the folders that this leaves empty."""
    oldest = time.time() - keep_seconds
    for parent, _, names in os.walk(folder, topdown=False):  # which follows no links
        for path in (Path(parent, name) for name in names):
            with suppress(OSError):  # deleted meanwhile
                if path.lstat().st_ctime < oldest:  # a copy has its original's mtime
                    path.unlink()
        with suppress(OSError):
            if Path(parent) != folder and Path(parent).stat().st_ctime < oldest:
                Path(parent).rmdir()


def remove_abandoned(place: Path) -> None:
    """Delete the private folders that pages of this user have left in `place`, and nothing else."""
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            with suppress(OSError, Timeout):
                if _is_private(entry):
                    with FileLock(Path(entry, LOCK), timeout=0):
                        shutil.rmtree(entry, ignore_errors=True)


def _is_private(entry: os.DirEntry[str]) -> bool:
    """Whether a page of this user made a folder, some time ago."""
    if not entry.name.startswith(PREFIX):
        return False
    status = entry.stat(follow_symlinks=False)
    is_begun = status.st_ctime < time.time() - BEGINNING_SECONDS
    return is_private_folder(status) and is_begun and stat.S_ISREG(os.lstat(Path(entry, LOCK)).st_mode)
