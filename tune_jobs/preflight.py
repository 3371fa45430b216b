"""What cannot work on this machine is refused before anything is started or written."""

from pathlib import Path

from selfcon.config import DEFAULTS
from selfcon.errors import ConfigError
from selfcon.wording import shown
from tune_jobs.cluster import machine_resources, trials_at_once
from tune_jobs.errors import BadInputError
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace
from tune_jobs.space.examples import example_parameters

EMBEDDED_DATASETS = ("digits",)  # these read no folder


def preflight(space: SearchSpace, options: LaunchOptions) -> None:
    """Raise `BadInputError` for a search that cannot run: nothing to try, no room, or no data.

    With an address, a cluster does the work: what fits there and what lies there is not looked at here.
    """
    if space.confirm is not None:
        complaint = ConfigError("confirm", "no such key (not built yet in this version)", "one")
        raise BadInputError(f"{space.place('confirm')}: {complaint}")
    example_parameters(space, 1)
    check_output(options.output / space.name)
    if options.address is None:
        check_resources(space, machine_resources())
        check_data_root(space)
        check_weights(space)


def check_output(folder: Path) -> None:
    """Raise `BadInputError` when a file stands where the folder of the search is to be."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise BadInputError(f"--output: expected a folder, got the file {existing}")


def check_resources(space: SearchSpace, resources: dict[str, float]) -> None:
    """Raise `BadInputError`, with the arithmetic, when not one trial fits into this machine's resources."""
    fit = trials_at_once(resources, space.trial)
    if fit.count:
        return
    one_worker = space.trial.model_copy(update={"num_workers": 1})
    if trials_at_once(resources, one_worker).count:
        key = "trial.num_workers"
    elif space.trial.gpus_per_worker > resources["GPU"]:
        key = "trial.gpus_per_worker"
    else:
        key = "trial.cpus_per_worker"
    expected = "workers that fit this machine (or the --address of a cluster)"
    complaint = ConfigError(key, expected, f"{fit.arithmetic} trials at once")
    raise BadInputError(f"{space.place(key)}: {complaint}")


def check_data_root(space: SearchSpace) -> None:
    """Raise `BadInputError` when the folder that `train.data.root` names is not there.

    For a data set that reads no folder, only one that the file names itself must exist: what is written but
    not there is a mistake, whoever would have read it.
    """
    dataset, root = space.data.dataset, space.data.root
    embedded = dataset in EMBEDDED_DATASETS
    if Path(root).is_dir() or (embedded and root == DEFAULTS["data.root"]):
        return
    note = f" ({dataset} is embedded and reads none: leave it out)" if embedded else ""
    complaint = ConfigError("train.data.root", f"a folder that exists{note}", shown(root))
    raise BadInputError(f"{space.place('train.data.root')}: {complaint}")


def check_weights(space: SearchSpace) -> None:
    """Raise `BadInputError` when a file that `model.weights` names is not there.

    Whether it fits the network is known when the first trial begins: that takes torch.
    """
    key = "space.model.weights" if "model.weights" in space.parameters else "train.model.weights"
    for values in space.tree.combinations(["model.weights"]):
        weights = values["model.weights"]
        if weights is not None and not Path(weights).is_file():
            raise BadInputError(
                f"{space.place(key)}: {ConfigError(key, 'a file that exists', shown(weights))}"
            )
