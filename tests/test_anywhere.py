"""The page wherever its bundle, caches and checkout lie, whoever serves it; and when that goes wrong, in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from catvton_ov.errors import BundleError, BundleNotFoundError
from catvton_ov.hub import HubId, explained
from catvton_ov.page.opening import Opening
from catvton_ov.sources import bundled_folder
from tests.hub_standin import files_of, serve
from tests.serving import served_process
from tests.visitor import Visitor

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SLOW = 120_000  # milliseconds


@pytest.fixture
def anywhere() -> Iterator[Path]:
    """A folder that everybody may enter, neither in /tmp nor below a working directory."""
    folder = Path(tempfile.mkdtemp(prefix="anywhere-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def without_rights() -> Sequence[str]:
    """What runs a command as a user to whom permissions apply; skips where that cannot be."""
    if os.geteuid() != 0:
        return ()
    probe = "import gradio, catvton_ov, subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
    rights = "-dac_override,-dac_read_search,-fowner"
    bare_root = ("setpriv", "--bounding-set", rights, "--inh-caps", rights)  # where nobody may not read the checkout
    for prefix in (nobody, bare_root):
        command = [*prefix, sys.executable, "-c", probe]
        if shutil.which("setpriv") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return prefix
    pytest.skip("NOT RUN: there is no user here without root's rights who could serve")


def home_without_rights(anywhere: Path) -> tuple[Path, dict[str, str]]:
    """Where a page of that user may write, and an environment whose home is read-only."""
    (anywhere / "home").mkdir(mode=0o555)
    (anywhere / "home").chmod(0o555)
    (anywhere / "written").mkdir()
    (anywhere / "written").chmod(0o777)
    environment = {"HOME": str(anywhere / "home"), "XDG_CACHE_HOME": "", "TMPDIR": str(anywhere / "written")}
    return anywhere / "written", environment | {"GRADIO_TEMP_DIR": "", "HF_HOME": str(anywhere / "written" / "hub")}


def opened(browser: Browser, url: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 1100}).new_page()
    page.set_default_timeout(SLOW)
    page.goto(url)
    return page


def shows_its_examples(page: Page) -> None:
    """Every thumbnail is there as a picture, the first person and garment are in place, the clothes can be found."""
    expect(page.locator("#garment img")).to_be_visible(timeout=SLOW)
    for strip in ("#persons", "#garments"):
        expect(page.locator(f"{strip} .thumbnail-item")).not_to_have_count(0)
        for source in page.locator(f"{strip} img").evaluate_all("images => images.map(image => image.src)"):
            assert page.request.get(source).headers["content-type"].startswith("image/")
    expect(page.locator("#auto-mask")).to_be_visible()
    expect(page.locator(".notice")).to_be_visible()
    expect(page.locator(".trouble")).to_have_count(0)


def health(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (told := httpx.get(f"{url}health", timeout=30).json())["state"] == "loading" and time.monotonic() < deadline:
        time.sleep(0.2)
    return dict(told)


# --- anywhere ----------------------------------------------------------------------------------------------------


def test_a_bundle_in_a_folder_of_another_user_is_shown_to_visitors(browser: Browser, anywhere: Path) -> None:
    """The page was blank with every folder outside of the working directory and /tmp, and /health said ready."""
    bundle = shutil.copytree(bundled_folder(), anywhere / "bundle")
    prefix, (_, home) = without_rights(), home_without_rights(anywhere)
    with served_process(anywhere, "--model", str(bundle), prefix=prefix, **home) as (url, _):
        page = opened(browser, url)
        shows_its_examples(page)
        for strip in ("#persons", "#garments"):  # what a click puts in place comes from there as well
            page.locator(f"{strip} .thumbnail-item").nth(1).click()
        expect(page.locator("#garment img")).to_be_visible()
        page.locator("#try-on button, button#try-on").first.click()
        expect(page.locator("#status")).to_contain_text("Done", timeout=SLOW)
        assert health(url)["state"] == "ready"
        page.context.close()
    assert "Traceback" not in (anywhere / "page.log").read_text()


def test_a_bundle_from_the_hub_is_shown_to_visitors(browser: Browser, anywhere: Path) -> None:
    """The page was blank with every model from the Hub."""
    prefix, (_, home) = without_rights(), home_without_rights(anywhere)
    with serve({"some/model": (COMMIT, files_of(bundled_folder()))}) as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        arguments = ("--model", f"some/model@{COMMIT}")
        with served_process(anywhere, *arguments, prefix=prefix, **home, **settings) as (url, _):
            page = opened(browser, url)
            shows_its_examples(page)
            assert health(url)["state"] == "ready"
            page.context.close()
    assert "Traceback" not in (anywhere / "page.log").read_text()


# --- what fails is told ------------------------------------------------------------------------------------------


def says(browser: Browser, url: str, words: str, state: str = "failed") -> None:
    """The page and /health both tell it."""
    told = health(url)
    assert (told["state"], words in told["reason"]) == (state, True), told
    page = opened(browser, url)
    expect(page.locator(".trouble")).to_contain_text(words, timeout=SLOW)
    page.context.close()


def test_a_bundle_that_may_not_be_read_says_so(browser: Browser, anywhere: Path) -> None:
    bundle = shutil.copytree(bundled_folder(), anywhere / "bundle")
    (bundle / "unet" / "openvino_model.bin").chmod(0o000)
    (bundle / "unet").chmod(0o000)
    prefix, (_, home) = without_rights(), home_without_rights(anywhere)
    try:
        with served_process(anywhere, "--model", str(bundle), prefix=prefix, **home) as (url, _):
            says(browser, url, "cannot be read: unet/openvino_model.bin (Permission denied)")
    finally:
        (bundle / "unet").chmod(0o755)


def test_an_example_that_was_changed_is_damage(browser: Browser, anywhere: Path) -> None:
    bundle = shutil.copytree(bundled_folder(), anywhere / "bundle")
    example = bundle / "examples" / "person" / "Ada.png"
    example.write_bytes(example.read_bytes()[:-1] + b"\0")
    with served_process(anywhere, "--model", str(bundle)) as (url, _):
        says(browser, url, "examples/person/Ada.png does not have the checksum")


@pytest.mark.parametrize("token", ["hf_tokén", "hf token", "hf_\x7ftoken", "'hf_token'"])
def test_an_odd_token_is_the_reason_where_the_hub_fails(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(fault: Exception | None) -> None:
        with explained(HubId("some/model", None), absent=BundleNotFoundError, failed=BundleError):
            if fault is not None:
                raise fault

    monkeypatch.setenv("HF_TOKEN", token)
    for fault in (httpx2.LocalProtocolError("Illegal header value"), UnicodeEncodeError("ascii", token, 0, 1, "")):
        with pytest.raises(BundleError, match="HF_TOKEN, or the token of `hf auth login`, is no token"):
            ask(fault)
    ask(None)  # where nothing is asked of the Hub, a token does not matter


def test_what_nobody_foresaw_is_told_without_its_details(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("/secret/place")

    monkeypatch.setattr("catvton_ov.page.opening.open_bundle", fail)
    opening = Opening("some/model")
    with pytest.raises(BundleError, match=r"could not be opened \(RuntimeError\)") as raised:
        opening.bundle()
    assert "secret" not in str(raised.value)


def test_a_bundle_that_was_deleted_meanwhile_is_told(browser: Browser, anywhere: Path) -> None:
    """/health stayed ready."""
    bundle = shutil.copytree(bundled_folder(), anywhere / "bundle")
    with served_process(anywhere, "--model", str(bundle)) as (url, _):
        assert health(url)["state"] == "ready"
        page = opened(browser, url)
        shows_its_examples(page)
        away = bundle.rename(anywhere / "away")
        page.locator("#persons .thumbnail-item").nth(2).click()
        expect(page.get_by_text("is missing").first).to_be_visible(timeout=SLOW)
        page.context.close()
        says(browser, url, "is missing")
        away.rename(bundle)
        assert health(url)["state"] == "ready"


def test_a_damaged_part_is_told_once_it_was_found(browser: Browser, anywhere: Path) -> None:
    """/health stayed ready, and the terminal silent, while no try-on worked."""
    bundle = shutil.copytree(bundled_folder(), anywhere / "bundle")
    weights = bundle / "unet" / "openvino_model.bin"
    content = bytearray(weights.read_bytes())
    content[1000] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(content)
    with served_process(anywhere, "--model", str(bundle)) as (url, _):
        assert health(url)["state"] == "ready"  # parts are verified when they are first used
        visitor = Visitor(url)
        names = ("person/Ada.png", "garment/upper-plain.png", "mask/Ada-upper.png")
        files = [visitor.upload((bundle / "examples" / name).read_bytes(), name) for name in names]
        answer = visitor.call("try_on", *files, "upper", 1, 1, "ddim", 1, "fast", None, 1, False)
        assert "does not have the checksum" in str(answer.message)
        says(browser, url, "unet/openvino_model.bin does not have the checksum")
        content[1000] ^= 1
        weights.write_bytes(content)
        assert health(url)["state"] == "ready"
    assert "does not have the checksum" in (anywhere / "page.log").read_text()


def test_a_full_disk_for_pictures_is_told(browser: Browser, anywhere: Path, small_disk: Path) -> None:
    with served_process(anywhere, GRADIO_TEMP_DIR=str(small_disk)) as (url, _):
        assert health(url)["state"] == "ready"
        page = opened(browser, url)
        shows_its_examples(page)
        with (small_disk / "filling").open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(1000))
            except OSError:
                pass
        says(browser, url, "its owner has to make room there")
        visitor = Visitor(url)
        sent = visitor.http.post("gradio_api/upload", files={"files": ("photo.png", bytes(100_000))})
        assert (sent.status_code, "make room" in sent.text) == (507, True)
        page.locator("#persons .thumbnail-item").nth(3).click()
        expect(page.get_by_text("make room").first).to_be_visible(timeout=SLOW)
        page.context.close()
        (small_disk / "filling").unlink()
        assert health(url)["state"] == "ready"
        page = opened(browser, url)
        shows_its_examples(page)
        page.context.close()


def test_a_place_where_no_folder_can_be_made_is_one_sentence(anywhere: Path) -> None:
    (anywhere / "file").touch()
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(anywhere / "file" / "pictures")}
    command = [sys.executable, str(root / "app.py"), "--port", "7999"]
    run = subprocess.run(command, env=environment, cwd=anywhere, capture_output=True, encoding="utf-8", timeout=120)
    assert run.returncode == 1
    (line,) = (line for line in run.stderr.splitlines() if line.startswith("error: "))
    assert "Not a directory" in line
    assert str(anywhere / "file") in line
    assert "Traceback" not in run.stderr


def test_what_fails_only_when_the_page_is_sent_leaves_a_word(browser: Browser, anywhere: Path) -> None:
    """Whatever a handler cannot see, such as a disk that fills up behind it: the browser itself tells it."""
    with served_process(anywhere) as (url, _):
        page = browser.new_context().new_page()
        fail = {"msg": "process_completed", "output": {"error": None}, "success": False}
        page.route("**/queue/data*", lambda route: _fail_first(route, fail))
        page.goto(url)
        expect(page.locator(".trouble")).to_contain_text("This page could not be opened", timeout=SLOW)
        page.context.close()


def _fail_first(route: Any, message: dict[str, Any]) -> None:
    """Answer as a server whose first event, the load event, fails."""
    answer = route.fetch(timeout=SLOW)
    lines = []
    for line in answer.text().split("\n\n"):
        told = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
        if told.get("msg") == "process_completed":
            line = "data: " + json.dumps({**message, "event_id": told["event_id"]})
        if told.get("msg") != "process_generating":
            lines.append(line)
    route.fulfill(status=200, headers=answer.headers, body="\n\n".join(lines))
