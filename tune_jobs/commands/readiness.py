"""Checks of a search after preflight, the cheap ones first.

Nothing is written, and no trial is started, before all of them have passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcon.data.batches import num_steps
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.errors import ConfigError
from tune_jobs.checkpoints.store import open_store
from tune_jobs.commands.other_searches import warm_start_points
from tune_jobs.errors import BadInputError, StorageError, TrackingError
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace
from tune_jobs.space.start_points import StartPoint
from tune_jobs.study.fingerprint import FIXED_ATTRIBUTE, refuse_changed_space
from tune_jobs.study.store import database_of, read_attributes, study_name
from tune_jobs.study.trial_sampler import warm_start_key
from tune_jobs.tracking.server import check_store, resolve_uri
from tune_jobs.urls import checkpoint_place, is_same_database, masked_uri


@dataclass(frozen=True, kw_only=True)
class CheckedSearch:
    """A search that can be started or resumed, with the results of its checks.

    `warm_start` holds the points of the search that `start_from` names, None if there are none to add.
    `tracking_experiment` is the id of the MLflow experiment, None if it does not exist yet or MLflow does not
    answer.
    """

    space: SearchSpace
    options: LaunchOptions
    folder: Path
    is_first_launch: bool
    warm_start: Sequence[StartPoint] | None
    tracking_uri: str
    tracking_experiment: str | None
    dataset: ImageDataset

    @property
    def checkpoints(self) -> str:
        """Location of the checkpoints: a folder or an s3:// URI."""
        return checkpoint_place(self.options.checkpoint_storage, self.folder)


def check_search(space: SearchSpace, options: LaunchOptions) -> CheckedSearch:
    """Return the search once every check has passed.

    Raises:
        BadInputError: An immutable setting of the space file differs, the data cannot be used, or, at the
            first launch, MLflow does not answer or the checkpoint storage cannot be written.
        StorageError: The study's database cannot be used.
    """
    folder, tracking_uri = (options.output / space.name).resolve(), resolve_uri(options.tracking_uri)
    is_first_launch = not folder.is_dir()
    _refuse_shared_database(options, tracking_uri)
    stored = _stored_attributes(space, options, folder)
    if FIXED_ATTRIBUTE in stored:
        refuse_changed_space(stored[FIXED_ATTRIBUTE], space)
    has_points = space.start_from is not None and warm_start_key(space.start_from) not in stored
    warm_start = warm_start_points(space, options) if has_points else None
    if is_first_launch and options.checkpoint_storage is not None:
        _check_checkpoint_storage(checkpoint_place(options.checkpoint_storage, folder))
    experiment = _check_tracking(tracking_uri, space.tracking.experiment, is_first_launch=is_first_launch)
    return CheckedSearch(
        space=space,
        options=options,
        folder=folder,
        is_first_launch=is_first_launch,
        warm_start=warm_start,
        tracking_uri=tracking_uri,
        tracking_experiment=experiment,
        dataset=load_data(space),
    )


def load_data(space: SearchSpace) -> ImageDataset:
    """Return the data set of a search, large enough for its batches. Raises `BadInputError`."""
    try:
        dataset = load_dataset(space.data)
    except ConfigError as error:
        raise BadInputError(f"{space.place(f'train.{error.key}')}: {error}") from None
    for values in space.tree.combinations(["optim.global_batch_size"]):
        try:
            num_steps(len(dataset.train), values["optim.global_batch_size"])
        except ConfigError as error:
            raise BadInputError(f"{space.place('train.optim.global_batch_size')}: {error}") from None
    return dataset


def _refuse_shared_database(options: LaunchOptions, tracking_uri: str) -> None:
    if options.study_storage is not None and is_same_database(options.study_storage, tracking_uri):
        expected = "a separate database, because its tables conflict with MLflow's"
        got = f"{masked_uri(options.study_storage)}, which is MLflow's"
        raise BadInputError(str(ConfigError("--study-storage", expected, got)))


def _stored_attributes(space: SearchSpace, options: LaunchOptions, folder: Path) -> Mapping[str, Any]:
    """The attributes of the study; empty before the first launch."""
    database = database_of(options.study_storage, folder)
    try:
        return read_attributes(database, study_name(space)) or {}
    finally:
        database.close()


def _check_checkpoint_storage(place: str) -> None:
    try:
        open_store(place).check()
    except StorageError as error:
        raise BadInputError(str(error)) from error


def _check_tracking(uri: str, experiment: str, *, is_first_launch: bool) -> str | None:
    """The id of the experiment. A resumed search can start without MLflow, and sends its records later."""
    try:
        return check_store(uri, experiment=experiment)
    except TrackingError as error:
        if is_first_launch:
            raise BadInputError(str(error)) from error
        return None
