"""Requirements of a search: resources and files on the machine or the nodes, and a valid address."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfcon.config import DEFAULTS
from selfcon.errors import ConfigError
from selfcon.values import shown
from tune_jobs.cluster.concurrency import trials_at_once, worker_resources, workers_held
from tune_jobs.cluster.resources import shown_resources
from tune_jobs.errors import BadInputError
from tune_jobs.space import SearchSpace
from tune_jobs.space.settings import TrialSettings
from tune_jobs.urls import masked_uri

EMBEDDED_DATASETS = ("digits",)  # do not read a folder


@dataclass(frozen=True)
class NeededPath:
    """Folder or file that the workers read, with its key in the space file."""

    key: str
    path: str
    is_folder: bool
    hint: str = ""

    def exists(self) -> bool:
        """Return whether the path exists on this machine."""
        return Path(self.path).is_dir() if self.is_folder else Path(self.path).is_file()


def check_address(address: str | None) -> None:
    """Raise `BadInputError` unless the address is None, `auto`, or HOST:PORT of a cluster.

    With a Ray Client address (`ray://`) the search would run in another process, without its study.
    """
    if address is not None and address != "auto" and not re.fullmatch(r"[^/@\s]+:[0-9]{1,5}", address):
        got = masked_uri(address)
        raise BadInputError(str(ConfigError("--address", "auto, or HOST:PORT of a Ray cluster", got)))


def check_machine(space: SearchSpace, resources: Mapping[str, float]) -> None:
    """Raise `BadInputError`, with the calculation, if no trial fits the resources of this machine."""
    fit = trials_at_once([resources], space.trial)
    if fit.count:
        return
    one_fits = workers_held([resources], space.trial) > 0
    key = "trial.num_workers" if one_fits else _blocking_key([resources], space.trial)
    expected = "workers that fit this machine (or the --address of a cluster)"
    complaint = ConfigError(key, expected, f"{fit.arithmetic} trials at once")
    raise BadInputError(f"{space.place(key)}: {complaint}")


def check_node_types(space: SearchSpace, nodes: Sequence[Mapping[str, float]]) -> None:
    """Raise `BadInputError` if one worker fits none of the nodes that a cluster has or may add.

    More workers than fit now are not an error, because further nodes may join.
    """
    if workers_held(nodes, space.trial):
        return
    key = _blocking_key(nodes, space.trial)
    sizes = ", ".join(dict.fromkeys(shown_resources(node) for node in nodes))
    needed = shown_resources(worker_resources(space.trial))
    complaint = ConfigError(
        key, "workers that each fit one node of the cluster", f"{needed} each, for nodes of {sizes}"
    )
    raise BadInputError(f"{space.place(key)}: {complaint}")


def _blocking_key(nodes: Sequence[Mapping[str, float]], trial: TrialSettings) -> str:
    """Key of the setting that makes a worker too large."""
    without_gpus = trial.model_copy(update={"gpus_per_worker": 0.0})
    return "trial.gpus_per_worker" if workers_held(nodes, without_gpus) else "trial.cpus_per_worker"


def needed_paths(space: SearchSpace) -> list[NeededPath]:
    """Return the paths that every worker needs: the data folder, and the files named in the space.

    For an embedded data set, a folder must exist only if the space file names one. Whether weights fit the
    network is checked when the first trial starts, because that needs torch.
    """
    dataset, root = space.data.dataset, space.data.root
    embedded = dataset in EMBEDDED_DATASETS
    needed = []
    if not (embedded and root == DEFAULTS["data.root"]):
        hint = f"{dataset} is embedded and needs none: remove the key" if embedded else ""
        needed.append(NeededPath("train.data.root", root, is_folder=True, hint=hint))
    key = "space.model.weights" if "model.weights" in space.parameters else "train.model.weights"
    weights = {values["model.weights"]: None for values in space.tree.combinations(["model.weights"])}
    return needed + [NeededPath(key, path, is_folder=False) for path in weights if path is not None]


def missing_paths(paths: Sequence[NeededPath]) -> list[NeededPath]:
    """Return the paths that do not exist on this machine."""
    return [needed for needed in paths if not needed.exists()]


def refuse_missing(space: SearchSpace, missing: Sequence[NeededPath], *, node: str | None = None) -> None:
    """Raise `BadInputError` for the first missing path, with the name of the node on a cluster."""
    for needed in missing:
        expected = f"a {'folder' if needed.is_folder else 'file'} that exists"
        expected += f" on every node that can run a worker (missing on {node})" if node else ""
        expected += f" ({needed.hint})" if needed.hint else ""
        complaint = ConfigError(needed.key, expected, shown(needed.path))
        raise BadInputError(f"{space.place(needed.key)}: {complaint}")
