"""Small facts worth keeping between starts: which files were verified, how quick this machine is. No pictures.

They live in one JSON file in the user's cache folder. Losing it, or having no folder to write to, costs time and
nothing else.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from pathlib import Path

from catvton_ov.files import write_whole

log = logging.getLogger(__name__)
Fact = str | float | list[float]


def cache_folder() -> Path:
    """Where this program keeps what it can make again; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "catvton_ov"


class Memory:
    """Facts by name. Read when first asked for; every change is written at once, whole or not at all."""

    def __init__(self, path: Path | None = None) -> None:
        """`path` of the JSON file; by default one in the cache folder, where the user has one."""
        self._path = path
        if path is None:
            with suppress(RuntimeError):  # nobody knows this user's home
                self._path = cache_folder() / "memory.json"

    def get(self, name: str) -> Fact | None:
        """What was put under this name last, by any process; None if nothing was, or it cannot be read."""
        return self._read().get(name)

    def put(self, name: str, fact: Fact) -> None:
        """Keep a fact; where that cannot be done, it is not."""
        if self._path is None:
            return
        facts = {**self._read(), name: fact}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, json.dumps(facts).encode())
        except OSError as error:
            log.info("nothing is remembered in %s: %s", self._path.parent, error)

    def _read(self) -> dict[str, Fact]:
        if self._path is None:
            return {}
        try:
            facts = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}
