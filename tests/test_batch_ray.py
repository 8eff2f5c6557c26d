"""A batch run on a Ray cluster of several processes: the pictures of a local run, whoever dies on the way."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from catvton_ov.batch.on_ray import Cluster, Deal, on_ray
from catvton_ov.batch.pairs import Defaults, read_pairs
from catvton_ov.batch.plan import Task, make_tasks
from catvton_ov.batch.worker import setting_of
from catvton_ov.errors import BatchError
from catvton_ov.sources import open_bundle
from tests.test_batch import GARMENTS, PERSONS, ROOT, batch, command, pair, pictures, write


def tasks(folder: Path, count: int) -> list[Task]:
    rows = [pair("Ada", "upper-dots", mask=True, name=f"{number:02}") for number in range(count)]
    read = read_pairs(write(folder / "t.csv", rows), Defaults())
    made, _ = make_tasks(read, setting_of(open_bundle("paper_doll"), "CPU", 1), can_parse=True)
    return made


def test_workers_get_neighbours_and_each_task_is_dealt_once(tmp_path: Path) -> None:
    deal = Deal(tasks(tmp_path, 10), 2)

    def names(worker: int, count: int) -> list[str]:
        dealt = [deal.next(worker) for _ in range(count)]
        return [task.row.name if task else "none" for task in dealt]

    assert names(0, 4) == ["00", "01", "02", "03"]
    assert names(1, 1) == ["05"]
    assert names(0, 3) == ["04", "08", "09"]  # its own are done: it takes over half of the other's four
    assert len(deal) == 2
    assert names(1, 3) == ["06", "07", "none"]
    assert names(0, 1) == ["none"]


def seats(process: subprocess.Popen[str], doing: str) -> Iterator[psutil.Process]:
    """The workers' processes below a run that are doing something."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if f"Seat.{doing}" in " ".join(child.cmdline()):
                yield child
        except psutil.Error:
            continue


def start(table: Path, out: Path, workers: int) -> subprocess.Popen[str]:
    words = command(table, out, "--engine", "ray", "--workers", str(workers))
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")


def kill_one(process: subprocess.Popen[str], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        for seat in seats(process, "make"):
            os.kill(seat.pid, signal.SIGKILL)
            seat.wait(30)
            return
        time.sleep(0.02)
    pytest.fail("no worker was seen at work")


@pytest.mark.slow
def test_a_hundred_pairs_with_a_worker_killed_at_work_equal_a_local_run(tmp_path: Path) -> None:
    rows = [pair(person, garment) for person in PERSONS for garment in GARMENTS]
    rows += [pair("Ada", garment, seed=8, name=f"again/{garment}") for garment in GARMENTS[:4]]
    table = write(tmp_path / "pairs.csv", rows)
    assert batch(table, tmp_path / "local") == 0
    process = start(table, tmp_path / "ray", workers=2)
    kill_one(process)
    said, _ = process.communicate()
    assert process.returncode == 0
    events = [json.loads(line) for line in said.splitlines()]
    made = [event["file"] for event in events if event["event"] == "made"]
    assert len(made) == len(set(made)) == len(rows)
    assert pictures(tmp_path / "ray") == pictures(tmp_path / "local")
    # The ledger is the same one: a local run has nothing left to do.
    again = subprocess.run(
        command(table, tmp_path / "ray"), cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert json.loads(again.stdout.splitlines()[-1])["done_before"] == len(rows)


@pytest.mark.slow
def test_a_task_that_costs_three_workers_is_skipped(tmp_path: Path) -> None:
    row = pair("Ada", "upper-dots", mask=True, steps=998)  # long enough to be caught at it
    process = start(write(tmp_path / "pairs.csv", [row]), tmp_path / "out", workers=1)
    for _ in range(3):
        kill_one(process)
    said, _ = process.communicate()
    assert process.returncode == 3
    assert "3 workers were lost over it" in said
    assert pictures(tmp_path / "out") == {}


def test_what_cannot_be_reached_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(tmp_path / "pairs.csv", [pair("Ada", "upper-dots", mask=True)])
    for words, fault in (
        (["--workers", "0"], "error: There must be at least one worker; got 0."),
        (["--address", "127.0.0.1:1"], "error: No Ray cluster answers at 127.0.0.1:1: Connection refused."),
    ):
        assert batch(table, tmp_path / "out", "--engine", "ray", *words) == 1
        assert capsys.readouterr().err.splitlines()[-1] == fault


@pytest.mark.slow
def test_workers_with_another_bundle_end_the_run(tmp_path: Path) -> None:
    (task,) = tasks(tmp_path, 1)
    other = dataclasses.replace(setting_of(open_bundle("paper_doll"), "CPU", 1), bundle="0" * 64)
    with pytest.raises(BatchError, match="A worker has another model or another OpenVINO than this run"):
        list(on_ray("paper_doll", other, Cluster(workers=1))([task]))
