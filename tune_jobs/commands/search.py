"""Run or resume a search: check, open, run, conclude. The only module that connects all packages."""

from contextlib import suppress

from selfcon.config import TrainConfig
from tune_jobs.checkpoints.folder import refuse_unknown_trials
from tune_jobs.checkpoints.retention import Retention
from tune_jobs.checkpoints.size import num_protected
from tune_jobs.checkpoints.store import CheckpointStore, open_store
from tune_jobs.checkpoints.trial_checkpoints import load_state, newest_valid
from tune_jobs.commands.open_search import Search, add_warm_start, open_search, record_launch
from tune_jobs.commands.readiness import check_search
from tune_jobs.errors import NoSuccessError, SearchError, TrackingError
from tune_jobs.options import LaunchOptions
from tune_jobs.registry.register import publish
from tune_jobs.report.text import result_metrics
from tune_jobs.search_folder import REPORT
from tune_jobs.space import SearchSpace
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.terminal.quiet import quiet_libraries


def run_search(space: SearchSpace, options: LaunchOptions) -> int:
    """Run the search to its end, or show the result of a finished one; return the exit code 0.

    The same call starts and resumes. Raises `SearchError`, one line for the user, in every other case.
    """
    quiet_libraries()
    checked = check_search(space, options)
    with open_search(checked) as search:
        if search.study.is_published:
            _show_result(search)
        else:
            _run(search)
            _conclude(search)
    return 0


def _show_result(search: Search) -> None:
    if not (search.folder / REPORT).is_file():
        search.write_files()
    search.print_result()


def _run(search: Search) -> None:
    """Train the trials of the search, then the seeds of its confirmation."""
    study = search.study
    if study.common_failure and all(record.state != State.RUNNING for record in study.records()):
        raise NoSuccessError(study.common_failure)
    store = open_store(search.checked.checkpoints)
    if search.options.checkpoint_storage is not None and not search.checked.is_first_launch:
        store.check()
    database = search.launcher.database.shown
    refuse_unknown_trials(store.trials(), study.all_records(), where=store.where, database=database)
    retention = _retention(search, store)
    retention.apply()  # removes what a killed launcher did not remove
    record_launch(search)
    add_warm_start(search)
    search.follower.start()
    for stage in study.stages:
        if not (stage.finished or search.launcher.is_interrupted):
            search.launcher.train(
                stage,
                checkpoints=search.checked.checkpoints,
                retention=retention,
                places=lambda: {"MLflow": search.tracker.page},
            )
    search.launcher.disconnect()
    retention.apply()
    if search.launcher.is_interrupted:
        _suspend(search)


def _retention(search: Search, store: CheckpointStore) -> Retention:
    return Retention(
        store,
        records=search.study.all_records,
        ranked=search.study.ranked,
        num_protected=num_protected(search.space, search.study.num_trials),
        budget_bytes=search.space.search.checkpoint_budget_bytes,
    )


def _suspend(search: Search) -> None:
    """Save the state for the next launch, and raise `InterruptedSearchError`."""
    with suppress(TrackingError):  # the next launch sends the missing records
        search.suspend_tracking()
    search.write_files()
    search.launcher.raise_if_interrupted()


def _conclude(search: Search) -> None:
    """Publish the winner, close the MLflow runs and show the result; the files are written in any case."""
    study = search.study
    study.record_end()
    if study.spent_budget:
        search.console.write_line(f"ended: {study.spent_budget} is used up")
    search.write_files()
    try:
        if study.winner() is None:
            _conclude_without_winner(search)
        else:
            _deliver(search)
    except (NoSuccessError, TrackingError):
        search.print_result()
        raise
    search.print_result()


def _conclude_without_winner(search: Search) -> None:
    with suppress(TrackingError):  # that no trial succeeded is the more important error
        search.follower.finish()
        search.close_tracking("FAILED")
    completed = any(record.state == State.COMPLETE for record in search.study.records())
    raise NoSuccessError("no trial satisfies the constraints" if completed else "no trial succeeded")


def _deliver(search: Search) -> None:
    """Register the winner's encoder and send MLflow the missing records and the final report."""
    study = search.study
    search.follower.finish()
    winner, publication = study.winner(), study.publication()  # its run may be new
    assert winner is not None
    if publication is None or publication["trial"] != winner.number:
        search.console.write_line(f"trial {winner.number} is the best; testing and registering its encoder")
        study.set_publication(_publish(search, winner))
    search.write_files()
    search.close_tracking("FINISHED", result_metrics(study.snapshot()))
    study.mark_published()


def _publish(search: Search, winner: TrialRecord) -> dict[str, object]:
    """Evaluate the winner on the test set, once, and register its encoder."""
    assert winner.config is not None
    assert winner.mlflow_run is not None
    store, config = open_store(search.checked.checkpoints), TrainConfig.from_flat(winner.config)
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
