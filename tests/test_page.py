"""The page as a person meets it: the real server, Debian's chromium, the bundled model."""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from gradio_client import Client, handle_file
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from catvton_ov.cli import main
from catvton_ov.marking import MARK
from catvton_ov.options import MaskAdjustment
from catvton_ov.page import words
from catvton_ov.page.editor import editor_value, photo_and_paint
from catvton_ov.page.engine import Engine
from catvton_ov.page.masks import Wish, parse, put_mask
from catvton_ov.presets import default_size
from catvton_ov.sources import bundled_folder
from tests.hub_standin import Stall, files_of, serve
from tests.serving import ROOT, served_page
from tests.visitor import Visitor

EXAMPLES = ROOT / "assets" / "paper_doll" / "examples"
SLOW = 120_000  # milliseconds; these machines are noisy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the page keeps its cache."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with served_page(folder) as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened, its first example in place; fails when it asks anybody but the server for anything."""
    context = browser.new_context(viewport={"width": 1280, "height": 1100})
    page = context.new_page()
    page.set_default_timeout(SLOW)
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if _foreign(request.url, url) else None)
    page.goto(url)
    expect(page.locator("#garment img")).to_be_visible(timeout=SLOW)
    expect(page.locator("#persons .thumbnail-item")).to_have_count(len(list((EXAMPLES / "person").iterdir())))
    settle(page)
    yield page
    context.close()
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
    expect(page.locator("#status")).to_contain_text("Stopped", timeout=SLOW)
    set_steps(page, 2)
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)


def test_a_speed_brings_its_steps_and_the_page_says_how_long_a_picture_takes(page: Page) -> None:
    expect(page.locator("#estimate")).to_contain_text(re.compile("The first picture shows|A picture takes"))
    set_steps(page, 3)
    quality = page.get_by_label("range slider for Quality")
    for speed, steps in (("Reference", "50"), ("Fast", "8")):
        page.locator("#speed").get_by_label(speed).click()
        expect(quality).to_have_value(steps)
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text(
        re.compile(r"Step \d of 8, (under|about) \d+ (s|min) left"), timeout=SLOW
    )
    expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)
    expect(page.locator("#estimate")).to_contain_text(
        re.compile(r"A picture takes (under|about) \d+ s on this machine")
    )


def test_a_photo_without_a_person_gets_a_sentence_that_says_what_to_do(page: Page, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((300, 400)).convert("RGB").save(tmp_path / "own.png")
    page.locator("#person").get_by_label("Clear canvas").click()
    page.set_input_files("#person input[type=file]", tmp_path / "own.png")
    settle(page)
    page.locator("#try-on").click()
    expect(page.get_by_text("No person was found whose clothes could be masked").last).to_be_visible(timeout=SLOW)


def test_the_page_fits_a_phone(browser: Browser, url: str) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(url)
    expect(page.locator("#garment img")).to_be_visible(timeout=SLOW)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_it_says_that_the_bundled_model_is_for_drawn_figures_and_how_to_get_the_real_one(page: Page) -> None:
    expect(page.locator(".notice")).to_contain_text("drawn figures, not for photos")
    expect(page.locator(".notice")).to_contain_text("python app.py --model")


@pytest.mark.slow
def test_visitors_choose_among_the_models_and_devices_that_the_environment_names(
    browser: Browser, golden_bundle: Path, tmp_path: Path
) -> None:
    with served_page(
        tmp_path, CATVTON_OV_MODEL=f"{golden_bundle} paper_doll", CATVTON_OV_DEVICE="AUTO", CATVTON_OV_AUTH="ada:secret"
    ) as url:
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(SLOW)
        page.goto(url)
        page.get_by_label("username").fill("ada")
        page.get_by_label("password").fill("secret")
        page.get_by_role("button", name="Login").click()
        expect(page.locator(".notice")).to_contain_text("non-commercial", timeout=SLOW)
        page.get_by_text("Advanced settings").click()
        page.wait_for_timeout(1000)
        expect(page.get_by_label("Device")).to_have_value("AUTO")
        page.get_by_label("Model", exact=True).click()
        page.get_by_role("option", name="paper_doll").click()
        expect(page.locator(".notice")).to_contain_text("drawn figures", timeout=SLOW)
        expect(page.locator("#persons .thumbnail-item").first).to_be_visible(timeout=SLOW)
        settle(page)
        set_steps(page, 2)
        page.locator("#try-on").click()
        expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)
        page.close()


def test_of_a_models_sizes_the_one_for_this_machine_is_chosen_and_another_may_be(
    browser: Browser, tmp_path: Path
) -> None:
    bundle = shutil.copytree(bundled_folder(), tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    sizes = ((192, 256), (96, 128))
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"sizes": sizes}))
    usual = words.size(default_size(sizes, "CPU"))
    other = next(words.size(size) for size in sizes if words.size(size) != usual)
    with served_page(tmp_path, "--model", str(bundle)) as url:
        assert Client(url, verbose=False).predict(api_name="/presets")["default_size"] == usual
        page = browser.new_page(viewport={"width": 1280, "height": 1400})
        page.set_default_timeout(SLOW)
        page.goto(url)
        settle(page)
        expect(page.locator("#size input")).to_have_value(usual)
        set_steps(page, 2)
        page.locator("#try-on").click()
        expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)
        assert _settings(page, tmp_path)["options"]["size"] == [int(side) for side in usual.split("x")]
        page.locator("#size input").click()
        page.get_by_role("option", name=other).click()
        expect(page.locator("#estimate")).to_contain_text("The first picture shows")  # a size not tried yet
        page.locator("#try-on").click()
        expect(page.locator("#estimate")).to_contain_text("A picture takes", timeout=SLOW)
        assert _settings(page, tmp_path)["options"]["size"] == [int(side) for side in other.split("x")]
        link = page.locator("#link a").get_attribute("href")
        page.goto(f"{url}{link}")
        expect(page.locator("#size input")).to_have_value(other)
        page.close()


def _settings(page: Page, folder: Path) -> Any:
    with page.expect_download() as download:
        page.locator("#settings").click()
    download.value.save_as(folder / "settings.json")
    return json.loads((folder / "settings.json").read_text())


def test_a_mask_found_grown_and_erased_in_a_corner_leaves_that_corner_alone(page: Page) -> None:
    page.locator("#persons .thumbnail-item").nth(2).click()
    settle(page)
    page.get_by_label("Upper body").click()
    settle(page)
    page.locator("#auto-mask").click()
    expect(page.locator("#status")).to_contain_text("will be repainted", timeout=SLOW)
    settle(page)
    page.get_by_text("Adjust the mask").click()
    page.wait_for_timeout(1000)
    grow = page.get_by_label("number input for Grow or shrink")
    grow.fill("5")
    grow.press("Tab")
    page.wait_for_timeout(2000)
    settle(page)

    # What the same steps give in Python; the corner is where the mask begins on the left, at its middle height.
    path = sorted((EXAMPLES / "person").iterdir())[2]
    photo = Image.open(path).convert("RGB")
    engine = Engine(["paper_doll"])
    parsed = parse(photo, engine.parser("paper_doll", "CPU"), None)
    value, _ = put_mask(editor_value(photo, None), parsed, Wish("upper", MaskAdjustment(grow=5), False))
    mask = photo_and_paint(value)[1]
    row = int(np.nonzero(mask.any(axis=1))[0].mean())
    column = int(np.nonzero(mask[row])[0][0])

    page.locator("#person").get_by_label("Erase", exact=True).click()
    box = page.locator("#person canvas").first.bounding_box()
    assert box is not None
    zoom = page.locator("#person").get_by_text(re.compile(r"^\s*\d+%\s*$")).first.inner_text()
    scale = int(zoom.strip().rstrip("%")) / 100
    left = box["x"] + (box["width"] - scale * photo.width) / 2
    top = box["y"] + (box["height"] - scale * photo.height) / 2
    page.mouse.move(left + scale * (column - 10), top + scale * row)
    page.mouse.down()
    page.mouse.move(left + scale * (column + 30), top + scale * row, steps=8)
    page.mouse.up()
    settle(page)
    set_steps(page, 2)
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)

    changed = np.abs(fetched(page, "#result img") - read(path)).max(axis=2) > 0
    corner = np.s_[row - 4 : row + 5, column : column + 12]
    assert mask[corner].mean() > 0.9
    assert not changed[corner].any(), "the erased corner was repainted"
    assert changed[cv2.erode(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0].mean() > 0.8
    beyond = cv2.dilate(mask.astype(np.uint8), np.ones((41, 41), np.uint8)) == 0
    assert not changed[beyond].any()

    page.get_by_text("What was recognised").click()
    shown = fetched(page, "#labels img")
    assert shown.shape[:2] == (photo.height, 3 * photo.width)
    page.locator("#auto-mask").click()  # of the same photo
    settle(page)
    expect(page.locator("#labels img")).to_have_count(1)
    page.locator("#persons .thumbnail-item").nth(3).click()  # of whom nothing is recognised yet
    expect(page.locator("#labels img")).to_have_count(0)


def test_a_model_on_its_way_shows_how_far_it_is_and_then_serves(browser: Browser, tmp_path: Path) -> None:
    files = files_of(ROOT / "assets" / "paper_doll")
    commit = "0123456789abcdef0123456789abcdef01234567"
    with serve({"some/model": (commit, files)}) as hub:
        stall = hub.deliver["unet/openvino_model.bin"] = Stall()
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
        settings |= {"HF_HUB_DISABLE_XET": "1", "CATVTON_OV_MODEL": f"some/model@{commit}"}
        with served_page(tmp_path, **settings) as url:
            page = browser.new_page()
            page.set_default_timeout(SLOW)
            page.goto(url)
            assert stall.reached.wait(60)
            expect(page.locator(".notice")).to_contain_text(
                re.compile(r"Fetching the model: \d+ of \d+ MB, (about \d+ min|less than a minute) left")
            )
            stall.go.set()
            expect(page.locator(".notice")).to_contain_text("drawn figures", timeout=SLOW)
            expect(page.locator("#persons .thumbnail-item").first).to_be_visible()
            page.close()


def choose_seed(page: Page, seed: int) -> None:
    page.get_by_label("A new seed every time").uncheck()
    field = page.get_by_label("Seed", exact=True)
    field.fill(str(seed))
    field.press("Tab")
    page.wait_for_timeout(500)


def test_of_two_variants_one_is_picked_and_its_settings_give_the_same_picture_from_the_command_line(
    page: Page, tmp_path: Path
) -> None:
    set_steps(page, 2)
    choose_seed(page, 41)
    page.locator("#count").get_by_label("2").check()
    page.locator("#try-on").press("Enter")
    expect(page.locator("#status")).to_contain_text("choose one", timeout=SLOW)
    expect(page.locator("#variants .thumbnail-item")).to_have_count(2)
    second = fetched(page, "#result img")
    page.locator("#variants .thumbnail-item").first.click()
    expect(page.locator("#link a")).to_have_attribute("href", re.compile("seed=41"))
    page.wait_for_timeout(1500)
    picked = fetched(page, "#result img")
    assert not np.array_equal(picked, second)
    expect(page.locator("#status")).to_contain_text("Variant 1 of 2 · seed 41")
    page.get_by_role("tab", name="All together").click()
    expect(page.locator("#together .thumbnail-item")).to_have_count(4)
    page.wait_for_timeout(500)
    last = page.locator("#together .thumbnail-item img").nth(3).get_attribute("src")
    with Image.open(io.BytesIO(page.request.get(last or "").body())) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), picked)

    with page.expect_download() as download:
        page.locator("#settings").click()
    download.value.save_as(tmp_path / "settings.json")
    name = sorted((EXAMPLES / "person").iterdir())[0].stem
    files = {"person": f"person/{name}.png", "garment": "garment/upper-blocks.png", "mask": f"mask/{name}-upper.png"}
    pictures = [word for kind, file in files.items() for word in (f"--{kind}", str(EXAMPLES / file))]
    settings = ["--settings", str(tmp_path / "settings.json")]
    assert main(["try-on", *pictures, *settings, "--out", str(tmp_path / "again.png")]) == 0
    assert np.array_equal(read(tmp_path / "again.png"), picked)
    with Image.open(tmp_path / "again.png") as again:
        source = page.locator("#result img").get_attribute("src")
        with Image.open(io.BytesIO(page.request.get(source or "").body())) as answer:
            assert again.info == answer.info
            xmp = again.info.pop("xmp")  # as Pillow reads it from the mark
            assert again.info == MARK  # made by AI, and nothing else
            assert b"compositeWithTrainedAlgorithmicMedia" in xmp


def test_a_reload_brings_the_results_back_in_this_tab_alone_while_their_files_are_there(
    page: Page, browser: Browser, url: str, folder: Path
) -> None:
    set_steps(page, 2)
    choose_seed(page, 41)
    page.locator("#count").get_by_label("2").check()
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("choose one", timeout=SLOW)
    page.locator("#variants .thumbnail-item").first.click()
    expect(page.locator("#link a")).to_have_attribute("href", re.compile("seed=41"))
    page.wait_for_timeout(1500)
    picked = fetched(page, "#result img")

    page.reload()
    expect(page.locator("#status")).to_contain_text("Your last result", timeout=SLOW)
    expect(page.locator("#link a")).to_have_attribute("href", re.compile("seed=41"))
    assert np.array_equal(fetched(page, "#result img"), picked)
    with page.expect_download() as download:
        page.locator("#settings").click()
    assert '"seed": 41' in download.value.path().read_text()
    page.locator("#variants .thumbnail-item").nth(1).click()
    expect(page.locator("#link a")).to_have_attribute("href", re.compile("seed=42"))
    page.get_by_role("tab", name="Before and after").click()
    expect(page.locator("#slider img")).to_have_count(2)
    page.get_by_text("Advanced settings").click()
    expect(page.get_by_label("number input for Quality")).to_have_value("2")

    for context in (page.context, browser.new_context()):
        other = context.new_page()  # another tab, another visitor
        other.goto(url)
        expect(other.locator("#estimate")).to_contain_text("picture", timeout=SLOW)
        assert other.locator("#result img").count() == 0
        other.close()

    for path in (folder / "cache").rglob("*.*"):  # as the sweep does when their time is over
        path.unlink()
    page.reload()
    expect(page.locator("#estimate")).to_contain_text("picture", timeout=SLOW)  # filled when all else is
    settle(page)
    assert page.locator("#result img").count() == 0
    expect(page.locator(".toast-body.error")).to_have_count(0)
    set_steps(page, 1)
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)


def test_a_cleared_canvas_is_no_photo_and_the_status_says_so_in_words(page: Page) -> None:
    page.locator("#person").get_by_label("Clear canvas").click()
    page.wait_for_timeout(1000)
    page.locator("#try-on").click()
    expect(page.get_by_text("Add a photo of the person first")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Stopped")
    expect(page.locator("#status .error")).to_have_count(1)
    expect(page.locator("#status .error")).to_be_hidden()


def test_a_finger_scrolls_over_the_photo_until_the_brush_is_chosen(browser: Browser, url: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(SLOW)
    page.goto(url)
    expect(page.locator("#garment img")).to_be_visible()
    expect(page.locator("#person canvas").first).to_have_css("pointer-events", "none")
    page.locator("#person").get_by_label("Brush", exact=True).first.tap()
    expect(page.locator("#person canvas").first).to_have_css("pointer-events", "auto")
    context.close()


def test_the_photo_is_not_sent_again_with_every_step(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if "/upload" in request.url else None)
    set_steps(page, 40)
    page.locator("#count").get_by_label("2").check()
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("choose one", timeout=SLOW)
    settle(page)
    assert len(sent) < 40, "three of them are one state of the editor"


@pytest.mark.slow
def test_a_chosen_seed_gives_the_same_file_again_the_endpoints_own_and_the_first_of_four(page: Page, url: str) -> None:
    set_steps(page, 60)
    choose_seed(page, 9)
    files, previews = [], set()
    for _ in range(2):
        page.locator("#try-on").click()
        expect(page.locator("#status")).to_contain_text("Step", timeout=SLOW)
        while "Done in" not in page.locator("#status").inner_text():
            previews |= {image.get_attribute("src") for image in page.locator("#result img").all()}
        with page.expect_download() as download:
            page.locator("#result").get_by_label("Download").click()
        files.append(download.value.path().read_bytes())
    assert len(previews) > 4, "the previews did not change"
    assert files[0] == files[1]

    name = sorted((EXAMPLES / "person").iterdir())[0].stem
    given = {"person": f"person/{name}.png", "garment": "garment/upper-blocks.png", "mask": f"mask/{name}-upper.png"}
    pictures = {kind: handle_file(str(EXAMPLES / file)) for kind, file in given.items()}
    image, _, _ = Client(url, verbose=False).predict(
        **pictures, category="upper", preset="fast", steps=60, seed=9, api_name="/try_on"
    )
    with Image.open(io.BytesIO(files[0])) as picture:
        assert picture.format == "PNG"
        assert np.array_equal(np.asarray(picture.convert("RGB")), read(Path(image)))

    set_steps(page, 60)
    page.locator("#count").get_by_label("4").check()
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("choose one", timeout=SLOW)
    expect(page.locator("#variants .thumbnail-item")).to_have_count(4)
    page.locator("#variants .thumbnail-item").first.click()
    expect(page.locator("#link a")).to_have_attribute("href", re.compile("seed=9"))
    page.wait_for_timeout(1500)
    assert np.array_equal(fetched(page, "#result img"), read(Path(image)))


@pytest.mark.slow
def test_a_reload_in_the_middle_keeps_what_is_done_and_frees_the_machine_for_the_next_visitor(
    page: Page, url: str
) -> None:
    visitor = Visitor(url)
    pictures = ("person/Ada.png", "garment/upper-plain.png", "mask/Ada-upper.png")
    files = [visitor.upload((EXAMPLES / name).read_bytes(), name) for name in pictures]
    set_steps(page, 50)
    page.locator("#count").get_by_label("4").check()
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text(re.compile(r"Variant 2 of 4: step"), timeout=SLOW)
    page.reload()
    begun = time.monotonic()
    assert visitor.call("try_on", *files, "upper", 10, 2.5, "ddim", 1, "reference", None, 1, False).worked
    first = time.monotonic() - begun
    assert visitor.call("try_on", *files, "upper", 10, 2.5, "ddim", 1, "reference", None, 1, False).worked
    assert first < 6 * (time.monotonic() - begun - first), "nearly 150 steps were waited for"
    expect(page.locator("#status")).to_contain_text("Your last result", timeout=SLOW)
    assert fetched(page, "#result img").shape == (512, 384, 3)


@pytest.mark.slow
def test_a_link_brings_its_settings_to_a_small_dark_phone_and_every_picture_has_words(
    browser: Browser, url: str
) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 780}, color_scheme="dark")
    page.set_default_timeout(SLOW)
    page.goto(f"{url}?category=lower&steps=9&seed=5&grow=4&unknown=1")
    expect(page.locator("#garment img")).to_be_visible()
    expect(page.get_by_label("Lower body")).to_be_checked()
    page.get_by_text("Advanced settings").click()
    expect(page.get_by_label("number input for Quality")).to_have_value("9")
    expect(page.get_by_label("Seed", exact=True)).to_have_value("5")
    expect(page.get_by_label("A new seed every time")).not_to_be_checked()
    settle(page)
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)
    photo = read(sorted((EXAMPLES / "person").iterdir())[0])
    rows = np.nonzero((fetched(page, "#result img") != photo).any(axis=(1, 2)))[0]
    assert rows.min() > 0.4 * photo.shape[0], "the mask of the page's first garment was not taken back"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    light = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).map(Number)"
    assert max(page.evaluate(light)) < 60
    shown = page.locator("#stage img")
    assert [image.get_attribute("src") for image in shown.all() if not image.get_attribute("alt")] == []
    page.get_by_role("button", name="Got it").click()
    expect(page.locator(".welcome")).to_be_hidden()
    page.goto(f"{url}?steps=many")
    expect(page.get_by_text("The settings in this link were not used")).to_be_visible()
    expect(page.locator(".welcome")).to_be_hidden()
    page.close()


@pytest.mark.slow
def test_a_very_large_photo_is_shrunk_before_it_is_sent_and_the_page_says_so(page: Page, tmp_path: Path) -> None:
    with Image.open(sorted((EXAMPLES / "person").iterdir())[0]) as figure:
        turned = Image.Exif()
        turned[0x0112] = 6
        large = figure.convert("RGB").resize((2304, 3072)).rotate(90, expand=True)
        large.save(tmp_path / "large.jpg", exif=turned)
    page.locator("#person").get_by_label("Clear canvas").click()
    page.set_input_files("#person input[type=file]", tmp_path / "large.jpg")
    expect(page.locator("#photo-note")).to_contain_text("2304 × 3072 pixels; it is used with 1536 × 2048")
    settle(page)
    set_steps(page, 1)
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)
    assert fetched(page, "#result img").shape == (2048, 1536, 3)


@pytest.mark.slow
def test_two_visitors_at_once_get_their_own_pictures_and_the_second_sees_its_place(browser: Browser, url: str) -> None:
    pages = []
    for number in (1, 3):
        page = browser.new_context(viewport={"width": 1280, "height": 1100}).new_page()
        page.set_default_timeout(SLOW)
        page.goto(url)
        expect(page.locator("#persons .thumbnail-item").first).to_be_visible()
        page.locator("#persons .thumbnail-item").nth(number).click()
        settle(page)
        set_steps(page, 40)
        pages.append(page)
    for page in pages:
        page.locator("#try-on").click()
    expect(pages[1].locator("#status")).to_contain_text(re.compile(r"queue: \d/\d"))
    for page, number in zip(pages, (1, 3), strict=True):
        expect(page.locator("#status")).to_contain_text("Done in", timeout=SLOW)
        path = sorted((EXAMPLES / "person").iterdir())[number]
        mask = read(EXAMPLES / "mask" / f"{path.stem}-upper.png")[..., 0] >= 128
        beyond = cv2.dilate(mask.astype(np.uint8), np.ones((41, 41), np.uint8)) == 0
        assert np.array_equal(fetched(page, "#result img")[beyond], read(path)[beyond])
        page.context.close()
