"""Shared fixtures: system programs, fresh interpreters, servers, searches, trial records and snapshots."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest

from selfcon.config import TrainConfig
from tests.project import ROOT
from tests.scheduling import group_of, place_of
from tests.selfcon.shapes import install as install_shape_checks
from tune_jobs.space import SearchSpace
from tune_jobs.study.records import EpochRecord, State, TrialRecord
from tune_jobs.study.snapshot import DataFacts, Snapshot

REQUIRE_PROGRAMS = "SELFCON_REQUIRE_PROGRAMS"
READY_TIMEOUT_S = 120.0
MAX_PROCESSES = 8

FIRST_START_MS = 1_760_000_000_000
EPOCH_MS = 3_000
TRIAL_MS = 60_000

RecordMaker = Callable[..., TrialRecord]
SnapshotMaker = Callable[..., Snapshot]
ServerStarter = Callable[..., AbstractContextManager[str]]
PythonRunner = Callable[..., subprocess.CompletedProcess[str]]


def pytest_configure(config: pytest.Config) -> None:
    """Install the tensor shape checks, disable Hypothesis deadlines, and ignore MLflow's own warnings."""
    # Before the modules with tensors are imported; only test files import them.
    install_shape_checks()
    hypothesis.settings.register_profile("no-deadline", deadline=None)
    hypothesis.settings.load_profile("no-deadline")
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy is deprecated")
    config.addinivalue_line("filterwarnings", "ignore:.*Any type hint is inferred as AnyType")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes of `-n auto`: one more than cores, as cluster tests often wait."""
    return min((os.cpu_count() or 1) + 1, MAX_PROCESSES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return a scheduler of the groups of `tests/scheduling.py`, in the order of collection.

    The groups of pytest-xdist 3.8 itself (`--dist loadgroup`) are ignored with pytest 9.2: pytest-xdist#1386.
    """
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = group_of
    return scheduler


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest groups, which run in one process."""
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.fixture(scope="session", autouse=True)
def known_head_version() -> Iterator[None]:
    """Let Optuna find the newest version of its tables once: it loads all migrations for each storage."""
    from optuna.storages._rdb.storage import _VersionManager

    with pytest.MonkeyPatch.context() as patch:
        original = _VersionManager.get_head_version
        heads: list[str] = []

        def get_head_version(manager: _VersionManager) -> str:
            if not heads:
                heads.append(original(manager))
            return heads[0]

        patch.setattr(_VersionManager, "get_head_version", get_head_version)
        yield


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], str]:
    """Return a function that returns the path of a system program.

    If the program is not installed, the test is skipped, or fails if SELFCON_REQUIRE_PROGRAMS is set.
    """

    def require(name: str) -> str:
        unlisted = os.pathsep.join(str(folder) for folder in Path("/usr/lib/postgresql").glob("*/bin"))
        path = shutil.which(name) or shutil.which(name, path=unlisted)  # not on the PATH in Debian
        if path is None and os.environ.get(REQUIRE_PROGRAMS):
            pytest.fail(f"{name} is not installed, and {REQUIRE_PROGRAMS} is set")
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return require


@pytest.fixture(scope="session")
def run_python() -> PythonRunner:
    """Return a function that runs code in a fresh interpreter, with the project importable."""

    def run(
        code: str,
        *arguments: str,
        cwd: Path,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            input=stdin,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Return a function that returns an unused port of the loopback interface."""

    def find() -> int:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            return int(listener.getsockname()[1])

    return find


@pytest.fixture(scope="session")
def start_mlflow_server(free_port: Callable[[], int]) -> ServerStarter:
    """Return a context manager that runs `mlflow server` with a database in `folder` and yields its URI."""

    @contextmanager
    def start(folder: Path, *, port: int | None = None) -> Iterator[str]:
        uri = f"http://127.0.0.1:{port or free_port()}"
        process = _spawn_server(folder, uri)
        try:
            _wait_until_ready(process, uri, log=folder / "server.log")
            yield uri
        finally:
            # The server consists of several processes, all in its process group.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)

    return start


@pytest.fixture(scope="session")
def mlflow_server(
    start_mlflow_server: ServerStarter, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Return the URI of one MLflow server for all tests; each test uses a separate experiment."""
    with start_mlflow_server(tmp_path_factory.mktemp("mlflow-server")) as uri:
        yield uri


@pytest.fixture(scope="module")
def chromium(require_program: Callable[[str], str]) -> Iterator[Any]:
    """Return a headless Chromium for the tests of one module."""
    from chromium import CHROMIUM_OPTIONS
    from playwright.sync_api import sync_playwright

    path = require_program("chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield launched
        launched.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """Return the browser without the pages of other tests."""
    yield chromium
    for context in chromium.contexts:
        context.close()


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[str]:
    """Return the endpoint of an S3 server on loopback, with the bucket `bucket`."""
    endpoint = f"127.0.0.1:{free_port()}"
    with (tmp_path_factory.mktemp("s3") / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", endpoint.partition(":")[2]],
            stdout=log,
            stderr=log,
        )
    _make_bucket(endpoint)
    yield endpoint
    process.kill()
    process.wait()


def _make_bucket(endpoint: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(f"http://{endpoint}/bucket", method="PUT")).close()
        except urllib.error.URLError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        else:
            return


class PostgreSQLServer:
    """A PostgreSQL server on loopback, not run as root; `password` belongs to its only user."""

    password = "se/c@ret"

    def __init__(self, initdb: str, folder: Path, port: int) -> None:
        self._program, self._folder, self._port = Path(initdb).with_name("postgres"), folder, port
        self._user: dict[str, Any] = {"user": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        if self._user:
            shutil.chown(folder, "postgres")
        (folder / "password").write_text(self.password)
        command = [initdb, "--auth=scram-sha-256", "--username=selfcon", "--pwfile=password", "--no-sync"]
        subprocess.run([*command, "data"], check=True, stdout=subprocess.DEVNULL, cwd=folder, **self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._num_databases = 0

    def url(self, database: str = "postgres", *, password: bool = True) -> str:
        """Return the URL of a database, as a user would write it."""
        secret = f":{urllib.parse.quote(self.password, safe='')}" if password else ""
        return f"postgresql://selfcon{secret}@127.0.0.1:{self._port}/{database}"

    def new_database(self) -> str:
        """Return the URL of an empty database."""
        self._num_databases += 1
        name = f"test_{self._num_databases}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def execute(self, statement: str) -> list[Any]:
        """Run a statement in a separate session, and return its rows."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def end_sessions(self) -> None:
        """Terminate every session of a launcher."""
        sessions = "FROM pg_stat_activity WHERE application_name LIKE 'selfcon %'"
        self.execute(f"SELECT pg_terminate_backend(pid) {sessions}")

    def start(self) -> None:
        """Start the server if it is stopped, and return when it answers."""
        if self._process is not None:
            return
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off")
        command = [str(self._program), "-D", "data", "-p", str(self._port)]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *(word for setting in settings for word in ("-c", setting))],
                stdout=log, stderr=log, cwd=self._folder, **self._user,
            )  # fmt: skip
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop immediately; every session is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=30)
            self._process = None


@pytest.fixture(scope="session")
def running_postgresql(
    require_program: Callable[[str], str], free_port: Callable[[], int]
) -> Iterator[PostgreSQLServer]:
    """Return one PostgreSQL server for all tests."""
    initdb = require_program("initdb")
    with tempfile.TemporaryDirectory(prefix="postgresql-") as folder:  # pytest's are only for this user
        server = PostgreSQLServer(initdb, Path(folder), free_port())
        server.start()
        yield server
        server.stop()


@pytest.fixture
def postgresql_server(running_postgresql: PostgreSQLServer) -> PostgreSQLServer:
    """Return the server, restarted if a test has stopped it."""
    running_postgresql.start()
    return running_postgresql


@pytest.fixture(scope="session")
def make_record() -> RecordMaker:
    """Return a function that creates the record of a trial; trial n starts n minutes after the first."""

    def make(
        number: int,
        state: str = "COMPLETE",
        *,
        num_epochs: int = 3,
        reason: str | None = None,
        message: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        search_start_ms: int = FIRST_START_MS,
        mlflow_run: str | None = None,
    ) -> TrialRecord:
        parameters = dict(parameters or {"loss.temperature": 0.1 + 0.01 * number, "model.exit_stages": (1,)})
        start_ms = search_start_ms + number * TRIAL_MS
        epochs = tuple(_epoch(number, epoch, start_ms) for epoch in range(num_epochs + 1))
        value = epochs[-1].metrics["val/top1"] if state == "COMPLETE" else None
        return TrialRecord(
            number=number,
            state=State(state),
            reason=reason,
            message=message,
            parameters=parameters,
            config=TrainConfig.from_flat({**parameters, "optim.epochs": max(num_epochs, 1)}).flat(),
            epochs=epochs,
            attempts=1,
            started_ms=start_ms,
            finished_ms=None if state == "RUNNING" else epochs[-1].timestamp_ms + 500,
            value=value,
            values=() if value is None else (value,),
            mlflow_run=mlflow_run,
        )

    return make


@pytest.fixture(scope="session")
def make_snapshot() -> SnapshotMaker:
    """Return a function that creates the snapshot of a search from its space and its records alone."""

    def make(space: SearchSpace, records: Sequence[TrialRecord], **changes: Any) -> Snapshot:
        fixed = space.immutable_settings()
        about: dict[str, Any] = {
            "experiment": space.tracking.experiment,
            "name": space.name,
            "description": space.description,
            "objectives": space.objectives,
            "constraints": space.constraints,
            "pruner": space.pruner,
            "confirm": space.confirm,
            "space": fixed["space"],
            "train": space.train,
            "fixed": {**fixed, "data_digest": "d" * 64},
            "trial": space.trial.model_dump(mode="json"),
            "tracking": space.tracking.model_dump(),
            "data": DataFacts("digits", "d" * 64, {"train": 1150, "validation": 287, "test": 360}, 10),
            "num_trials": sum(record.counts for record in records),
            "is_over": True,
            "spent_s": 60.0,
            "seeds": (),
            "launches": (),
            "publication": None,
            "taken_ms": FIRST_START_MS + 100 * TRIAL_MS,
        }
        return Snapshot(records=tuple(records), **{**about, **changes})

    return make


def _spawn_server(folder: Path, uri: str) -> subprocess.Popen[bytes]:
    host, _, port = uri.removeprefix("http://").partition(":")
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", port, "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=os.environ | settings,
            cwd=folder,
            start_new_session=True,
        )


def _wait_until_ready(process: subprocess.Popen[bytes], uri: str, *, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"no MLflow server at {uri}:\n{log.read_text()}")


def _epoch(number: int, epoch: int, start_ms: int) -> EpochRecord:
    metrics = {"val/top1": 0.9 + 0.01 * epoch - 0.001 * number, "cost/seconds": 3.0 * epoch}
    trained = {"train/loss": 7.9 - 0.2 * epoch} if epoch else {}
    return EpochRecord(epoch, {**trained, **metrics}, start_ms + epoch * EPOCH_MS, attempt=1)
