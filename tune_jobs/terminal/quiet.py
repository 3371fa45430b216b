"""Settings that keep the log output of libraries away from the user."""

import os
from collections.abc import Mapping
from types import MappingProxyType

# Environment variables for MLflow, set before its first import. Values set by the user take precedence.
CLIENT_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "MLFLOW_DISABLE_TELEMETRY": "true",  # no usage data is sent
        "MLFLOW_LOGGING_LEVEL": "WARNING",  # hides the creation of tables and the wait for a version
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # else one line for each run that ends
        # By default a call blocks its thread for about 4 minutes if the server does not answer. Undelivered
        # records stay in the study and are sent again, so it is better to fail early.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    }
)


def quiet_libraries() -> None:
    """Silence the messages of Optuna and MLflow about every study and run; variables already set are kept."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
