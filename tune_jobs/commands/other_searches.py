"""Look-up of other searches by name, in the --output folder or in the study database."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from selfcon.errors import ConfigError, nearest
from tune_jobs.errors import BadInputError
from tune_jobs.options import LaunchOptions
from tune_jobs.search_folder import STUDY_FILE
from tune_jobs.space import SearchSpace
from tune_jobs.space.start_points import StartPoint, transferred
from tune_jobs.study.database.database import Database
from tune_jobs.study.snapshot import Snapshot, read_snapshot, study_names
from tune_jobs.study.store import open_database

NUM_TAKEN = 3
MAX_NAMED = 6  # searches that an error message lists


def read_search(name: str, options: LaunchOptions, *, key: str) -> Snapshot:
    """Return the search NAME or EXPERIMENT/NAME from --study-storage if set, else from a folder of --output.

    Raises `BadInputError`, whose message begins with `key`, unless exactly one search matches.
    """
    database = _database(name.rpartition("/")[2], options, key=key)
    try:
        # A search is EXPERIMENT/NAME; its confirmation and its reproductions have a third part.
        searches = [study for study in study_names(database) if study.count("/") == 1]
        return read_snapshot(database, _only(name, searches, where=database.shown, key=key))
    finally:
        database.close()


def warm_start_points(space: SearchSpace, options: LaunchOptions) -> list[StartPoint]:
    """Return the best trials of the search that `start_from` names, reduced to the values of this space.

    At most three, best first; if the search has a confirmation, its means decide. Raises `BadInputError` if
    the search does not exist or has no usable trial.
    """
    assert space.start_from is not None
    key = f"{space.place('start_from')}: start_from"
    snapshot = read_search(space.start_from, options, key=key)
    best = [candidate.trial for candidate in snapshot.candidates] or snapshot.ranked
    points = [transferred(record.config, space.tree) for record in best[:NUM_TAKEN] if record.config]
    found: list[StartPoint] = []
    for point in points:
        if point is not None and point.encoded not in [other.encoded for other in found]:
            found.append(point)
    if not found:
        expected = "a search with a finished trial that this space can have"
        raise BadInputError(str(ConfigError(key, expected, space.start_from)))
    return found


def _database(name: str, options: LaunchOptions, *, key: str) -> Database:
    if options.study_storage is not None:
        database = open_database(options.study_storage)
        if not database.exists():
            _refuse(name, [], where=database.shown, key=key)
        return database
    path = options.output / name / STUDY_FILE
    if not path.is_file():
        existing = sorted(found.parent.name for found in options.output.glob(f"*/{STUDY_FILE}"))
        _refuse(name, existing, where=str(options.output), key=key)
    return open_database(f"sqlite:///{Path(path).resolve()}")


def _only(name: str, searches: Sequence[str], *, where: str, key: str) -> str:
    """The one study whose name matches."""
    found = [search for search in searches if name in (search, search.rpartition("/")[2])]
    if not found:
        _refuse(name, [search.rpartition("/")[2] for search in searches], where=where, key=key)
    if len(found) > 1:
        expected = f"EXPERIMENT/NAME, one of {', '.join(found)}"
        raise BadInputError(str(ConfigError(key, expected, name)))
    return found[0]


def _refuse(name: str, existing: Sequence[str], *, where: str, key: str) -> NoReturn:
    hint = nearest(name, existing)
    is_listed = hint is None and 0 < len(existing) <= MAX_NAMED
    expected = f"a search that was started, in {where}" + (f": {', '.join(existing)}" if is_listed else "")
    raise BadInputError(str(ConfigError(key, expected, name, hint)))
