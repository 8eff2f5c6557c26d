"""What identifies a result, and the order in which results are made."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catvton_ov.batch.pairs import Refused, Row
from catvton_ov.bundle import sha256


@dataclass(frozen=True)
class Setting:
    """What a result depends on besides its row: the same setting gives the same picture."""

    bundle: str  # SHA-256 of its manifest, which lists those of its files
    device: str
    threads: int
    openvino: str  # version


@dataclass(frozen=True)
class Task:
    """A row whose files were read once."""

    row: Row
    person: str  # SHA-256 of the file
    garment: str
    mask: str | None
    about: str  # JSON: all that the result depends on

    @property
    def fingerprint(self) -> str:
        """Equal for results that must be equal."""
        return hashlib.sha256(self.about.encode()).hexdigest()


def make_tasks(rows: Iterable[Row | Refused], setting: Setting, can_parse: bool) -> tuple[list[Task], list[Refused]]:
    """Tasks in the order of work, and the rows that cannot be tried.

    Args:
        can_parse: whether clothes can be found where there is no mask.
    """
    tasks: list[Task] = []
    refused: list[Refused] = []
    hashes: dict[Path, str] = {}
    taken: dict[str, Row] = {}  # some file systems know no capitals
    for row in rows:
        fault = row if isinstance(row, Refused) else _fault(row, taken, can_parse)
        if isinstance(row, Row) and fault is None:
            try:
                tasks.append(_task(row, setting, hashes))
                taken[row.name.casefold()] = row
            except OSError as error:
                fault = Refused(row.where, f"{error.filename} cannot be read: {error.strerror or error}.")
        if fault is not None:
            refused.append(fault)
    return in_order(tasks), refused


def _fault(row: Row, taken: dict[str, Row], can_parse: bool) -> Refused | None:
    first = taken.get(row.name.casefold())
    if first is not None:
        reason = f"its result would have the name of that of {first.where}, {row.name!r}; name it in the column `name`."
        return Refused(row.where, reason)
    if row.mask is None and not can_parse:
        return Refused(row.where, "it has no mask, and the model brings no parser to find the clothes.")
    return None


def _task(row: Row, setting: Setting, hashes: dict[Path, str]) -> Task:
    def digest(path: Path) -> str:
        if path not in hashes:
            if path.exists() and not path.is_file():  # what is a device or a pipe might never end
                raise OSError(errno.EINVAL, "It is no file", str(path))
            hashes[path] = sha256(path)
        return hashes[path]

    person, garment = digest(row.person), digest(row.garment)
    mask = None if row.mask is None else digest(row.mask)
    about: dict[str, Any] = {
        **dataclasses.asdict(setting),
        "person": person,
        "garment": garment,
        "mask": mask if mask is not None else _found(row),
        **dataclasses.asdict(row.options),
    }
    return Task(row, person, garment, mask, json.dumps(about, sort_keys=True))


def _found(row: Row) -> str:
    """How a mask is found, in words that are equal for equal masks."""
    changes = [f"{name} {percent}" for name, percent in dataclasses.asdict(row.adjustment).items() if percent]
    return ", ".join([f"found: {row.category}", *changes])


def in_order(tasks: Sequence[Task]) -> list[Task]:
    """Those of one size together, and of those the ones that share what there is more of.

    So little has to be remembered at a time: of 2,000 garments on 20 persons, one garment and the 20 persons.
    Otherwise in the order given.
    """
    persons, garments = ({get(task) for task in tasks} for get in (_person, _garment))
    sizes, outer, inner = _Ranks(), _Ranks(), _Ranks()
    by_garment = len(garments) > len(persons)
    ranked = []
    for task in tasks:
        person, garment = _person(task), _garment(task)
        first, second = (garment, person) if by_garment else (person, garment)
        ranked.append(((sizes(task.row.options.size), outer(first), inner(second)), task))
    return [task for _, task in sorted(ranked, key=lambda pair: pair[0])]


class _Ranks:
    """Numbers things in the order in which they are first seen."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, int] = {}

    def __call__(self, thing: Hashable) -> int:
        return self._seen.setdefault(thing, len(self._seen))


def _person(task: Task) -> Hashable:
    return task.person, task.mask or _found(task.row)


def _garment(task: Task) -> Hashable:
    return task.garment


def difference(old: str, new: str) -> str:
    """What differs between two tasks' `about`, for people; empty when nothing does."""
    before, after = json.loads(old), json.loads(new)
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    return ", ".join(
        name if _is_checksum(before.get(name)) or _is_checksum(after.get(name))
        else f"{name} {before.get(name)}, now {after.get(name)}"
        for name in names
    )  # fmt: skip


def _is_checksum(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and value.isalnum()
