"""The search-space file as a SearchSpace: what is fixed, what is explored, what decides.

Reading it finds every mistake that can be found before training, each as one line that names file, line,
column and key. Neither torch, Ray nor Optuna is needed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcon.config import DataConfig, TrainConfig
from selfcon.errors import ConfigError
from selfcon.values import shown
from tune_jobs.errors import BadInputError
from tune_jobs.space.checks import check_space
from tune_jobs.space.conditions import Branch, Parameters
from tune_jobs.space.domains import Suggests
from tune_jobs.space.field_reader import read_train
from tune_jobs.space.overrides import apply_overrides
from tune_jobs.space.parameter_reader import read_parameters
from tune_jobs.space.settings import (
    PRUNER_FIELDS,
    SLUG_EXPECTED,
    ConfirmSettings,
    Constraint,
    Objective,
    PrunerSettings,
    SearchSettings,
    TrackingSettings,
    TrialSettings,
    is_slug,
)
from tune_jobs.space.settings_reader import read_settings
from tune_jobs.space.start_points import StartPoint, read_start_points
from tune_jobs.space.yaml_file import Node, read_file
from tune_jobs.space.yaml_scalars import Scalar

KEYS = (
    "name", "description", "train", "space", "forbid", "start", "start_from", "objective", "constraints",
    "search", "pruner", "confirm", "trial", "tracking",
)  # fmt: skip
NAME_AND_EXPERIMENT = 2


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """Everything a search-space file says, checked.

    `start_from` names the search whose best trials are tried first: NAME, or EXPERIMENT/NAME. `text` is the
    file as read, without the overrides; `places` says where each key stands.
    """

    name: str
    description: str
    tree: Parameters
    start: tuple[StartPoint, ...]
    start_from: str | None
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    search: SearchSettings
    pruner: PrunerSettings
    confirm: ConfirmSettings | None
    trial: TrialSettings
    tracking: TrackingSettings
    text: str
    places: Mapping[str, str]

    @property
    def objective(self) -> Objective:
        """The first of the objectives: what pruning and the choice of one winner go by."""
        return self.objectives[0]

    @property
    def train(self) -> Mapping[str, Any]:
        """The fixed values of `train` by dotted name; what is not there has its default."""
        return self.tree.fixed

    @property
    def parameters(self) -> Mapping[str, tuple[Branch, ...]]:
        """The search parameters by dotted name, in the file's order."""
        return self.tree.branches

    @property
    def forbid(self) -> tuple[Mapping[str, Any], ...]:
        """The combinations never tried."""
        return self.tree.forbid

    @property
    def data(self) -> DataConfig:
        """The data all trials are trained and judged on; what the search varies has its value without it."""
        fields = {name: self.tree.without_search(f"data.{name}") for name in DataConfig.model_fields}
        return DataConfig.model_validate(fields)

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Return the active search parameters by dotted name in the file's order, lists as tuples.

        What is inactive is not suggested: it has the value of `train`, else the default.
        """
        return self.tree.suggest(trial)

    def resolve(self, parameters: Mapping[str, Any]) -> TrainConfig:
        """Return the complete configuration of a trial. Raises `ConfigError`."""
        return TrainConfig.from_flat({**self.train, **parameters})

    def is_forbidden(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether the configuration with these active parameters is never to be tried."""
        return self.tree.is_forbidden(parameters)

    def start_points(self) -> list[dict[str, Scalar]]:
        """Return the configurations to try first, in Optuna's names and encodings."""
        return [dict(point.encoded) for point in self.start]

    def place(self, key: str) -> str:
        """Return FILE:LINE:COLUMN of a dotted key of the file, or of the nearest one above it."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places[key]

    def immutable_settings(self) -> dict[str, Any]:
        """Return, as JSON values, what may not change while a search keeps its name.

        A file that names one objective and no constraint is spelled as before there could be more: searches
        that were started then are still the same.
        """
        objectives = [objective.model_dump() for objective in self.objectives]
        constraints = [constraint.model_dump(exclude_none=True) for constraint in self.constraints]
        pruner_fields = {"kind", *PRUNER_FIELDS[self.pruner.kind]}
        return {
            "train": {name: _as_json(value) for name, value in self.train.items()},
            "space": {
                name: [_spelled(branch) for branch in self.parameters[name]] for name in self.parameters
            },
            "forbid": [{name: _as_json(value) for name, value in entry.items()} for entry in self.forbid],
            "objective": objectives if len(objectives) > 1 else objectives[0],
            "pruner": self.pruner.model_dump(include=pruner_fields),
            "sampler": self.search.sampler,
            "seed": self.search.seed,
        } | ({"constraints": constraints} if constraints else {})


def load_space(path: Path, *, overrides: Sequence[str] = (), name: str | None = None) -> SearchSpace:
    """Return the search space of a file, with `KEY=VALUE` overrides and, if given, another name.

    Raises `BadInputError` with the line `FILE:LINE:COL: KEY: expected ..., got ... (did you mean ...?)`.
    """
    text, root = read_file(path)
    root = apply_overrides(root, overrides)
    items = root.mapping(known=KEYS)
    if "space" not in items:
        raise BadInputError(f"{root.place}: {ConfigError('space', 'at least one parameter', 'nothing')}")
    name = _name(items.get("name"), path, name)
    fixed = read_train(items.get("train"))
    tree = read_parameters(items["space"], fixed, forbid=items.get("forbid"))
    dataset = str(tree.without_search("data.dataset"))
    settings = read_settings(items, name=name, dataset=dataset)
    check_space(root, tree, settings)
    return SearchSpace(
        name=name,
        description=items["description"].text().strip() if "description" in items else "",
        tree=tree,
        start=read_start_points(items.get("start"), tree),
        start_from=_start_from(items.get("start_from"), name),
        objectives=settings.objectives,
        constraints=settings.constraints,
        search=settings.search,
        pruner=settings.pruner,
        confirm=settings.confirm,
        trial=settings.trial,
        tracking=settings.tracking,
        text=text,
        places=dict(_places(root)),
    )


def _name(node: Node | None, path: Path, given: str | None) -> str:
    """The name of the search: the one given, that of the file, else the file's stem."""
    if given is not None:
        if not is_slug(given):
            raise BadInputError(f"--name: expected {SLUG_EXPECTED}, got {shown(given)}")
        return given
    if node is not None:
        name = node.text()
        return name if is_slug(name) else node.refuse(SLUG_EXPECTED)
    if not is_slug(path.stem):
        expected = f"a `name:`, as the file's stem is no {SLUG_EXPECTED.removeprefix('a ')}"
        raise BadInputError(f"{path}:1:1: {ConfigError('name', expected, shown(path.stem))}")
    return path.stem


def _start_from(node: Node | None, name: str) -> str | None:
    """The search whose best trials are tried first, which is another one."""
    if node is None:
        return None
    other = node.text()
    parts = other.split("/")
    if not all(map(is_slug, parts)) or len(parts) > NAME_AND_EXPERIMENT:
        node.refuse("the NAME of another search, or EXPERIMENT/NAME")
    return node.refuse("another search than this one") if parts[-1:] == [name] and len(parts) == 1 else other


def _places(node: Node) -> Iterator[tuple[str, str]]:
    yield node.key, node.place
    if isinstance(node.value, dict):
        for item in node.value.values():
            yield from _places(item)


def _spelled(branch: Branch) -> dict[str, Any]:
    when = {name: [_as_json(value) for value in alternatives] for name, alternatives in branch.when.items()}
    return branch.domain.spelled() | ({"when": when} if when else {})


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
