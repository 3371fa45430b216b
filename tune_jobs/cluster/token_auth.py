"""Token authentication: on in the cluster that we start, missed in one that we attach to."""

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
    """Let a cluster that is started in the block take a new token, which its processes inherit.

    Ray would write one into `~/.ray/auth_token`, readable to all users of the machine; and an environment
    that switches authentication off is meant for another cluster: the head of this one listens on every
    interface of the machine, as each does.
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
    """Return one line about a cluster that others may use, None for one that asks for a token.

    `gcs_address` is what the cluster calls its head, HOST:PORT. A head whose own address is of loopback is
    left to the users of that machine.
    """
    if _is_loopback(gcs_address.rpartition(":")[0].strip("[]")) or not is_open(gcs_address):
        return None
    return (
        f"warning: the Ray cluster at {gcs_address} has no token authentication: whoever reaches it over the "
        "network runs any code on its nodes, as their user; start it with RAY_AUTH_MODE=token "
        "(docs/cluster.md#security)"
    )


def is_open(gcs_address: str) -> bool:
    """Return whether the head of a cluster answers somebody without a token.

    Our own mode does not tell: Ray attaches with a token to a cluster that asks for none.
    """
    return bool(_status(gcs_address, {}) == grpc.StatusCode.OK)


def refusal_of(gcs_address: str) -> str | None:
    """Return in words why the head of a cluster does not let this process in, None where it does.

    Ray's own client asks for 20 s, and then says that nobody answers.
    """
    try:
        headers = token_headers()
    except AuthenticationError:
        return "RAY_AUTH_MODE=token, but there is no token"
    if _status(gcs_address, headers) != grpc.StatusCode.UNAUTHENTICATED:
        return None
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return f"{gcs_address} asks for a token, but RAY_AUTH_MODE is not token"
    return f"{gcs_address} refuses our token"


def _status(gcs_address: str, headers: Mapping[str, str]) -> Any:
    """With which code of gRPC the head answers."""
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
