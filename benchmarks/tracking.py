"""What MLflow costs a search: the time of a point, and the share of a search's time that the writer takes.

To a real server on this machine, on SQLite. First ten thousand points through the writer: all at once, as
after a time without a server, and epoch by epoch, as they come. Then a search with the writer and one
without, by turns: trials trained in a process of their own, their epochs recorded in a study here, which the
writer follows in its thread. Printed are the seconds from the first epoch to the last, whose ratio is what
training loses to the writer and to the server on the same CPUs, as far as the noise of the machine lets it
be seen; the seconds after it until MLflow has all; and the CPU time of the writer, which includes reading
the study, and of the server, as shares of the whole time.

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

TRIALS, EPOCHS, METRICS = 40, 25, 10  # ten thousand points
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
    """Measure and print."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.update(CLIENT_SETTINGS)
    with tempfile.TemporaryDirectory(dir=".") as folder, mlflow_server(Path(folder)) as server:
        send(server.uri, "warm-up", [records(1, 1)])  # imports MLflow, makes the experiment
        print_points("all at once", *send(server.uri, "at-once", [records(TRIALS, EPOCHS)]))
        print_points("epoch by epoch", *send(server.uri, "by-epoch", list(growing())))
        path = Path(folder) / "space.yaml"
        path.write_text(SPACE)
        with trainer() as connection:
            print_searches(load_space(path), server, Path(folder), connection)


# --- points ------------------------------------------------------------------------------------------------


def records(num_trials: int, num_epochs: int) -> list[TrialRecord]:
    """Return running trials with so many epochs each."""
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
    """Yield what a study has after each epoch of one trial after the other."""
    whole = records(TRIALS, EPOCHS)
    for number, record in enumerate(whole):
        for epoch in range(EPOCHS):
            yield [*whole[:number], replace(record, epochs=record.epochs[: epoch + 1])]


def send(uri: str, search: str, states: list[list[TrialRecord]]) -> tuple[float, float]:
    """Bring MLflow up to one state after the other; return the wall and the CPU seconds of the writer."""
    tracker = tracker_of(uri, search)
    started_s, started_cpu_s = time.perf_counter(), time.thread_time()
    for state in states:
        tracker.sync(state, remember_run=forget, max_files=0)  # the points alone
    return time.perf_counter() - started_s, time.thread_time() - started_cpu_s


def print_points(what: str, wall_s: float, cpu_s: float) -> None:
    """Print what a point costs."""
    num_points = TRIALS * EPOCHS * METRICS
    print(
        f"{num_points} points {what}: {wall_s:.1f} s, {1000 * wall_s / num_points:.2f} ms a point, "
        f"of these {1000 * cpu_s / num_points:.2f} ms CPU of the writer",
        flush=True,
    )


def tracker_of(uri: str, search: str) -> Tracker:
    """Return the writer of a search."""
    return Tracker(
        uri=uri, experiment="cost", search=search, description="", tags={}, metric="metric/0", dataset=DATASET
    )


def forget(_record: TrialRecord, _run_id: str) -> None:
    """No study has to remember the run."""


# --- searches ----------------------------------------------------------------------------------------------


class TimedFollower(TrackingFollower):
    """The writer of a search, which counts its CPU time."""

    cpu_s = 0.0

    def _sync(self, max_files: int | None) -> None:
        started_s = time.thread_time()
        try:
            super()._sync(max_files)
        finally:
            self.cpu_s += time.thread_time() - started_s


@dataclass(frozen=True)
class Times:
    """From the first epoch to the last, from there until all is delivered, and the CPU time that took."""

    training_s: float
    delivery_s: float
    writer_s: float
    server_s: float

    @property
    def whole_s(self) -> float:
        """From the first epoch until all is delivered."""
        return self.training_s + self.delivery_s


def print_searches(space: SearchSpace, server: Server, folder: Path, connection: Connection) -> None:
    """Run searches with and without the writer by turns and compare their times."""
    times: dict[str, list[Times]] = {"with": [], "without": []}
    for turn in range(REPEATS):
        for kind in times if turn % 2 else reversed(times):
            study = SearchStudy(f"sqlite:///{folder}/{kind}-{turn}.db", space, data_digest="none")
            study.set_num_trials(space.search.num_trials)
            tracker = tracker_of(server.uri, f"search-{turn}")
            follower = TimedFollower(tracker, records=study.all_records, remember_run=study.remember_run_of)
            times[kind].append(search(study, follower if kind == "with" else None, server, connection))
            print(f"turn {turn + 1}: {kind} MLflow {times[kind][-1].training_s:.2f} s", flush=True)
    ours, theirs = ([one.training_s for one in times[kind]] for kind in ("with", "without"))
    ratio = statistics.median(ours) / statistics.median(theirs)
    print(f"training with MLflow {spread(ours)} s, without {spread(theirs)} s, ratio {ratio:.3f}")
    print(f"delivery after the last epoch {spread([one.delivery_s for one in times['with']])} s")
    for who in ("writer", "server"):
        shares = [getattr(one, f"{who}_s") / one.whole_s for one in times["with"]]
        print(f"CPU time of the {who}: {statistics.median(shares):.2%} of a search's time")


def search(
    study: SearchStudy, follower: TimedFollower | None, server: Server, connection: Connection
) -> Times:
    """Run a search to its end and return its times, which begin with the epoch of the untrained network."""
    first_s, server_s, last_s = 0.0, 0.0, 0.0
    while (given := study.next_attempt()) is not None:
        connection.send(given.config.flat())
        while (reported := connection.recv()) is not None:
            if not first_s:
                first_s, server_s = time.perf_counter(), server.cpu_seconds()
                if follower is not None:
                    follower.start()
            epoch, metrics, confusion = reported
            study.report(given.number, given.attempt, epoch, metrics, confusion=confusion)
            last_s = time.perf_counter()
        study.end_attempt(given.number, given.attempt)
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
    """Start a process that trains each configuration it is sent, and sends back epochs, then None."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=train, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours
    finally:
        process.kill()
        process.join()


def train(connection: Connection) -> None:
    """Train what comes, on one thread, as the workers of a trial of one CPU do."""
    import torch

    from selfcon.config import TrainConfig
    from selfcon.train import fit

    torch.set_num_threads(1)
    while True:
        fit(TrainConfig.from_flat(connection.recv()), report=lambda result: connection.send(told(result)))
        connection.send(None)


def told(result: "EpochReport") -> tuple[int, dict[str, float], dict[str, Any]]:
    """Return what a worker reports of an epoch."""
    assert result.confusion is not None
    return result.epoch, result.metrics, result.confusion.as_json()


if __name__ == "__main__":
    main()
