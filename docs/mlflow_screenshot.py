"""Photograph a search in the MLflow UI: python docs/mlflow_screenshot.py LINK OUTPUT.png

Start `mlflow ui` in the folder of the search first; LINK is what the search printed behind `MLflow:`. Needs
Chromium, and Playwright from the `dev` extra.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

CHROMIUM_OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
SIZE: ViewportSize = {"width": 1400, "height": 800}
TIMEOUT_MS = 30_000


def main() -> None:
    """Write the picture that the README shows."""
    link, output = sys.argv[1:]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_OPTIONS)
        unfolded_search(browser, link).screenshot(path=Path(output))
        browser.close()


def unfolded_search(browser: Browser, link: str) -> Page:
    """Return the runs page of a search: its parent run unfolded into its trials, the side bar folded."""
    page = browser.new_page(viewport=SIZE)
    page.set_default_timeout(TIMEOUT_MS)
    # The assistant opens by itself on a first visit and covers a quarter of the table.
    page.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    page.goto(link)
    page.get_by_label("Hide banner").click()
    page.locator('[data-component-id*="runnamecellrenderer"]').first.click()
    page.get_by_label("Toggle sidebar").click()
    expect(page.get_by_role("link", name="trial-").first).to_be_visible(timeout=TIMEOUT_MS)
    page.wait_for_timeout(1000)  # the side bar folds with an animation
    return page


if __name__ == "__main__":
    main()
