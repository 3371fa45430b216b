"""Our output is for the user; the libraries' chatter is not."""

import os
from collections.abc import Mapping
from types import MappingProxyType

# The environment a launcher gives to MLflow before its first import. What the user has set wins.
CLIENT_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing about a search leaves the machine
        "MLFLOW_LOGGING_LEVEL": "WARNING",  # creating tables, waiting for a version: not news for our user
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # a line for each run that ends
        # By default a call blocks its thread for about 4 minutes when the server is away. What could not be
        # delivered is kept in the study and sent again, so here it is better to know soon.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    }
)


def quiet_libraries() -> None:
    """Silence what Optuna and MLflow would say of every study and run; what the user has set wins."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
