"""Compiled models kept in a folder that processes share, disks fill and people tidy up: the result stays right."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from catvton_ov import compile_cache
from catvton_ov.runtime import Network, Runtime, RuntimeOptions

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "assets/paper_doll"


def decode(cache: Path | None, **options: Any) -> tuple[str, bool]:
    """Compile the decoder and run it: a digest of its output, and whether it came out of the cache."""
    runtime = Runtime(RuntimeOptions(cache_dir=cache, **options))
    part = Network(runtime, lambda: MODEL / "vae_decoder/openvino_model.xml")
    picture = part(latent=np.random.default_rng(0).standard_normal((1, 16, 16, 12), np.float32))
    assert part._request is not None
    return hashlib.sha256(picture.tobytes()).hexdigest(), part._request.get_compiled_model().get_property(
        "LOADED_FROM_CACHE"
    )


WORKER = """
import logging, sys
from pathlib import Path
from tests.test_compile_cache import decode
logging.basicConfig(level=logging.WARNING, format="%(message)s")
{first}
print("ready", flush=True)
for line in sys.stdin:
    print(*decode(Path(line.strip())), flush=True)
"""


class Worker:
    """Another process, which decodes once for each cache folder it is told."""

    def __init__(self, first: str = "", **environment: str) -> None:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER.format(first=first)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )

    def ask(self, cache: Path) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{cache}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str]:
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stderr


@pytest.fixture(scope="module")
def expected() -> str:
    return decode(None)[0]


@pytest.fixture
def scratch_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where private folders are made; empty whenever nothing is being compiled."""
    root = tmp_path / "tmp"
    root.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(root))
    return root


def kept(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


# --- at the same time ------------------------------------------------------------------------------------------------


def check_rounds(processes: int, rounds: int, folder: Path, expected: str) -> None:
    workers = [Worker() for _ in range(processes)]
    assert {worker.answer() for worker in workers} == {"ready"}
    for number in range(rounds):
        cache = folder / str(number)
        for worker in workers:
            worker.ask(cache)
        answers = sorted(worker.answer() for worker in workers)
        assert answers == [
            f"{expected} False",
            *[f"{expected} True"] * (processes - 1),
        ]  # one compiles, the others wait
        assert len(kept(cache)) == 1
    assert [worker.end() for worker in workers] == [(0, "")] * processes


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_on_one_cold_folder(processes: int, tmp_path: Path, expected: str) -> None:
    check_rounds(processes, 3, tmp_path, expected)


@pytest.mark.slow
def test_four_processes_in_twenty_rounds(tmp_path: Path, expected: str) -> None:
    check_rounds(4, 20, tmp_path, expected)


def test_threads_on_one_cold_folder(tmp_path: Path, expected: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = sorted(threads.map(decode, [tmp_path] * 4))
    assert found == [(expected, False), *[(expected, True)] * 3]


def test_commands_on_one_cold_folder(tmp_path: Path) -> None:
    given = {name: sorted((MODEL / "examples" / name).iterdir())[0] for name in ("person", "garment", "mask")}
    command = [sys.executable, "-m", "catvton_ov", "try-on", "--steps", "2", "--seed", "1", "--preset", "fast"]
    for name, path in given.items():
        command += [f"--{name}", str(path)]

    def start(name: str, *options: str) -> tuple[Path, subprocess.Popen[bytes]]:
        out = tmp_path / name
        return out, subprocess.Popen([*command, "--out", str(out), *options], cwd=ROOT)

    def pictures(*started: tuple[Path, subprocess.Popen[bytes]]) -> list[bytes]:
        assert [process.wait(120) for _, process in started] == [0] * len(started)
        return [path.read_bytes() for path, _ in started]

    plain = pictures(start("plain.png"))
    cache = ("--cache-dir", str(tmp_path / "cache"))
    assert pictures(start("cold1.png", *cache), start("cold2.png", *cache)) == plain * 2
    before = kept(tmp_path / "cache")
    assert len(before) >= 3
    assert pictures(start("warm.png", *cache)) == plain
    assert kept(tmp_path / "cache") == before


# --- damaged, foreign, of another case -------------------------------------------------------------------------------


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[random.Random(len(data)).randrange(len(data))] ^= 4
    path.write_bytes(data)


def take_anothers(path: Path) -> None:
    """A whole file of another case under this one's name: what a wrong restore from a backup leaves."""
    decode(path.parent, threads=1)
    (other,) = set(path.parent.iterdir()) - {path}
    other.replace(path)


def replace_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        flip_a_bit,
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[:100_000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        take_anothers,
        replace_by(lambda path: path.symlink_to(MODEL / "manifest.json")),
        replace_by(os.mkfifo),
    ],
    ids=["bit", "short by 1", "short", "empty", "zeros", "another's", "link", "pipe"],
)
def test_a_damaged_file_is_compiled_anew(
    spoil: Callable[[Path], None], tmp_path: Path, expected: str, caplog: pytest.LogCaptureFixture, scratch_root: Path
) -> None:
    cache = tmp_path / "cache"
    assert decode(cache) == (expected, False)
    (path,) = kept(cache)
    spoil(path)
    assert decode(cache) == (expected, False)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is damaged" in caplog.text
    assert decode(cache) == (expected, True)
    assert kept(cache) == [path]
    assert not path.is_symlink()
    assert not list(scratch_root.iterdir())


def test_a_folder_in_a_files_place_is_left_alone(
    tmp_path: Path, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    decode(tmp_path)
    (path,) = kept(tmp_path)
    path.unlink()
    path.mkdir()
    (path / "foreign").touch()
    (tmp_path / "notes.blob").touch()
    assert decode(tmp_path) == (expected, False)
    assert (path / "foreign").exists()
    assert kept(tmp_path) == [path, tmp_path / "notes.blob"]


def test_another_precision_or_machine_has_its_own_file(
    tmp_path: Path, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    coarse = decode(None, precision="bf16")[0]
    assert decode(tmp_path, precision="bf16") == (coarse, False)
    assert decode(tmp_path, precision="f32") == (expected, False)
    with monkeypatch.context() as other:
        other.setattr(compile_cache, "processor", lambda: "another CPU of the same name")
        assert decode(tmp_path) == (expected, False)
    for precision, output in (("bf16", coarse), ("f32", expected)):
        assert decode(tmp_path, precision=precision) == (output, True)
    assert len(kept(tmp_path)) == 3


# --- interrupted, full, read-only, gone ------------------------------------------------------------------------------

DIE_HALFWAY = """
import os, shutil, signal
def half(source, target, size):
    target.write(source.read(50_000))
    target.flush()
    os.kill(os.getpid(), signal.SIGKILL)
shutil.copyfileobj = half
"""


def test_a_killed_process_leaves_nothing_that_counts(tmp_path: Path, expected: str, scratch_root: Path) -> None:
    cache = tmp_path / "cache"
    worker = Worker(DIE_HALFWAY, TMPDIR=str(scratch_root))
    assert worker.answer() == "ready"
    worker.ask(cache)
    assert worker.end()[0] == -signal.SIGKILL
    left = [*cache.iterdir(), *scratch_root.iterdir()]
    assert sorted(path.suffix for path in left) == ["", ".lock", ".part"]
    for path in left:
        os.utime(path, (0, 0))
    (foreign := cache / ".notes.part").touch()
    os.utime(foreign, (0, 0))
    assert decode(cache) == (expected, False)
    assert decode(cache) == (expected, True)
    assert {path.suffix for path in kept(cache)} == {".blob", ".part"}
    assert foreign.exists()
    assert not list(scratch_root.iterdir())


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", [(shutil, "copyfileobj"), (Path, "replace"), (Path, "mkdir"), (tempfile, "mkdtemp")])
def test_a_full_disk_costs_time_only(
    place: tuple[Any, str],
    tmp_path: Path,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as full:
        full.setattr(*place, lambda *_, **__: no_room())
        assert decode(tmp_path) == (expected, False)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "No space left" in record.message
    assert kept(tmp_path) == []
    assert decode(tmp_path) == (expected, False)
    assert decode(tmp_path) == (expected, True)


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
"""


def test_a_disk_that_fills_while_openvino_writes(tmp_path: Path, expected: str) -> None:
    worker = Worker(FULL)
    assert worker.answer() == "ready"
    worker.ask(tmp_path)
    assert worker.answer() == f"{expected} False"
    assert worker.end()[0] == 0
    assert kept(tmp_path) == []


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user reaches."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


WITHOUT_RIGHTS = """
import os
decode(None)  # everything is loaded, also what only root may read
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
"""


def test_a_read_only_folder_is_read_only(open_folder: Path, expected: str) -> None:
    cold, warm = open_folder / "cold", open_folder / "warm"
    cold.mkdir()
    assert decode(warm) == (expected, False)
    before = kept(warm)
    for folder in (cold, warm):
        folder.chmod(0o555)
    worker = Worker(WITHOUT_RIGHTS)
    try:
        assert worker.answer() == "ready"
        for folder, loaded in ((cold, False), (warm, True)):
            worker.ask(folder)
            assert worker.answer() == f"{expected} {loaded}"
        code, stderr = worker.end()
    finally:
        for folder in (cold, warm):
            folder.chmod(0o755)
    assert code == 0
    (line,) = stderr.splitlines()
    assert str(cold) in line
    assert "not usable" in line
    assert (kept(cold), kept(warm)) == ([], before)


def test_a_folder_deleted_in_use_is_made_again(tmp_path: Path, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = compile_cache.CompileCache._keep
    cache = tmp_path / "cache"

    def keep_after_deletion(*args: Any) -> None:
        shutil.rmtree(cache)
        keep(*args)

    with monkeypatch.context() as patch:
        patch.setattr(compile_cache.CompileCache, "_keep", keep_after_deletion)
        assert decode(cache) == (expected, False)
    assert decode(cache) == (expected, True)


def test_one_warning_for_all_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    runtime = Runtime(RuntimeOptions(cache_dir=tmp_path / "file"))
    for part, shapes in (("vae_decoder", {"latent": (1, 16, 16, 12)}), ("vae_encoder", {"picture": (1, 3, 256, 192)})):
        Network(runtime, lambda part=part: MODEL / part / "openvino_model.xml").prepare(**shapes)  # type: ignore[misc]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
