"""Take screenshots of a search in the MLflow UI: python docs/mlflow_screenshot.py LINK [FOLDER]

Start `mlflow ui` in the folder of the search first; LINK is the link that the search printed after `MLflow:`.
Writes `mlflow-*.png` to FOLDER (default docs/): the search with its trials, a comparison of five trials, the
winner's confusion matrix, its registered model, and the model card. Needs Chromium, and Playwright from the
`dev` extra.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from chromium import CHROMIUM_OPTIONS
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

SIZE: ViewportSize = {"width": 1400, "height": 800}
TIMEOUT_MS = 30_000


NUM_COMPARED = 5


def main(link: str, folder: str = str(Path(__file__).parent)) -> None:
    """Write the screenshots for the documentation."""
    address, _, rest = link.partition("/#/experiments/")
    client, experiment = MlflowClient(address), rest.partition("/")[0]
    version = newest_champion(client, experiment)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_OPTIONS)
        pages = {
            "runs": expanded_search(browser, link),
            "comparison": compared_trials(
                browser, address, experiment, trials_of(client, experiment)[:NUM_COMPARED]
            ),
            "confusion": artifact(browser, address, experiment, version.run_id or "", "confusion_matrix.png"),
            "model": registered_model(browser, address, version.name),
            "card": model_card(browser, address, version),
        }
        for name, page in pages.items():
            page.screenshot(path=Path(folder, f"mlflow-{name}.png"))
        browser.close()


def trials_of(client: MlflowClient, experiment: str) -> list[str]:
    """Return the run ids of the trials of an experiment, in order of their start."""
    runs = client.search_runs([experiment], order_by=["attributes.start_time ASC"])
    return [run.info.run_id for run in runs if "mlflow.parentRunId" in run.data.tags]


def newest_champion(client: MlflowClient, experiment: str) -> ModelVersion:
    """Return the newest registered version of a run of an experiment."""
    runs = set(trials_of(client, experiment))
    return next(
        version
        for version in client.search_model_versions(order_by=["creation_timestamp DESC"])
        if version.run_id in runs
    )


def compared_trials(browser: Browser, address: str, experiment: str, runs: Sequence[str]) -> Page:
    """Return the page that compares runs of an experiment."""
    query = f"runs={quote(json.dumps(list(runs)))}&experiments={quote(json.dumps([experiment]))}"
    page = new_page(browser, f"{address}/#/compare-runs?{query}")
    expect(page.get_by_text(f"Comparing {len(runs)} Runs")).to_be_visible(timeout=TIMEOUT_MS)
    expect(page.locator(".js-plotly-plot").first).to_be_visible(timeout=TIMEOUT_MS)
    return page


def artifact(browser: Browser, address: str, experiment: str, run: str, name: str) -> Page:
    """Return the page of an image artifact of a run."""
    page = new_page(browser, f"{address}/#/experiments/{experiment}/runs/{run}/artifacts/{name}")
    expect(page.get_by_text("Path:")).to_be_visible(timeout=TIMEOUT_MS)
    page.wait_for_timeout(1000)  # the image loads after its name
    return page


def registered_model(browser: Browser, address: str, name: str) -> Page:
    """Return the page of a registered model."""
    page = new_page(browser, f"{address}/#/models/{name}")
    expect(page.get_by_text("@ champion").first).to_be_visible(timeout=TIMEOUT_MS)
    return page


def model_card(browser: Browser, address: str, version: ModelVersion) -> Page:
    """Return the page of a model version, whose description is the model card."""
    page = new_page(browser, f"{address}/#/models/{version.name}/versions/{version.version}")
    expect(page.get_by_role("heading", name="Evaluation results")).to_be_visible(timeout=TIMEOUT_MS)
    return page


def new_page(browser: Browser, link: str) -> Page:
    """Return the page of a link, without the assistant that would cover a quarter of it."""
    page = browser.new_page(viewport=SIZE)
    page.set_default_timeout(TIMEOUT_MS)
    page.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
    page.goto(link)
    return page


def expanded_search(browser: Browser, link: str) -> Page:
    """Return the runs page of a search, with the parent run expanded and the side bar collapsed."""
    page = new_page(browser, link)
    page.get_by_label("Hide banner").click()
    page.locator('[data-component-id*="runnamecellrenderer"]').first.click()
    page.get_by_label("Toggle sidebar").click()
    expect(page.get_by_role("link", name="trial-").first).to_be_visible(timeout=TIMEOUT_MS)
    page.wait_for_timeout(1000)  # the side bar collapses with an animation
    return page


if __name__ == "__main__":
    main(*sys.argv[1:])
