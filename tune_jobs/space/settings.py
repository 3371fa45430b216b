"""The sections of a search-space file that say how to search, as frozen, strictly typed models."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from selfcon.config import NonNegativeInt, PositiveFloat, PositiveInt
from selfcon.rules import as_tuple

MAX_NAME = 64
# A name becomes a folder, a study, an experiment and part of model URIs: it must be plain in all of them.
SLUG = rf"^[A-Za-z0-9]([A-Za-z0-9._-]{{0,{MAX_NAME - 2}}}[A-Za-z0-9])?$"
SLUG_EXPECTED = (
    f"a name of at most {MAX_NAME} letters, digits, '.', '_' or '-', with a letter or digit at both ends"
)

SECONDS: Mapping[str, int] = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
BYTES: Mapping[str, int] = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
_TIME = "^" + "".join(f"([1-9][0-9]{{0,5}}{unit})?" for unit in SECONDS) + "$"


def is_slug(name: str) -> bool:
    """Return whether a name is plain enough to be a folder, a study and a model alike."""
    return re.fullmatch(SLUG, name) is not None


def _that_rises(bounds: tuple[int, int]) -> tuple[int, int]:
    if not bounds[0] < bounds[1]:
        raise ValueError
    return bounds


def _in_rays_units(amount: float) -> float:
    """Ray shares a device in steps of 0.0001, and gives out more than one whole only."""
    if (0 < amount < 0.0001) or (amount > 1 and not amount.is_integer()):
        raise ValueError
    return amount


Slug = Annotated[str, Field(pattern=SLUG, description=SLUG_EXPECTED)]
SHARES = "a whole number, or a share of at least 0.0001 and below 1"
CpuAmount = Annotated[float, Field(gt=0, le=1e6, description=SHARES), AfterValidator(_in_rays_units)]
GpuAmount = Annotated[float, Field(ge=0, le=1e6, description=f"0, {SHARES}"), AfterValidator(_in_rays_units)]
TIME_SPAN = "seconds above 0, or text such as 90s, 30m, 1h, 2h30m or 1d"
TimeText = Annotated[str, Field(min_length=1, pattern=_TIME)]
TimeSpan = Annotated[PositiveFloat | TimeText, Field(description=TIME_SPAN)]
TimeBudget = Annotated[PositiveFloat | TimeText | None, Field(description=TIME_SPAN)]
WorkerRange = Annotated[
    tuple[PositiveInt, PositiveInt], BeforeValidator(as_tuple), AfterValidator(_that_rises)
]
NumWorkers = Annotated[
    PositiveInt | WorkerRange,
    Field(description="a whole number of at least 1, or [min, max] with 1 <= min < max"),
]
ByteText = Annotated[
    str,
    Field(
        pattern="^(0|[1-9][0-9]{0,5})(MB|GB|TB)$", description="a whole number of MB, GB or TB, such as 20GB"
    ),
]
Bound = Annotated[float, Field(allow_inf_nan=False)]


def _seconds(span: float | str) -> float:
    if not isinstance(span, str):
        return span
    parts = re.findall("([0-9]+)([dhms])", span)
    return float(sum(int(number) * SECONDS[unit] for number, unit in parts))


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Objective(_Settings):
    """What makes one trial better than another."""

    metric: str = "val/top1"
    """What is compared: a metric of the last epoch."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether more or less of it is better; a cost must say it."""


class Constraint(_Settings):
    """What a trial must keep to be chosen: a metric of at most `max` or of at least `min`, not both."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [word], "properties": {word: {"type": "number"}}} for word in ("max", "min")
            ]
        }
    )

    metric: str
    """What is bounded: a metric of the last epoch."""
    max: Bound | None = None
    """The most that is allowed."""
    min: Bound | None = None
    """The least that is allowed."""


class SearchSettings(_Settings):
    """How many trials within which budgets, what suggests the next one, and how many run at once."""

    num_trials: PositiveInt = 20
    """How many trials there are to be; the largest total ever asked for holds."""
    sampler: Literal["tpe", "random", "gp", "cmaes", "qmc", "nsga2", "brute_force"] = "tpe"
    """What suggests the next trial."""
    seed: NonNegativeInt = 0
    """With one trial at a time the same seed gives the same search."""
    max_concurrent: PositiveInt | Literal["auto"] = "auto"
    """A cap on how many trials run at once; `auto` is as many as fit."""
    time_budget: TimeBudget = None
    """The wall time that all launches may take together; then no new trial begins and running ones finish."""
    accelerator_hours: PositiveFloat | None = None
    """The accelerator hours that all trials may take together, with the same end."""
    checkpoint_budget: ByteText = "10GB"
    """What the checkpoints of finished trials may take beside those of the best."""

    @property
    def time_budget_s(self) -> float | None:
        """The wall time that all launches of the search may take together, None without a limit."""
        return None if self.time_budget is None else _seconds(self.time_budget)

    @property
    def checkpoint_budget_bytes(self) -> int:
        """What the checkpoints of finished trials may take beside those of the best."""
        return int(self.checkpoint_budget[:-2]) * BYTES[self.checkpoint_budget[-2:]]


class PrunerSettings(_Settings):
    """Which trials end early.

    Median judges after every epoch from min_epochs on, successive halving after min_epochs x
    reduction_factor^k epochs, hyperband likewise with brackets that begin later.
    """

    kind: Literal["none", "median", "successive_halving", "hyperband"] = "none"
    """What judges a trial that runs."""
    min_epochs: PositiveInt = 1
    """The first epoch after which trials are judged."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """One of so many trials passes each rung, and the next rung is so many times later."""


# The settings that each kind of pruner reads.
PRUNER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "median": ("min_epochs",),
    "successive_halving": ("min_epochs", "reduction_factor"),
    "hyperband": ("min_epochs", "reduction_factor"),
}


class ConfirmSettings(_Settings):
    """Train the best `top_k` trials again until each has `seeds` seeds, its own included."""

    top_k: PositiveInt
    """How many of the best trials are trained again."""
    seeds: Annotated[int, Field(ge=2)]
    """How many seeds each has in the end, its own included."""


class TrialSettings(_Settings):
    """What the training of one trial runs on, and for how long it may stand still.

    With a range of workers each attempt has as many as fit when it begins.
    """

    num_workers: NumWorkers = 1
    """The workers of a trial. With a range each attempt has as many as fit when it begins."""
    cpus_per_worker: CpuAmount = 1.0
    """The CPUs of each worker."""
    gpus_per_worker: GpuAmount = 0.0
    """The GPUs of each worker, all on one node; a share is one device's."""
    hang_timeout: TimeSpan = "30m"
    """How long an attempt may stand still before it ends as `hung` and is handed out again."""

    @property
    def min_workers(self) -> int:
        """The fewest workers that a trial runs on."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """The most workers that a trial takes."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]

    @property
    def hang_timeout_s(self) -> float:
        """After how much time without progress an attempt is ended."""
        return _seconds(self.hang_timeout)


class TrackingSettings(_Settings):
    """Where MLflow records the search and registers its encoder."""

    experiment: Slug
    """MLflow's experiment; the search's name."""
    registered_model: Slug
    """The registered model; `selfcon-<dataset>`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All sections that say how to search."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    search: SearchSettings
    pruner: PrunerSettings
    confirm: ConfirmSettings | None
    trial: TrialSettings
    tracking: TrackingSettings
