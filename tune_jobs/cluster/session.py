"""One Ray cluster for the time of a search: this machine's own, or one to attach to."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import ray

from tune_jobs.cluster.ray_internals import GCS_PORT, ON_LOOPBACK, head_address
from tune_jobs.cluster.token_auth import REMEDY, own_token, refusal_of
from tune_jobs.errors import BadInputError, ClusterLostError

# Ray Train looks at its workers every 2 s by default; a trial pays that several times over.
HEALTH_CHECK_INTERVAL_S = 0.1

# Workers that find no place for so long are handed out again, to as many as fit then.
START_TIMEOUT_S = 180

CONNECT_TIMEOUT_S = 10.0

ENVIRONMENT: dict[str, str] = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": str(HEALTH_CHECK_INTERVAL_S),
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(START_TIMEOUT_S),
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # preemption.py says why
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # the logs of a trial go to its own files, whole
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the study and MLflow hold the metrics
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours lets the running epochs end
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@contextmanager
def ray_session(address: str | None, resources: Mapping[str, float], *, namespace: str) -> Iterator[None]:
    """Attach to the cluster at `address`, or start one on this machine with `resources` and end it after.

    `namespace` is where the search's named and detached actors live, apart from those of others.
    Raises `ClusterLostError` when no cluster answers at the address, `BadInputError` when one does not let us
    in.
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
            # Tune complains once more, at the end, about every trial that failed; the study has told why.
            logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
            yield
        except ConnectionError as error:
            raise ClusterLostError(f"no Ray cluster answers at {address}: {error}") from error
        finally:
            ray.shutdown()


def _attach(address: str, namespace: str) -> None:
    """Connect to the cluster at `address`; its processes are told what `auto` stands for here.

    Where nobody listens Ray would try for minutes.
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

    Ray's clean-up of stopped trials looks the cluster up by RAY_ADDRESS and gives up where it finds two on
    the host, so the address must be known to every process, hence before the cluster starts.
    """
    port = _free_port()
    os.environ[GCS_PORT] = str(port)
    ray.init(
        "local",  # not the one that `ray start` may have left on this machine
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
