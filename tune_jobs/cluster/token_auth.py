"""Token authentication: enabled in local clusters, checked in others."""

import ipaddress
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from ray.exceptions import AuthenticationError

from tune_jobs.cluster.ray_internals import CHECK_ALIVE, reload_token, token_headers

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
ANSWER_TIMEOUT_S = 5.0
REMEDY = "RAY_AUTH_MODE=token, with the cluster's token in RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"


@contextmanager
def own_token() -> Iterator[None]:
    """Give the cluster started in the block a new token, which its processes inherit.

    Ray would write one to `~/.ray/auth_token`, readable by all users of the machine. Settings that
    disable authentication are ignored, because the head of every cluster listens on all network interfaces.
    """
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    reload_token()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
        reload_token()


def warning_of(gcs_address: str) -> str | None:
    """Return a warning about a cluster without token authentication, None for one with it.

    `gcs_address` is HOST:PORT of the head. A head on a loopback address gets no warning.
    """
    if _is_loopback(gcs_address.rpartition(":")[0].strip("[]")) or not is_open(gcs_address):
        return None
    return (
        f"warning: the Ray cluster at {gcs_address} has no token authentication: anyone who can reach it "
        "over the network can run code on its nodes; start it with RAY_AUTH_MODE=token "
        "(docs/cluster.md#security)"
    )


def is_open(gcs_address: str) -> bool:
    """Return whether the head of a cluster answers a request without a token.

    The mode of this process does not show that: with a token, Ray also attaches to an open cluster.
    """
    return bool(_status(gcs_address, {}) == grpc.StatusCode.OK)


def refusal_of(gcs_address: str) -> str | None:
    """Return why the head of a cluster rejects this process, None if it accepts it.

    Ray's client would retry for 20 s, and then report that no cluster answers.
    """
    try:
        headers = token_headers()
    except AuthenticationError:
        return "RAY_AUTH_MODE=token, but there is no token"
    if _status(gcs_address, headers) != grpc.StatusCode.UNAUTHENTICATED:
        return None
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return f"{gcs_address} requires a token, but RAY_AUTH_MODE is not token"
    return f"{gcs_address} rejects the token"


def _status(gcs_address: str, headers: Mapping[str, str]) -> Any:
    """gRPC status code of the answer of the head."""
    metadata = [(name.lower(), value) for name, value in headers.items()]
    with grpc.insecure_channel(gcs_address) as channel:
        try:
            channel.unary_unary(CHECK_ALIVE)(b"", timeout=ANSWER_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
