"""The page as its owner meets it: readiness, what a killed page leaves behind, and its own folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import app
from catvton_ov.errors import OptionsError
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.options import MaskAdjustment
from catvton_ov.page.bounds import Bounds, Rate, client_of
from catvton_ov.page.masks import Wish, parse, put_mask
from catvton_ov.page.serving import serving
from tests.hub_standin import Stall, files_of, serve
from tests.serving import ROOT, served_page, served_process
from tests.visitor import Visitor

EXAMPLES = ROOT / "assets" / "paper_doll" / "examples"
REST = ("reference", None, 1, False)  # preset, size, person_number and worn of /try_on


def test_readiness_is_loading_then_ready(tmp_path: Path) -> None:
    files = files_of(ROOT / "assets" / "paper_doll")
    commit = "0123456789abcdef0123456789abcdef01234567"
    with serve({"some/model": (commit, files)}) as hub:
        stall = hub.deliver["unet/openvino_model.bin"] = Stall()
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
        settings |= {"HF_HUB_DISABLE_XET": "1", "CATVTON_OV_MODEL": f"some/model@{commit}"}
        with served_page(tmp_path, "--auth", "ada:secret", **settings) as url:
            assert stall.reached.wait(60)
            answer = httpx.get(f"{url}health")
            assert (answer.status_code, answer.json()["state"]) == (503, "loading")
            stall.go.set()
            deadline = time.monotonic() + 60
            while (answer := httpx.get(f"{url}health")).status_code == 503 and time.monotonic() < deadline:
                time.sleep(0.2)
            assert (answer.status_code, answer.json()["state"]) == (200, "ready")
    assert "brings no safety checker" in (tmp_path / "page.log").read_text()


@pytest.mark.slow
def test_a_page_killed_at_work_serves_again_and_clears_up_after_itself_and_a_broken_model_says_why(
    tmp_path: Path,
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    broken = tmp_path / "broken"
    shutil.copytree(ROOT / "assets" / "paper_doll", broken)
    weights = broken / "unet" / "openvino_model.bin"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-100])
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "app.py", "--port", str(port), "--keep-seconds", "8"]
    url = f"http://127.0.0.1:{port}/"
    process = subprocess.Popen([*command, "--model", "paper_doll"], cwd=ROOT, env=environment)
    try:
        _wait_for(url)
        visitor = Visitor(url)
        pictures = ("person/Ada.png", "garment/upper-plain.png", "mask/Ada-upper.png")
        files = [visitor.upload((EXAMPLES / name).read_bytes(), name) for name in pictures]
        body = {"data": [*files, "upper", 100, 2.5, "ddim", 1, *REST]}
        assert visitor.http.post("gradio_api/call/try_on", json=body).status_code == 200
        time.sleep(1.5)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    deadline = time.monotonic() + 20
    while list((tmp_path / "cache").rglob("*.png")) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list((tmp_path / "cache").rglob("*.png")) == [], "photos of the killed page are kept"
    process = subprocess.Popen([*command, "--model", "paper_doll", "--model", str(broken)], cwd=ROOT, env=environment)
    try:
        _wait_for(url)
        visitor = Visitor(url)
        files = [visitor.upload((EXAMPLES / name).read_bytes(), name) for name in pictures]
        assert visitor.call("try_on", *files, "upper", 1, 1, "ddim", 1, *REST).worked
        files[0] = visitor.upload((EXAMPLES / pictures[0]).read_bytes(), pictures[0])
        asked = visitor.press("auto-mask", Model=str(broken), person={"background": files[0], "layers": []})
        assert "is damaged: unet/openvino_model.bin has" in str(asked.message)
        states = {model["model"]: model for model in visitor.http.get("health").json()["models"]}
        assert (states["paper_doll"]["state"], states[str(broken)]["state"]) == ("ready", "failed")
        assert "is damaged" in states[str(broken)]["reason"]
        deadline = time.monotonic() + 60
        while list((tmp_path / "cache").rglob("*.png")) and time.monotonic() < deadline:
            time.sleep(0.3)
        assert list((tmp_path / "cache").rglob("*.png")) == [], "photos are kept longer than --keep-seconds"
    finally:
        process.terminate()
        process.wait(30)
    while list((tmp_path / "cache").iterdir()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list((tmp_path / "cache").iterdir()) == []


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            httpx.get(f"{url}health")
            return
        except httpx.HTTPError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_an_upload_on_its_way_while_the_page_ends_leaves_nothing(tmp_path: Path) -> None:
    """Photos stayed for ever: the page cleared up and was still receiving."""
    over = threading.Event()

    def send(url: str) -> None:
        visitor = Visitor(url)
        while not over.is_set():
            try:
                visitor.upload(bytes(60_000), "photo.png")
            except httpx.HTTPError:
                return

    with ThreadPoolExecutor(2) as threads, served_process(tmp_path) as (url, process):
        sending = [threads.submit(send, url) for _ in range(2)]
        time.sleep(1)
        os.kill(process, signal.SIGTERM)
        for each in sending:
            each.result(60)
        over.set()
    deadline = time.monotonic() + 30
    places = (tmp_path / "cache", tmp_path / "system")
    while (left := [path for place in places for path in place.rglob("*")]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def test_the_pace_counts_each_visitor_by_the_minute_and_forgets_the_oldest() -> None:
    now = 0.0
    pace = Rate(2, now=lambda: now, visitors=2)
    assert [pace.allows("a") for _ in range(3)] == [True, True, False]
    assert pace.allows("b")
    now = 60.0
    assert pace.allows("a")
    for name in ("c", "d"):
        assert pace.allows(name)
    assert len(pace._times) == 2


@pytest.mark.parametrize(
    ("nearest", "forwarded", "visitor"),
    [
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),  # whoever connects from outside is who they are
        ("10.0.0.7", "evil, 198.51.100.1, 8.8.8.8, 10.0.0.9", "8.8.8.8"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("10.0.0.7", "10.0.0.8", "10.0.0.7"),
    ],
)
def test_a_visitor_is_known_by_what_the_nearest_proxy_saw(nearest: str, forwarded: str, visitor: str) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    assert client_of({"client": (nearest, 1), "headers": headers}) == visitor


def test_a_try_on_that_takes_too_long_is_stopped_and_says_so(tmp_path: Path) -> None:
    with served_page(tmp_path, "--job-seconds", "0.5") as url:
        visitor = Visitor(url)
        pictures = ("person/Ada.png", "garment/upper-plain.png", "mask/Ada-upper.png")
        files = [visitor.upload((EXAMPLES / name).read_bytes(), name) for name in pictures]
        answer = visitor.call("try_on", *files, "upper", 100, 2.5, "ddim", 1, *REST)
        assert "choose fewer steps" in str(answer.message)


def test_a_try_on_that_nobody_waits_for_any_more_is_stopped_and_a_full_queue_says_so(tmp_path: Path) -> None:
    with served_page(tmp_path, "--waiting", "1") as url:
        visitor, second, third = (Visitor(url) for _ in range(3))
        pictures = ("person/Ada.png", "garment/upper-plain.png", "mask/Ada-upper.png")
        files = [visitor.upload((EXAMPLES / name).read_bytes(), name) for name in pictures]
        assert visitor.call("try_on", *files, "upper", 1, 2.5, "ddim", 1, *REST).worked  # compiled
        begun = time.monotonic()
        assert visitor.call("try_on", *files, "upper", 20, 2.5, "ddim", 1, *REST).worked
        whole = 5 * (time.monotonic() - begun)

        body = {"data": [*files, "upper", 100, 2.5, "ddim", 1, *REST]}
        job = visitor.http.post("gradio_api/call/try_on", json=body).json()["event_id"]
        with visitor.http.stream("GET", f"gradio_api/call/try_on/{job}"), ThreadPoolExecutor(1) as thread:
            time.sleep(whole / 10)
            waiting = thread.submit(second.call, "try_on", *files, "upper", 1, 2.5, "ddim", 1, *REST)
            time.sleep(whole / 10)
            answer = third.call("try_on", *files, "upper", 1, 2.5, "ddim", 1, *REST)
            assert (answer.status, answer.worked) == (503, False)
            assert "Queue is full" in str(answer.message)
            visitor.http.close()  # while the job has most of its steps before it
            begun = time.monotonic()
            assert waiting.result().worked
        assert time.monotonic() - begun < whole / 2


def test_bounds_that_are_none_are_refused_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionsError, match="waiting must be above 0"):
        Bounds(waiting=0)
    with pytest.raises(SystemExit):
        serving(["--job-seconds", "nan"])
    assert "job_seconds must be above 0" in capsys.readouterr().err
    assert serving(["--keep-seconds", "60"]).bounds == Bounds(keep_seconds=60)


def test_an_empty_variable_is_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = serving([])
    assert (plain.models, plain.cache_dir, plain.auth) == (("paper_doll",), None, None)
    for name in ("MODEL", "DEVICE", "HOST", "PORT", "SHARE", "AUTH", "CACHE_DIR", "KEEP_PARSERS", "JOB_SECONDS"):
        monkeypatch.setenv(f"CATVTON_OV_{name}", "")
    assert serving([]) == plain
    monkeypatch.setenv("CATVTON_OV_MODEL", " ")
    monkeypatch.setenv("CATVTON_OV_KEEP_PARSERS", "1")
    assert serving([]) == replace(plain, keep_parsers=True)


def test_tools_for_agents_without_their_package_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mcp" or name.endswith(".mcp_tools")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)  # as if it were not installed
    with pytest.raises(OptionsError, match=r"pip install -r requirements-mcp\.txt"):
        app.tools_for_agents(serving(["--mcp"]))
    assert app.tools_for_agents(serving([])) == {}


class TwoFigures:
    """A parser that sees two persons, one in each half of a photo."""

    def __call__(self, picture: Image.Image, person: int = 0) -> LabelMaps:
        width, height = picture.size
        body, lip = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint8)
        middle = width // 4 + person * width // 2
        body[height // 4 : height // 2, middle - 10 : middle + 10] = 2  # DensePose's front of the torso
        for place in (width // 4, 3 * width // 4):
            lip[height // 4 : height // 2, place - 10 : place + 10] = 5  # SCHP's upper clothes
        return LabelMaps(body, lip, np.zeros_like(lip), persons=2)

    def release(self) -> None:
        pass


def test_of_two_persons_the_chosen_ones_clothes_are_masked_and_a_new_photo_begins_with_the_largest() -> None:
    photo = Image.linear_gradient("L").resize((200, 200)).convert("RGB")
    other = photo.rotate(90)
    parser = TwoFigures()
    first = parse(photo, parser, None, person=1)  # nobody was numbered yet
    assert (first.person, first.maps.persons) == (0, 2)
    second = parse(photo, parser, first, person=1)
    assert second.person == 1
    assert not np.array_equal(second.maps.densepose, first.maps.densepose)
    assert parse(photo, parser, second, person=1) is second
    assert parse(other, parser, second, person=1).person == 0
    value, _ = put_mask({"background": photo, "layers": []}, second, Wish("upper", MaskAdjustment(), False))
    assert value["layers"][0].getchannel("A").getbbox() is not None
