"""Ray session of a search: on a local cluster, or attached to an existing one."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import ray

from tune_jobs.cluster.ray_internals import GCS_PORT, ON_LOOPBACK, head_address
from tune_jobs.cluster.token_auth import REMEDY, own_token, refusal_of
from tune_jobs.errors import BadInputError, ClusterLostError

# Ray Train polls its workers every 2 s by default, several times for each trial.
HEALTH_CHECK_INTERVAL_S = 0.1

# After this time without resources an attempt is rescheduled, with as many workers as fit then.
START_TIMEOUT_S = 180

CONNECT_TIMEOUT_S = 10.0

ENVIRONMENT: dict[str, str] = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(HEALTH_CHECK_INTERVAL_S),
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(START_TIMEOUT_S),
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # see draining.py
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # each trial has its own complete log files
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # metrics are in the study and MLflow
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the handler of the launcher lets running epochs finish
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@contextmanager
def ray_session(address: str | None, resources: Mapping[str, float], *, namespace: str) -> Iterator[None]:
    """Attach to the cluster at `address`, or start a local one with `resources` and stop it afterwards.

    `namespace` separates the named and detached actors of the search from others. Raises `ClusterLostError`
    if no cluster answers at the address, `BadInputError` if it refuses the connection.
    """
    os.environ.update(ENVIRONMENT)
    logging.getLogger("ray").setLevel(logging.ERROR)
    with ExitStack() as authentication:
        try:
            if address is None:
                authentication.enter_context(own_token())
                _start_local(resources, namespace)
            else:
                _attach(address, namespace)
            # At the end Tune repeats the errors of all failed trials, which were reported before.
            logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
            yield
        except ConnectionError as error:
            raise ClusterLostError(f"no Ray cluster answers at {address}: {error}") from error
        finally:
            ray.shutdown()


def _attach(address: str, namespace: str) -> None:
    """Connect to the cluster at `address`; its processes get the resolved address.

    Fails at once if no server listens, whereas Ray would retry for minutes.
    """
    if address != "auto":
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
        except OSError as error:
            raise ConnectionError(str(error)) from error
    gcs_address = head_address(address)
    refusal = refusal_of(gcs_address)
    if refusal is not None:
        raise BadInputError(f"the Ray cluster: expected {REMEDY}, got: {refusal}")
    ray.init(
        address,
        namespace=namespace,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env=_runtime_env(gcs_address),
    )


def _start_local(resources: Mapping[str, float], namespace: str) -> None:
    """Start a cluster whose processes know its address.

    Ray's clean-up of stopped trials finds the cluster by RAY_ADDRESS, and fails if there are two on the host.
    So the address must be set for every process, before the cluster starts.
    """
    port = _free_port()
    os.environ[GCS_PORT] = str(port)
    ray.init(
        "local",  # not a cluster that `ray start` may have started on this machine
        namespace=namespace,
        num_cpus=int(resources["CPU"]),
        num_gpus=int(resources["GPU"]),
        include_dashboard=True,  # the clean-up of a stopped trial's placement group needs it
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env=_runtime_env(f"127.0.0.1:{port}"),
        **ON_LOOPBACK,
    )


def _runtime_env(address: str) -> dict[str, dict[str, str]]:
    return {"env_vars": {**ENVIRONMENT, "RAY_ADDRESS": address}}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
