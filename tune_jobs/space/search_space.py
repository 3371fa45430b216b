"""Validated search spaces, and `load_space`, which reads them from YAML files.

Loading finds all mistakes that can be found before training and reports the first, as one line with the file,
line, column and key. Nothing here imports torch, Ray or Optuna.
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
MAX_NAME_PARTS = 2  # EXPERIMENT/NAME


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """Validated contents of a search-space file.

    `start_from` names the search whose best trials are tried first, as NAME or EXPERIMENT/NAME. `text` is the
    file as read, without the overrides. `places` maps each dotted key to FILE:LINE:COLUMN.
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
        """The first objective, used for pruning and for choosing the winner."""
        return self.objectives[0]

    @property
    def train(self) -> Mapping[str, Any]:
        """The fixed values of `train` by dotted name; all other fields have their defaults."""
        return self.tree.fixed

    @property
    def parameters(self) -> Mapping[str, tuple[Branch, ...]]:
        """The search parameters by dotted name, in the file's order."""
        return self.tree.branches

    @property
    def forbid(self) -> tuple[Mapping[str, Any], ...]:
        """The combinations that are never tried."""
        return self.tree.forbid

    @property
    def data(self) -> DataConfig:
        """The data configuration of all trials; searched fields have their fixed or default values."""
        fields = {name: self.tree.inactive_value(f"data.{name}") for name in DataConfig.model_fields}
        return DataConfig.model_validate(fields)

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Suggest values and return the active parameters by dotted name in file order; lists are tuples.

        Inactive parameters are not suggested: they have the value of `train`, else the default.
        """
        return self.tree.suggest(trial)

    def resolve(self, parameters: Mapping[str, Any]) -> TrainConfig:
        """Return the training configuration of a trial. Raises `ConfigError` if the values violate a rule."""
        return TrainConfig.from_flat({**self.train, **parameters})

    def is_forbidden(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether `forbid` excludes the configuration with these active parameters."""
        return self.tree.is_forbidden(parameters)

    def start_points(self) -> list[dict[str, Scalar]]:
        """Return the configurations to try first, with Optuna's parameter names and encoded values."""
        return [dict(point.encoded) for point in self.start]

    def place(self, key: str) -> str:
        """Return FILE:LINE:COLUMN of a dotted key, or of its nearest ancestor in the file."""
        while key and key not in self.places:
            key = key.rpartition(".")[0]
        return self.places[key]

    def immutable_settings(self) -> dict[str, Any]:
        """Return, as JSON values, the settings that cannot change while a search keeps its name.

        With one objective and no constraint, the format is the same as before Pareto searches and constraints
        were supported, so that studies from that time still match.
        """
        objectives = [objective.model_dump() for objective in self.objectives]
        constraints = [constraint.model_dump(exclude_none=True) for constraint in self.constraints]
        pruner_fields = {"kind", *PRUNER_FIELDS[self.pruner.kind]}
        return {
            "train": {name: _as_json(value) for name, value in self.train.items()},
            "space": {
                name: [_branch_as_json(branch) for branch in branches]
                for name, branches in self.parameters.items()
            },
            "forbid": [{name: _as_json(value) for name, value in entry.items()} for entry in self.forbid],
            "objective": objectives if len(objectives) > 1 else objectives[0],
            "pruner": self.pruner.model_dump(include=pruner_fields),
            "sampler": self.search.sampler,
            "seed": self.search.seed,
        } | ({"constraints": constraints} if constraints else {})


def load_space(path: Path, *, overrides: Sequence[str] = (), name: str | None = None) -> SearchSpace:
    """Load and validate a search-space file.

    Args:
        path: YAML file; docs/search_spaces.md describes its keys.
        overrides: `KEY=VALUE` texts, applied in order. KEY is a dotted path such as
            `search.num_trials`, VALUE is YAML.
        name: Name of the search. It replaces the `name` of the file, which defaults to the file name without
            its suffix.

    Returns:
        The validated search space. Omitted settings have their defaults.

    Raises:
        BadInputError: The file cannot be read, or an entry or an override is invalid. The message is one
            line: `FILE:LINE:COLUMN: KEY: expected ..., got ... (did you mean ...?)`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "temperature.yaml")
        ...     _ = path.write_text("space: {loss.temperature: {low: 0.05, high: 0.5, log: true}}")
        ...     space = load_space(path, overrides=["search.num_trials=30"])
        >>> space.name, space.search.num_trials
        ('temperature', 30)
    """
    text, root = read_file(path)
    root = apply_overrides(root, overrides)
    items = root.mapping(known=KEYS)
    if "space" not in items:
        raise BadInputError(f"{root.place}: {ConfigError('space', 'at least one parameter', 'nothing')}")
    name = _name(items.get("name"), path, name)
    fixed = read_train(items.get("train"))
    tree = read_parameters(items["space"], fixed, forbid=items.get("forbid"))
    dataset = str(tree.inactive_value("data.dataset"))
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
    """Return the name of the search: `given`, else the `name` of the file, else the file's stem."""
    if given is not None:
        if not is_slug(given):
            raise BadInputError(f"--name: expected {SLUG_EXPECTED}, got {shown(given)}")
        return given
    if node is not None:
        name = node.text()
        return name if is_slug(name) else node.refuse(SLUG_EXPECTED)
    if not is_slug(path.stem):
        expected = f"a `name:`, because the file's stem is not {SLUG_EXPECTED}"
        raise BadInputError(f"{path}:1:1: {ConfigError('name', expected, shown(path.stem))}")
    return path.stem


def _start_from(node: Node | None, name: str) -> str | None:
    """Return the name of the search whose best trials are tried first, which must be another search."""
    if node is None:
        return None
    other = node.text()
    parts = other.split("/")
    if not all(map(is_slug, parts)) or len(parts) > MAX_NAME_PARTS:
        node.refuse("the NAME of another search, or EXPERIMENT/NAME")
    return node.refuse("a search other than this one") if parts[-1:] == [name] and len(parts) == 1 else other


def _places(node: Node) -> Iterator[tuple[str, str]]:
    yield node.key, node.place
    if isinstance(node.value, dict):
        for item in node.value.values():
            yield from _places(item)


def _branch_as_json(branch: Branch) -> dict[str, Any]:
    when = {name: [_as_json(value) for value in alternatives] for name, alternatives in branch.when.items()}
    return branch.domain.as_json() | ({"when": when} if when else {})


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
