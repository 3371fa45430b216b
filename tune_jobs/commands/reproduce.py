"""`--reproduce N`: retrain trial N from its record and report the differences from the recorded run."""

from pathlib import Path

from tune_jobs.checkpoints.retention import Retention
from tune_jobs.checkpoints.store import open_store
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
    """Retrain the trial and print the comparison; return 0 if it matches its record, else 1.

    Changed data is a drift too, detected before anything is trained. The same call resumes an interrupted
    reproduction; after a finished one it starts another. Raises `SearchError`.
    """
    assert options.reproduce is not None
    quiet_libraries()
    folder = (options.output / space.name).resolve()
    snapshot = _read(space, options, folder)
    original, drift = _trial(snapshot, options.reproduce), _drift_of_data(space, snapshot)
    if drift:
        print(drift)
        return 1
    return _print_comparison(snapshot, original, _retrain(space, options, folder, original))


def _read(space: SearchSpace, options: LaunchOptions, folder: Path) -> Snapshot:
    database = find_database(options.study_storage, folder, flag="--reproduce")
    try:
        return read_snapshot(database, study_name(space))
    finally:
        database.close()


def _drift_of_data(space: SearchSpace, snapshot: Snapshot) -> str | None:
    """The difference in the data as one line. Raises `BadInputError` if an immutable setting differs."""
    refuse_changed_space(snapshot.fixed, space)
    digest, now = snapshot.fixed["data_digest"], load_data(space).digest
    if now == digest:
        return None
    return f"drift: data: the digest is {now[:12]}, recorded with {digest[:12]}; nothing was trained"


def _trial(snapshot: Snapshot, number: int) -> TrialRecord:
    """The trial with this number, which must have ended after at least one report. Raises `BadInputError`."""
    found = [r for r in snapshot.counted if r.state != State.RUNNING and r.config and r.last_epoch >= 0]
    for record in found:
        if record.number == number:
            return record
    numbers = ", ".join(str(record.number) for record in found) or "none yet"
    raise BadInputError(f"--reproduce: expected a trial that ended ({numbers}), got {number}")


def _retrain(space: SearchSpace, options: LaunchOptions, folder: Path, original: TrialRecord) -> TrialRecord:
    """Retrain the trial in a separate folder, and return its record.

    The search is locked meanwhile, because its launcher would kill these workers as orphaned actors.
    """
    checkpoints = checkpoint_place(options.checkpoint_storage, folder, FOLDER)
    with launcher(space, options, folder=folder, below=FOLDER) as held:
        study = Reproduction(held.database, space, original)
        retention = Retention(
            open_store(checkpoints), records=study.records, ranked=list, num_protected=0, budget_bytes=0
        )
        held.train(study, checkpoints=checkpoints, retention=retention)
        held.disconnect()
        retention.apply()  # removes the checkpoints of the finished reproduction
        if not study.finished:
            held.raise_if_interrupted()
        return study.records()[0]


def _print_comparison(snapshot: Snapshot, original: TrialRecord, retrained: TrialRecord) -> int:
    comparison = compare(original, retrained)
    different = changes(
        launch_of(original, snapshot.launches),
        environment=environment_tags(),
        commit=commit_of_source(),
        workers=(set(original.workers), set(retrained.workers)),
    )
    print("\n".join(["", f"trial {original.label}, retrained", *comparison.lines()]))
    difference, bound = comparison.last_difference(snapshot.objective.metric), noise(snapshot)
    if comparison.drifted and difference is not None and bound is not None:
        chance = "within" if difference <= bound else "beyond"
        metric = snapshot.objective.metric
        print(f"  {metric} at the end differs by {difference:.4f}, {chance} chance ({bound:.4f})")
    for line in different:
        print(f"  different now: {line}")
    if not different:
        print("  code, versions, data and workers are the same as in the recorded run")
    return int(comparison.drifted)
