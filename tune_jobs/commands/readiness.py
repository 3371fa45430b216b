"""What must be whole before a launch writes or starts anything, beyond what preflight sees without torch."""

from selfcon.data.batches import num_steps
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.errors import ConfigError
from tune_jobs.checkpoints.trial_checkpoints import open_store
from tune_jobs.errors import BadInputError, StorageError, TrackingError
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace
from tune_jobs.tracking.tracker import Tracker
from tune_jobs.urls import is_same_database, masked_uri


def load_data(space: SearchSpace) -> ImageDataset:
    """Return the data of a search, whose batches it can fill. Raises `BadInputError`."""
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


def check_tracking(tracker: Tracker, *, is_first_launch: bool) -> None:
    """Refuse to start without MLflow; a search that goes on can deliver its records later."""
    try:
        tracker.check()
    except TrackingError as error:
        if is_first_launch:
            raise BadInputError(str(error)) from error


def refuse_shared_database(options: LaunchOptions, tracking_uri: str) -> None:
    """Raise `BadInputError` where the study and MLflow are given one database."""
    if options.study_storage is not None and is_same_database(options.study_storage, tracking_uri):
        expected = "a database of its own, as its tables and MLflow's do not go together"
        raise BadInputError(
            str(ConfigError("--study-storage", expected, f"{masked_uri(options.study_storage)}, MLflow's"))
        )


def check_storage(place: str) -> None:
    """Refuse to start where no checkpoint can be kept."""
    try:
        open_store(place).check()
    except StorageError as error:
        raise BadInputError(str(error)) from error
