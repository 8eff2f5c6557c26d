"""Eight visitors at once who cancel, reload, drop the line and send nonsense: `make slow`, or

CATVTON_OV_LOAD_MINUTES=30 python -m pytest -m slow -s tests/test_load.py
"""

from __future__ import annotations

import json
import os
import random
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests import hostile
from tests.serving import ROOT, served_process
from tests.visitor import JSON, Visitor

EXAMPLES = ROOT / "assets" / "paper_doll" / "examples"
MINUTES = float(os.environ.get("CATVTON_OV_LOAD_MINUTES", "10"))
PICTURES = ("person/Ada.png", "garment/upper-plain.png", "mask/Ada-upper.png")


@dataclass
class Tally:
    """What came of everything that was sent."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """The server's process at one moment."""

    rss: int  # KiB
    threads: int
    files: int  # open descriptors

    @classmethod
    def of(cls, pid: int) -> Sample:
        status = Path(f"/proc/{pid}/status").read_text()
        values = dict(line.split(":", 1) for line in status.splitlines())
        files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(int(values["VmRSS"].split()[0]), int(values["Threads"]), files)


def visit(url: str, number: int, end: float, tally: Tally) -> None:
    """One visitor: mostly honest, with bad manners mixed in."""
    chance = random.Random(number)
    visitor = Visitor(url, f"203.0.113.{number}")
    nonsense = hostile.bombs()["PNG that promises 60,000 squared"]
    while time.monotonic() < end:
        files = [visitor.upload((EXAMPLES / name).read_bytes(), name) for name in PICTURES]
        act = chance.choice(["try on", "try on", "try on", "mask", "drop", "reload", "nonsense", "page"])
        try:
            if act == "try on":
                steps = chance.randint(1, 4)
                answer = visitor.call(
                    "try_on", *files, "upper", steps, 2.5, "ddim", number, "reference", None, 1, False
                )
                _count(tally, act, answer.worked or "queue" in str(answer.message).lower(), answer.message)
            elif act == "mask":
                _count(tally, act, visitor.call("mask", files[0], "upper", 0, 0, 0, 0, 0, 1).worked)
            elif act == "page":
                person = {"background": files[0], "layers": []}
                answer = visitor.press("try-on", person=person, garment=files[1], steps=chance.randint(1, 4))
                _count(tally, act, answer.worked or "queue" in str(answer.message).lower(), answer.message)
            elif act == "drop":  # a job is begun and the visitor is gone
                body = {"data": [*files, "upper", 30, 2.5, "ddim", 1, "reference", None, 1, False]}
                sent = visitor.http.post("gradio_api/call/try_on", content=json.dumps(body), headers=JSON)
                if sent.status_code == 200:
                    with visitor.http.stream("GET", f"gradio_api/call/try_on/{sent.json()['event_id']}", timeout=1):
                        time.sleep(chance.random())
                tally.outcomes[act] += 1
            elif act == "nonsense":
                bad = visitor.upload(nonsense[1], nonsense[0])
                answer = visitor.call("try_on", bad, *files[1:], "upper", 1, 1, "ddim", 1, "reference", None, 1, False)
                _count(tally, act, not answer.worked and bool(answer.message), answer.message)
            else:
                visitor.http.get("")
                visitor.http.get("config")
                visitor = Visitor(url, f"203.0.113.{number}")
                tally.outcomes[act] += 1
        except httpx.TimeoutException:
            if act != "drop":
                tally.faults.append(f"{act}: no answer")


def _count(tally: Tally, act: str, right: bool, message: str | None = None) -> None:
    tally.outcomes[act] += 1
    if not right:
        tally.faults.append(f"{act}: {message}")


@pytest.mark.slow
def test_eight_visitors_of_all_kinds_are_served_and_the_process_stays_as_large_as_it_was(tmp_path: Path) -> None:
    with served_process(tmp_path, CATVTON_OV_REQUESTS_PER_MINUTE="100000") as (url, pid):
        for _ in range(150):  # Gradio remembers as many callers as it may
            Visitor(url).call("mask")
        begun = time.monotonic()
        end = begun + 60 * MINUTES
        tally = Tally()
        visitors = [threading.Thread(target=visit, args=(url, number, end, tally)) for number in range(1, 9)]
        for visitor in visitors:
            visitor.start()
        samples: list[tuple[float, Sample]] = []
        while any(visitor.is_alive() for visitor in visitors):
            time.sleep(2)
            samples.append(((time.monotonic() - begun) / (end - begun), Sample.of(pid)))
        for visitor in visitors:
            visitor.join()
        honest = Visitor(url)
        files = [honest.upload((EXAMPLES / name).read_bytes(), name) for name in PICTURES]
        assert honest.call("try_on", *files, "upper", 1, 1, "ddim", 1, "reference", None, 1, False).worked
        time.sleep(5)
        last = Sample.of(pid)
    warm = [sample for part, sample in samples if 0.3 <= part < 0.5]
    late = [sample for part, sample in samples if part >= 0.8]
    before, after = (statistics.median(sample.rss for sample in group) for group in (warm, late))
    print(f"{dict(tally.outcomes)}; RSS {before / 1024:.0f} MB after warm-up, {after / 1024:.0f} MB at the end; {last}")
    assert tally.faults == []
    assert after <= 1.05 * before
    assert last.threads <= max(sample.threads for sample in warm)
    assert last.files <= max(sample.files for sample in warm)
    assert "Traceback" not in (tmp_path / "page.log").read_text()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
