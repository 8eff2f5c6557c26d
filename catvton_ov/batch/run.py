"""From tasks to files, one after the other, on whatever engine makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from catvton_ov.batch.ledger import Ledger, State
from catvton_ov.batch.pairs import Refused
from catvton_ov.batch.plan import Task
from catvton_ov.batch.worker import Made, Order, Worker
from catvton_ov.errors import BatchError

Outcome = tuple[Task, Made | str]  # a result, or why there is none
Engine = Callable[[Sequence[Task]], Iterator[Outcome]]  # each task once, in any order


@dataclass(frozen=True)
class Kept:
    """A result was made and written."""

    task: Task
    seconds: float


def outstanding(tasks: Iterable[Task], ledger: Ledger, replace: bool) -> tuple[list[Task], list[Refused]]:
    """The tasks whose results are still to be made, in order, and those in whose place lies somebody else's file.

    Args:
        replace: make those anew that were made from something else; each stays until another takes its place.

    Raises:
        BatchError: there are such results, and they are not to be replaced.
    """
    states = [(task, ledger.state(task)) for task in tasks]
    outdated = [task for task, state in states if state is State.OUTDATED]
    if outdated and not replace:
        raise BatchError(
            f"{len(outdated)} results in {ledger.folder} were made with something else (the first, "
            f"{outdated[0].row.name}: {ledger.difference(outdated[0])}). Choose another --out, "
            "or --replace to make them anew."
        )
    foreign = [_foreign(task, ledger) for task, state in states if state is State.FOREIGN]
    return [task for task, state in states if state in (State.MISSING, State.OUTDATED)], foreign


def run(tasks: Sequence[Task], ledger: Ledger, engine: Engine) -> Iterator[Kept | Refused]:
    """Make the results; what is yielded is on the disk.

    Raises:
        BatchError: results cannot be written, or no worker is left.
    """
    for task, made in engine(tasks):
        if isinstance(made, str):
            yield Refused(task.row.where, made)
        else:
            seconds = sum(made.seconds.values())
            kept = ledger.keep(task, made.png, seconds)
            yield Kept(task, seconds) if kept else _foreign(task, ledger)


def _foreign(task: Task, ledger: Ledger) -> Refused:
    reason = f"{ledger.path(task)} was not made by a batch run, or has changed since; move it away."
    return Refused(task.row.where, reason)


def on_this_machine(worker: Worker) -> Engine:
    """One after the other, in this process."""

    def engine(tasks: Sequence[Task]) -> Iterator[Outcome]:
        for task in tasks:
            order = read_order(task)
            yield task, order if isinstance(order, str) else worker(order)

    return engine


def read_order(task: Task) -> Order | str:
    """The task with the bytes of its files, or why they cannot be had."""
    row = task.row
    try:
        person, garment = _read(row.person, task.person), _read(row.garment, task.garment)
        mask = None if row.mask is None else _read(row.mask, task.mask)
    except BatchError as error:
        return str(error)
    return Order(person, garment, mask, row.category, row.adjustment, row.options)


def _read(path: Path, digest: str | None) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BatchError(f"{path} cannot be read: {error.strerror or error}.") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise BatchError(f"{path} has changed since the run began; start it again.")
    return data
