"""Search-space files: reading, validation, and the resulting `SearchSpace`.

The entry point is `load_space`. Nothing in this package imports torch, Ray or Optuna.
"""

from tune_jobs.space.conditions import Branch
from tune_jobs.space.domains import Suggests
from tune_jobs.space.search_space import SearchSpace, load_space
from tune_jobs.space.settings import (
    ConfirmSettings,
    Constraint,
    Objective,
    PrunerSettings,
    SearchSettings,
    TrackingSettings,
    TrialSettings,
)

__all__ = [
    "Branch",
    "ConfirmSettings",
    "Constraint",
    "Objective",
    "PrunerSettings",
    "SearchSettings",
    "SearchSpace",
    "Suggests",
    "TrackingSettings",
    "TrialSettings",
    "load_space",
]
