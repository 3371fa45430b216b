"""The whole page: its content, and its behaviour in a browser, opened from a file without a network."""

import json
import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest
from playwright.sync_api import Browser, Page

from tune_jobs.report.page.page import report_page
from tune_jobs.report.page.sections import sections
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.records import AttemptEnd, EpochRecord, TrialRecord
from tune_jobs.study.snapshot import Launch, Snapshot

RecordMaker = Callable[..., TrialRecord]
SnapshotMaker = Callable[..., Snapshot]
SPACE = """
name: exits
description: Where should the exit be? <script>document.title = "broken"</script>
train: {optim: {epochs: 100}}
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  model.exit_depth: {choices: [fc, small, same], when: {model.exit_stages: [[1], [2]]}}
  loss.temperature: {low: 0.05, high: 0.5, log: true}
  loss.exit_weight: {low: 0.1, high: 4.0, log: true}
forbid: [{model.exit_stages: [1], model.exit_depth: same}]
pruner: {kind: successive_halving, min_epochs: 25, reduction_factor: 2}
"""
NAMES = [
    "history", "curves", "importance", "parallel", "combinations", "slices", "tradeoff", "timeline",
    "seeds", "reproduce",
]  # fmt: skip
ALL_DRAWN = "html[data-drawn=all]"
MAX_OPENING_S = 6.0  # under 3 s on an idle machine; other tests may run at the same time
HOUR_MS = 3_600_000


def make_space(folder: Path, more: str = "") -> SearchSpace:
    (folder / "exits.yaml").write_text(SPACE + more)
    return load_space(folder / "exits.yaml")


def trials(make_record: RecordMaker, count: int, *, epochs: int = 100) -> list[TrialRecord]:
    """Trials of a long search: complete, pruned and failed ones, some preempted."""
    rng, records = random.Random(0), []
    for number in range(count):
        state = rng.choices(["COMPLETE", "PRUNED", "FAIL"], [4, 6, 1])[0]
        stage = rng.choice([1, 2, 3])
        parameters: dict[str, Any] = {
            "model.exit_stages": (stage,),
            "loss.temperature": math.exp(rng.uniform(math.log(0.05), math.log(0.5))),
            "loss.exit_weight": rng.uniform(0.1, 4.0),
        }
        parameters |= {"model.exit_depth": rng.choice(["fc", "small"])} if stage < 3 else {}
        num = {
            "COMPLETE": epochs,
            "PRUNED": epochs // rng.choice([2, 4]),
            "FAIL": rng.randrange(1, epochs),
        }[state]
        reason = {"COMPLETE": None, "PRUNED": "rung", "FAIL": "out of memory"}[state]
        record = make_record(number, state, num_epochs=num, reason=reason, parameters=parameters)
        record = replace(record, message='no memory: "<b>" & more' if state == "FAIL" else None)
        records.append(with_history(record, num, rng, epochs=epochs))
    return records


def with_history(record: TrialRecord, num: int, rng: random.Random, *, epochs: int) -> TrialRecord:
    """The record with rising curves, in two attempts if it was preempted."""
    best = 0.95 - abs(math.log(record.parameters["loss.temperature"] / 0.12)) * 0.05 + rng.gauss(0, 0.005)
    is_preempted = rng.random() < 0.2
    half, found = num // 2, []
    for epoch in range(num + 1):
        value = best - 0.5 * math.exp(-epoch / (0.2 * epochs)) + rng.gauss(0, 0.003)
        metrics = {
            "val/top1": value, "val/knn_top1": value - 0.01, "cost/seconds": 3.0 * epoch,
            "cost/accelerator_hours": 0.001 * epoch, "cost/train_macs": 1e12 * epoch,
            "cost/peak_memory_mb": 900.0,
        }  # fmt: skip
        metrics |= {"train/loss": 7.0 * math.exp(-epoch / epochs)} if epoch else {}
        attempt = 2 if is_preempted and epoch > half else 1
        found.append(EpochRecord(epoch, metrics, record.started_ms + 3000 * (epoch + 1), attempt))
    last = found[-1].metrics["val/top1"]
    final = last if record.value is not None else None
    ends = (
        (AttemptEnd(1, "preempted", "a node was preempted", found[half].timestamp_ms + 5),)
        if is_preempted
        else ()
    )
    starts = (record.started_ms, found[half].timestamp_ms + 10) if is_preempted else (record.started_ms,)
    return replace(
        record,
        epochs=tuple(found),
        value=final,
        values=() if final is None else (final,),
        finished_ms=found[-1].timestamp_ms + 10,
        attempts=len(starts),
        attempts_started_ms=starts,
        attempt_ends=ends,
        workers=(1,) * len(starts),
    )


@pytest.fixture(scope="module")
def large(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, tmp_path_factory: pytest.TempPathFactory
) -> Snapshot:
    """A search of 500 trials of up to 100 epochs in three launches."""
    records = trials(make_record, 500)
    start, end = records[0].started_ms, records[-1].finished_ms or 0
    third = (end - start) // 3
    launches = [
        Launch(
            i + 1,
            start + i * third,
            start + (i + 1) * third - HOUR_MS,
            f"{i}" * 40,
            {"selfcon.version.torch": "2"},
        )
        for i in range(3)
    ]
    publication = {
        "trial": 0,
        "model": "m",
        "version": 1,
        "alias": "champion",
        "why": "the first",
        "metrics": {"test/top1": 0.9},
    }
    return make_snapshot(
        make_space(tmp_path_factory.mktemp("large")),
        records,
        launches=tuple(launches),
        publication=publication,
    )


def embedded(page: bytes) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="report-data">(.*?)</script>', page.decode(), re.DOTALL
    )
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


# --- without a browser -------------------------------------------------------------------------------------


def test_every_section_is_on_the_page_in_order(large: Snapshot) -> None:
    assert [section.name for section in sections(large, {"loss.temperature": 1.0})] == NAMES
    page = report_page(large).decode()
    headings = re.findall(r'<section id="([\w-]+)">', page)
    assert headings == ["answer", "trials", *NAMES]
    assert set(re.findall(r'href="#([\w-]+)"', page)) == set(headings)


def test_plotly_accepts_the_figures(large: Snapshot) -> None:
    figures = embedded(report_page(large))["figures"]
    assert len(figures) >= 12
    for figure in figures.values():
        for view in figure["views"]:
            plotly.graph_objects.Figure({"data": view["data"] or [], "layout": view["layout"]})


def test_text_from_users_is_escaped(large: Snapshot) -> None:
    page = report_page(large).decode()
    assert '<script>document.title = "broken"' not in page
    assert "Where should the exit be? &lt;script&gt;" in page
    assert 'no memory: \\"\\u003cb>\\" & more' in page  # in the JSON, which the script shows as text


def test_the_page_makes_no_network_requests(large: Snapshot) -> None:
    page = report_page(large).decode()
    head = page.partition("<body>")[0]
    assert "default-src 'none'" in head
    outside = page.partition('id="report-data"')[0].replace(head.partition("<style>")[2], "")
    assert not re.findall(r'(?:src|href)="(?!#)', outside)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("state", ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "started"])
def test_small_searches_have_a_page(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, tmp_path: Path, count: int, state: str
) -> None:
    records = [make_record(number, "RUNNING" if state == "started" else state) for number in range(count)]
    records = [replace(record, epochs=()) if state == "started" else record for record in records]
    snapshot = make_snapshot(make_space(tmp_path), records, data=None, is_over=False)
    assert embedded(report_page(snapshot))["trials"].keys() == {str(number) for number in range(count)}


@pytest.mark.parametrize(
    "more",
    [
        "objective: [{metric: val/top1, direction: maximize}, {metric: cost/seconds, direction: minimize}]\n",
        "constraints: [{metric: cost/seconds, max: 1}]\n",
        "confirm: {top_k: 2, seeds: 2}\n",
    ],
)
def test_other_types_of_search_have_a_page(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, tmp_path: Path, more: str
) -> None:
    space = make_space(tmp_path, more)
    records = trials(make_record, 12, epochs=8)
    records = [
        replace(
            r,
            values=(r.value, r.epochs[-1].metrics["cost/seconds"])[: len(space.objectives)]
            if r.value
            else (),
        )
        for r in records
    ]
    records = [
        replace(r, violations={"cost/seconds <= 1": 1.0} if r.number % 2 and "constraints" in more else {})
        for r in records
    ]
    seeds = [replace(r, number=i, confirms=r.number, seed_index=1) for i, r in enumerate(records[:3])]
    snapshot = make_snapshot(space, records, seeds=tuple(seeds if space.confirm else ()))
    figures = embedded(report_page(snapshot))["figures"]
    assert {"history", "curves", "tradeoff", "timeline", "seeds"} <= figures.keys()


# --- in a browser ------------------------------------------------------------------------------------------


def opened(browser: Browser, snapshot: Snapshot, folder: Path, *, width: int = 1200) -> tuple[Page, float]:
    """The page with all figures drawn, and the seconds it took; fails on a request or a console message."""
    path = folder / "report.html"
    path.write_bytes(report_page(snapshot))
    page = browser.new_page(viewport={"width": width, "height": 900})
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: (
            errors.append(request.url)
            if request.url != path.as_uri() and not request.url.startswith(("blob:", "data:"))
            else None
        ),
    )
    start = time.monotonic()
    page.goto(path.as_uri())
    page.wait_for_selector(ALL_DRAWN)
    took_s = time.monotonic() - start
    assert errors == []
    return page, took_s


@pytest.mark.browser
@pytest.mark.parametrize("width", [1200, 390])
def test_the_names_of_all_choices_can_be_read(
    browser: Browser, make_record: RecordMaker, make_snapshot: SnapshotMaker, tmp_path: Path, width: int
) -> None:
    names = ["resnet18", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny", "wrn_28_10"]
    (tmp_path / "names.yaml").write_text(f"space: {{model.backbone: {{choices: [{', '.join(names)}]}}}}\n")
    records = [make_record(number, parameters={"model.backbone": name}) for number, name in enumerate(names)]
    snapshot = make_snapshot(load_space(tmp_path / "names.yaml"), records)
    page, _ = opened(browser, snapshot, tmp_path, width=width)
    figure = page.locator("#slices svg.main-svg").first
    frame = figure.bounding_box()
    assert frame is not None
    for name in names:
        text = page.locator("#slices .xtick text", has_text=name)
        assert text.evaluate("element => getComputedStyle(element).opacity") == "1"  # 0 if it overflows
        label = text.bounding_box()
        assert label is not None
        assert frame["x"] <= label["x"]
        assert label["x"] + label["width"] <= frame["x"] + frame["width"]
        assert label["y"] + label["height"] <= frame["y"] + frame["height"]


@pytest.mark.browser
def test_a_search_of_500_trials_opens_within_seconds(
    browser: Browser, large: Snapshot, tmp_path: Path
) -> None:
    page, took_s = min((opened(browser, large, tmp_path) for _ in range(2)), key=lambda pair: pair[1])
    print(f"500 trials are drawn in {took_s:.2f} s")
    assert took_s < MAX_OPENING_S
    plots = page.locator(".plot")
    assert plots.count() >= 12
    for index in range(plots.count()):
        box = plots.nth(index).locator(".main-svg").first.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 80
        assert plots.nth(index).locator(".trace, .points path, .bars path, .heatmaplayer image").count() > 0
    assert page.title() == "exits: search report"


@pytest.mark.browser
def test_the_page_does_not_scroll_sideways_on_a_phone(
    browser: Browser, large: Snapshot, tmp_path: Path
) -> None:
    page, _ = opened(browser, large, tmp_path, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
def test_a_click_highlights_a_trial_everywhere_and_escape_removes_the_highlight(
    browser: Browser, make_record: RecordMaker, make_snapshot: SnapshotMaker, tmp_path: Path
) -> None:
    snapshot = make_snapshot(make_space(tmp_path), trials(make_record, 40, epochs=8))
    page, _ = opened(browser, snapshot, tmp_path)
    winner = snapshot.winner
    assert winner is not None
    page.locator(f'tr[data-trial="{winner.number}"] td').first.click()
    panel = page.locator("#marked")
    assert panel.locator("h2").text_content() == f"Trial {winner.number}"
    assert "loss.temperature" in (panel.text_content() or "")
    rings = 'path[style*="rgb(213, 94, 0)"]'
    for name in ("history", "curves", "parallel", "combinations", "slice-2", "tradeoff", "seeds"):
        page.locator(f"#figure-{name} {rings}").first.wait_for(state="attached")
    assert page.locator("tr.is-marked").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("tr.is-marked").count() == 0
    assert panel.is_hidden()


@pytest.mark.browser
def test_the_table_can_be_sorted_filtered_and_expanded(
    browser: Browser, make_record: RecordMaker, make_snapshot: SnapshotMaker, tmp_path: Path
) -> None:
    snapshot = make_snapshot(make_space(tmp_path), trials(make_record, 40, epochs=8))
    page, _ = opened(browser, snapshot, tmp_path)
    rows = page.locator("#trial-table tbody tr:visible")
    assert rows.count() == 10
    page.get_by_role("button", name="Show all 40").click()
    assert rows.count() == 40
    page.get_by_role("button", name="temperature", exact=True).click()
    temperatures = [float(text) for text in rows.locator("td:nth-child(8)").all_text_contents()]
    assert temperatures == sorted(temperatures)
    page.get_by_label("State").select_option("PRUNED")
    assert set(rows.locator("td:nth-child(4)").all_text_contents()) == {"pruned"}


@pytest.mark.browser
def test_printed_figures_are_as_wide_as_the_page(browser: Browser, large: Snapshot, tmp_path: Path) -> None:
    page, _ = opened(browser, large, tmp_path)
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 688, "height": 900})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    widths = [
        page.locator(".plot .main-svg").nth(i).evaluate("e => e.getBoundingClientRect().width")
        for i in range(3)
    ]
    assert widths == [680, 680, 680]
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    assert page.locator("nav").is_hidden()


@pytest.mark.browser
def test_a_highlight_keeps_the_zoom_and_another_view_resets_it(
    browser: Browser, make_record: RecordMaker, make_snapshot: SnapshotMaker, tmp_path: Path
) -> None:
    page, _ = opened(
        browser, make_snapshot(make_space(tmp_path), trials(make_record, 40, epochs=8)), tmp_path
    )
    plot = page.locator("#figure-curves")
    plot.scroll_into_view_if_needed()
    area = plot.locator(".nsewdrag").first.bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + 0.5 * area["width"], area["y"] + 40)
    page.mouse.down()
    page.mouse.move(area["x"] + 0.8 * area["width"], area["y"] + 41, steps=4)
    page.mouse.up()
    epochs = plot.evaluate("plot => plot.layout.xaxis.range")
    assert epochs[0] > 3
    page.locator("#trial-table tbody button").first.click()
    assert plot.evaluate("plot => plot.layout.xaxis.range") == epochs
    page.get_by_role("button", name="train/loss").click()
    assert plot.evaluate("plot => plot.layout.xaxis.range") != epochs
