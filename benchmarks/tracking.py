"""Cost of MLflow tracking: time per metric value, and overhead of a search.

Uses a real server with SQLite on this machine. First, the writer sends ten thousand metric values: all at
once, as after an outage, and epoch by epoch. Then searches with and without the writer alternate: a
separate process trains, this process records the epochs in a study, and the writer follows the study in a
thread. Prints the seconds from the first epoch to the last with and without MLflow, and their ratio; the
seconds until the rest is delivered; and the CPU time of writer (including reads of the study) and server as
shares of the total time.

    .venv/bin/python benchmarks/tracking.py
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from measure import spread
from mlflow_server import Server, mlflow_server

from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.records import EpochRecord, State, TrialRecord
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.terminal.quiet import CLIENT_SETTINGS
from tune_jobs.tracking.follower import TrackingFollower
from tune_jobs.tracking.runs import TrackedDataset
from tune_jobs.tracking.tracker import Tracker

if TYPE_CHECKING:  # only the training process loads torch
    from selfcon.train import EpochReport

TRIALS, EPOCHS, METRICS = 40, 25, 10  # ten thousand values
REPEATS = 5
DATASET = TrackedDataset(
    name="digits", digest="0" * 64, source="digits", class_names=tuple("0123456789"), profile={}
)
START_MS = 1_760_000_000_000
SPACE = """
name: cost
train:
  data: {dataset: digits, image_size: 16, augmentation: none}
  model: {width: 8, exit_depth: fc}
  optim: {epochs: 15, global_batch_size: 64, learning_rate: 0.05}
space: {loss.temperature: {low: 0.05, high: 0.5}}
search: {num_trials: 2, sampler: random}
pruner: {kind: none}
"""


def main() -> None:
    """Measure and print all costs."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.update(CLIENT_SETTINGS)
    with tempfile.TemporaryDirectory(dir=".") as folder, mlflow_server(Path(folder)) as server:
        send(server.uri, "warm-up", [records(1, 1)])  # imports MLflow, creates the experiment
        print_points("all at once", *send(server.uri, "at-once", [records(TRIALS, EPOCHS)]))
        print_points("epoch by epoch", *send(server.uri, "by-epoch", list(growing())))
        path = Path(folder) / "space.yaml"
        path.write_text(SPACE)
        with trainer() as connection:
            print_searches(load_space(path), server, Path(folder), connection)


# --- points ------------------------------------------------------------------------------------------------


def records(num_trials: int, num_epochs: int) -> list[TrialRecord]:
    """Return records of running trials with this number of epochs."""
    epochs = tuple(
        EpochRecord(epoch, {f"metric/{n}": epoch + 0.1 * n for n in range(METRICS)}, START_MS + epoch, 1)
        for epoch in range(num_epochs)
    )
    return [
        TrialRecord(
            number=number, state=State.RUNNING, reason=None, message=None,
            parameters={"loss.temperature": 0.1}, config={"loss.temperature": 0.1}, epochs=epochs, attempts=1,
            started_ms=START_MS + number, finished_ms=None, value=None, mlflow_run=None,
        )
        for number in range(num_trials)
    ]  # fmt: skip


def growing() -> Iterator[list[TrialRecord]]:
    """Yield the records of a study after each epoch, for one trial after the other."""
    complete = records(TRIALS, EPOCHS)
    for number, record in enumerate(complete):
        for epoch in range(EPOCHS):
            yield [*complete[:number], replace(record, epochs=record.epochs[: epoch + 1])]


def send(uri: str, search: str, states: list[list[TrialRecord]]) -> tuple[float, float]:
    """Send consecutive states to MLflow; return wall-clock and CPU seconds of the writer."""
    tracker = tracker_of(uri, search)
    started_s, started_cpu_s = time.perf_counter(), time.thread_time()
    for state in states:
        tracker.sync(state, remember_run=forget, max_files=0)  # metrics only
    return time.perf_counter() - started_s, time.thread_time() - started_cpu_s


def print_points(label: str, wall_s: float, cpu_s: float) -> None:
    """Print the time per metric value."""
    num_points = TRIALS * EPOCHS * METRICS
    print(
        f"{num_points} values {label}: {wall_s:.1f} s, {1000 * wall_s / num_points:.2f} ms per value, "
        f"including {1000 * cpu_s / num_points:.2f} ms CPU of the writer",
        flush=True,
    )


def tracker_of(uri: str, search: str) -> Tracker:
    """Return the tracker of a search."""
    return Tracker(
        uri=uri, experiment="cost", search=search, description="", tags={}, metric="metric/0", dataset=DATASET
    )


def forget(_record: TrialRecord, _run_id: str) -> None:
    """Ignore the run, which no study needs."""


# --- searches ----------------------------------------------------------------------------------------------


class TimedFollower(TrackingFollower):
    """Follower that measures its CPU time."""

    cpu_s = 0.0

    def _sync(self, max_files: int | None) -> None:
        started_s = time.thread_time()
        try:
            super()._sync(max_files)
        finally:
            self.cpu_s += time.thread_time() - started_s


@dataclass(frozen=True)
class Times:
    """Time from the first epoch to the last, from there until delivery is complete, and CPU times."""

    training_s: float
    delivery_s: float
    writer_s: float
    server_s: float

    @property
    def total_s(self) -> float:
        """Time from the first epoch until delivery is complete."""
        return self.training_s + self.delivery_s


def print_searches(space: SearchSpace, server: Server, folder: Path, connection: Connection) -> None:
    """Run searches with and without the writer in alternation, and compare their times."""
    times: dict[str, list[Times]] = {"with": [], "without": []}
    for repeat in range(REPEATS):
        for kind in times if repeat % 2 else reversed(times):
            study = SearchStudy(f"sqlite:///{folder}/{kind}-{repeat}.db", space, data_digest="none")
            study.set_num_trials(space.search.num_trials)
            tracker = tracker_of(server.uri, f"search-{repeat}")
            follower = TimedFollower(tracker, records=study.all_records, remember_run=study.remember_run_of)
            times[kind].append(search(study, follower if kind == "with" else None, server, connection))
            print(f"round {repeat + 1}: {kind} MLflow {times[kind][-1].training_s:.2f} s", flush=True)
    ours, theirs = ([one.training_s for one in times[kind]] for kind in ("with", "without"))
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"training with MLflow {spread(ours)} s, without {spread(theirs)} s, ratio {ratio:.3f}")
    print(f"delivery after the last epoch {spread([one.delivery_s for one in times['with']])} s")
    for part in ("writer", "server"):
        shares = [getattr(one, f"{part}_s") / one.total_s for one in times["with"]]
        print(f"CPU time of the {part}: {statistics.median(shares):.2%} of the time of a search")


def search(
    study: SearchStudy, follower: TimedFollower | None, server: Server, connection: Connection
) -> Times:
    """Run a search and return its times, which start with the report of the untrained network."""
    first_s, server_s, last_s = 0.0, 0.0, 0.0
    while (attempt := study.next_attempt()) is not None:
        connection.send(attempt.config.flat())
        while (reported := connection.recv()) is not None:
            if not first_s:
                first_s, server_s = time.perf_counter(), server.cpu_seconds()
                if follower is not None:
                    follower.start()
            epoch, metrics, confusion = reported
            study.report(attempt.number, attempt.attempt, epoch, metrics, confusion=confusion)
            last_s = time.perf_counter()
        study.end_attempt(attempt.number, attempt.attempt)
    if follower is not None:
        follower.finish()
    return Times(
        training_s=last_s - first_s,
        delivery_s=time.perf_counter() - last_s,
        writer_s=follower.cpu_s if follower is not None else 0.0,
        server_s=server.cpu_seconds() - server_s,
    )


@contextmanager
def trainer() -> Iterator[Connection]:
    """Start a process that trains the configurations it receives, and sends epochs, then None."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=train, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def train(connection: Connection) -> None:
    """Train received configurations with one thread, like a worker with one CPU."""
    import torch

    from selfcon.config import TrainConfig
    from selfcon.train import fit

    torch.set_num_threads(1)
    while True:
        fit(
            TrainConfig.from_flat(connection.recv()),
            report=lambda result: connection.send(message_of(result)),
        )
        connection.send(None)


def message_of(result: "EpochReport") -> tuple[int, dict[str, float], dict[str, Any]]:
    """Return the report of a worker for an epoch."""
    assert result.confusion is not None
    return result.epoch, result.metrics, result.confusion.as_json()


if __name__ == "__main__":
    main()
