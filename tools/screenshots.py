"""Screenshots of the page with a result on it, for the README: `python -m tools.screenshots`.

Needs Debian's chromium and requirements-dev.txt; writes assets/page.png, page-phone.png and page-result.png.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from catvton_ov.page.examples import Examples
from catvton_ov.page.handlers import CATEGORIES
from catvton_ov.sources import open_bundle
from tests.serving import ROOT, served_page

PERSON, GARMENT = "Mia", "upper-stripes"
PHONE = (360, 780)
ASSETS = ROOT / "assets"
PATIENCE = 120_000  # milliseconds


def try_on(page: Page, url: str) -> None:
    """Pick a person and a garment, and wait for the result."""
    examples = Examples(open_bundle("paper_doll"), CATEGORIES)
    page.goto(url)
    for strip, pictures, name in (("#garments", examples.garments, GARMENT), ("#persons", examples.persons, PERSON)):
        index = [picture.stem for picture in pictures].index(name)
        page.locator(f"{strip} .thumbnail-item").nth(index).click()
        page.wait_for_timeout(5000)  # the editor draws without telling anybody
    page.get_by_role("button", name="Got it").click()
    page.locator("#try-on").click()
    expect(page.locator("#status")).to_contain_text("Done in", timeout=PATIENCE)
    page.wait_for_timeout(1500)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, served_page(Path(folder)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        desktop = browser.new_page(viewport={"width": 1280, "height": 1060})
        try_on(desktop, url)
        desktop.screenshot(path=ASSETS / "page.png", full_page=True)
        desktop.get_by_role("tab", name="All together").click()
        desktop.mouse.move(0, 0)
        desktop.wait_for_timeout(2000)
        desktop.locator("#result-column").screenshot(path=ASSETS / "page-result.png")
        phone = browser.new_page(viewport={"width": PHONE[0], "height": PHONE[1]}, color_scheme="dark")
        try_on(phone, url)
        phone.evaluate("document.querySelector('#result-column').scrollIntoView()")
        phone.wait_for_timeout(1000)
        phone.screenshot(path=ASSETS / "page-phone.png")
        browser.close()


if __name__ == "__main__":
    main()
