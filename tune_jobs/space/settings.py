"""The sections of a search-space file that say how to search, as frozen, strictly typed models."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from selfcon.wording import describe, explain
from tune_jobs.space.yaml_file import Node

S = TypeVar("S", bound=BaseModel)

MAX_NAME = 64
# A name becomes a folder, a study, an experiment and part of model URIs: it must be plain in all of them.
_SLUG = re.compile(rf"[A-Za-z0-9]([A-Za-z0-9._-]{{0,{MAX_NAME - 2}}}[A-Za-z0-9])?")
SLUG_EXPECTED = (
    f"a name of at most {MAX_NAME} letters, digits, '.', '_' or '-', with a letter or digit at both ends"
)

NOT_BUILT = "not built yet in this version"
# Words of the contract that this version cannot act on yet: refused by name, never ignored.
NOT_BUILT_KEYS = ("constraints", "confirm", "search.time_budget")
_NOT_BUILT_WORDS: Mapping[str, tuple[str, ...]] = {
    "search.sampler": ("gp", "cmaes", "qmc", "nsga2", "brute_force"),
    "pruner.kind": ("median", "hyperband"),
}


def is_slug(name: str) -> bool:
    """Return whether a name is plain enough to be a folder, a study and a model alike."""
    return _SLUG.fullmatch(name) is not None


def _slug(name: str) -> str:
    if not is_slug(name):
        raise ValueError
    return name


def _in_rays_units(amount: float) -> float:
    """Ray shares a device in steps of 0.0001, and gives out more than one whole only."""
    if (0 < amount < 0.0001) or (amount > 1 and not amount.is_integer()):
        raise ValueError
    return amount


PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Slug = Annotated[str, AfterValidator(_slug), Field(description=SLUG_EXPECTED)]
SHARES = "a whole number, or a share of at least 0.0001 and below 1"
CpuAmount = Annotated[float, Field(gt=0, le=1e6, description=SHARES), AfterValidator(_in_rays_units)]
GpuAmount = Annotated[float, Field(ge=0, le=1e6, description=f"0, {SHARES}"), AfterValidator(_in_rays_units)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Objective(_Settings):
    """What makes one trial better than another."""

    metric: str = "val/top1"
    direction: Literal["maximize", "minimize"] = "maximize"


class SearchSettings(_Settings):
    """How many trials, what suggests the next one, and how many run at once."""

    num_trials: PositiveInt = 20
    sampler: Literal["tpe", "random"] = "tpe"
    seed: NonNegativeInt = 0
    max_concurrent: PositiveInt | Literal["auto"] = "auto"


class PrunerSettings(_Settings):
    """Which trials end early: successive halving judges after min_epochs x reduction_factor^k epochs."""

    kind: Literal["none", "successive_halving"] = "none"
    min_epochs: PositiveInt = 1
    reduction_factor: Annotated[int, Field(ge=2)] = 3


class TrialSettings(_Settings):
    """What the training of one trial runs on."""

    num_workers: PositiveInt = 1
    cpus_per_worker: CpuAmount = 1.0
    gpus_per_worker: GpuAmount = 0.0


class TrackingSettings(_Settings):
    """Where MLflow records the search and registers its encoder."""

    experiment: Slug
    registered_model: Slug


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All sections that say how to search."""

    objective: Objective
    search: SearchSettings
    pruner: PrunerSettings
    trial: TrialSettings
    tracking: TrackingSettings


def read_settings(root: Mapping[str, Node], *, name: str, dataset: str) -> Settings:
    """Return the sections of a file's top level; what is omitted has its default.

    `name` is the search's, `dataset` what it trains on: the defaults of `tracking`. Raises `BadInputError`
    for what is unknown, malformed, out of range or not built yet.
    """
    return Settings(
        objective=_objective(root),
        search=_section(SearchSettings, root.get("search")),
        pruner=_section(PrunerSettings, root.get("pruner")),
        trial=_trial(root),
        tracking=_section(
            TrackingSettings,
            root.get("tracking"),
            defaults={"experiment": name, "registered_model": f"selfcon-{dataset}"},
        ),
    )


def refuse_unbuilt_keys(node: Node) -> None:
    """Raise `BadInputError` for a key of the contract that this version does not act on."""
    for item in node.value.values() if isinstance(node.value, dict) else ():
        if item.key in NOT_BUILT_KEYS:
            item.refuse_key(f"no such key ({NOT_BUILT})", "one")


def _objective(root: Mapping[str, Node]) -> Objective:
    node = root.get("objective")
    if node is not None and isinstance(node.value, list):
        node.refuse(f"one {{metric, direction}} (several objectives are {NOT_BUILT})", "a list")
    return _section(Objective, node)


def _trial(root: Mapping[str, Node]) -> TrialSettings:
    node = root.get("trial")
    if node is not None and isinstance(node.value, dict) and "num_workers" in node.value:
        num_workers = node.value["num_workers"]
        if isinstance(num_workers.value, list):
            num_workers.refuse(f"a whole number of at least 1 (elastic [min, max] is {NOT_BUILT})")
    return _section(TrialSettings, node)


def _section(model: type[S], node: Node | None, *, defaults: Mapping[str, str] | None = None) -> S:
    """The settings of one section, with every mistake at its own place."""
    if node is None:
        return model.model_validate(defaults or {})
    refuse_unbuilt_keys(node)
    items = node.mapping(known=tuple(model.model_fields))
    for item in items.values():
        if item.value in _NOT_BUILT_WORDS.get(item.key, ()):
            built = describe(get_type_hints(model)[item.key.rpartition(".")[2]])
            item.refuse(f"{built} (nothing else is built yet in this version)")
    values = {**(defaults or {}), **{name: item.plain() for name, item in items.items()}}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        complaint = explain(model, values, error, prefix=f"{node.key}.")
        items[complaint.key.removeprefix(f"{node.key}.")].refuse_with(complaint)
