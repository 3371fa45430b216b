"""`--reproduce N`: train trial N again from its record, compare, and say what is different now."""

import sys
import time
from pathlib import Path

from rich.console import Console

from tune_jobs.causes import storage_faults
from tune_jobs.connection import Connection
from tune_jobs.console import EventLog
from tune_jobs.database import held
from tune_jobs.drift import changes, compare, launch_of
from tune_jobs.environment import environment_tags
from tune_jobs.errors import BadInputError
from tune_jobs.farewell import Farewell
from tune_jobs.fingerprint import refuse_changes
from tune_jobs.interruption import GRACE_S, Interruption
from tune_jobs.noise import noise
from tune_jobs.options import LaunchOptions, checkpoint_place
from tune_jobs.quiet import quiet_libraries
from tune_jobs.readiness import load_data
from tune_jobs.records import State, TrialRecord
from tune_jobs.reproduction import Reproduction
from tune_jobs.retention import Retention
from tune_jobs.snapshot import Snapshot, read_snapshot
from tune_jobs.source_code import commit_of_source
from tune_jobs.space import SearchSpace
from tune_jobs.study_store import find_database, study_name
from tune_jobs.trial_checkpoints import open_store
from tune_jobs.tuning import run_trials

FOLDER = "reproductions"


def reproduce(space: SearchSpace, options: LaunchOptions) -> int:
    """Train the trial again and show what came of it; return 0 where it is what was recorded, else 1.

    Data that are not those of the search are a drift too, found before anything is trained. The same call
    goes on with a repetition that was interrupted, and begins another one after that. Raises `SearchError`.
    """
    assert options.reproduce is not None
    quiet_libraries()
    folder = (options.output / space.name).resolve()
    database = find_database(options.study_storage, folder, flag="--reproduce")
    interruption, farewell = Interruption(GRACE_S), Farewell(options)
    connected = Connection(space, options.address, interruption, on_lost=farewell.leave)
    with (
        interruption.caught(),
        connected as connection,
        storage_faults(folder),
        held(database, study=study_name(space), folder=folder),
    ):
        snapshot = read_snapshot(database, study_name(space))
        original, digest = _trial(snapshot, options.reproduce), snapshot.fixed["data_digest"]
        refuse_changes(snapshot.fixed, {**space.fixed_for_life(), "data_digest": digest}, name=space.name)
        now = load_data(space).digest
        if now != digest:
            print(f"drift: data: the digest is {now[:12]}, recorded with {digest[:12]}; nothing was trained")
            return 1
        reproduction = Reproduction(database, space, original)
        _train(space, options, folder, reproduction, connection=connection, interruption=interruption)
        if not reproduction.finished:
            print(f"interrupted; go on with: {options.command()}")
            return interruption.exit_code
        return _verdict(snapshot, original, reproduction.records()[0])


def _trial(snapshot: Snapshot, number: int) -> TrialRecord:
    """The trial with this number, which has ended with an epoch to compare. Raises `BadInputError`."""
    found = [r for r in snapshot.counted if r.state != State.RUNNING and r.config and r.last_epoch >= 0]
    for record in found:
        if record.number == number:
            return record
    numbers = ", ".join(str(record.number) for record in found) or "none yet"
    raise BadInputError(f"--reproduce: expected a trial that ended ({numbers}), got {number}")


def _train(
    space: SearchSpace,
    options: LaunchOptions,
    folder: Path,
    reproduction: Reproduction,
    *,
    connection: Connection,
    interruption: Interruption,
) -> None:
    """Train the repetition in a folder of its own; its checkpoints go once it has ended."""
    place = checkpoint_place(options.checkpoint_storage, folder, FOLDER)
    (folder / FOLDER).mkdir(exist_ok=True)
    retention = Retention(
        open_store(place), records=reproduction.records, ranked=list, num_needed=0, budget_bytes=0
    )
    console = Console(file=sys.stdout, soft_wrap=True)
    run_trials(
        space,
        reproduction,
        folder=folder / FOLDER,
        checkpoints=place,
        retention=retention,
        connection=connection,
        interruption=interruption,
        log=EventLog(console, reproduction, metric=space.objective.metric, start_s=time.monotonic()),
    )
    connection.close()
    retention.apply()


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
