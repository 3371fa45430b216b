from collections.abc import Callable
from pathlib import Path

import mlflow_screenshot
import pytest
from playwright.sync_api import Browser, Page

from tune_jobs.study.records import TrialRecord
from tune_jobs.tracking.tracker import Tracker

RecordMaker = Callable[..., TrialRecord]


def row(page: Page, number: int, columns: list[str]) -> list[str]:
    """Return the cells of a table row; the name of a run comes after the code of its colour."""
    cells = [page.locator(f'[role=row][row-index="{number}"] [col-id="{column}"]') for column in columns]
    return [cell.inner_text().split()[-1] for cell in cells]


@pytest.mark.browser
def test_an_expanded_search_shows_its_trials(
    browser: Browser, mlflow_server: str, make_record: RecordMaker, tmp_path: Path
) -> None:
    records = [
        make_record(0, parameters={"loss.temperature": 0.25, "model.exit_stages": (1,)}),
        make_record(1, "PRUNED", num_epochs=2, reason="rung", parameters={"loss.temperature": 0.1}),
        make_record(2, "FAIL", num_epochs=1, reason="non-finite", parameters={"loss.temperature": 0.3}),
        make_record(3, "RUNNING", num_epochs=2, parameters={"loss.temperature": 0.2}),
    ]
    tracker = Tracker(
        uri=mlflow_server,
        experiment="unfolding",
        search="exit_position",
        description="After which stage should the sub-network leave the backbone?",
        tags={},
        metric="val/top1",
    )
    tracker.sync(records, remember_run=lambda *_: None)
    page = mlflow_screenshot.expanded_search(browser, tracker.where)
    columns = ["attributes.`Run Name`", "metrics.`val/top1`", "params.`loss.temperature`"]
    columns += ["params.`model.exit_stages`", "tags.`selfcon.state`", "tags.`selfcon.reason`"]
    assert [row(page, number, columns) for number in range(5)] == [
        ["exit_position", "-", "-", "-", "-", "-"],
        ["trial-0003", "0.917", "0.2", "[2]", "RUNNING", "-"],
        ["trial-0002", "0.908", "0.3", "[2]", "FAIL", "non-finite"],
        ["trial-0001", "0.919", "0.1", "[2]", "PRUNED", "rung"],
        ["trial-0000", "0.93", "0.25", "[1]", "COMPLETE", "-"],
    ]
    picture = tmp_path / "mlflow-runs.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 20_000
