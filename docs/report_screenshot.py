"""Take screenshots of a report: python docs/report_screenshot.py runs/exit_position/report.html [FOLDER]

Writes `report-desktop.png` (the top of the page), `report-figures.png` (the figures below it),
`report-phone.png` and `report-print.png` (the first printed pages) to FOLDER (default docs/). Needs Chromium,
`pdftoppm` of poppler, and Playwright from the `dev` extra.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from chromium import CHROMIUM_OPTIONS
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page, ViewportSize, sync_playwright

DESKTOP: ViewportSize = {"width": 1200, "height": 1500}
PHONE: ViewportSize = {"width": 390, "height": 844}
PHONE_PICTURE: FloatRect = {"x": 0, "y": 0, "width": 390, "height": 2600}
NUM_COLORS = 128  # enough, as the page has no photographs
ALL_DRAWN = "html[data-drawn=all]"
NUM_PAGES = 4


def main(report: str, folder: str = str(Path(__file__).parent)) -> None:
    """Write the screenshots for the documentation."""
    url, place = Path(report).resolve().as_uri(), Path(folder)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_OPTIONS)
        page = opened(browser, url, DESKTOP)
        page.screenshot(path=place / "report-desktop.png")
        page.locator("#parallel").scroll_into_view_if_needed()
        page.evaluate("document.getElementById('parallel').scrollIntoView()")
        page.screenshot(path=place / "report-figures.png")
        phone = opened(browser, url, PHONE)
        phone.screenshot(path=place / "report-phone.png", clip=PHONE_PICTURE, full_page=True)
        on_paper(page, place / "report-print.png")
        browser.close()
    for name in ("desktop", "figures", "phone", "print"):
        shrink(place / f"report-{name}.png")


def opened(browser: Browser, url: str, size: ViewportSize) -> Page:
    """Return the page of a report after every figure is drawn."""
    page = browser.new_page(viewport=size)
    page.goto(url)
    page.wait_for_selector(ALL_DRAWN)
    return page


def on_paper(page: Page, picture: Path) -> None:
    """Write the first pages of the printed report, side by side."""
    with tempfile.TemporaryDirectory() as folder:
        pdf = Path(folder, "report.pdf")
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        page.pdf(path=pdf, format="A4", prefer_css_page_size=True)
        subprocess.run(
            ["pdftoppm", "-png", "-r", "60", "-l", str(NUM_PAGES), pdf, Path(folder, "page")], check=True
        )
        pages = [Image.open(path) for path in sorted(Path(folder).glob("page*.png"))]
        width, height = pages[0].size
        sheet = Image.new("RGB", (len(pages) * (width + 8) - 8, height), "#999999")
        for index, found in enumerate(pages):
            sheet.paste(found, (index * (width + 8), 0))
        sheet.save(picture)


def shrink(path: Path) -> None:
    """Reduce the number of colours of an image file."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(NUM_COLORS)
    small.save(path, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
