from pathlib import Path
from typing import Any

import pytest

from tests.tune_jobs.searches import train, write_search
from tune_jobs.__main__ import main
from tune_jobs.commands.other_searches import read_search, warm_start_points
from tune_jobs.errors import BadInputError
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace, load_space

SOURCE = """
name: wide
train: {optim: {epochs: 1}, loss: {exit_weight: 2.0}}
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  loss.temperature: {low: 0.05, high: 0.5, log: true}
start:
  - {model.exit_stages: [1], loss.temperature: 0.1}
  - {model.exit_stages: [2], loss.temperature: 0.3}
  - {model.exit_stages: [3], loss.temperature: 0.2}
  - {model.exit_stages: [2], loss.temperature: 0.4}
"""
TARGET = """
name: narrow
space:
  model.exit_stages: {choices: [[2], [3]]}
  loss.temperature: {low: 0.05, high: 0.25, log: true}
  loss.exit_weight: {low: 0.1, high: 4.0}
start_from: wide
"""


@pytest.fixture
def options(tmp_path: Path) -> LaunchOptions:
    write_search(tmp_path / "runs", SOURCE, [0.6, 0.9, 0.8, 0.7])
    return LaunchOptions(output=tmp_path / "runs")


def target(tmp_path: Path, text: str = TARGET) -> SearchSpace:
    (tmp_path / "target.yaml").write_text(text)
    return load_space(tmp_path / "target.yaml")


def given(space: SearchSpace, options: LaunchOptions) -> list[dict[str, Any]]:
    return [dict(point.given) for point in warm_start_points(space, options)]


def test_the_best_trials_are_reduced_to_the_values_in_the_space(
    tmp_path: Path, options: LaunchOptions
) -> None:
    assert given(target(tmp_path), options) == [
        {"model.exit_stages": (2,), "loss.exit_weight": 2.0},  # a temperature of 0.3 is outside
        {"model.exit_stages": (3,), "loss.temperature": 0.2, "loss.exit_weight": 2.0},
    ]  # the third, trial 3, duplicates the first


def test_forbidden_trials_and_values_without_their_condition_are_dropped(
    tmp_path: Path, options: LaunchOptions
) -> None:
    depth = "  model.exit_depth: {choices: [fc, small], when: {model.exit_stages: [[2]]}}\n"
    text = TARGET.replace("start_from", f"{depth}forbid: [{{model.exit_stages: [3]}}]\nstart_from")
    assert given(target(tmp_path, text), options) == [
        {"model.exit_stages": (2,), "model.exit_depth": "fc", "loss.exit_weight": 2.0}
    ]
    only_one = text.replace("[[2], [3]]", "[[1], [3]]").replace("[[2]]", "[[1]]")
    assert given(target(tmp_path, only_one), options) == [{"loss.exit_weight": 2.0}]


def test_warm_start_points_are_tried_first_and_once(tmp_path: Path, options: LaunchOptions) -> None:
    space = target(tmp_path)
    study = write_search(tmp_path / "runs", TARGET, [])
    assert not study.has_warm_start
    study.add_warm_start(warm_start_points(space, options))
    study.set_num_trials(4)
    for _ in range(4):
        train(study, 0.5)
    tried = [record.parameters for record in study.records()]
    assert tried[0]["model.exit_stages"] == (2,)
    assert tried[0]["loss.exit_weight"] == 2.0
    assert tried[1] == {"model.exit_stages": (3,), "loss.temperature": 0.2, "loss.exit_weight": 2.0}
    assert 2.0 not in [parameters["loss.exit_weight"] for parameters in tried[2:]]
    assert study.has_warm_start


def test_a_dry_run_shows_the_warm_start_points_before_the_first_launch(
    tmp_path: Path, options: LaunchOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    target(tmp_path)
    flags = ["--space", str(tmp_path / "target.yaml"), "--output", str(options.output), "--dry-run"]
    assert main(flags) == 0
    out = capsys.readouterr().out
    assert "tried first\n  model.exit_stages [2], loss.exit_weight 2   of wide\n" in out
    assert "Nothing was started. To start it" in out
    assert main([*flags, "--set", "start_from=missing"]) == 2
    assert "start_from: expected a search that was started, in " in capsys.readouterr().err
    write_search(tmp_path / "runs", TARGET, [])
    assert main([*flags, "--set", "start_from=missing"]) == 0
    out = capsys.readouterr().out
    assert "tried first\n  the best trials of missing when this search was started\n" in out
    assert "narrow (already started) explored" in " ".join(out.split())
    assert "Nothing was started. To resume it, or to see its result:" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wyde", "start_from: expected a search that was started, in {runs}, got wyde (did you mean wide?)"),
        ("narrow", "start_from: expected a search other than this one, got narrow"),
        ("a/b/c", "start_from: expected the NAME of another search, or EXPERIMENT/NAME, got a/b/c"),
        ("[wide]", "start_from: expected text, got [wide]"),
        (
            "other/wide",
            "start_from: expected a search that was started, in {runs}/wide/study.db: wide, got other/wide",
        ),
    ],
)
def test_a_missing_search_is_refused_in_one_line(
    tmp_path: Path, options: LaunchOptions, name: str, message: str
) -> None:
    with pytest.raises(BadInputError) as refused:
        warm_start_points(target(tmp_path, TARGET.replace("wide", name)), options)
    assert str(refused.value).startswith(
        f"{tmp_path}/target.yaml:7:13: {message.format(runs=tmp_path / 'runs')}"
    )


def test_a_search_without_a_finished_trial_gives_no_warm_start(
    tmp_path: Path, options: LaunchOptions
) -> None:
    write_search(tmp_path / "runs", SOURCE.replace("wide", "empty"), [])
    with pytest.raises(BadInputError, match="a finished trial that this space can have, got empty"):
        warm_start_points(target(tmp_path, TARGET.replace("wide", "empty")), options)


def test_searches_in_one_database_are_distinguished_by_experiment(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/all.db"
    for experiment in ("first", "second"):
        text = SOURCE + f"tracking: {{experiment: {experiment}}}\n"
        write_search(tmp_path / experiment, text, [0.9], storage=storage)
    write_search(tmp_path / "third", SOURCE.replace("wide", "alone"), [0.9], storage=storage)
    options = LaunchOptions(study_storage=storage)
    assert read_search("alone", options, key="x").name == "alone"
    assert read_search("second/wide", options, key="x").experiment == "second"
    with pytest.raises(
        BadInputError, match="x: expected EXPERIMENT/NAME, one of first/wide, second/wide, got wide"
    ):
        read_search("wide", options, key="x")
    with pytest.raises(BadInputError, match=r"got alome \(did you mean alone\?\)"):
        read_search("alome", options, key="x")


@pytest.mark.parametrize("name", ["confirm", "reproductions"])
def test_a_search_can_be_named_like_a_part_of_a_search(tmp_path: Path, name: str) -> None:
    write_search(tmp_path, SOURCE.replace("wide", name), [0.9])
    assert read_search(name, LaunchOptions(output=tmp_path), key="x").name == name
