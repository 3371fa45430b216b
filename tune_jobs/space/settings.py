"""Models of the sections of a search-space file that configure the search, its trials and tracking."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from selfcon.config import NonNegativeInt, PositiveFloat, PositiveInt
from selfcon.rules import as_tuple

MAX_NAME = 64
# A name is used as a folder, a study, an experiment and a part of model URIs, and must be valid as each.
SLUG = rf"^[A-Za-z0-9]([A-Za-z0-9._-]{{0,{MAX_NAME - 2}}}[A-Za-z0-9])?$"
SLUG_EXPECTED = (
    f"a name of at most {MAX_NAME} letters, digits, '.', '_' or '-', with a letter or digit at both ends"
)

SECONDS: Mapping[str, int] = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
BYTES: Mapping[str, int] = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
_TIME = "^" + "".join(f"([1-9][0-9]{{0,5}}{unit})?" for unit in SECONDS) + "$"


def is_slug(name: str) -> bool:
    """Return whether a name is valid as a folder, a study, an experiment and a model."""
    return re.fullmatch(SLUG, name) is not None


def _check_ascending(bounds: tuple[int, int]) -> tuple[int, int]:
    if not bounds[0] < bounds[1]:
        raise ValueError
    return bounds


def _check_amount(amount: float) -> float:
    """Return the amount if Ray can allocate it: a whole number, or a share from 0.0001 to 1."""
    if (0 < amount < 0.0001) or (amount > 1 and not amount.is_integer()):
        raise ValueError
    return amount


Slug = Annotated[str, Field(pattern=SLUG, description=SLUG_EXPECTED)]
SHARES = "a whole number, or a share of at least 0.0001 and below 1"
CpuAmount = Annotated[float, Field(gt=0, le=1e6, description=SHARES), AfterValidator(_check_amount)]
GpuAmount = Annotated[float, Field(ge=0, le=1e6, description=f"0, {SHARES}"), AfterValidator(_check_amount)]
TIME_SPAN = "seconds above 0, or text such as 90s, 30m, 1h, 2h30m or 1d"
TimeText = Annotated[str, Field(min_length=1, pattern=_TIME)]
TimeSpan = Annotated[PositiveFloat | TimeText, Field(description=TIME_SPAN)]
TimeBudget = Annotated[PositiveFloat | TimeText | None, Field(description=TIME_SPAN)]
WorkerRange = Annotated[
    tuple[PositiveInt, PositiveInt], BeforeValidator(as_tuple), AfterValidator(_check_ascending)
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
    """Metric that ranks trials, and its direction."""

    metric: str = "val/top1"
    """The metric to optimise, measured after the last epoch."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether larger or smaller values are better; required for a cost metric."""


class Constraint(_Settings):
    """Bound on a metric that the winner must satisfy: at most `max` or at least `min`, not both."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [word], "properties": {word: {"type": "number"}}} for word in ("max", "min")
            ]
        }
    )

    metric: str
    """The bounded metric, measured after the last epoch."""
    max: Bound | None = None
    """The largest allowed value."""
    min: Bound | None = None
    """The smallest allowed value."""


class SearchSettings(_Settings):
    """Number of trials, sampler, concurrency and budgets of a search."""

    num_trials: PositiveInt = 20
    """The total number of trials; the largest number requested in any launch applies."""
    sampler: Literal["tpe", "random", "gp", "cmaes", "qmc", "nsga2", "brute_force"] = "tpe"
    """The Optuna sampler that suggests the trials."""
    seed: NonNegativeInt = 0
    """The seed of the sampler; with one trial at a time, the same seed reproduces the search."""
    max_concurrent: PositiveInt | Literal["auto"] = "auto"
    """The maximum number of concurrent trials; `auto` runs as many as fit."""
    time_budget: TimeBudget = None
    """The wall-clock limit over all launches; once it is reached, no new trial starts and running trials
    finish."""
    accelerator_hours: PositiveFloat | None = None
    """The limit on accelerator hours over all trials; it acts like `time_budget`."""
    checkpoint_budget: ByteText = "10GB"
    """The storage for checkpoints of finished trials, in addition to those of the best trials."""

    @property
    def time_budget_s(self) -> float | None:
        """The wall-clock limit over all launches of the search in seconds, or None without a limit."""
        return None if self.time_budget is None else _seconds(self.time_budget)

    @property
    def checkpoint_budget_bytes(self) -> int:
        """The storage in bytes for checkpoints of finished trials, besides those of the best trials."""
        return int(self.checkpoint_budget[:-2]) * BYTES[self.checkpoint_budget[-2:]]


class PrunerSettings(_Settings):
    """Early stopping of unpromising trials.

    The median pruner decides after every epoch from `min_epochs` on, and successive halving after
    `min_epochs` x `reduction_factor`^k epochs. Hyperband adds brackets that start later.
    """

    kind: Literal["none", "median", "successive_halving", "hyperband"] = "none"
    """The pruning algorithm."""
    min_epochs: PositiveInt = 1
    """The first epoch after which a trial can be pruned."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """The reduction per rung: one in this many trials passes, and the next rung is this many times later."""


# The settings that each pruner uses.
PRUNER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "median": ("min_epochs",),
    "successive_halving": ("min_epochs", "reduction_factor"),
    "hyperband": ("min_epochs", "reduction_factor"),
}


class ConfirmSettings(_Settings):
    """Retraining of the best `top_k` trials until each has `seeds` seeds, including its original one."""

    top_k: PositiveInt
    """The number of best trials to train again."""
    seeds: Annotated[int, Field(ge=2)]
    """The total number of seeds per trial, including the original one."""


class TrialSettings(_Settings):
    """Workers and resources of one trial, and its hang timeout.

    With a range of workers, each attempt uses as many as fit when it starts.
    """

    num_workers: NumWorkers = 1
    """The number of workers per trial; with [min, max], each attempt uses as many as fit when it starts."""
    cpus_per_worker: CpuAmount = 1.0
    """The CPUs per worker."""
    gpus_per_worker: GpuAmount = 0.0
    """The GPUs per worker, all on one node; a share is a share of one GPU."""
    hang_timeout: TimeSpan = "30m"
    """The time without progress after which an attempt ends as `hung` and the trial is retried."""

    @property
    def min_workers(self) -> int:
        """The minimum number of workers of a trial."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """The maximum number of workers of a trial."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]

    @property
    def hang_timeout_s(self) -> float:
        """The time in seconds without progress after which an attempt is stopped."""
        return _seconds(self.hang_timeout)


class TrackingSettings(_Settings):
    """MLflow experiment of the search and registered model of its encoder."""

    experiment: Slug
    """The MLflow experiment; defaults to the name of the search."""
    registered_model: Slug
    """The MLflow registered model; defaults to `selfcon-<dataset>`."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings sections of a search-space file."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    search: SearchSettings
    pruner: PrunerSettings
    confirm: ConfirmSettings | None
    trial: TrialSettings
    tracking: TrackingSettings
