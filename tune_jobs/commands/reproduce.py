"""`--reproduce N`: train trial N again from its record, compare, and report what is different now."""

from pathlib import Path

from tune_jobs.checkpoints.retention import Retention
from tune_jobs.checkpoints.trial_checkpoints import open_store
from tune_jobs.commands.drift import changes, compare, launch_of
from tune_jobs.commands.launcher import launcher
from tune_jobs.commands.readiness import load_data
from tune_jobs.errors import BadInputError
from tune_jobs.options import LaunchOptions
from tune_jobs.provenance import commit_of_source, environment_tags
from tune_jobs.report.noise import noise
from tune_jobs.space import SearchSpace
from tune_jobs.study.fingerprint import refuse_changed_space
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.reproduction import Reproduction
from tune_jobs.study.snapshot import Snapshot, read_snapshot
from tune_jobs.study.store import find_database, study_name
from tune_jobs.terminal.quiet import quiet_libraries
from tune_jobs.urls import checkpoint_place

FOLDER = "reproductions"


def reproduce(space: SearchSpace, options: LaunchOptions) -> int:
    """Train the trial again and print the comparison; return 0 if it matches its record, else 1.

    Data other than the recorded ones are a drift too, found before anything is trained. The same call resumes
    a reproduction that was interrupted, and starts another one after that. Raises `SearchError`.
    """
    assert options.reproduce is not None
    quiet_libraries()
    folder = (options.output / space.name).resolve()
    snapshot = _read(space, options, folder)
    original, drift = _trial(snapshot, options.reproduce), _drift_of_data(space, snapshot)
    if drift:
        print(drift)
        return 1
    return _print_comparison(snapshot, original, _train_again(space, options, folder, original))


def _read(space: SearchSpace, options: LaunchOptions, folder: Path) -> Snapshot:
    database = find_database(options.study_storage, folder, flag="--reproduce")
    try:
        return read_snapshot(database, study_name(space))
    finally:
        database.close()


def _drift_of_data(space: SearchSpace, snapshot: Snapshot) -> str | None:
    """What is different about the data, in a line. Raises `BadInputError` if the file is not the search's."""
    refuse_changed_space(snapshot.fixed, space)
    digest, now = snapshot.fixed["data_digest"], load_data(space).digest
    if now == digest:
        return None
    return f"drift: data: the digest is {now[:12]}, recorded with {digest[:12]}; nothing was trained"


def _trial(snapshot: Snapshot, number: int) -> TrialRecord:
    """The trial with this number, which has ended with an epoch to compare. Raises `BadInputError`."""
    found = [r for r in snapshot.counted if r.state != State.RUNNING and r.config and r.last_epoch >= 0]
    for record in found:
        if record.number == number:
            return record
    numbers = ", ".join(str(record.number) for record in found) or "none yet"
    raise BadInputError(f"--reproduce: expected a trial that ended ({numbers}), got {number}")


def _train_again(
    space: SearchSpace, options: LaunchOptions, folder: Path, original: TrialRecord
) -> TrialRecord:
    """Train the trial again, in a folder of its own, and return its record.

    The search is held meanwhile: its launcher would take the workers for orphans of its own.
    """
    checkpoints = checkpoint_place(options.checkpoint_storage, folder, FOLDER)
    with launcher(space, options, folder=folder, below=FOLDER) as held:
        study = Reproduction(held.database, space, original)
        retention = Retention(
            open_store(checkpoints), records=study.records, ranked=list, num_protected=0, budget_bytes=0
        )
        held.train(study, checkpoints=checkpoints, retention=retention)
        held.disconnect()
        retention.apply()  # removes its checkpoints once it has ended
        if not study.finished:
            held.raise_if_interrupted()
        return study.records()[0]


def _print_comparison(snapshot: Snapshot, original: TrialRecord, again: TrialRecord) -> int:
    comparison = compare(original, again)
    different = changes(
        launch_of(original, snapshot.launches),
        environment=environment_tags(),
        commit=commit_of_source(),
        workers=(set(original.workers), set(again.workers)),
    )
    print("\n".join(["", f"trial {original.label}, trained again", *comparison.lines()]))
    difference, bound = comparison.of_the_objective(snapshot.objective.metric), noise(snapshot)
    if comparison.drifted and difference is not None and bound is not None:
        chance = "within" if difference <= bound else "beyond"
        metric = snapshot.objective.metric
        print(f"  {metric} at the end differs by {difference:.4f}, {chance} chance ({bound:.4f})")
    for line in different:
        print(f"  different now: {line}")
    if not different:
        print("  code, versions, data and workers are those that it was recorded with")
    return int(comparison.drifted)
