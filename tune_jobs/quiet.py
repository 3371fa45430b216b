"""Our output is for the user; the libraries' chatter is not."""

import os

import optuna

from tune_jobs.tracking_store import CLIENT_SETTINGS


def quiet_libraries() -> None:
    """Silence what Optuna and MLflow would say of every study and run; what the user has set wins."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
