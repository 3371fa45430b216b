"""The Optuna samplers by name, seeded anew for every trial.

A sampler built again with the seed of the search would repeat its first suggestions after a restart; a seed
made from the search's and the trial's number does not, and makes every suggestion reproducible.
"""

import hashlib
import warnings

import optuna


def make_sampler(kind: str, *, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """Return the sampler that suggests trial `number` of a search with this seed."""
    own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4])
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=own_seed)
    assert kind == "tpe"
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", optuna.exceptions.ExperimentalWarning
        )  # `group`, for conditional spaces
        return optuna.samplers.TPESampler(seed=own_seed, multivariate=True, group=True, constant_liar=True)
