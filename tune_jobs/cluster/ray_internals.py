"""All uses of Ray's private API.

`ENTRIES` lists every private name with the Ray version in which it was read, and why no public API is enough.
After an upgrade of Ray, tests/tune_jobs/cluster/test_ray_internals.py names the broken entry. It also
fails if another module uses private names of Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ray.tune.experiment import Trial

UNLIMITED = 1e9  # of a declared resource, which is -1 in Ray

# Names on the wire and in the environment.
CHECK_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"  # accepts an empty request
GCS_PORT = "RAY_GCS_SERVER_PORT"
MARKET_TYPE = "ray.io/market-type"
PLACEMENT_GROUP_CLEANER = "PlacementGroupCleaner"
ON_LOOPBACK: Mapping[str, Any] = {"_node_ip_address": "127.0.0.1"}  # for ray.init


@dataclass(frozen=True)
class Entry:
    """Private name of Ray: its path, why it is needed, and the Ray version in which it was read.

    `contains` is a text that its source must contain, if the project relies on more than the name.
    """

    name: str
    why: str
    contains: str = ""
    read_in: str = "2.60.0"


_STATE, _SERVICES = "ray._private.state.GlobalState", "ray._private.services"
_TRAIN, _ERRORS = "ray.train.v2.api", "ray.train.v2._internal.exceptions"
_BASE = "TorchTrainer, the public subclass, imports torch into two processes that never compute: 4 s a trial"
_BY_NAME = "execution/failure_causes.py compares type names, so that the trial actor does not import torch"

ENTRIES: tuple[Entry, ...] = (
    Entry(f"{_STATE}.get_draining_nodes", "no public call lists the nodes that are draining"),
    Entry(f"{_STATE}.get_cluster_config", "no public call lists the node types of an autoscaler"),
    Entry(f"{_SERVICES}.canonicalize_bootstrap_address_or_die", "resolves `auto` before ray.init"),
    Entry("ray._raylet.AuthenticationTokenLoader", "ray.init reports a refused token after 20 s"),
    Entry("ray._raylet.Config.initialize", "Ray reads RAY_AUTH_MODE once in a process"),
    Entry(
        "ray.core.generated.gcs_service_pb2_grpc.NodeInfoGcsServiceStub",
        "the cheapest request to a head: does it answer, and does it require a token",
        contains=CHECK_ALIVE,
    ),
    Entry("ray.init", "keeps a local cluster on loopback", contains="_node_ip_address"),
    Entry(
        "ray._private.ray_constants.GCS_PORT_ENVIRONMENT_VARIABLE",
        "ray.init has no public way to choose the port that RAY_ADDRESS names in every process",
    ),
    Entry("ray._raylet.RAY_NODE_MARKET_TYPE_KEY", "the label of spot nodes has no public constant"),
    Entry(
        "ray.tune.execution.class_cache.ENV_VARS_TO_PROPAGATE",
        "Tune copies AWS keys into runtime environments, which Ray logs; no public setting prevents that",
    ),
    Entry("ray.tune.experiment.Trial.get_pickled_error", "the public callback has no error object"),
    Entry(
        "ray.train.v2._internal.execution.controller.placement_group_cleaner.PlacementGroupCleaner",
        "a run whose controller is killed early leaves this actor in the cluster forever",
    ),
    Entry(f"{_TRAIN}.data_parallel_trainer.DataParallelTrainer", _BASE),
    Entry(f"{_TRAIN}.config.RunConfig", "ray.train has the older class unless a variable is set"),
    Entry(f"{_TRAIN}.config.ScalingConfig", "as RunConfig"),
    Entry(f"{_TRAIN}.config.FailureConfig", "as RunConfig"),
    Entry(f"{_TRAIN}.exceptions.TrainingFailedError", "as RunConfig"),
    Entry(f"{_TRAIN}.exceptions.NCCLHangError", _BY_NAME),
    Entry(f"{_TRAIN}.exceptions.PreemptionError", _BY_NAME),
    Entry(f"{_ERRORS}.WorkerGroupStartupFailedError", _BY_NAME),
    Entry(f"{_ERRORS}.WorkerGroupStartupTimeoutError", _BY_NAME),
    Entry(f"{_ERRORS}.WorkerHealthCheckTimeoutError", _BY_NAME),
    Entry(f"{_ERRORS}.CollectiveTimeoutError", _BY_NAME),
)


def draining_nodes() -> frozenset[str]:
    """Return the ids of the draining nodes, with or without a deadline."""
    from ray._private.state import state

    return frozenset(state.get_draining_nodes())


def declared_node_types() -> list[dict[str, float]]:
    """Return the resources of each node type that the autoscaler of the cluster may add.

    Empty if the autoscaler does not declare its node types in the state of the cluster, where Ray Train reads
    them too.
    """
    from ray._private.state import state

    config = state.get_cluster_config()
    return [
        {name: UNLIMITED if amount < 0 else float(amount) for name, amount in group.resources.items()}
        for group in (config.node_group_configs if config else ())
        if group.max_count
    ]


def head_address(address: str) -> str:
    """Return HOST:PORT of the head of the cluster at `address`. Raises `ConnectionError` if there is none."""
    from ray._private.services import canonicalize_bootstrap_address_or_die

    return str(canonicalize_bootstrap_address_or_die(address))


def token_headers() -> dict[str, str]:
    """Return the HTTP headers with the token of this process. Raises `ray.exceptions.AuthenticationError`."""
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # not in its stub

    return dict(AuthenticationTokenLoader.instance().get_token_for_http_header())


def reload_token() -> None:
    """Make Ray read the authentication mode and token from the environment again; it caches them."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]  # not in its stub

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def keep_keys_out_of_trials() -> None:
    """Keep the launcher's AWS keys out of the trials' runtime environments.

    Otherwise Tune copies them, and Ray writes runtime environments to its logs and to the dashboard.
    Processes of a local cluster inherit the keys; nodes of other clusters have their own.
    """
    from ray.tune.execution import class_cache

    names = class_cache.ENV_VARS_TO_PROPAGATE
    names.difference_update({name for name in names if name.startswith("AWS_")})


def error_of(trial: Trial) -> BaseException | None:
    """Return the exception that ended the actor of a trial, None if there is none."""
    error: BaseException | None = trial.get_pickled_error()
    return error


def train_once(
    train_worker: Callable[[dict[str, Any]], None],
    worker_config: dict[str, Any],
    *,
    name: str,
    storage_path: str,
    num_workers: int,
    resources_per_worker: dict[str, float],
) -> BaseException | None:
    """Run `train_worker` on a group of Ray Train workers; return its error or None.

    Retries of Ray Train are disabled, because two groups of one attempt would write to the same paths.
    Reports of rank 0 are forwarded to Ray Tune.
    """
    from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError
    from ray.tune.integration.ray_train import TuneReportCallback

    trainer = DataParallelTrainer(
        train_worker,
        train_loop_config=worker_config,
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu=resources_per_worker.get("GPU", 0) > 0,
            resources_per_worker=resources_per_worker,
        ),
        run_config=RunConfig(  # type: ignore[arg-type]  # annotated with the older class
            name=name,
            storage_path=storage_path,
            callbacks=[TuneReportCallback()],
            failure_config=FailureConfig(
                max_failures=0, max_preemption_failures=0, controller_failure_limit=0
            ),
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        return error
    return None
