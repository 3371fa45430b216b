"""Token authentication: a new token for local clusters, a warning for open clusters."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from ray._private.authentication.authentication_utils import is_token_auth_enabled

from tests.project import ROOT
from tune_jobs.cluster import token_auth as module
from tune_jobs.cluster.ray_internals import CHECK_ALIVE
from tune_jobs.cluster.token_auth import is_open, own_token, warning_of


class Head(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Stand-in for the head of a cluster: answers Ray's request, or rejects it without a token."""

    def __init__(self, *, requires_token: bool) -> None:
        self._requires_token = requires_token

    def service(self, details: Any) -> Any:
        assert details.method == CHECK_ALIVE
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        if self._requires_token:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
        return b""


@contextmanager
def head(*, requires_token: bool) -> Iterator[str]:
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads, handlers=[Head(requires_token=requires_token)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


def test_a_cluster_is_open_if_it_answers_without_a_token() -> None:
    with head(requires_token=False) as address:
        assert is_open(address)
    with head(requires_token=True) as address:
        assert not is_open(address)


def test_an_open_cluster_gets_a_warning_unless_it_is_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_open", lambda _: True)
    warning = warning_of("10.0.0.1:6379")
    assert warning is not None
    assert warning.startswith("warning: the Ray cluster at 10.0.0.1:6379 has no token authentication: anyone")
    assert "\n" not in warning
    assert "docs/cluster.md#security" in warning
    assert "## Security" in (ROOT / "docs" / "cluster.md").read_text()
    assert warning_of("head.example.com:6379") is not None
    for address in ("127.0.0.1:6379", "[::1]:6379", "localhost:6379"):
        assert warning_of(address) is None


def test_a_cluster_with_token_authentication_gets_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_open", lambda _: False)
    assert warning_of("10.0.0.1:6379") is None


def test_a_new_token_is_valid_only_inside_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    tokens = []
    for _ in range(2):
        with own_token():
            assert is_token_auth_enabled()
            tokens.append(os.environ["RAY_AUTH_TOKEN"])
    assert len(set(tokens)) == 2
    assert not is_token_auth_enabled()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in os.environ
