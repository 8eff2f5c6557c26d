"""The same run on a Ray cluster, or on a Ray of its own on this machine: an optional extra (requirements-ray.txt).

One actor a worker holds the pipeline; this process reads the files, deals the tasks and keeps the ledger, so the
other machines need the package and the bundle, and no access to the pictures.
"""

from __future__ import annotations

import importlib
import itertools
import logging
import socket
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from catvton_ov.batch.plan import Setting, Task
from catvton_ov.batch.run import Engine, Outcome, read_order
from catvton_ov.batch.worker import Made, Order, Worker
from catvton_ov.errors import BatchError, TryOnError
from catvton_ov.machine import this_machine

IN_FLIGHT = 2  # tasks a worker holds: the one it makes, and the next
TRIES = 3  # of a task whose worker is lost
PATIENCE = 1800.0  # seconds for a first worker to come up, which may have to download the bundle


@dataclass(frozen=True)
class Cluster:
    """Where the workers are."""

    address: str | None = None  # of a running cluster, or "auto"; None starts Ray on this machine, for this run
    workers: int | None = None  # None: as many as there are cores for

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise BatchError(f"There must be at least one worker; got {self.workers}.")


class Deal:
    """Tasks in their order, dealt so that each worker gets neighbours, which share most."""

    def __init__(self, tasks: Sequence[Task], workers: int) -> None:
        bounds = [len(tasks) * number // workers for number in range(workers + 1)]
        self._lots = [deque(tasks[start:end]) for start, end in itertools.pairwise(bounds)]

    def __len__(self) -> int:
        return sum(map(len, self._lots))

    def next(self, worker: int) -> Task | None:
        """The worker's next task; when it has none left, it takes over half of the longest lot."""
        mine, longest = self._lots[worker], max(self._lots, key=len)
        if not mine:
            for _ in range((len(longest) + 1) // 2):
                mine.appendleft(longest.pop())
        return mine.popleft() if mine else None


class Seat:
    """What runs on the cluster: a worker behind a method call."""

    def open(self, source: str, setting: Setting) -> None:
        self._worker = Worker(source, setting)

    def make(self, order: Order) -> Made | str:
        return self._worker(order)


def on_ray(source: str, setting: Setting, cluster: Cluster) -> Engine:
    """Make the tasks on a cluster, each worker with the setting's threads.

    The engine raises BatchError when Ray is not installed or cannot be reached, when there are too few cores, and
    when a worker has another bundle or OpenVINO; BundleError when it cannot use its own.
    """

    def engine(tasks: Sequence[Task]) -> Iterator[Outcome]:
        # Ray tells of dead workers on standard output, which is the caller's.
        with redirect_stdout(sys.stderr), _connected(cluster, setting.threads) as (ray, workers):
            yield from _Team(ray, source, setting, workers).make(tasks)

    return engine


class _Team:
    """The workers of a run, and who has which task."""

    def __init__(self, ray: Any, source: str, setting: Setting, workers: int) -> None:
        self._ray = ray
        self._actor = ray.remote(num_cpus=setting.threads)(Seat)
        self._bundle = (source, setting)
        self._open: dict[int, Any] = {}  # worker -> its actor
        self._opening: dict[Any, tuple[int, Any]] = {}  # call -> worker and actor
        self._making: dict[Any, tuple[int, Task]] = {}  # call -> worker and task, in the order given
        self._again: deque[Task] = deque()  # tasks whose worker was lost
        self._losses = Counter[str]()
        self._failed_starts = 0
        self._workers = workers
        for number in range(workers):
            self._hire(number)

    def make(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Each task once, or the reason why it cannot be made."""
        deal = Deal(tasks, self._workers)
        while True:
            for number in self._open:
                yield from self._give(number, deal)
            if not (self._making or self._again or len(deal)):
                return
            ready, _ = self._ray.wait([*self._making, *self._opening], timeout=PATIENCE)
            if not ready and not self._open:
                raise BatchError(f"No worker came up within {PATIENCE / 60:.0f} minutes; does the cluster have room?")
            for call in ready:
                if call in self._opening:
                    self._seat(call)
                elif call in self._making:  # and was not lost with an earlier one
                    yield from self._take(call)

    def _hire(self, number: int) -> None:
        actor = self._actor.remote()
        self._opening[actor.open.remote(*self._bundle)] = (number, actor)

    def _seat(self, call: Any) -> None:
        number, actor = self._opening.pop(call)
        try:
            self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, TryOnError):
                raise error.cause from None
            raise BatchError(f"A worker cannot start: {error.cause!r}. Is the package installed there?") from error
        except self._ray.exceptions.RayError:
            self._failed_starts += 1
            if self._failed_starts >= TRIES:
                raise BatchError(f"{TRIES} workers were lost while they started; have they enough memory?") from None
            self._hire(number)
            return
        self._open[number] = actor

    def _give(self, number: int, deal: Deal) -> Iterator[Outcome]:
        """Fill the worker's hands."""
        while sum(holder == number for holder, _ in self._making.values()) < IN_FLIGHT:
            task = self._again.popleft() if self._again else deal.next(number)
            if task is None:
                return
            order = read_order(task)
            if isinstance(order, str):
                yield task, order
            else:
                self._making[self._open[number].make.remote(order)] = (number, task)

    def _take(self, call: Any) -> Iterator[Outcome]:
        """A result; or, if the worker was lost, its tasks go to others, but one that has cost TRIES workers."""
        number, task = self._making[call]
        try:
            made = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise BatchError(f"A worker failed: {error.cause!r}.") from error
        except self._ray.exceptions.RayError:
            held = {lost: task for lost, (holder, task) in self._making.items() if holder == number}
            for lost in held:
                del self._making[lost]
            first, *others = held.values()  # a worker makes one after the other
            del self._open[number]
            self._hire(number)
            self._again.extend(others)
            self._losses[first.row.name] += 1
            if self._losses[first.row.name] < TRIES:
                self._again.append(first)
            else:
                yield first, f"{TRIES} workers were lost over it; does it need more memory than they have?"
        else:
            del self._making[call]
            yield task, made


@contextmanager
def _connected(cluster: Cluster, threads: int) -> Iterator[tuple[Any, int]]:
    """Ray, and the number of workers."""
    if cluster.address:
        _check_address(cluster.address)
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise BatchError("Ray is not installed: pip install -r requirements-ray.txt.") from None
    cores = None if cluster.address else (cluster.workers or 0) * threads or this_machine().cores
    try:
        ray.init(
            cluster.address or "local", num_cpus=cores, log_to_driver=False, include_dashboard=False,
            logging_level=logging.ERROR,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError) as error:
        hint = (
            " If it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here, too." if cluster.address else ""
        )
        reason = str(error).rstrip(".")
        raise BatchError(f"Ray at {cluster.address or 'this machine'} cannot be used: {reason}.{hint}") from error
    try:
        workers = cluster.workers or int(ray.cluster_resources().get("CPU", 0) // threads)
        if workers < 1:
            raise BatchError(f"The cluster has no machine with {threads} cores; give fewer --threads.")
        yield ray, workers
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise BatchError unless somebody listens at HOST:PORT; Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return  # "auto"
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise BatchError(f"No Ray cluster answers at {address}: {error.strerror or error}.") from error
