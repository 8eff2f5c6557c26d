"""Strangers' pictures: each decoded in a process that knows no other, within bounds, to the same pixels as anywhere."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import app
from catvton_ov.cli import main
from catvton_ov.errors import ImageError
from catvton_ov.page.engine import Engine
from catvton_ov.page.guard import PICTURES
from catvton_ov.page.serving import serving
from catvton_ov.pictures import reader as reader_module
from catvton_ov.pictures import reading
from catvton_ov.pictures.decoder import Kind
from catvton_ov.pictures.reader import DecodingBounds, OwnProcess, PictureReader, StrangersReader
from tests import hostile

ROOT = Path(__file__).resolve().parent.parent
PHOTO = Path(__file__).parent / "golden" / "tryon" / "person.png"
MARK = bytes((0xAB, 0xCD, 0xEF))  # the colour of another visitor's photo


@pytest.fixture
def reader() -> Iterator[StrangersReader]:
    found = StrangersReader()
    yield found
    found.close()


def photo(size: tuple[int, int] = (1024, 1536)) -> Image.Image:
    return Image.effect_noise(size, 60).convert("RGB")


def pixels(picture: Image.Image) -> tuple[str, tuple[int, int], bytes]:
    return picture.mode, picture.size, picture.tobytes()


def refusal(read: PictureReader, content: bytes) -> str | None:
    """What is said of a picture that cannot be read."""
    try:
        read.read(content, "photo", "photo")
    except ImageError as error:
        return str(error)
    return None


def marked_rows(picture: Image.Image) -> int:
    """How many rows show the other visitor's colour, whichever of its bytes comes first."""
    return int((np.sort(np.asarray(picture)[:, 100], axis=-1) == sorted(MARK)).all(axis=-1).sum())


# --- the same picture --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["photo", "mask", "layer"])
def test_a_picture_has_the_pixels_it_has_in_this_process(reader: StrangersReader, kind: Kind) -> None:
    with Image.open(PHOTO) as picture:
        files = hostile.unusual(picture.convert("RGB"))
    for name, (_, content) in files.items():
        expected = OwnProcess().read(content, kind, name)
        assert pixels(reader.read(content, kind, name)) == pixels(expected), name
        assert not reader.read(content, kind, name).info


def test_a_refusal_is_the_same_sentence(reader: StrangersReader, tmp_path: Path) -> None:
    cases = hostile.liars(photo((64, 64))) | hostile.bombs() | hostile.extremes()
    files = {name: content for name, (_, content) in cases.items()}
    told = {name: (refusal(OwnProcess(), content), refusal(reader, content)) for name, content in files.items()}
    assert len({own for own, _ in told.values()}) >= 7
    differing = {name for name, (own, strangers) in told.items() if own != strangers}
    assert differing <= {"WebP that promises 16,383 squared"}  # whose decoder asks for the memory at once
    with pytest.raises(ImageError, match="The photo has 1000x1000 pixels; at most"):
        reader.read(hostile.encode(photo((1000, 1000)), "PNG"), "photo", "photo", 400_000)
    with pytest.raises(ImageError, match="deleted after its time"):
        reader.read(tmp_path / "gone.png", "photo", "photo")


def test_pictures_read_by_many_threads_are_not_mixed_up(reader: StrangersReader) -> None:
    contents = [hostile.encode(Image.new("RGB", (300 + shade, 200), (shade, 0, 9)), "PNG") for shade in range(24)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda content: reader.read(content, "photo", "photo"), contents))
    assert [(picture.size[0] - 300, picture.getpixel((5, 5))) for picture in found] == [
        (shade, (shade, 0, 9)) for shade in range(24)
    ]


# --- nobody else's photo (GHSA-q45j-58j2-45rg: 1,536 of 1,536 rows of the visitor before, 3 of 3 servers) -------


def test_a_tiff_is_refused_whatever_it_is_called() -> None:
    for content in (hostile.leaking_tiff(1024, 1536), hostile.encode(photo((64, 64)), "TIFF")):
        for read in (reading.read_photo, reading.read_mask, reading.read_layer):
            with pytest.raises(ImageError, match="not a picture in a format known here"):
                read(io.BytesIO(content))


VISITORS = """
import sys
from catvton_ov.pictures import reading
from catvton_ov.pictures.reader import OwnProcess, StrangersReader
from tests import hostile
from tests.test_reader import MARK, marked_rows
from PIL import Image

reading.FORMATS += ("TIFF",)  # a decoder with a fault
reader = {"own": OwnProcess, "strangers": StrangersReader}[sys.argv[1]]()
leaking = hostile.leaking_tiff(1024, 1536)
photo = MARK * (1024 * 1536)
before = hostile.encode(Image.frombytes("RGB", (1024, 1536), photo), "PNG")
assert marked_rows(reader.read(before, "photo", "photo")) == 1536
shown = []
for _ in range(3):
    memory = [bytes(bytearray(photo)) for _ in range(4)]  # as that of a busy server
    del memory
    shown.append(marked_rows(reader.read(leaking, "photo", "photo")))
print(max(shown))
"""


def rows_of_the_visitor_before(who: str, tmp_path: Path, *packages: Path) -> int:
    code = "import catvton_ov.pictures.reading as reading\nreading.FORMATS += ('TIFF',)\n"
    (tmp_path / "sitecustomize.py").write_text(code)  # which Python imports, in what decodes as well
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, *packages, ROOT)))}
    environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000"}  # as after hours of serving
    command = [sys.executable, "-c", VISITORS, who]
    return int(
        subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    )


def test_a_decoder_that_shows_old_memory_shows_nobody_elses_photo(tmp_path: Path) -> None:
    assert rows_of_the_visitor_before("strangers", tmp_path) == 0


def test_the_same_decoder_in_one_process_would_show_it(tmp_path: Path) -> None:
    """What the processes are for. Where this fails, Pillow is mended (13 is), and the test above shows nothing."""
    assert rows_of_the_visitor_before("own", tmp_path) > 1000


def test_no_token_of_ours_is_in_the_process_that_decodes(
    reader: StrangersReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_of_the_owner")
    assert reads_again(reader)
    assert reader._process is not None
    environment = Path(f"/proc/{reader._process.pid}/environ").read_bytes()
    assert b"PYTHONPATH" in environment
    assert b"secret" not in environment


def test_commands_refuse_a_tiff_as_the_page_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.png").write_bytes(hostile.leaking_tiff(256, 256))
    files = {
        "person": str(PHOTO),
        "garment": str(PHOTO.with_name("garment.png")),
        "mask": str(PHOTO.with_name("mask.png")),
    }
    out = str(tmp_path / "out.png")
    for name in files:
        given = [f"--{key}={path}" for key, path in (files | {name: str(tmp_path / "photo.png")}).items()]
        assert main(["try-on", "--model", "paper_doll", *given, "--out", out]) == 1
        assert "not a picture in a format known here" in capsys.readouterr().err
    assert main(["mask", "--model", "paper_doll", "--person", str(tmp_path / "photo.png"), "--out", out]) == 1
    assert "not a picture in a format known here" in capsys.readouterr().err
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(f"person,garment,mask\nphoto.png,{files['garment']},{files['mask']}\n")
    assert main(["batch", "--model", "paper_doll", "--pairs", str(pairs), "--out", str(tmp_path / "results")]) == 3
    assert "not a picture in a format known here" in capsys.readouterr().err


# --- bounds ------------------------------------------------------------------------------------------------------


def reads_again(reader: StrangersReader) -> bool:
    return reader.read(PHOTO.read_bytes(), "photo", "photo").mode == "RGB"


def test_a_picture_that_keeps_the_decoder_busy_is_given_up_and_the_next_one_is_read() -> None:
    """A PNG of 4.8 MB whose EXIF repeats itself kept the page's own process busy for 146 s."""
    content = hostile.exif_bomb(5000, 1_000_000)
    reader = StrangersReader(DecodingBounds(memory=8_000_000_000, cpu_seconds=1, seconds=6))
    try:
        begun = time.monotonic()
        with pytest.raises(ImageError, match="as JPEG or PNG"):
            reader.read(content, "photo", "photo")
        assert time.monotonic() - begun < 6.5
        assert reads_again(reader)
    finally:
        reader.close()


def test_a_picture_that_takes_too_much_memory_is_refused_and_the_next_one_is_read() -> None:
    reader = StrangersReader(DecodingBounds(memory=30_000_000))
    try:
        for content in (hostile.encode(Image.new("RGB", (5000, 4000)), "PNG"), hostile.exif_bomb(1000, 1_000_000)):
            with pytest.raises(ImageError, match="memory"):
                reader.read(content, "photo", "photo")
            assert reads_again(reader)
    finally:
        reader.close()


def test_the_largest_picture_of_every_costly_kind_fits_into_the_bounds(reader: StrangersReader) -> None:
    """63 megapixels of 16 bits took 2.9 GB in the page's own process."""
    size = (9000, 7000)
    gray = np.zeros((size[1], size[0]), np.uint16)
    gray[:, ::2] = 65535
    turned = Image.Exif()
    turned[0x0112] = 6
    cases = {
        "16 bits": hostile.encode(Image.fromarray(gray), "PNG", compress_level=1),
        "transparent": hostile.encode(Image.new("RGBA", size, (9, 9, 9, 99)), "PNG", compress_level=1),
        "turned": hostile.encode(Image.new("RGB", size), "JPEG", exif=turned),
    }
    for name, content in cases.items():
        assert sorted(reader.read(content, "photo", name).size) == sorted(size), name


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_ended_or_hangs_is_replaced_and_no_photo_is_called_damaged(
    reader: StrangersReader, end: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "FORKING_SECONDS", 1.0)
    for _ in range(3):
        assert reads_again(reader)
        assert reader._process is not None
        os.kill(reader._process.pid, end)
        assert reads_again(reader)  # at once: nobody has seen yet that it ended


def test_photos_are_read_while_the_process_is_killed_again_and_again(reader: StrangersReader) -> None:
    """25 of 160 good photos were called damaged."""
    content = PHOTO.read_bytes()
    over = threading.Event()

    def killing() -> None:
        while not over.wait(0.7):
            if reader._is_ready and (process := reader._process) is not None:
                process.kill()

    with ThreadPoolExecutor(5) as threads:
        threads.submit(killing)
        told = list(threads.map(lambda _: refusal(reader, content), range(30)))
        over.set()
    assert not {sentence for sentence in told if sentence and "server" not in sentence}
    assert told.count(None) >= 10  # a picture is tried twice
    assert reads_again(reader)


@pytest.mark.parametrize("fault", ["os.fork = fail", "sys.exit(3)"], ids=["it cannot fork", "it cannot start"])
def test_what_is_wrong_on_the_server_is_said_and_logged_as_that(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    code = f"import os, sys\ndef fail():\n    raise BlockingIOError\nif 'decoder' in str(sys.orig_argv):\n    {fault}\n"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    reader = StrangersReader()
    try:
        with pytest.raises(ImageError, match="something is wrong on the server"):
            reads_again(reader)
        assert "the process that reads pictures does not" in caplog.text
    finally:
        reader.close()


def test_a_fork_that_tells_another_size_than_it_may_is_not_believed(
    reader: StrangersReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for told in ({"mode": "RGB", "size": [10**6, 10**6]}, {"mode": "P", "size": [1, 1]}, {"size": [0]}, {"odd": 1}):
        monkeypatch.setattr(reader_module, "receive", lambda *_, told=told: told)
        with pytest.raises(ImageError, match="cannot be read"):
            reads_again(reader)
        monkeypatch.undo()
    assert reads_again(reader)


def test_the_process_ends_with_the_page(tmp_path: Path) -> None:
    reader = StrangersReader()
    reader.start()
    process, control = reader._process, reader._control
    assert process is not None
    assert control is not None
    control.close()  # as the system does when the page is killed
    assert process.wait(timeout=20) == 0


# --- the page ----------------------------------------------------------------------------------------------------


def test_no_event_of_the_page_decodes_a_picture_in_its_own_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Spy(OwnProcess):
        def read(self, file: Path | bytes, kind: Kind, what: str, most: int = 0) -> Image.Image:
            asked.append(what)
            return Image.new("RGBA" if kind == "layer" else "RGB", (64, 64))

    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("a picture was opened in the page's own process")

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    (tmp_path / "photo.png").write_bytes(hostile.leaking_tiff(64, 64))
    page = app.build(Engine(["paper_doll"]), serving([]), Spy(), tmp_path)
    monkeypatch.setattr(Image, "open", opened)
    file = {"path": str(tmp_path / "photo.png"), "meta": {"_type": "gradio.FileData"}, "orig_name": "photo.png"}
    shapes = {"image": file, "imageslider": [file, file], "imageeditor": {"background": file, "layers": [file]}}
    events = [function for function in page.fns.values() if any(isinstance(b, PICTURES) for b in function.inputs)]
    assert len(events) >= 8
    for event in events:
        values = [shapes.get(block.get_block_name(), getattr(block, "value", None)) for block in event.inputs]
        asyncio.run(page.preprocess_data(event, values, None, True))
    assert set(asked) == {"photo of the person", "painted layer"}


@pytest.mark.slow
def test_a_process_of_its_own_adds_little_to_a_phones_photo(reader: StrangersReader) -> None:
    content = hostile.encode(photo((1000, 750)).resize((4000, 3000)), "JPEG", quality=90)
    seconds: dict[str, list[float]] = {"own": [], "strangers": []}
    for _ in range(20):
        for name, read in (("own", OwnProcess()), ("strangers", reader)):
            begun = time.perf_counter()
            read.read(content, "photo", "photo")
            seconds[name].append(time.perf_counter() - begun)
    assert min(seconds["strangers"]) - min(seconds["own"]) < 0.06
