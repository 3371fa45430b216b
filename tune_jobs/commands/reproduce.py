"""`--reproduce N`: train trial N again from its record, compare, and say what is different now."""

import time
from pathlib import Path

from tune_jobs.checkpoints.retention import Retention
from tune_jobs.checkpoints.trial_checkpoints import open_store
from tune_jobs.cluster.connection import Connection
from tune_jobs.commands.drift import changes, compare, launch_of
from tune_jobs.commands.farewell import Farewell
from tune_jobs.commands.readiness import load_data
from tune_jobs.errors import BadInputError
from tune_jobs.execution.failure_causes import storage_faults
from tune_jobs.execution.tuner import run_trials
from tune_jobs.options import LaunchOptions
from tune_jobs.provenance import commit_of_source, environment_tags
from tune_jobs.report.noise import noise
from tune_jobs.search_folder import NOISE_LOG
from tune_jobs.space import SearchSpace
from tune_jobs.study.database.database import Database, held
from tune_jobs.study.fingerprint import refuse_changes
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.reproduction import Reproduction
from tune_jobs.study.snapshot import Snapshot, read_snapshot
from tune_jobs.study.store import database_of, find_database, study_name
from tune_jobs.terminal.interruption import GRACE_S, Interruption
from tune_jobs.terminal.live_panel import watcher
from tune_jobs.terminal.quiet import quiet_libraries
from tune_jobs.terminal.streams import Terminal, UserConsole
from tune_jobs.urls import checkpoint_place
from tune_jobs.wording import shown_place

FOLDER = "reproductions"


def reproduce(space: SearchSpace, options: LaunchOptions) -> int:
    """Train the trial again and show what came of it; return 0 where it is what was recorded, else 1.

    Data that are not those of the search are a drift too, found before anything is trained. The same call
    goes on with a repetition that was interrupted, and begins another one after that. Raises `SearchError`.
    """
    assert options.reproduce is not None
    quiet_libraries()
    folder = (options.output / space.name).resolve()
    snapshot = _read(space, find_database(options.study_storage, folder, flag="--reproduce"))
    original, drift = _trial(snapshot, options.reproduce), _drift_of_data(space, snapshot)
    if drift:
        print(drift)
        return 1
    terminal = Terminal()
    interruption = Interruption(GRACE_S, terminal)
    again = _trained(space, options, folder, original, terminal=terminal, interruption=interruption)
    if again is None:
        print(f"interrupted; go on with: {options.command()}")
        return interruption.exit_code
    return _verdict(snapshot, original, again)


def _read(space: SearchSpace, database: Database) -> Snapshot:
    try:
        return read_snapshot(database, study_name(space))
    finally:
        database.close()


def _drift_of_data(space: SearchSpace, snapshot: Snapshot) -> str | None:
    """What is wrong with the data, in a line. Raises `BadInputError` for a file that is not the search's."""
    digest = snapshot.fixed["data_digest"]
    refuse_changes(snapshot.fixed, {**space.fixed_for_life(), "data_digest": digest}, name=space.name)
    now = load_data(space).digest
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


def _trained(
    space: SearchSpace,
    options: LaunchOptions,
    folder: Path,
    original: TrialRecord,
    *,
    terminal: Terminal,
    interruption: Interruption,
) -> TrialRecord | None:
    """Train the trial again, in a folder of its own, and return its record; None where that was interrupted.

    The search is held meanwhile: its launcher would take the workers for left ones of its own.
    """
    database, farewell = database_of(options.study_storage, folder), Farewell(options, terminal)
    connected = Connection(space, options.address, interruption, on_lost=farewell.leave, terminal=terminal)
    with (
        terminal.kept_clear() as noise_goes_to,
        interruption.caught(),
        connected as connection,
        storage_faults(folder),
        held(database, study=study_name(space), folder=folder),
    ):
        place, checkpoints = folder / FOLDER, checkpoint_place(options.checkpoint_storage, folder, FOLDER)
        place.mkdir(exist_ok=True)
        noise_goes_to(place / NOISE_LOG)
        reproduction = Reproduction(database, space, original)
        retention = Retention(
            open_store(checkpoints), records=reproduction.records, ranked=list, num_needed=0, budget_bytes=0
        )
        run_trials(
            space,
            reproduction,
            folder=place,
            checkpoints=checkpoints,
            retention=retention,
            connection=connection,
            interruption=interruption,
            log=watcher(
                terminal,
                UserConsole(file=terminal.out, soft_wrap=True),
                reproduction,
                space,
                places=lambda: {"log": shown_place(place / NOISE_LOG)},
                is_stopping=lambda: interruption.requested,
                start_s=time.monotonic(),
            ),
        )
        connection.close()
        retention.apply()  # its checkpoints are needed no more once it has ended
        return reproduction.records()[0] if reproduction.finished else None


def _verdict(snapshot: Snapshot, original: TrialRecord, again: TrialRecord) -> int:
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
