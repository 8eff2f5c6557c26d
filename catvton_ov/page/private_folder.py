"""Everything the page writes lies in one folder: readable by its own user alone, swept by age, gone when it ends.

    catvton-ov-RANDOM/
        in-use.lock    held for as long as the page runs, so that no other page takes the folder for an abandoned one
        pictures/      uploads and results: what Gradio calls its cache
        temporary/     whatever else is written meanwhile, such as uploads that are still arriving

The page does not delete it: it may still be receiving an upload while it ends. A process that watches it (the janitor)
does, once there is no page any more, whatever has ended it. Where that was killed as well, the next page of the same
user does.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeGuard

from filelock import FileLock, Timeout

from catvton_ov.files import NO_ROOM, is_private_folder

PREFIX = "catvton-ov-"
LOCK = "in-use.lock"
BEGINNING_SECONDS = 10.0  # a younger folder may belong to a page that is about to take its lock
EXAMPLES = "examples"  # among the pictures: copies of a bundle's own, which are no visitor's
PROBE_BYTES = 100_000  # that have to fit into the folder
IDLE_SECONDS = 60.0  # after which an upload that is not written to any more is not coming
# The end of what it reads comes with the end of the page, however that comes. What is being written meanwhile by
# processes of the page's own, which end a moment later, is deleted by the second round.
_JANITOR = """
import shutil, sys, time
sys.stdin.buffer.read()
for pause in (0, 2):
    time.sleep(pause)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


def private_folder(keep_seconds: float) -> Path:
    """A new folder (mode 0700) in which this process and those it starts write whatever is temporary, until it ends.

    It is made in $GRADIO_TEMP_DIR, else in the system's folder for temporary files; both mean a place in it from now
    on. Files in it that are older than `keep_seconds` are deleted, and those of uploads that came to nothing sooner.

    Raises:
        OSError: there is no place where a folder can be made.
    """
    place = Path(os.environ.get("GRADIO_TEMP_DIR") or tempfile.gettempdir()).absolute()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_abandoned(place)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    lock = FileLock(folder / LOCK, thread_local=False)  # the sweeper looks at it
    lock.acquire()
    _start_janitor(folder)
    for part in (picture_folder(folder), _temporary(folder)):
        part.mkdir()
    _use_as_temporary(folder)
    threading.Thread(target=_sweep_for_ever, args=(folder, keep_seconds, lock), name="sweeper", daemon=True).start()
    return folder


def picture_folder(folder: Path) -> Path:
    """Where uploads and results lie in a private folder."""
    return folder / "pictures"


def _temporary(folder: Path) -> Path:
    return folder / "temporary"


def _start_janitor(folder: Path) -> None:
    """Have the folder deleted when this process is no more."""
    theirs, ours = os.pipe()  # our end is closed by the system alone
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _JANITOR, str(folder)],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder.anchor,
        start_new_session=True,  # what ends the page, such as Ctrl-C in its terminal, does not reach it
    )
    os.close(theirs)
    os.set_inheritable(ours, False)


def _use_as_temporary(folder: Path) -> None:
    """Let Gradio, and everything that uses `tempfile` here or in child processes, write into the folder."""
    os.environ["GRADIO_TEMP_DIR"] = str(picture_folder(folder))  # Gradio reads it whenever a component is made
    os.environ["TMPDIR"] = tempfile.tempdir = str(_temporary(folder))
    for name, module in list(sys.modules.items()):  # Gradio has read it once for all when it was imported
        if name.startswith("gradio.") and hasattr(module, "DEFAULT_TEMP_DIR"):
            vars(module)["DEFAULT_TEMP_DIR"] = str(picture_folder(folder))


def _sweep_for_ever(folder: Path, keep_seconds: float, lock: FileLock) -> None:
    """Until the process ends, which gives the lock back."""
    while lock.is_locked:
        time.sleep(min(15.0, keep_seconds / 4))
        for part in (picture_folder(folder), _temporary(folder)):
            sweep(part, keep_seconds)
            delete_idle_uploads(part)
        with suppress(OSError):  # cleaners of temporary folders let alone what is young
            for path in (folder, folder / LOCK, picture_folder(folder), _temporary(folder)):
                os.utime(path)
        remove_abandoned(folder.parent)


def delete_idle_uploads(folder: Path) -> None:
    """Delete what uploads have left that broke off, or that nobody took: files right in the folder.

    Gradio writes an upload there, and moves it to a folder of its own when it is whole.
    """
    oldest = time.time() - IDLE_SECONDS
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # deleted meanwhile
                if entry.is_file(follow_symlinks=False) and entry.stat().st_mtime < oldest:
                    os.unlink(entry)


def is_no_room(error: BaseException | None) -> TypeGuard[OSError]:
    """Whether something failed because nothing more can be written here."""
    return isinstance(error, OSError) and error.errno in (*NO_ROOM, errno.EROFS)


def check_room(folder: Path) -> None:
    """Raise OSError where nothing can be written into a folder."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(PROBE_BYTES))


def sweep(folder: Path, keep_seconds: float) -> None:
    """Delete every file in `folder` that was written longer ago, and the folders that this leaves empty.

    Examples stay: they are shown for as long as a page is open, and there are only so many.
    """
    oldest = time.time() - keep_seconds
    for parent, _, names in os.walk(folder, topdown=False):  # which follows no links
        if Path(parent).is_relative_to(folder / EXAMPLES):
            continue
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
                if _is_abandoned(entry):
                    with FileLock(Path(entry, LOCK), timeout=0):
                        shutil.rmtree(entry, ignore_errors=True)


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    """Whether a page of this user made a folder, some time ago; its lock tells whether it still uses it."""
    if not entry.name.startswith(PREFIX):
        return False
    status = entry.stat(follow_symlinks=False)
    is_begun = status.st_ctime < time.time() - BEGINNING_SECONDS
    return is_private_folder(status) and is_begun and stat.S_ISREG(os.lstat(Path(entry, LOCK)).st_mode)
