"""Batch runs: the pipeline's pictures, what is shared computed once, and nothing lost, twice or mixed."""

from __future__ import annotations

import csv
import dataclasses
import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from catvton_ov.batch.ledger import Ledger, State
from catvton_ov.batch.pairs import Defaults, read_pairs
from catvton_ov.batch.plan import make_tasks
from catvton_ov.batch.run import on_this_machine, read_order
from catvton_ov.batch.worker import Made, Remembered, Worker, setting_of
from catvton_ov.cli import main
from catvton_ov.errors import BatchError
from catvton_ov.marking import MARK
from catvton_ov.masking.automask import auto_mask
from catvton_ov.masking.parsers import open_parser
from catvton_ov.options import MaskAdjustment
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import preset
from catvton_ov.runtime import Runtime, RuntimeOptions
from catvton_ov.sources import bundled_folder, open_bundle

ROOT = Path(__file__).parent.parent
EXAMPLES = bundled_folder() / "examples"
PERSONS = ("Ada", "Ben", "Ivy", "Leo", "Mia", "Noa", "Sam", "Zola")
GARMENTS = tuple(sorted(path.stem for path in (EXAMPLES / "garment").iterdir()))


def pair(person: str, garment: str, mask: bool = False, **more: Any) -> dict[str, Any]:
    category = garment.partition("-")[0]
    row = {"person": EXAMPLES / f"person/{person}.png", "garment": EXAMPLES / f"garment/{garment}.png"}
    what = {"mask": EXAMPLES / f"mask/{person}-{category}.png"} if mask else {"category": category}
    return {**row, **what, "steps": 2, "seed": 7, **more}


def write(table: Path, rows: list[dict[str, Any]]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    return table


def batch(table: Path, out: Path, *more: str) -> int:
    return main(["batch", "--pairs", str(table), "--out", str(out), "--threads", "1", *more])


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def orders(rows: list[dict[str, Any]], folder: Path) -> list[Any]:
    read = read_pairs(write(folder / "orders.csv", rows), Defaults())
    tasks, refused = make_tasks(read, setting_of(open_bundle("paper_doll"), "CPU", 1), can_parse=True)
    assert not refused
    return [read_order(task) for task in tasks]


def test_results_are_the_pipelines_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(
        tmp_path / "pairs.csv",
        [
            pair("Ada", "upper-dots", mask=True),
            pair("Ben", "lower-plain", mask=True, seed=8, sampler="dpmpp_2m", guidance_scale="1", name="tops/ben"),
            pair("Ada", "lower-plain", mask=True, repaint="no"),
            pair("Ben", "upper-dots", preset="fast", up="4"),
        ],
    )
    assert batch(table, tmp_path / "out", "--grow", "3", "--blur", "4") == 0
    assert "4 made" in capsys.readouterr().out

    pipeline = TryOnPipeline.load("paper_doll", threads=1)
    parser = open_parser(pipeline.bundle, Runtime(RuntimeOptions(threads=1)))
    assert parser is not None
    expected = {
        "Ada_upper-dots": ("Ada", "upper-dots", preset("balanced", steps=2, seed=7)),
        "tops/ben": ("Ben", "lower-plain", preset("balanced", steps=2, seed=8, guidance_scale=1)),
        "Ada_lower-plain": ("Ada", "lower-plain", preset("balanced", steps=2, seed=7, repaint=False)),
        "Ben_upper-dots": ("Ben", "upper-dots", preset("fast", steps=2, seed=7)),
    }
    assert pictures(tmp_path / "out").keys() == {f"{name}.png" for name in expected}
    for name, (person, garment, options) in expected.items():
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert (picture.format, {**picture.info, "xmp": b""}) == ("PNG", {**MARK, "xmp": b""})
            photo = Image.open(EXAMPLES / f"person/{person}.png").convert("RGB")
            if name == "Ben_upper-dots":
                mask = auto_mask(parser(photo), "upper", MaskAdjustment(grow=3, up=4))
            else:
                mask = Image.open(EXAMPLES / f"mask/{person}-{garment.partition('-')[0]}.png")
            garment_photo = Image.open(EXAMPLES / f"garment/{garment}.png")
            result = pipeline(photo, garment_photo, mask, dataclasses.replace(options, blur=4))
            assert picture.tobytes() == result.picture.tobytes()


class Counted:
    """What it is given, counting its calls."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self.calls = 0

    def __call__(self, *given: Any, **inputs: Any) -> Any:
        self.calls += 1
        return self.thing(*given, **inputs)


def test_what_pairs_share_is_computed_once_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    persons, garments = PERSONS[:2], ("upper-dots", "lower-plain", "upper-stripes")
    setting = setting_of(open_bundle("paper_doll"), "CPU", 1)
    found = [pair(person, garment, steps=1) for garment in garments for person in persons]
    given = [pair("Noa", garment, mask=True, steps=1) for garment in ("upper-dots", "upper-stripes")]
    work = orders(found + given, tmp_path)

    worker = Worker("paper_doll", setting)
    encoder, parser = Counted(worker.pipeline.vae_encoder), Counted(worker.parser)
    monkeypatch.setattr(worker.pipeline, "vae_encoder", encoder)
    monkeypatch.setattr(worker, "parser", parser)
    remembering = [worker(order) for order in work]
    assert parser.calls == len(persons)
    masked_persons = len(persons) * len({garment.partition("-")[0] for garment in garments}) + 1
    assert encoder.calls == masked_persons + len(garments)

    monkeypatch.setattr(worker, "memory", Remembered(budget=1))  # remembers nothing but the last
    forgetting = [worker(order) for order in work]
    assert encoder.calls > 3 * (masked_persons + len(garments)) / 2
    assert all(isinstance(made, Made) for made in remembering)
    assert [made.png for made in remembering] == [made.png for made in forgetting]  # type: ignore[union-attr]


def test_memory_lets_go_of_the_least_recently_used() -> None:
    memory, computed = Remembered(budget=25), Counter[str]()

    def ask(name: str) -> bytes:
        def compute() -> bytes:
            computed[name] += 1
            return name.encode() * 10

        return memory.data((name,), compute)

    for name in "abacabcb":  # room for two: b goes for c, a was used since
        assert ask(name) == name.encode() * 10
    assert computed == {"a": 1, "b": 2, "c": 2}


def test_work_is_ordered_so_that_little_is_remembered_at_a_time(tmp_path: Path) -> None:
    rows = [pair(person, garment) for person in PERSONS[:2] for garment in GARMENTS[:5]]
    sizes = [pair("Ada", garment, size="96x128", name=f"small-{garment}") for garment in GARMENTS[:2]]
    read = read_pairs(write(tmp_path / "t.csv", [*rows[:3], *sizes, *rows[3:]]), Defaults())
    tasks, _ = make_tasks(read, setting_of(open_bundle("paper_doll"), "CPU", 1), can_parse=True)
    garments = [task.row.garment.stem for task in tasks if task.row.options.size is None]
    assert garments == [garment for garment in GARMENTS[:5] for _ in range(2)]
    assert [task.row.options.size for task in tasks] == [None] * 10 + [(96, 128)] * 2


def test_bad_rows_are_reported_and_the_others_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = pair("Ada", "upper-dots", mask=True)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("RGB", (192, 256), "gray").save(tmp_path / "nobody.png")
    bad: list[tuple[dict[str, Any], str]] = [
        ({"person": "nowhere.png"}, "nowhere.png cannot be read: No such file or directory."),
        ({"person": str(tmp_path)}, "cannot be read: It is no file."),
        ({"person": "/dev/zero"}, "/dev/zero cannot be read: It is no file."),  # it never ends
        ({"person": "a\0.png"}, "'a\\x00.png' cannot be the name of a file."),
        ({"person": ""}, "the person is missing."),
        ({"garment": tmp_path / "text.png"}, "The photo of the garment is not a picture in a format known here"),
        ({"garment": tmp_path / "empty.png"}, "The photo of the garment is an empty file."),
        ({"mask": EXAMPLES / "garment/upper-dots.png", "person": tmp_path / "nobody.png"}, "The mask"),
        ({"mask": "", "person": tmp_path / "nobody.png"}, "No person was found whose clothes could be masked"),
        ({"category": "hat"}, "unknown category 'hat'; expected one of upper,"),
        ({"seed": "seven"}, "'seven' is not a value for seed."),
        ({"seed": "-1"}, "seed must be a whole number from 0 to 4294967295; got -1."),
        ({"steps": "0"}, "steps must be a whole number from 1 to 998; got 0."),
        ({"size": "100x100"}, "must be multiples of 32 up to 2048 pixels; got 100x100."),
        ({"size": "wide"}, "'wide' is not a value for size."),
        ({"framing": "round"}, "'round' is not a value for framing."),
        ({"sampler": "euler"}, "Unknown sampler 'euler'"),
        ({"preset": "slow"}, "Unknown preset 'slow'; expected one of reference, balanced, fast."),
        ({"blur": "99"}, "blur must be from 0 to 64 pixels; got 99."),
        ({"mask": "", "up": "31"}, "up must be 0 to 30 percent; got 31.0."),
        ({"up": "3"}, "up changes a mask that is found, and this row gives one: leave one of them out."),
        ({"name": "着物" * 50}, "cannot be the name of a result"),  # 300 bytes
        ({"name": "bad.PNG/ada"}, "'bad.PNG/ada' would lie in a folder that is called like a picture"),
        ({"name": "../escape"}, "'../escape' cannot be the name of a result"),
        ({"name": "ADA_upper-dots"}, "its result would have the name of that of line 2, 'ADA_upper-dots'"),
    ]
    rows = [good, *({**good, "name": f"bad-{number}", **change} for number, (change, _) in enumerate(bad))]
    table = write(tmp_path / "pairs.csv", rows)
    table.write_text(table.read_text() + "\n" + "x," * 40 + "\n")
    assert batch(table, tmp_path / "out") == 3
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'out'}: 1 made" + said.out.partition("1 made")[2]
    assert f"{len(bad) + 1} skipped" in said.out
    for number, (_, reason) in enumerate(bad):
        (line,) = [line for line in said.err.splitlines() if f"skipped line {number + 3}: " in line]
        assert reason in line
    assert f"skipped line {len(bad) + 4}: it has more cells" in said.err
    assert "Traceback" not in said.err
    assert pictures(tmp_path / "out").keys() == {"Ada_upper-dots.png"}
    assert not (tmp_path / "escape.png").exists()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("person,garment,sede\n", "has an unknown column 'sede'; known are person, garment, mask,"),
        ("person;mask\n", "has no column 'garment'. Its first line must name the columns."),
        ("", "has no column 'person'"),
        ("person,garment,seed,seed\n", "has the column 'seed' twice."),
        ("person,garment,shortcuts\n", "has an unknown column 'shortcuts'"),
        ('person,"garment\n', "The first line of t.csv cannot be read: unexpected end of data."),
        (b"person,garment\n\xff\xfe", "is not text in UTF-8"),
        (None, "cannot be read: No such file or directory."),
    ],
)
def test_a_table_that_is_none_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | bytes | None, fault: str
) -> None:
    if text is not None:
        (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert batch(tmp_path / "t.csv", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert fault in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_changed_option_is_a_new_run_and_what_is_done_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    person = tmp_path / "Ada.png"
    shutil.copy(EXAMPLES / "person/Ada.png", person)
    rows = [{**pair("Ada", garment, mask=True), "person": person} for garment in ("upper-dots", "upper-plain")]
    table, out = write(tmp_path / "pairs.csv", rows), tmp_path / "out"
    assert batch(table, out) == 0
    first = pictures(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert batch(table, out, "--json") == 0
    assert '"made": 0, "done_before": 2' in capsys.readouterr().out
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}

    assert batch(table, out, "--guidance-scale", "1") == 1  # refused: nobody has asked to lose two pictures
    said = capsys.readouterr().err
    assert "2 results" in said
    assert "guidance_scale 2.5, now 1.0" in said
    assert pictures(out) == first
    assert batch(table, out, "--workers", "2") == 1
    assert "are for --engine ray" in capsys.readouterr().err
    assert batch(table, out, "--threads", "2") == 1
    assert "threads 1, now 2" in capsys.readouterr().err

    Image.open(EXAMPLES / "person/Ada.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(person)
    assert batch(table, out) == 1
    assert "Ada_upper-dots: person)" in capsys.readouterr().err
    shutil.copy(EXAMPLES / "person/Ada.png", person)

    def interrupt(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    for wrong in (("--steps", "0"), ("--size", "100x100"), ("--device", "NONE"), ("--threads", "0")):
        assert batch(table, out, "--replace", *wrong) == 1
        assert pictures(out) == first, "what cannot be replaced is not lost"
    capsys.readouterr()

    with monkeypatch.context() as patch:  # stopped while an old one is being removed
        patch.setattr(Path, "unlink", interrupt)
        assert batch(table, out, "--guidance-scale", "1", "--replace") == 130
    assert batch(table, out, "--guidance-scale", "1", "--replace") == 0
    second = pictures(out)
    assert all(second[name] != first[name] for name in first)


def test_a_result_that_was_retouched_meanwhile_is_not_replaced_and_a_full_disk_takes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = read_pairs(write(tmp_path / "pairs.csv", [pair("Ada", "upper-dots", mask=True)]), Defaults())
    setting = setting_of(open_bundle("paper_doll"), "CPU", 1)
    ((old,), _), ((new,), _) = (
        make_tasks(read, dataclasses.replace(setting, threads=threads), can_parse=True) for threads in (1, 2)
    )
    with Ledger(tmp_path / "out") as ledger:
        assert ledger.keep(old, b"old", 1.0)
        with monkeypatch.context() as patch:

            def full(descriptor: int) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            patch.setattr(os, "fsync", full)
            with pytest.raises(BatchError, match="No space left"):
                ledger.keep(new, b"new", 1.0)
        assert (ledger.path(old).read_bytes(), ledger.state(old)) == (b"old", State.DONE)
        assert ledger.keep(new, b"new", 1.0)
        assert (ledger.path(new).read_bytes(), ledger.state(new)) == (b"new", State.DONE)
        ledger.path(new).write_bytes(b"by hand")
        assert not ledger.keep(old, b"old", 1.0)
        assert ledger.path(new).read_bytes() == b"by hand"
    assert not list((tmp_path / "out" / ".batch").glob("*.part"))


def test_files_of_others_are_never_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(
        tmp_path / "pairs.csv", [pair("Ada", garment, mask=True) for garment in ("upper-dots", "upper-plain")]
    )
    out = tmp_path / "out"
    out.mkdir()
    (out / "Ada_upper-dots.png").write_bytes(b"somebody else's")
    assert batch(table, out, "--replace") == 3
    made = pictures(out)
    assert made["Ada_upper-dots.png"] == b"somebody else's"
    assert "was not made by a batch run, or has changed since; move it away." in capsys.readouterr().err
    Image.open(out / "Ada_upper-plain.png").rotate(90).save(out / "Ada_upper-plain.png")  # retouched by hand
    retouched = pictures(out)
    assert batch(table, out, "--replace") == 3
    assert pictures(out) == retouched
    (out / "Ada_upper-plain.png").unlink()
    assert batch(table, out) == 3
    assert pictures(out) == made  # what was removed is made again, the same


def test_one_run_at_a_time_and_a_ledger_that_is_damaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write(tmp_path / "pairs.csv", [pair("Ada", "upper-dots", mask=True)])
    with Ledger(tmp_path / "out"):
        other = subprocess.run(
            command(table, tmp_path / "out"), cwd=ROOT, capture_output=True, encoding="utf-8", check=False
        )
    assert other.returncode == 1
    assert "Another run is writing to" in other.stderr
    (tmp_path / "out/.batch/ledger.sqlite").write_bytes(b"not a database, but long enough to be looked at" * 30)
    assert batch(table, tmp_path / "out") == 1
    assert "cannot be used: file is not a database." in capsys.readouterr().err
    (tmp_path / "file").write_text("no folder")
    assert batch(table, tmp_path / "file") == 1
    assert "Results cannot be written to" in capsys.readouterr().err


def test_a_result_that_cannot_be_written_ends_the_run_and_leaves_no_part(tmp_path: Path) -> None:
    read = read_pairs(write(tmp_path / "t.csv", [pair("Ada", "upper-dots", mask=True)]), Defaults())
    tasks, _ = make_tasks(read, setting_of(open_bundle("paper_doll"), "CPU", 1), can_parse=True)
    with Ledger(tmp_path / "out") as ledger:
        (tmp_path / "out/.batch/result.part").mkdir()  # in the way
        with pytest.raises(BatchError, match="Results cannot be written to"):
            ledger.keep(tasks[0], b"png", 1.0)
        assert ledger.state(tasks[0]).name == "MISSING"
    assert pictures(tmp_path / "out") == {}


def test_a_file_that_changes_during_the_run_is_not_mixed_in(tmp_path: Path) -> None:
    person = tmp_path / "Ada.png"
    shutil.copy(EXAMPLES / "person/Ada.png", person)
    row = {**pair("Ada", "upper-dots", mask=True), "person": person}
    setting = setting_of(open_bundle("paper_doll"), "CPU", 1)
    read = read_pairs(write(tmp_path / "t.csv", [row]), Defaults())
    tasks, _ = make_tasks(read, setting, can_parse=True)
    shutil.copy(EXAMPLES / "person/Ben.png", person)
    ((_, reason),) = on_this_machine(Worker("paper_doll", setting))(tasks)
    assert reason == f"{person} has changed since the run began; start it again."


def test_json_tells_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [pair("Ada", "upper-dots", mask=True), {**pair("Ben", "upper-dots"), "person": "nowhere.png"}]
    assert batch(write(tmp_path / "pairs.csv", rows), tmp_path / "out", "--json") == 3
    said = capsys.readouterr()
    events = [json.loads(line) for line in said.out.splitlines()]
    assert said.err == ""
    assert [event["event"] for event in events] == ["skipped", "start", "made", "summary"]
    assert events[0]["where"] == "line 3"
    assert events[2]["file"] == "Ada_upper-dots.png"
    assert events[2]["seconds_left"] == 0
    assert (events[3]["made"], events[3]["done_before"], events[3]["skipped"]) == (1, 0, 1)
    assert 0 < events[3]["pictures_per_hour"] < 1e6
    with sqlite3.connect(tmp_path / "out/.batch/ledger.sqlite") as ledger:
        ((name, about, seconds),) = ledger.execute("SELECT name, about, seconds FROM result")
    recorded = json.loads(about)
    assert (name, recorded["seed"], recorded["threads"], recorded["device"]) == ("Ada_upper-dots", 7, 1, "CPU")
    assert seconds > 0


def command(table: Path, out: Path, *more: str) -> list[str]:
    words = ["batch", "--pairs", str(table), "--out", str(out), "--threads", "1", "--json", *more]
    return [sys.executable, "-m", "catvton_ov", *words]


def killed(words: list[str], after: int, rng: random.Random) -> Iterator[str]:
    """Run a batch and kill -9 it some moment after its `after`th result; the results it told of."""
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "made":
            yield event["file"]
            after -= 1
        if after == 0:
            time.sleep(rng.uniform(0, 0.3))
            os.kill(process.pid, signal.SIGKILL)
            after = -1
    assert process.wait() == -signal.SIGKILL


def survives(folder: Path, rows: list[dict[str, Any]], kills: int) -> None:
    """A run that is killed equals one that was not, file by file, and no file is made twice."""
    table, rng = write(folder / "pairs.csv", rows), random.Random(5)
    assert batch(table, folder / "whole") == 0
    names: list[str] = []
    for _ in range(kills):
        names += killed(command(table, folder / "out"), rng.randint(1, len(rows) // 5), rng)
        for file in (folder / "out").rglob("*.png"):
            Image.open(file).load()  # whatever is there is whole
    last = subprocess.run(command(table, folder / "out"), cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    events = [json.loads(line) for line in last.stdout.splitlines()]
    names += [event["file"] for event in events if event["event"] == "made"]
    assert events[-1]["done_before"] > 0
    assert events[-1]["done_before"] + events[-1]["made"] == len(rows)
    assert not [name for name, times in Counter(names).items() if times > 1]
    assert pictures(folder / "out") == pictures(folder / "whole")
    assert len(pictures(folder / "out")) == len(rows)


@pytest.mark.slow
def test_a_run_that_is_killed_equals_one_that_is_not(tmp_path: Path) -> None:
    survives(tmp_path, [pair(person, garment) for person in PERSONS[:2] for garment in GARMENTS[:5]], kills=1)


@pytest.mark.slow
def test_a_hundred_pairs_killed_three_times(tmp_path: Path) -> None:
    rows = [pair(person, garment) for person in PERSONS for garment in GARMENTS]
    rows += [pair("Ada", garment, seed=8, name=f"again/{garment}") for garment in GARMENTS[:4]]
    survives(tmp_path, rows, kills=3)


@pytest.mark.slow
def test_memory_is_flat_over_five_hundred_pairs(tmp_path: Path) -> None:
    """All of the process but the files it maps."""
    import psutil

    rows = [
        pair(person, garment, seed=seed, steps=1, guidance_scale=1, name=f"{person}-{garment}-{seed}")
        for seed in range(6)
        for person in PERSONS
        for garment in GARMENTS
    ][:500]
    worker = Worker("paper_doll", setting_of(open_bundle("paper_doll"), "CPU", 1))
    process, held = psutil.Process(), []
    for order in orders(rows, tmp_path):
        assert isinstance(worker(order), Made)
        memory = process.memory_info()
        held.append(memory.rss - memory.shared)
    assert max(held[100:]) - held[100] < 30e6
