"""Run or resume a search: preflight, trials, winner, report. The one module that wires the platform."""

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from selfcon.config import TrainConfig
from selfcon.data.dataset import ImageDataset
from tune_jobs.checkpoints.folder import refuse_unknown_trials
from tune_jobs.checkpoints.retention import Retention
from tune_jobs.checkpoints.size import num_needed
from tune_jobs.checkpoints.store import CheckpointStore
from tune_jobs.checkpoints.trial_checkpoints import load_state, newest_valid, open_store
from tune_jobs.cluster.connection import Connection
from tune_jobs.commands.farewell import Farewell
from tune_jobs.commands.other_searches import points_to_take
from tune_jobs.commands.readiness import check_storage, check_tracking, load_data, refuse_shared_database
from tune_jobs.errors import NoSuccessError, SearchError, TrackingError
from tune_jobs.execution.failure_causes import storage_faults
from tune_jobs.execution.tuner import run_trials
from tune_jobs.options import LaunchOptions
from tune_jobs.provenance import commit_of_source, environment_tags, shown_commit
from tune_jobs.registry.register import publish
from tune_jobs.report.artifacts import search_files
from tune_jobs.report.files import report_files, write_files
from tune_jobs.report.text import print_result, result_metrics, summary
from tune_jobs.search_folder import NOISE_LOG, REPORT
from tune_jobs.space import SearchSpace
from tune_jobs.study.database.database import Database, held
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.study.store import database_of, study_name
from tune_jobs.study.trial_study import TrialStudy
from tune_jobs.terminal.event_log import EventLog
from tune_jobs.terminal.interruption import GRACE_S, Interruption
from tune_jobs.terminal.live_panel import LivePanel, watcher
from tune_jobs.terminal.quiet import quiet_libraries
from tune_jobs.terminal.streams import Terminal, UserConsole
from tune_jobs.tracking.follower import TrackingFollower
from tune_jobs.tracking.runs import TrackedDataset
from tune_jobs.tracking.tracker import Tracker
from tune_jobs.urls import checkpoint_place
from tune_jobs.wording import printable, shown_place


@dataclass(frozen=True)
class Search:
    """One launch of a search: what was asked for, its durable state, and who follows that."""

    space: SearchSpace
    options: LaunchOptions
    folder: Path
    terminal: Terminal
    console: UserConsole
    dataset: ImageDataset
    study: SearchStudy
    tracker: Tracker
    follower: TrackingFollower
    checkpoints: str

    def watcher(
        self, stage: TrialStudy, interruption: Interruption, *, start_s: float
    ) -> EventLog | LivePanel:
        """Return what shows a stage of the search while it runs."""
        log = shown_place(self.folder / NOISE_LOG)
        return watcher(
            self.terminal,
            self.console,
            stage,
            self.space,
            places=lambda: {"log": log, "MLflow": self.tracker.page},
            is_stopping=lambda: interruption.requested,
            start_s=start_s,
        )

    def print_result(self) -> None:
        """Show the result of the search, or how far it is."""
        print_result(
            self.console,
            self.study.snapshot(),
            self.folder,
            tracking=self.tracker.where,
            options=self.options,
        )

    def write_files(self) -> None:
        """Put what people open into the folder of the search; a disk that refuses is told, and no more."""
        for line in write_files(self.folder, report_files(self.study.snapshot())):
            self.console.write_line(line)

    def close_tracking(
        self, status: Literal["FINISHED", "KILLED", "FAILED"], metrics: dict[str, float] | None = None
    ) -> None:
        """End the run of the search in MLflow; one that is only interrupted gets its files later."""
        snapshot = self.study.snapshot()
        words, files = summary(snapshot), {}
        if status != "KILLED":
            files = {**search_files(snapshot, summary=words), **report_files(snapshot)}
        self.tracker.close(status, metrics=metrics or {}, summary=words, files=files)


def run_search(space: SearchSpace, options: LaunchOptions) -> int:
    """Run the search to its end, or as far as it may, and return the exit code.

    The same call starts, resumes and, on a finished search, shows the result. Raises `SearchError` with a
    line for the user.
    """
    quiet_libraries()
    folder = (options.output / space.name).resolve()
    dataset = load_data(space)
    tracker = _tracker(space, options, dataset)
    refuse_shared_database(options, tracker.uri)
    database = database_of(options.study_storage, folder)
    is_first_launch = not folder.is_dir()
    check_tracking(tracker, is_first_launch=is_first_launch)
    terminal = Terminal()
    interruption, farewell = Interruption(GRACE_S, terminal), Farewell(options, terminal)
    connected = Connection(space, options.address, interruption, on_lost=farewell.leave, terminal=terminal)
    with terminal.kept_clear() as noise_goes_to, interruption.caught(), connected as connection:
        if is_first_launch and options.address is not None:  # nothing is written before a trial fits there
            connection.open(terminal.tell)
            if interruption.requested:
                terminal.tell(f"interrupted; go on with: {options.command()}")
                return interruption.exit_code
        if is_first_launch and space.start_from is not None:
            points_to_take(space, options)
        if is_first_launch and options.checkpoint_storage is not None:
            check_storage(checkpoint_place(options.checkpoint_storage, folder))
        with storage_faults(folder), held(database, study=study_name(space), folder=folder):
            noise_goes_to(folder / NOISE_LOG)
            search = _open(space, options, folder, tracker, terminal, dataset=dataset, database=database)
            farewell.first(partial(_end_tracking, search))
            return _run(search, connection, interruption, database=database.shown)


def _retention(search: Search, store: CheckpointStore) -> Retention:
    study, space = search.study, search.space
    return Retention(
        store,
        records=study.all_records,
        ranked=study.ranked,
        num_needed=num_needed(space, study.num_trials),
        budget_bytes=space.search.checkpoint_budget_bytes,
    )


def _tracker(space: SearchSpace, options: LaunchOptions, dataset: ImageDataset) -> Tracker:
    commit = commit_of_source()
    return Tracker(
        uri=options.tracking_uri,
        experiment=space.tracking.experiment,
        search=space.name,
        description=space.description,
        tags={
            "mlflow.source.name": "launch.py",
            **({"mlflow.source.git.commit": commit} if commit else {}),
            **environment_tags(),
        },
        metric=space.objective.metric,
        dataset=TrackedDataset(
            name=dataset.name,
            digest=dataset.digest,
            source=dataset.name if dataset.name == "digits" else str(Path(space.data.root).resolve()),
            class_names=tuple(map(printable, dataset.class_names)),
            profile={
                **{f"num_{name}": count for name, count in dataset.num_images.items()},
                "num_classes": len(dataset.class_names),
                "image_size": dataset.image_size,
            },
        ),
    )


def _open(
    space: SearchSpace,
    options: LaunchOptions,
    folder: Path,
    tracker: Tracker,
    terminal: Terminal,
    *,
    dataset: ImageDataset,
    database: Database,
) -> Search:
    study = SearchStudy(database, space, data_digest=dataset.digest)
    follower = TrackingFollower(tracker, records=study.all_records, remember_run=study.remember_run_of)
    return Search(
        space=space,
        options=options,
        folder=folder,
        terminal=terminal,
        console=UserConsole(file=terminal.out, soft_wrap=True),
        dataset=dataset,
        study=study,
        tracker=tracker,
        follower=follower,
        checkpoints=checkpoint_place(options.checkpoint_storage, folder),
    )


def _run(search: Search, connection: Connection, interruption: Interruption, *, database: str) -> int:
    study = search.study
    study.want(search.options.num_trials or search.space.search.num_trials)
    if study.concluded:
        if not (search.folder / REPORT).is_file():
            search.write_files()
        search.print_result()
        return 0
    if study.failed_alike and all(record.state != State.RUNNING for record in study.records()):
        raise NoSuccessError(study.failed_alike)
    store = open_store(search.checkpoints)
    if search.options.checkpoint_storage is not None:
        store.check()
    refuse_unknown_trials(store.trials(), study.all_records(), where=store.where, database=database)
    retention = _retention(search, store)
    retention.apply()  # what a launcher that was killed left
    _take_note(search)
    _take_start(search)
    search.follower.start()
    start_s = time.monotonic()
    for stage in study.stages:
        if not (stage.finished or interruption.requested):
            run_trials(
                search.space,
                stage,
                folder=search.folder,
                checkpoints=search.checkpoints,
                retention=retention,
                connection=connection,
                interruption=interruption,
                log=search.watcher(stage, interruption, start_s=start_s),
            )
    connection.close()
    retention.apply()
    return _interrupted(search, interruption) if interruption.requested else _conclude(search)


def _take_note(search: Search) -> None:
    """Keep on what this launch runs, and say so where it runs other code than the one before."""
    study, dataset, commit = search.study, search.dataset, commit_of_source()
    before = study.snapshot().launches
    study.launched(
        data={
            "name": dataset.name,
            "num_images": dataset.num_images,
            "num_classes": len(dataset.class_names),
        },
        environment=environment_tags(),
        commit=commit,
    )
    if before and before[-1].commit != commit:
        was, now = (shown_commit(each) for each in (before[-1].commit, commit))
        line = f"note: the code is at {now}; the launch before ran {was}"
        search.console.print(line, markup=False, highlight=False)


def _take_start(search: Search) -> None:
    """Take over the best trials of another search, once, where the file names one."""
    study, space = search.study, search.space
    if space.start_from is not None and not study.has_taken_start:
        points = points_to_take(space, search.options)
        study.take_start(points)
        line = f"tried first: the best {len(points)} of {space.start_from}"
        search.console.print(line, markup=False, highlight=False)


def _interrupted(search: Search, interruption: Interruption) -> int:
    with suppress(TrackingError):  # the next launch delivers what is missing
        _end_tracking(search)
    search.write_files()
    search.console.print(
        f"interrupted; go on with: {search.options.command()}", markup=False, highlight=False
    )
    return interruption.exit_code


def _end_tracking(search: Search) -> None:
    """Send what is there and end the runs, until the next launch takes them up again."""
    search.follower.finish(with_files=False)
    search.close_tracking("KILLED")


def _conclude(search: Search) -> int:
    """Publish the winner, close the records and show the result; the files are there even without MLflow."""
    study = search.study
    study.note_end()
    if study.spent_budget:
        search.console.write_line(f"ended by the {study.spent_budget}")
    search.write_files()
    winner = study.winner()
    if winner is None:
        with suppress(TrackingError):  # that nothing succeeded is what counts
            search.follower.finish()
            search.close_tracking("FAILED")
        search.print_result()
        completed = any(record.state == State.COMPLETE for record in study.records())
        raise NoSuccessError("no trial keeps the constraints" if completed else "no trial succeeded")
    try:
        _deliver(search, winner)
    except TrackingError:
        search.print_result()
        raise
    search.print_result()
    return 0


def _deliver(search: Search, winner: TrialRecord) -> None:
    """Register the winner's encoder and give MLflow all it lacks, the report with the test figures too."""
    study = search.study
    search.follower.finish()
    publication = study.publication()
    if publication is None or publication["trial"] != winner.number:
        search.console.write_line(f"trial {winner.number} is best; its encoder is tested and registered now")
        study.set_publication(_publish(search, winner))
    search.write_files()
    search.close_tracking("FINISHED", result_metrics(study.snapshot()))
    study.conclude()


def _publish(search: Search, winner: TrialRecord) -> dict[str, object]:
    """Evaluate the winner on the test set, once, and register its encoder."""
    assert winner.config is not None
    assert winner.mlflow_run is not None
    store, config = open_store(search.checkpoints), TrainConfig.from_flat(winner.config)
    checkpoint = newest_valid(store, winner.name)
    if checkpoint is None:
        raise SearchError(f"the checkpoint of the winner, trial {winner.number}, is missing or damaged")
    model = search.space.tracking.registered_model
    publication = publish(
        uri=search.tracker.uri,
        run_id=winner.mlflow_run,
        registered_model=model,
        search=search.space.name,
        record=winner,
        checkpoint=load_state(store, winner.name, checkpoint, config=config),
        config=config,
    )
    return {
        "trial": winner.number,
        "model": model,
        "version": publication.version,
        "alias": publication.alias,
        "why": publication.why,
        "metrics": publication.metrics,
    }
