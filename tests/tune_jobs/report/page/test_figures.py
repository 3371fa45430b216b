"""Contents of the page's figures and tables, without a browser."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.report.page import spans
from tune_jobs.report.page.axes import Axis, axis_of, is_choice, values_of
from tune_jobs.report.page.combinations import UNUSED, cell, combinations, compared, why_empty
from tune_jobs.report.page.curves import MAX_POINTS, curves, joined, shown_metrics, thinned
from tune_jobs.report.page.facts import facts, saving
from tune_jobs.report.page.history import best_so_far, history
from tune_jobs.report.page.parallel import parallel, polyline
from tune_jobs.report.page.recipe import recipe, space_text
from tune_jobs.report.page.slices import log_ticks, place, slices
from tune_jobs.report.page.spans import Span, attempt_spans, idle, launch_spans, overlap, united
from tune_jobs.report.page.timeline import timeline
from tune_jobs.report.page.tradeoff import Pair, front, pairs, tradeoff
from tune_jobs.report.page.trial_rows import details
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.space.settings import Objective
from tune_jobs.study.records import AttemptEnd, TrialRecord
from tune_jobs.study.snapshot import Launch, Snapshot
from tune_jobs.wording import share

SPACE = """
name: figures
description: "Where should the exit be: 'early' or \\"late\\"?"
train: {optim: {epochs: 8}, data: {dataset: digits}}
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  model.exit_depth: {choices: [fc, same], when: {model.exit_stages: [[1], [2]]}}
  loss.temperature: {low: 0.05, high: 0.5, log: true}
  optim.momentum: {low: 0.8, high: 0.9}
forbid: [{model.exit_stages: [1], model.exit_depth: same}]
pruner: {kind: successive_halving, min_epochs: 2, reduction_factor: 2}
search: {num_trials: 8, sampler: random, seed: 3}
"""


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    """Return the space."""
    (tmp_path / "figures.yaml").write_text(SPACE)
    return load_space(tmp_path / "figures.yaml")


@pytest.fixture
def searched(
    space: SearchSpace, make_record: Callable[..., TrialRecord], make_snapshot: Callable[..., Snapshot]
) -> Snapshot:
    """Return a search of five trials: two complete, one pruned, one failed, one running."""
    numbers = {"loss.temperature": 0.1, "optim.momentum": 0.9}
    after_two = {"model.exit_stages": (2,), "model.exit_depth": "fc", **numbers}
    after_three = {"model.exit_stages": (3,), **numbers}
    nan = "train/loss is nan in epoch 2"
    return make_snapshot(
        space,
        [
            make_record(0, num_epochs=8, parameters=after_two),
            make_record(1, "PRUNED", num_epochs=4, reason="rung", parameters=after_three),
            make_record(
                2,
                "FAIL",
                num_epochs=1,
                reason="non-finite",
                message=nan,
                parameters={**after_two, "model.exit_stages": (1,)},
            ),
            make_record(3, num_epochs=8, parameters=after_two),
            make_record(4, "RUNNING", num_epochs=2, parameters=after_three),
        ],
    )


# --- axes and slices -------------------------------------------------------------------------------------


def test_choices_are_in_the_order_of_the_file(searched: Snapshot) -> None:
    axis = axis_of(searched, "model.exit_stages")
    assert axis.choices == ((1,), (2,), (3,))
    assert axis.ticks() == [(0.0, "[1]"), (0.5, "[2]"), (1.0, "[3]")]


def test_a_logarithmic_axis_has_the_geometric_mean_in_its_middle(searched: Snapshot) -> None:
    axis = axis_of(searched, "loss.temperature")
    assert axis.is_log
    assert axis.share(math.sqrt(0.05 * 0.5)) == pytest.approx(0.5)
    assert [axis.share(end) for end in (0.05, 0.5)] == pytest.approx([0, 1])


def test_an_axis_with_one_value_has_it_in_the_middle() -> None:
    assert Axis("one", None, 0.3, 0.3, is_log=False).share(0.3) == 0.5


def test_values_outside_the_branches_widen_the_axis(
    searched: Snapshot, make_record: Callable[..., TrialRecord]
) -> None:
    beyond = make_record(9, parameters={"optim.momentum": 0.95, "loss.temperature": 0.1})
    wider = replace(searched, records=(*searched.records, beyond))
    assert axis_of(wider, "optim.momentum").high == 0.95


def test_only_trials_with_the_parameter_have_a_value(searched: Snapshot) -> None:
    assert values_of(searched, "model.exit_depth") == ["fc", "fc", "fc"]
    assert [is_choice(searched, name) for name in searched.space] == [True, True, False, False]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.05, 0.5, [0.05, 0.1, 0.2, 0.5]),
        (0.3, 4.0, [0.5, 1, 2]),
        (1e-5, 1, [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]),
    ],
)
def test_a_logarithmic_axis_is_labelled_with_whole_numbers(
    low: float, high: float, ticks: list[float]
) -> None:
    assert log_ticks(low, high) == ticks


def test_trials_with_the_same_choice_do_not_hide_each_other(searched: Snapshot) -> None:
    axis = axis_of(searched, "model.exit_stages")
    places = [place(record, axis) for record in (searched.records[0], searched.records[3])]
    assert places[0] != places[1]
    assert all(abs(found - 1) < 0.5 for found in places)


def test_each_parameter_has_a_slice_on_its_own_scale(searched: Snapshot) -> None:
    found = slices(searched)
    assert [figure.caption for figure in found] == [
        "model.exit_stages", "model.exit_depth", "loss.temperature (logarithmic)", "optim.momentum",
    ]  # fmt: skip
    assert [figure.views[0].layout["xaxis"].get("type") for figure in found] == [None, None, "log", None]
    scales = [figure.views[0].layout["xaxis"] for figure in found]
    assert [scale.get("automargin") for scale in scales] == [True, True, None, None]  # names may be long
    points = {trace["name"]: trace["customdata"] for trace in found[0].views[0].data or []}
    assert points == {"complete": [0, 3], "pruned, last value": [1], "running, newest value": [4]}


# --- learning curves -------------------------------------------------------------------------------------


def test_few_points_are_not_thinned() -> None:
    series = [[(1, 0.5), (2, 0.6)], [(1, 0.4)]]
    assert thinned(series) == series


@pytest.mark.parametrize("length", [101, 1000])
def test_many_points_are_thinned_except_both_ends(length: int) -> None:
    series = [[(epoch, 0.0) for epoch in range(1, length + 1)] for _ in range(500)]
    found = thinned(series)
    assert sum(map(len, found)) <= MAX_POINTS + len(series)
    assert all((one[0][0], one[-1][0]) == (1, length) for one in found)
    assert all(a < b for (a, _), (b, _) in pairwise(found[0]))


def test_lines_of_many_trials_are_joined_with_gaps(searched: Snapshot) -> None:
    found = joined(searched.records[:2], [[(1, 0.5), (2, 0.6)], [(1, 0.4)]])
    assert found["x"] == [1, 2, None, 1, None]
    assert found["y"] == [0.5, 0.6, None, 0.4, None]
    assert found["customdata"] == [0, 0, None, 1, None]


def test_the_objective_comes_first_then_the_loss(searched: Snapshot) -> None:
    assert shown_metrics(searched) == ["val/top1", "train/loss"]


def test_the_best_trials_have_separate_lines_and_pruned_ends_are_marked(searched: Snapshot) -> None:
    figure = curves(searched)
    assert figure is not None
    traces = {trace["name"]: trace for trace in figure.views[0].data or []}
    assert list(traces) == ["other trials", "pruned here", "trial 0", "trial 3"]
    assert set(traces["other trials"]["customdata"]) == {1, 2, 4, None}
    assert (traces["pruned here"]["x"], traces["pruned here"]["customdata"]) == ([4], [1])
    assert min(traces["trial 0"]["x"][:-1]) == 1  # without the untrained network


def test_rungs_are_vertical_lines(searched: Snapshot) -> None:
    figure = curves(searched)
    assert figure is not None
    shapes = figure.views[0].layout["shapes"]
    assert [shape["x0"] for shape in shapes] == [2, 4]


# --- parallel coordinates --------------------------------------------------------------------------------


def test_a_line_has_a_gap_at_an_inactive_parameter(searched: Snapshot) -> None:
    axes = [axis_of(searched, name) for name in searched.space]
    _, heights = polyline(searched.records[1], axes, 0.25)
    assert heights[0] == 1.0
    assert heights[1] is None
    assert heights[-1] == 0.25


def test_ended_trials_have_lines_with_the_best_on_top(searched: Snapshot) -> None:
    figure = parallel(searched)
    assert figure is not None
    traces = figure.views[0].data or []
    assert [set(trace["customdata"]) - {None} for trace in traces] == [{1}, {3}, {0}, {0}]
    assert traces[-1]["name"] == "best: trial 0"


def test_equal_values_share_a_colour(searched: Snapshot) -> None:
    first = searched.records[0]
    equal = replace(searched, records=(first, replace(first, number=1), replace(first, number=2)))
    figure = parallel(equal)
    assert figure is not None
    traces = figure.views[0].data or []
    assert [len(set(trace["customdata"]) - {None}) for trace in traces] == [3, 1]


@pytest.mark.parametrize("states", [[], [2], [4]])
def test_without_an_ended_trial_there_is_no_figure(searched: Snapshot, states: list[int]) -> None:
    records = tuple(replace(searched.records[i], epochs=()) for i in states)
    assert parallel(replace(searched, records=records)) is None


# --- combinations of choices -----------------------------------------------------------------------------


STAGES, DEPTH = "model.exit_stages", "model.exit_depth"


@pytest.mark.parametrize(
    ("stages", "depth", "text"),
    [
        ((2,), "fc", "<b>0.9800</b><br>2 complete"),
        ((3,), UNUSED, "1 pruned"),
        ((1,), "fc", "1 failed"),
        ((1,), "same", "forbidden"),
        ((3,), "fc", "inactive"),
        ((2,), "same", "not tried"),
        ((2,), UNUSED, ""),
    ],
)
def test_a_cell_shows_the_best_value_and_the_number_of_trials(
    searched: Snapshot, stages: tuple[int, ...], depth: str, text: str
) -> None:
    assert cell(searched, {STAGES: stages, DEPTH: depth}).text == text


@pytest.mark.parametrize(
    ("combination", "reason"),
    [
        ({STAGES: (1,), DEPTH: "same"}, "forbidden"),
        ({STAGES: (3,), DEPTH: "same"}, "inactive"),
        ({STAGES: (1,)}, "not tried"),
    ],
)
def test_the_reason_for_an_empty_cell_follows_the_space(
    searched: Snapshot, combination: Mapping[str, Any], reason: str
) -> None:
    assert why_empty(searched, combination) == reason


def test_the_heat_map_stores_the_cell_of_every_trial(searched: Snapshot) -> None:
    figure = combinations(searched, {})
    assert figure is not None
    valued = (figure.views[0].data or [])[1]
    assert valued["meta"]["cells"]["0"] == ["[2]", "fc"]
    assert valued["meta"]["cells"]["1"] == ["[3]", UNUSED]
    assert valued["showscale"] is False  # no colour scale for a single value


def test_without_exit_and_depth_the_most_important_choices_are_compared(searched: Snapshot) -> None:
    space: dict[str, list[dict[str, Any]]] = {
        "a": [{"choices": [1]}],
        "b": [{"choices": [1]}],
        "c": [{"choices": [1]}],
        "d": [{"low": 0, "high": 1}],
    }
    other = replace(searched, space=space, records=())
    assert compared(other, {"d": 0.6, "c": 0.3, "b": 0.1}) == ("c", "b")
    assert compared(replace(other, space={"d": space["d"]}), {}) == ()


# --- the timeline ----------------------------------------------------------------------------------------


MINUTE_MS = 60_000


@pytest.fixture
def interrupted(searched: Snapshot) -> Snapshot:
    """Return a search of two launches: one trial was preempted, one interrupted between the launches."""
    preempted, stopped, running = searched.records[0], searched.records[1], searched.records[4]
    start_ms = preempted.started_ms
    starts = (start_ms, start_ms + 6 * MINUTE_MS)
    preempted = replace(
        preempted,
        attempts=2,
        attempts_started_ms=starts,
        attempt_ends=(AttemptEnd(1, "preempted", "node lost", start_ms + MINUTE_MS),),
        finished_ms=start_ms + 9 * MINUTE_MS,
    )
    stopped = replace(stopped, attempts_started_ms=starts, epochs=(), finished_ms=start_ms + 8 * MINUTE_MS)
    running = replace(running, attempts_started_ms=(start_ms + 8 * MINUTE_MS,), epochs=())
    launches = (
        Launch(1, start_ms, start_ms + 3 * MINUTE_MS, "a", {}),
        Launch(2, start_ms + 5 * MINUTE_MS, start_ms + 10 * MINUTE_MS, "a", {}),
    )
    return replace(searched, records=(preempted, stopped, running), launches=launches)


def minutes(found: Span, snapshot: Snapshot) -> tuple[float, float]:
    start = snapshot.launches[0].started_ms
    return (found[0] - start) / MINUTE_MS, (found[1] - start) / MINUTE_MS


def test_every_attempt_has_its_span_and_its_ending(interrupted: Snapshot) -> None:
    found = [
        (s.record.number, s.ending, *minutes((s.start_ms, s.end_ms), interrupted))
        for s in attempt_spans(interrupted)
    ]
    assert found == [
        (0, spans.PREEMPTED, 0, 1),
        (0, spans.COMPLETE, 6, 9),
        (1, spans.STOPPED, 0, 3),  # up to the last heartbeat of its launch
        (1, spans.PRUNED, 6, 8),
        (4, spans.RUNNING, 8, 10),
    ]


def test_a_launch_lasts_at_least_as_long_as_its_attempts(interrupted: Snapshot) -> None:
    first, second = interrupted.launches
    early_heartbeat = replace(interrupted, launches=(first, replace(second, last_seen_ms=second.started_ms)))
    assert minutes(launch_spans(early_heartbeat)[1], interrupted) == (5, 9)


def test_idle_time_is_split_into_between_and_within_launches(interrupted: Snapshot) -> None:
    without_last = replace(interrupted, records=interrupted.records[1:2])
    found = idle(without_last)
    assert [ms / MINUTE_MS for ms in (found.total_ms, found.between_ms, found.within_ms)] == [10, 2, 3]


def test_a_search_without_launches_spans_its_attempts(interrupted: Snapshot) -> None:
    older = replace(interrupted, launches=(), records=interrupted.records[:1])
    assert [minutes(span, interrupted) for span in launch_spans(older)] == [(0, 9)]


def test_a_search_without_attempts_has_no_timeline(searched: Snapshot) -> None:
    empty = replace(searched, records=())
    assert (launch_spans(empty), idle(empty).total_ms, timeline(empty)) == ([], 0, None)


@pytest.mark.parametrize(
    ("some", "one"),
    [([(0, 2), (1, 3)], [(0, 3)]), ([(4, 5), (0, 1)], [(0, 1), (4, 5)]), ([(0, 9), (2, 3)], [(0, 9)])],
)
def test_touching_spans_are_merged(some: list[Span], one: list[Span]) -> None:
    assert united(some) == one


def test_the_overlap_of_two_lists_of_spans() -> None:
    assert overlap([(0, 5), (8, 9)], [(3, 8)]) == [(3, 5)]


def test_bars_keep_their_colour_under_the_pattern(interrupted: Snapshot) -> None:
    figure = timeline(interrupted)
    assert figure is not None
    bars = [trace for trace in figure.views[0].data or [] if trace["type"] == "bar" and "customdata" in trace]
    assert [bar["marker"]["pattern"]["fillmode"] for bar in bars] == ["overlay"] * 5
    assert {number for bar in bars for number in bar["customdata"]} == {0, 1, 4}


# --- accuracy against cost -------------------------------------------------------------------------------


CHEAP, GOOD = Objective(metric="cost/seconds", direction="minimize"), Objective()


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([(1, 0.5), (2, 0.9), (3, 0.8)], [0, 1]),
        ([(2, 0.9), (1, 0.9)], [1]),
        ([(3, 0.9), (1, 0.7), (2, 0.8)], [1, 2, 0]),
    ],
)
def test_the_front_holds_the_trials_that_no_other_dominates(
    searched: Snapshot, values: list[tuple[float, float]], places: list[int]
) -> None:
    records = tuple(searched.records[0] for _ in values)
    assert front(Pair(CHEAP, GOOD, records, tuple(values))) == places


def test_a_single_objective_is_plotted_against_its_cost(searched: Snapshot) -> None:
    (pair,) = pairs(searched)
    figure = tradeoff(searched)
    assert figure is not None
    names = [trace["name"] for trace in figure.views[0].data or []]
    assert ("no trial is better in both" in names) == (len(front(pair)) > 1)  # a single trial has no line
    low, high = figure.views[0].layout["yaxis"]["range"]
    assert high - low == pytest.approx(0.05 * 0.98)  # the two values differ by less
    assert (pair.across.metric, pair.up.metric) == ("cost/seconds", "val/top1")
    assert [record.number for record in pair.records] == [0, 3]
    assert pair.values[0] == pytest.approx((24.0, 0.98))


# --- facts and details -----------------------------------------------------------------------------------


def test_the_facts_show_time_by_outcome_and_early_ends(searched: Snapshot) -> None:
    ends = (AttemptEnd(1, "preempted", "node lost"), AttemptEnd(2, "non-finite", "nan"))
    failed = replace(searched.records[2], attempts=2, attempt_ends=ends)
    records = (*searched.records[:2], failed, *searched.records[3:])
    found = {row[0]: row[1] for row in facts(replace(searched, records=records)).rows}
    assert found["time by outcome"] == "complete 48 s, pruned 12 s, failed 3 s, running 6 s"
    assert found["attempts that ended early"] == "1 preempted"  # the other attempt ended its trial


def test_the_details_of_a_trial_show_its_attempts_and_its_cost(searched: Snapshot) -> None:
    ended = replace(searched.records[0], attempt_ends=(AttemptEnd(1, "hung", "no progress"),))
    found = dict(details(replace(searched, records=(ended,)))["0"]["facts"])
    assert found["attempt 1"] == "hung: no progress"
    assert "cost/train_macs" not in found  # this cost was not reported


def test_pruning_saves_the_remaining_epochs_of_pruned_trials(searched: Snapshot) -> None:
    config = {**(searched.records[1].config or {}), "optim.epochs": 8}
    pruned = replace(searched.records[1], config=config)
    found = saving(replace(searched, records=(searched.records[0], pruned)))
    assert "saved 4 epochs, 25 % of" in found
    assert "about 12 s" in found
    assert saving(replace(searched, records=())) == ""


def test_the_best_so_far_never_gets_worse(searched: Snapshot) -> None:
    numbers, best = best_so_far(searched)
    assert numbers == [0, 3]
    assert best == pytest.approx([0.98, 0.98])


def test_failed_trials_are_drawn_at_the_bottom_edge(searched: Snapshot) -> None:
    figure = history(searched)
    assert figure is not None
    view = figure.views[0]
    failed = next(trace for trace in view.data or [] if trace["name"] == "failed")
    assert failed["x"] == [2]
    assert failed["y"] == [view.layout["yaxis"]["range"][0]]


def test_shares_are_shown_in_per_cent() -> None:
    assert (share(1, 3), share(1, 0)) == ("33 %", "0 %")


# --- how to reproduce it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("description", ["", "plain", "with 'quotes', \"more\", a: colon, # and {braces}"])
def test_the_space_text_defines_the_same_search(searched: Snapshot, tmp_path: Path, description: str) -> None:
    path = tmp_path / "again.yaml"
    path.write_text(space_text(replace(searched, description=description)))
    again = load_space(path)
    assert {**again.immutable_settings(), "data_digest": searched.fixed["data_digest"]} == searched.fixed
    assert (again.name, again.description) == (searched.name, description)
    assert again.search.num_trials == searched.num_trials


def test_different_versions_are_shown_with_their_launches(searched: Snapshot) -> None:
    launches = (
        Launch(1, 0, 1000, "aa", {"selfcon.version.torch": "2.9"}),
        Launch(2, 2000, 3000, "bb", {"selfcon.version.torch": "3"}),
    )
    section = recipe(replace(searched, launches=launches))
    assert "The launches ran different code." in section.notes
    assert section.tables[1].rows == (("torch", "2.9 (launch 1); 3 (launch 2)"),)
