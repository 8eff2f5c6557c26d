"""The page as a person meets it: the real server, Debian's chromium, the bundled model."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.serving import ROOT, served_page

CHROMIUM = shutil.which("chromium")
EXAMPLES = ROOT / "assets" / "paper_doll" / "examples"
SLOW = 120_000  # milliseconds; these machines are noisy

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="NOT RUN: no chromium here (apt-get install chromium)")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served_page(tmp_path_factory.mktemp("page")) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    quiet = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-sync", *quiet])
        yield instance
        instance.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened, its first example in place; fails when it asks anybody but the server for anything."""
    page = browser.new_page(viewport={"width": 1280, "height": 1100})
    page.set_default_timeout(SLOW)
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if _foreign(request.url, url) else None)
    page.goto(url)
    expect(page.locator("#garment img")).to_be_visible(timeout=SLOW)
    expect(page.locator("#persons .thumbnail-item")).to_have_count(len(list((EXAMPLES / "person").iterdir())))
    settle(page)
    yield page
    page.close()
    assert elsewhere == []


def settle(page: Page) -> None:
    """Wait until the editor, which draws on its canvas without telling anybody, has looked the same for two seconds."""
    seen: list[bytes] = []
    for _ in range(60):
        seen.append(page.locator("#person").screenshot())
        if len(seen) > 4 and len(set(seen[-5:])) == 1:
            return
        page.wait_for_timeout(500)
    raise AssertionError("the editor never came to rest")


def _foreign(address: str, url: str) -> bool:
    return not address.startswith((url, "data:", "blob:"))


def fetched(page: Page, selector: str) -> npt.NDArray[np.int16]:
    """The picture file behind an <img>, as it would be downloaded."""
    source = page.locator(selector).first.get_attribute("src")
    assert source is not None
    body = page.request.get(source).body()
    with Image.open(io.BytesIO(body)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(np.int16)


def read(path: Path) -> npt.NDArray[np.int16]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int16)


def set_steps(page: Page, steps: int) -> None:
    field = page.get_by_label("number input for Quality")
    if not field.is_visible():
        page.get_by_text("Advanced settings").click()
        page.wait_for_timeout(1000)  # what is inside is made anew while it unfolds
    field.fill(str(steps))
    field.press("Tab")
    expect(page.get_by_label("range slider for Quality")).to_have_value(str(steps))
    page.wait_for_timeout(500)  # the page hands a changed value on a moment later


def paint_stroke(page: Page) -> None:
    """A stroke on the floor beside the feet of the figure, below every example mask."""
    page.locator("#person").get_by_label("Brush", exact=True).click()
    box = page.locator("#person canvas").first.bounding_box()
    assert box is not None
    x, y = box["x"] + 0.3 * box["width"], box["y"] + 0.86 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 20, y + 4, steps=4)
    page.mouse.up()
    settle(page)


def test_an_example_with_a_painted_stroke_gives_a_result_that_changes_only_what_was_painted(page: Page) -> None:
    person = sorted((EXAMPLES / "person").iterdir())[2]
    page.locator("#persons .thumbnail-item").nth(2).click()
    settle(page)
    page.get_by_label("Upper body").click()
    settle(page)
    paint_stroke(page)
    set_steps(page, 4)
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)
    expect(page.locator("#status")).to_contain_text("seed")

    before, after = read(person), fetched(page, "#result img")
    assert after.shape == before.shape
    mask = (read(EXAMPLES / "mask" / f"{person.stem}-upper.png")[..., 0] >= 128).astype(np.uint8)
    changed = np.abs(after - before).max(axis=2)
    inside = cv2.erode(mask, np.ones((9, 9), np.uint8)) > 0
    beyond = cv2.dilate(mask, np.ones((41, 41), np.uint8)) == 0  # further out than the soft edge reaches
    stroke = beyond & (changed > 0)
    rows, columns = np.nonzero(stroke)
    assert changed[inside].mean() > 3, "the clothes were not repainted"
    assert 50 < len(rows) < 0.05 * stroke.size, "the stroke was not repainted, or more than the stroke"
    assert np.ptp(rows) < 100
    assert np.ptp(columns) < 130
    page.get_by_role("tab", name="Before and after").click()
    expect(page.locator("#slider img").first).to_be_visible()


def test_cancel_stops_the_work_and_the_next_run_is_served(page: Page) -> None:
    set_steps(page, 100)
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text(re.compile(r"Step \d+ of 100"), timeout=SLOW)
    page.locator("#cancel").click()
    expect(page.locator("#status")).to_contain_text("Cancelled", timeout=SLOW)
    set_steps(page, 2)
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)


def test_a_photo_without_a_painted_mask_gets_a_sentence_that_says_what_to_do(page: Page, tmp_path: Path) -> None:
    Image.new("RGB", (300, 400), "gray").save(tmp_path / "own.png")
    page.locator("#person").get_by_label("Clear canvas").click()
    page.set_input_files("#person input[type=file]", tmp_path / "own.png")
    settle(page)
    page.locator("#try-on").click()
    expect(page.get_by_text("Paint over the clothes that should change").last).to_be_visible(timeout=SLOW)


def test_the_page_fits_a_phone(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(url)
    expect(page.locator("#garment img")).to_be_visible(timeout=SLOW)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_it_says_that_the_bundled_model_is_for_drawn_figures_and_how_to_get_the_real_one(page: Page) -> None:
    expect(page.locator(".notice")).to_contain_text("drawn figures, not for photos")
    expect(page.locator(".notice")).to_contain_text("python app.py --model")
