import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tune_jobs.errors import TrackingError
from tune_jobs.study.records import TrialRecord
from tune_jobs.terminal.quiet import CLIENT_SETTINGS
from tune_jobs.tracking.runs import TrackedDataset
from tune_jobs.tracking.tracker import Tracker

RecordMaker = Callable[..., TrialRecord]
PythonRunner = Callable[..., subprocess.CompletedProcess[str]]
ServerStarter = Callable[..., AbstractContextManager[str]]

ANOTHER_PROCESS = """
import json, sys
from tune_jobs.study.records import EpochRecord, State, TrialRecord
from tune_jobs.tracking.tracker import Tracker
assert "mlflow" not in sys.modules, "importing has effects"
uri, search = sys.argv[1:3]
for values in (payload := json.load(sys.stdin)):
    values["epochs"] = tuple(EpochRecord(**epoch) for epoch in values["epochs"])
    values["state"] = State(values["state"])
tracker = Tracker(uri=uri, experiment=search, search=search, description="", tags={}, metric="val/top1")
tracker.sync([TrialRecord(**values) for values in payload], remember_run=lambda record, run_id: None)
tracker.close("FINISHED", metrics={"best/value": 0.5}, summary="done")
"""


class Notebook:
    """Stand-in for the study: remembers the run of each trial."""

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}

    def remember(self, record: TrialRecord, run_id: str) -> None:
        self.runs[record.name] = run_id

    def read_into(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        return [replace(record, mlflow_run=self.runs.get(record.name)) for record in records]


def forget(record: TrialRecord, run_id: str) -> None:
    """Do nothing, as if the process were killed before the study has recorded the run."""


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Database with the tables of MLflow, copied for each test because creating them takes seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}")
    return path


@pytest.fixture
def store(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def tracker_of(
    uri: str,
    *,
    search: str = "exits",
    description: str = "Where to exit?",
    experiment_id: str | None = None,
    **tags: str,
) -> Tracker:
    return Tracker(
        uri=uri,
        experiment=search,
        experiment_id=experiment_id,
        search=search,
        description=description,
        tags=tags,
        metric="val/top1",
    )


def parents_and_trials(uri: str, experiment: str = "exits") -> tuple[list[Run], dict[str, Run]]:
    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = list(client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"]))
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    names = [run.info.run_name for run in children]
    assert len(set(names)) == len(names), "a trial has two runs"
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return parents, dict(zip(names, children, strict=True))


def steps(uri: str, run: Run, metric: str = "val/top1") -> list[int]:
    return [
        point.step for point in MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, metric)
    ]


def four_trials(make_record: RecordMaker) -> list[TrialRecord]:
    return [
        make_record(0),
        make_record(1, "PRUNED", num_epochs=2, reason="rung"),
        make_record(2, "FAIL", num_epochs=1, reason="non-finite", message="loss is nan in epoch 2"),
        make_record(3, "RUNNING", num_epochs=2),
    ]


def test_a_search_is_a_parent_run_with_a_child_run_for_each_trial(
    store: str, make_record: RecordMaker
) -> None:
    notebook = Notebook()
    tracker = tracker_of(store)
    records = four_trials(make_record)
    tracker.sync(records, remember_run=notebook.remember)
    (parent,), trials = parents_and_trials(store)
    assert (parent.info.run_name, parent.info.status) == ("exits", "RUNNING")
    assert parent.data.tags["mlflow.note.content"] == "Where to exit?"
    assert list(trials) == ["trial-0000", "trial-0001", "trial-0002", "trial-0003"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials.values()} == {parent.info.run_id}
    assert notebook.runs == {name.removeprefix("trial-"): run.info.run_id for name, run in trials.items()}


def test_runs_have_status_reason_and_message_of_their_trial(store: str, make_record: RecordMaker) -> None:
    tracker_of(store).sync(four_trials(make_record), remember_run=forget)
    _, trials = parents_and_trials(store)
    assert [run.info.status for run in trials.values()] == ["FINISHED", "KILLED", "FAILED", "RUNNING"]
    assert trials["trial-0001"].data.tags["selfcon.reason"] == "rung"
    assert trials["trial-0002"].data.tags["selfcon.message"] == "loss is nan in epoch 2"
    assert "selfcon.reason" not in trials["trial-0000"].data.tags
    assert [run.data.tags["selfcon.state"] for run in trials.values()] == [
        "COMPLETE",
        "PRUNED",
        "FAIL",
        "RUNNING",
    ]


def test_metrics_and_times_equal_those_of_the_record(store: str, make_record: RecordMaker) -> None:
    record = make_record(0)
    tracker_of(store).sync([record], remember_run=forget)
    _, trials = parents_and_trials(store)
    run = trials["trial-0000"]
    history = MlflowClient(tracking_uri=store).get_metric_history(run.info.run_id, "val/top1")
    wanted = [(epoch.epoch, epoch.metrics["val/top1"], epoch.timestamp_ms) for epoch in record.epochs]
    assert [(point.step, point.value, point.timestamp) for point in history] == wanted
    assert (run.info.start_time, run.info.end_time) == (record.started_ms, record.finished_ms)
    assert steps(store, run, "train/loss") == [1, 2, 3]


def test_parameters_are_the_complete_config_and_a_tag_lists_the_searched_ones(
    store: str, make_record: RecordMaker
) -> None:
    record = make_record(0, parameters={"model.exit_stages": (1, 2), "loss.use_labels": True})
    tracker_of(store).sync([record], remember_run=forget)
    (parent,), trials = parents_and_trials(store)
    parameters = trials["trial-0000"].data.params
    assert record.config is not None
    assert parameters.keys() == record.config.keys()
    assert parameters["model.exit_stages"] == "[1, 2]"
    assert parameters["model.exit_depth"] == "fc"
    assert parameters["loss.use_labels"] == "true"
    assert parameters["loss.temperature"] == "0.1"
    assert parameters["model.weights"] == "null"
    assert trials["trial-0000"].data.tags["selfcon.parameters"] == "loss.use_labels, model.exit_stages"
    assert parent.data.tags["selfcon.parameters"] == "loss.use_labels, model.exit_stages"


def test_the_experiment_has_the_objective_and_columns_of_the_searched_parameters(
    store: str, make_record: RecordMaker
) -> None:
    tracker = tracker_of(store)
    tracker.sync([make_record(0)], remember_run=forget)
    experiment = MlflowClient(tracking_uri=store).get_experiment_by_name("exits")
    assert experiment is not None
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "val/top1"
    columns = json.loads(experiment.tags["mlflow.sharedViewState.exits"])["selectedColumns"]
    assert {"metrics.`val/top1`", "params.`loss.temperature`", "params.`model.exit_stages`"} < set(columns)
    assert "params.`loss.base_temperature`" not in columns
    assert tracker.where.endswith(
        f"/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=exits"
    )
    assert tracker.page.endswith(f"/#/experiments/{experiment.experiment_id}")
    another = tracker_of(store, experiment_id=experiment.experiment_id)  # has sent nothing
    assert another.where == tracker.where


def test_a_second_call_without_new_records_sends_no_request(store: str, make_record: RecordMaker) -> None:
    records = four_trials(make_record)
    notebook = Notebook()
    tracker = tracker_of(store)
    tracker.sync(records, remember_run=notebook.remember)
    Path("mlflow.db").rename("away.db")
    tracker.sync(notebook.read_into(records), remember_run=notebook.remember)
    assert not Path("mlflow.db").exists()


def test_later_calls_send_new_records(store: str, make_record: RecordMaker) -> None:
    tracker = tracker_of(store)
    for num_epochs in range(4):
        tracker.sync([make_record(0, "RUNNING", num_epochs=num_epochs)], remember_run=forget)
    tracker.sync([make_record(0), make_record(1, "RUNNING", num_epochs=0)], remember_run=forget)
    _, trials = parents_and_trials(store)
    assert steps(store, trials["trial-0000"]) == [0, 1, 2, 3]
    assert [run.info.status for run in trials.values()] == ["FINISHED", "RUNNING"]


def test_another_process_finds_the_runs_and_adds_nothing(
    store: str, make_record: RecordMaker, run_python: PythonRunner, tmp_path: Path
) -> None:
    records = four_trials(make_record)
    tracker_of(store).sync(records, remember_run=forget)
    before_parents, before = parents_and_trials(store)
    payload = json.dumps([asdict(record) for record in records])
    for _ in range(2):
        done = run_python(
            ANOTHER_PROCESS, store, "exits", cwd=tmp_path, stdin=payload, environment=CLIENT_SETTINGS
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (parent,), after = parents_and_trials(store)
    assert parent.info.run_id == before_parents[0].info.run_id
    assert [run.info.run_id for run in after.values()] == [run.info.run_id for run in before.values()]
    assert [steps(store, run) for run in after.values()] == [[0, 1, 2, 3], [0, 1, 2], [0, 1], [0, 1, 2]]
    assert steps(store, parent, "best/value") == [0]


def test_the_first_use_of_a_store_and_of_a_server_is_silent(
    mlflow_server: str, tmp_path: Path, make_record: RecordMaker, run_python: PythonRunner
) -> None:
    payload = json.dumps([asdict(record) for record in four_trials(make_record)])
    for uri in (f"sqlite:///{tmp_path / 'mlflow.db'}", mlflow_server):
        done = run_python(
            ANOTHER_PROCESS, uri, "silent", cwd=tmp_path, stdin=payload, environment=CLIENT_SETTINGS
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_points_sent_twice_are_stored_once(store: str, make_record: RecordMaker) -> None:
    tracker_of(store).sync([make_record(0)], remember_run=forget)
    _, trials = parents_and_trials(store)
    client = MlflowClient(tracking_uri=store)
    # as if the process had been killed between the points and the tag of the newest epoch
    client.set_tag(trials["trial-0000"].info.run_id, "selfcon.synced_epoch", "0")
    tracker_of(store).sync([make_record(0)], remember_run=forget)
    assert steps(store, trials["trial-0000"]) == [0, 1, 2, 3]
    assert steps(store, trials["trial-0000"], "train/loss") == [1, 2, 3]


def test_a_run_created_before_a_crash_is_found(store: str, make_record: RecordMaker) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tracker_of(store).sync([make_record(0)], remember_run=crash)
    _, before = parents_and_trials(store)
    notebook = Notebook()
    tracker_of(store).sync([make_record(0)], remember_run=notebook.remember)
    parents, _ = parents_and_trials(store)
    assert len(parents) == 1
    assert notebook.runs == {"0000": before["trial-0000"].info.run_id}


def test_of_two_runs_of_a_trial_the_recorded_one_stays(store: str, make_record: RecordMaker) -> None:
    notebook = Notebook()
    records = [make_record(0), make_record(1)]
    tracker_of(store).sync(records, remember_run=notebook.remember)
    client = MlflowClient(tracking_uri=store)
    (parent,), trials = parents_and_trials(store)
    tags = {name: trials["trial-0001"].data.tags[name] for name in ("selfcon.trial", "mlflow.parentRunId")}
    duplicate = client.create_run(parent.info.experiment_id, run_name="trial-0001", tags=tags)
    tracker_of(store).sync(notebook.read_into(records), remember_run=notebook.remember)
    _, trials = parents_and_trials(store)
    assert trials["trial-0001"].info.run_id == notebook.runs["0001"]
    assert client.get_run(duplicate.info.run_id).info.lifecycle_stage == "deleted"


def with_seeds(make_record: RecordMaker) -> list[TrialRecord]:
    """Return two trials and two repetitions of the second one, which are numbered in a separate study."""
    seeds = [make_record(number, num_epochs=2) for number in range(2)]
    return [make_record(0), make_record(1)] + [
        replace(record, confirms=1, seed_index=record.number + 1) for record in seeds
    ]


def test_repetitions_are_additional_runs(store: str, make_record: RecordMaker) -> None:
    notebook = Notebook()
    tracker_of(store).sync(with_seeds(make_record), remember_run=notebook.remember)
    (parent,), runs = parents_and_trials(store)
    assert sorted(runs) == ["trial-0000", "trial-0001", "trial-0001-seed-1", "trial-0001-seed-2"]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert [runs[name].data.tags["selfcon.trial"] for name in sorted(runs)] == ["0", "1", "1", "1"]
    assert [runs[name].data.tags.get("selfcon.seed") for name in sorted(runs)] == [None, None, "1", "2"]
    assert steps(store, runs["trial-0001"]) == [0, 1, 2, 3]
    assert steps(store, runs["trial-0001-seed-1"]) == [0, 1, 2]
    for records in (with_seeds(make_record), notebook.read_into(with_seeds(make_record))):
        tracker_of(store).sync(records, remember_run=forget)
    (again,), found = parents_and_trials(store)
    assert again.info.run_id == parent.info.run_id
    assert {n: run.info.run_id for n, run in found.items()} == {n: run.info.run_id for n, run in runs.items()}


def test_of_two_runs_of_a_repetition_the_one_with_more_epochs_stays(
    store: str, make_record: RecordMaker
) -> None:
    tracker_of(store).sync(with_seeds(make_record), remember_run=forget)
    client = MlflowClient(tracking_uri=store)
    (parent,), runs = parents_and_trials(store)
    seed = runs["trial-0001-seed-2"]
    tags = {n: seed.data.tags[n] for n in ("selfcon.trial", "selfcon.seed", "mlflow.parentRunId")}
    duplicate = client.create_run(parent.info.experiment_id, run_name="trial-0001-seed-2", tags=tags)
    tracker_of(store).sync(with_seeds(make_record), remember_run=forget)
    _, found = parents_and_trials(store)
    assert found["trial-0001-seed-2"].info.run_id == seed.info.run_id
    assert client.get_run(duplicate.info.run_id).info.lifecycle_stage == "deleted"
    assert len(found) == 4


def test_of_two_parent_runs_one_stays(store: str, make_record: RecordMaker) -> None:
    tracker_of(store).sync([make_record(0)], remember_run=forget)
    (parent,), _ = parents_and_trials(store)
    tags = {name: parent.data.tags[name] for name in ("selfcon.search", "selfcon.study_started_ms")}
    MlflowClient(tracking_uri=store).create_run(parent.info.experiment_id, run_name="exits", tags=tags)
    tracker_of(store).sync([make_record(0)], remember_run=forget)
    parents, trials = parents_and_trials(store)
    assert [run.info.run_id for run in parents] == [parent.info.run_id]
    assert len(trials) == 1


def test_a_deleted_run_is_created_again(store: str, make_record: RecordMaker) -> None:
    notebook = Notebook()
    tracker_of(store).sync([make_record(0)], remember_run=notebook.remember)
    deleted = notebook.runs["0000"]
    MlflowClient(tracking_uri=store).delete_run(deleted)
    tracker_of(store).sync(notebook.read_into([make_record(0)]), remember_run=notebook.remember)
    parents, trials = parents_and_trials(store)
    assert len(parents) == 1
    assert trials["trial-0000"].info.run_id == notebook.runs["0000"] != deleted
    assert steps(store, trials["trial-0000"]) == [0, 1, 2, 3]


def test_a_run_added_by_a_user_is_not_changed(store: str, make_record: RecordMaker) -> None:
    tracker_of(store).sync([make_record(0)], remember_run=forget)
    (parent,), _ = parents_and_trials(store)
    MlflowClient(tracking_uri=store).create_run(
        parent.info.experiment_id, run_name="mine", tags={"mlflow.parentRunId": parent.info.run_id}
    )
    tracker_of(store).sync([make_record(0)], remember_run=forget)
    _, below = parents_and_trials(store)
    assert set(below) == {"trial-0000", "mine"}


@pytest.mark.parametrize("is_new_process", [False, True])
def test_an_interrupted_search_is_killed_and_running_after_the_next_sync(
    store: str, make_record: RecordMaker, is_new_process: bool
) -> None:
    records = [make_record(0), make_record(1, "RUNNING", num_epochs=1)]
    tracker = tracker_of(store)
    tracker.sync(records, remember_run=forget)
    tracker.close("KILLED", metrics={}, summary="interrupted")
    (parent,), trials = parents_and_trials(store)
    assert [run.info.status for run in (parent, *trials.values())] == ["KILLED", "FINISHED", "KILLED"]
    assert trials["trial-0001"].data.tags["selfcon.state"] == "INTERRUPTED"
    assert trials["trial-0001"].info.end_time == records[1].epochs[-1].timestamp_ms

    later = [tracker, tracker_of(store)][is_new_process]
    later.sync([records[0], make_record(1, "RUNNING", num_epochs=2)], remember_run=forget)
    (again,), trials = parents_and_trials(store)
    assert again.info.run_id == parent.info.run_id
    assert [run.info.status for run in (again, *trials.values())] == ["RUNNING", "FINISHED", "RUNNING"]
    assert trials["trial-0001"].data.tags["selfcon.state"] == "RUNNING"
    assert steps(store, trials["trial-0001"]) == [0, 1, 2]


def test_close_writes_the_result_once(store: str, make_record: RecordMaker) -> None:
    records = [make_record(0), make_record(1, "PRUNED", reason="rung")]
    for _ in range(2):
        tracker = tracker_of(store)
        tracker.sync(records, remember_run=forget)
        tracker.close("FINISHED", metrics={"best/value": 0.93, "test/top1": 0.9}, summary="| best | 0.93 |")
    (parent,), _ = parents_and_trials(store)
    assert parent.info.status == "FINISHED"
    assert parent.info.end_time == records[1].finished_ms
    assert parent.data.tags["mlflow.note.content"] == "| best | 0.93 |"
    assert parent.data.metrics == {"best/value": 0.93, "test/top1": 0.9}
    assert steps(store, parent, "best/value") == [0]


def test_an_earlier_search_with_the_same_name_is_not_changed(store: str, make_record: RecordMaker) -> None:
    for start_ms in (1_760_000_000_000, 1_770_000_000_000):
        tracker = tracker_of(store)
        tracker.sync([make_record(0, search_start_ms=start_ms)], remember_run=forget)
        tracker.close("FINISHED", metrics={}, summary="")
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name("exits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
    below = [run.data.tags["mlflow.parentRunId"] for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 2
    assert sorted(below) == sorted(parents)


def test_refused_and_unsampled_trials_have_no_run(store: str, make_record: RecordMaker) -> None:
    records = [
        make_record(0, "FAIL", num_epochs=0, reason="invalid"),
        make_record(1, "FAIL", num_epochs=0, reason="forbidden"),
        replace(make_record(2, "RUNNING", num_epochs=0), config=None, epochs=()),
    ]
    tracker = tracker_of(store)
    tracker.sync(records, remember_run=forget)
    tracker.close("KILLED", metrics={}, summary="")
    assert MlflowClient(tracking_uri=store).get_experiment_by_name("exits") is None
    tracker.sync([*records, make_record(3)], remember_run=forget)
    _, trials = parents_and_trials(store)
    assert list(trials) == ["trial-0003"]


def test_all_epochs_of_a_long_trial_are_sent(store: str, make_record: RecordMaker) -> None:
    tracker_of(store).sync([make_record(0, num_epochs=700)], remember_run=forget)
    _, trials = parents_and_trials(store)
    assert steps(store, trials["trial-0000"]) == list(range(701))
    assert trials["trial-0000"].data.tags["selfcon.synced_epoch"] == "700"


def test_tags_of_the_launch_are_on_every_run(store: str, make_record: RecordMaker) -> None:
    tracker_of(store, code="old").sync([make_record(0)], remember_run=forget)
    tracker_of(store, code="new").sync([make_record(0), make_record(1)], remember_run=forget)
    (parent,), trials = parents_and_trials(store)
    assert [run.data.tags["code"] for run in (parent, *trials.values())] == ["new", "old", "new"]


def test_global_settings_of_mlflow_do_not_change(
    store: str, make_record: RecordMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import mlflow

    other = f"sqlite:///{tmp_path / 'other.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    tracker_of(store).sync([make_record(0)], remember_run=forget)
    assert mlflow.get_tracking_uri() == other
    assert mlflow.active_run() is None
    assert not (tmp_path / "other.db").exists()


def test_a_server_gets_the_same_runs_as_a_database(mlflow_server: str, make_record: RecordMaker) -> None:
    records = four_trials(make_record)
    for _ in range(2):
        tracker = tracker_of(mlflow_server, search="on-a-server")
        tracker.sync(records, remember_run=forget)
        tracker.close("FINISHED", metrics={"best/value": 0.93}, summary="done")
    (parent,), trials = parents_and_trials(mlflow_server, "on-a-server")
    assert [run.info.status for run in (parent, *trials.values())] == [
        "FINISHED", "FINISHED", "KILLED", "FAILED", "KILLED",
    ]  # fmt: skip
    assert [steps(mlflow_server, run) for run in trials.values()] == [
        [0, 1, 2, 3],
        [0, 1, 2],
        [0, 1],
        [0, 1, 2],
    ]
    assert tracker.where.startswith(f"{mlflow_server}/#/experiments/")


def test_records_are_sent_after_the_server_is_available_again(
    start_mlflow_server: ServerStarter,
    free_port: Callable[[], int],
    tmp_path: Path,
    make_record: RecordMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    notebook = Notebook()
    tracker = tracker_of(f"http://127.0.0.1:{port}")
    with start_mlflow_server(tmp_path, port=port):
        tracker.sync([make_record(0, "RUNNING", num_epochs=1)], remember_run=notebook.remember)
    with pytest.raises(TrackingError, match=rf"^MLflow at http://127\.0\.0\.1:{port}: .*$"):
        tracker.sync([make_record(0, "RUNNING", num_epochs=2)], remember_run=notebook.remember)
    with start_mlflow_server(tmp_path, port=port):
        tracker.sync(notebook.read_into([make_record(0)]), remember_run=notebook.remember)
        (parent,), trials = parents_and_trials(tracker.uri)
        assert steps(tracker.uri, trials["trial-0000"]) == [0, 1, 2, 3]
        assert [parent.info.status, trials["trial-0000"].info.status] == ["RUNNING", "FINISHED"]


def test_the_default_uri_is_that_of_mlflow_in_this_folder(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracker = Tracker(uri=None, experiment="e", search="s", description="", tags={}, metric="val/top1")
    assert tracker.uri == store
    assert tracker.where == "mlflow ui, then http://127.0.0.1:5000/#/experiments"


DATASET = TrackedDataset(
    name="digits", digest="ab" * 32, source="digits", class_names=("0", "1"), profile={"num_train": 5}
)


def tracker_with_dataset(uri: str) -> Tracker:
    return Tracker(
        uri=uri,
        experiment="exits",
        search="exits",
        description="",
        tags={},
        metric="val/top1",
        dataset=DATASET,
    )


def test_runs_have_their_data_set_and_files_once(
    store: str, make_record: RecordMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    confusion = {"epoch": 3, "totals": [3, 2], "correct": [3, 1], "pairs": [[1, 0, 1]]}
    records = [replace(make_record(0), confusion=confusion), make_record(1, "RUNNING")]
    tracker = tracker_with_dataset(store)
    tracker.sync(records, remember_run=forget)
    tracker.close("FINISHED", metrics={}, summary="done", files={"report.md": b"done", "figures/a.png": b"1"})
    (parent,), trials = parents_and_trials(store)
    client = MlflowClient(store)
    for run in (parent, *trials.values()):
        assert run.inputs is not None
        (dataset,) = [entry.dataset for entry in run.inputs.dataset_inputs]
        assert (dataset.name, dataset.digest) == ("digits", DATASET.digest[:36])
        assert json.loads(dataset.profile or "") == {"num_train": 5, "digest": DATASET.digest}
    names = {name: files_of(client, run) for name, run in trials.items()}
    assert names["trial-0000"] == [
        "config.yaml", "confusion_matrix.csv", "confusion_matrix.png", "exits.png",
    ]  # fmt: skip
    assert names["trial-0001"] == []  # still running
    assert files_of(client, parent) == ["figures", "report.md"]
    sent: list[str] = []
    monkeypatch.setattr(MlflowClient, "log_artifacts", lambda _self, run_id, _folder: sent.append(run_id))
    again = tracker_with_dataset(store)
    again.sync(records, remember_run=forget)
    again.close("FINISHED", metrics={}, summary="done", files={"report.md": b"done", "figures/a.png": b"1"})
    assert sent == []


def files_of(client: MlflowClient, run: Run) -> list[str]:
    return [item.path for item in client.list_artifacts(run.info.run_id)]


def test_files_that_failed_are_sent_by_the_next_call(
    store: str, make_record: RecordMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise LookupError("no answer")  # an error of another library, not of MLflow

    tracker = tracker_with_dataset(store)
    with monkeypatch.context() as away:
        away.setattr(MlflowClient, "log_artifacts", refuse)
        with pytest.raises(TrackingError, match="no answer"):
            tracker.sync([make_record(0)], remember_run=forget)
    (_,), trials = parents_and_trials(store)
    assert steps(store, trials["trial-0000"]) == [0, 1, 2, 3]  # metrics are sent first
    tracker.sync([make_record(0)], remember_run=forget)
    assert "config.yaml" in files_of(MlflowClient(store), trials["trial-0000"])


def test_files_are_sent_after_all_metrics_and_limited_per_call(store: str, make_record: RecordMaker) -> None:
    records, tracker = [make_record(number) for number in range(3)], tracker_with_dataset(store)
    for num_with_files in (0, 2, 3):
        tracker.sync(records, remember_run=forget, max_files=min(num_with_files, 2))
        _, trials = parents_and_trials(store)
        assert all(steps(store, run) == [0, 1, 2, 3] for run in trials.values())
        assert sum("selfcon.files" in run.data.tags for run in trials.values()) == num_with_files
