"""The page's own folder: private, swept by age, gone however the page ends, and never more than its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio
import pytest
from filelock import FileLock

from catvton_ov.page import private_folder as module
from catvton_ov.page.private_folder import (
    LOCK,
    PREFIX,
    delete_idle_uploads,
    picture_folder,
    private_folder,
    remove_abandoned,
    sweep,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pages make their folders; what lies there may be abandoned from its first second on."""
    monkeypatch.setattr(module, "BEGINNING_SECONDS", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "system"))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "pages"))
    (tmp_path / "system").mkdir()
    return tmp_path / "pages"


def left(place: Path, name: str = PREFIX + "left") -> Path:
    """A folder as a page that was killed leaves it."""
    folder = place / name
    (folder / "pictures").mkdir(parents=True)
    folder.chmod(0o700)
    (folder / LOCK).touch()
    (folder / "pictures" / "photo.png").write_bytes(b"photo")
    return folder


# --- while it is there -------------------------------------------------------------------------------------------


def test_everything_temporary_is_written_into_one_folder_of_our_own(place: Path) -> None:
    folder = private_folder(3600)
    assert folder.parent == place
    assert folder.stat().st_mode & 0o777 == 0o700
    assert os.environ["GRADIO_TEMP_DIR"] == str(picture_folder(folder))
    assert Path(gradio.routes.DEFAULT_TEMP_DIR) == picture_folder(folder)  # which Gradio reads when it is imported
    child = "import tempfile; print(tempfile.mkstemp()[1])"
    for written in (
        tempfile.mkstemp()[1],
        tempfile.mkdtemp(),
        subprocess.run([sys.executable, "-c", child], capture_output=True, encoding="utf-8", check=True).stdout.strip(),
    ):
        assert Path(written).is_relative_to(folder)


def test_what_is_old_is_swept_but_not_the_folders_themselves(place: Path) -> None:
    folder = private_folder(0.4)
    old = picture_folder(folder) / "hash" / "photo.png"
    old.parent.mkdir()
    old.write_bytes(b"photo")
    os.utime(old, (0, 0))  # a copy of an old file is a new one
    sweep(picture_folder(folder), keep_seconds=3600)
    assert old.exists()
    wait_until(lambda: not old.parent.exists())
    assert picture_folder(folder).is_dir()
    assert Path(tempfile.gettempdir()).is_dir()
    assert (folder / LOCK).exists()


def test_an_upload_that_came_to_nothing_goes_soon_and_one_that_is_arriving_stays(place: Path) -> None:
    folder = place / "pictures"
    (folder / "hash").mkdir(parents=True)
    whole, arriving, idle = folder / "hash" / "photo.png", folder / "tmparriving", folder / "tmpidle"
    for path in (whole, arriving, idle):
        path.write_bytes(b"photo")
    for path in (whole, idle):
        os.utime(path, (time.time() - 61, time.time() - 61))
    delete_idle_uploads(folder)
    assert [path.exists() for path in (whole, arriving, idle)] == [True, True, False]


def test_each_page_sweeps_its_own_folder_by_its_own_clock(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shortest --keep-seconds of all pages under one folder won."""
    patient = private_folder(3600)
    photo = picture_folder(patient) / "photo.png"
    photo.write_bytes(b"photo")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(place))
    hasty = private_folder(0.05)
    hurried = picture_folder(hasty) / "hash" / "photo.png"
    hurried.parent.mkdir()
    hurried.write_bytes(b"photo")
    wait_until(lambda: not hurried.exists())
    assert photo.exists()


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- however it ends ---------------------------------------------------------------------------------------------

SERVING = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which who runs tests in the background has switched off
from catvton_ov.page.private_folder import picture_folder, private_folder
folder = private_folder(3600)
(picture_folder(folder) / "photo.png").write_bytes(b"photo")
print(folder, flush=True)
time.sleep(600)
"""


LATE = """
def late():
    (picture_folder(folder) / "late").mkdir(parents=True, exist_ok=True)
    (picture_folder(folder) / "late" / "photo.png").write_bytes(b"photo")
    print("late", flush=True)
"""


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SERVING]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", stderr=subprocess.DEVNULL
    ) as running:
        yield running
        running.kill()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGABRT])
def test_photos_are_gone_however_the_page_ends(process: subprocess.Popen[str], end: signal.Signals) -> None:
    """After kill -9 and SIGHUP they stayed for ever."""
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert (folder / "pictures" / "photo.png").exists()
    process.send_signal(end)
    process.wait(20)
    wait_until(lambda: not folder.exists())


def test_a_photo_that_arrives_while_the_page_ends_is_gone_too(place: Path) -> None:
    """The page deleted its folder itself, and Gradio made it anew for an upload that was on its way: for ever."""
    code = LATE + SERVING.replace("time.sleep(600)", "import atexit; atexit.register(late)")
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    folder, told = run.stdout.splitlines()
    assert told == "late"
    wait_until(lambda: not Path(folder).exists())


def test_what_an_earlier_page_has_left_goes_with_the_next_one(place: Path) -> None:
    abandoned = left(place)
    private_folder(3600)
    assert not abandoned.exists()


# --- never more than its own -------------------------------------------------------------------------------------


def test_only_abandoned_folders_of_this_program_are_deleted(place: Path, tmp_path: Path) -> None:
    """Any folder `catvton-ov` was swept whole, by way of a link as well: a user's document was deleted."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "letter.txt").write_text("dear")
    (documents / LOCK).touch()
    abandoned = left(place)
    (abandoned / "pictures" / "link").symlink_to(documents)
    kept = [
        left(place, "catvton-ov"),  # where the first version swept
        left(place, "another-" + PREFIX),
        left(place, PREFIX + "open"),
        left(place, PREFIX + "lockless"),
        left(place, PREFIX + "odd"),
    ]
    kept[2].chmod(0o755)
    (kept[3] / LOCK).unlink()
    (kept[4] / LOCK).unlink()
    (kept[4] / LOCK).symlink_to(documents / "letter.txt")
    (place / (PREFIX + "link")).symlink_to(documents)
    (place / (PREFIX + "file")).write_text("a file")
    remove_abandoned(place)
    assert not abandoned.exists()
    assert all((folder / "pictures" / "photo.png").exists() for folder in kept)
    assert (documents / "letter.txt").read_text() == "dear"
    assert (place / (PREFIX + "link")).is_symlink()
    assert (place / (PREFIX + "file")).exists()


def test_the_folder_of_a_page_that_runs_is_let_alone(place: Path) -> None:
    running = left(place)
    with FileLock(running / LOCK):
        remove_abandoned(place)
        assert (running / "pictures" / "photo.png").exists()
    remove_abandoned(place)
    assert not running.exists()


def test_a_folder_that_was_made_this_moment_is_let_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEGINNING_SECONDS", 10.0)
    beginning = left(place)
    remove_abandoned(place)
    assert beginning.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT RUN: only root can make another user's folder")
def test_a_folder_that_another_user_has_planted_is_neither_deleted_nor_used(place: Path) -> None:
    planted = left(place)
    os.chown(planted, 65534, 65534)
    assert private_folder(3600) != planted
    assert (planted / "pictures" / "photo.png").exists()
