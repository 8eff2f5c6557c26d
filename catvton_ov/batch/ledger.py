"""What is done, in a folder of results that survives being stopped at any moment.

    DIR/NAME.png              the results
    DIR/.batch/ledger.sqlite  what each was made from
    DIR/.batch/result.part    the one that is being written

A result is first written aside, then entered with its checksum, then put in its place. So a file with the checksum
of its entry is whole; an entry without a file is not done; and any other file is somebody else's and is left alone.
"""

from __future__ import annotations

import os
import sqlite3
from enum import Enum
from hashlib import sha256 as hash_of
from pathlib import Path
from types import TracebackType

from catvton_ov.batch.plan import Task, difference
from catvton_ov.bundle import sha256
from catvton_ov.errors import BatchError

FOLDER = ".batch"
_TABLE = """CREATE TABLE IF NOT EXISTS result (
    name TEXT PRIMARY KEY,       -- of the file, without .png
    fingerprint TEXT NOT NULL,   -- of all it depends on
    about TEXT NOT NULL,         -- the same in JSON, for readers
    sha256 TEXT NOT NULL,        -- of the file
    seconds REAL NOT NULL        -- it took
)"""


class State(Enum):
    """Of a task's result."""

    MISSING = "missing"
    DONE = "done"
    OUTDATED = "made from something else"
    FOREIGN = "not made by a batch run, or changed since"


class Ledger:
    """The results in a folder. One at a time: a second one for the same folder is refused until this one is closed."""

    def __init__(self, folder: Path) -> None:
        """Open, and make, if need be, the folder.

        Raises:
            BatchError: it cannot be written to, its ledger is damaged, or another run is using it.
        """
        self.folder = folder
        try:
            (folder / FOLDER).mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(folder / FOLDER / "ledger.sqlite", timeout=1)
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")  # released by the system if this process dies
            self._database.execute("PRAGMA synchronous = FULL")
            with self._database:
                self._database.execute("BEGIN EXCLUSIVE")
                self._database.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise _explained(error, folder) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    def path(self, task: Task) -> Path:
        return self.folder / f"{task.row.name}.png"

    def state(self, task: Task) -> State:
        """Where the task's result stands; reads the file there is."""
        entry = self._database.execute(
            "SELECT fingerprint, sha256 FROM result WHERE name = ?", (task.row.name,)
        ).fetchone()
        path = self.path(task)
        if not os.path.lexists(path):
            return State.MISSING
        if entry is None or not path.is_file() or sha256(path) != entry[1]:
            return State.FOREIGN
        return State.DONE if entry[0] == task.fingerprint else State.OUTDATED

    def difference(self, task: Task) -> str:
        """What the result there is was made from otherwise, for people."""
        (about,) = self._database.execute("SELECT about FROM result WHERE name = ?", (task.row.name,)).fetchone()
        return difference(about, task.about)

    def keep(self, task: Task, png: bytes, seconds: float) -> bool:
        """Enter a result and write it, whole or not at all; a former result of the row goes when it is there.

        Returns:
            False, and nothing has changed, where somebody else's file lies in its place by now.

        Raises:
            BatchError: it cannot be written (no room, most often).
        """
        path, part = self.path(task), self.folder / FOLDER / "result.part"
        entry = (task.row.name, task.fingerprint, task.about, hash_of(png).hexdigest(), seconds)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                stream.write(png)
                stream.flush()
                os.fsync(stream.fileno())
            if self.state(task) is State.FOREIGN:
                part.unlink()
                return False
            path.unlink(missing_ok=True)  # before its entry, without which it would be somebody else's
            with self._database:
                self._database.execute("INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?)", entry)
            part.replace(path)
        except (OSError, sqlite3.Error) as error:
            raise _explained(error, self.folder) from error
        return True


def _explained(error: OSError | sqlite3.Error, folder: Path) -> BatchError:
    if isinstance(error, OSError):
        what = "" if error.filename is None else f" ({error.filename})"
        return BatchError(f"Results cannot be written to {folder}: {error.strerror or error}{what}.")
    if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
        return BatchError(f"Another run is writing to {folder}; wait for it, or stop it first.")
    return BatchError(f"The ledger in {folder / FOLDER} cannot be used: {error}.")
