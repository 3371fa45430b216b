"""Errors about a URI in an environment variable do not show its secret.

`test_tracking_faults.py` tests that a running search writes no secret.
"""

import runpy
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.project import ROOT
from tune_jobs.study.records import TrialRecord
from tune_jobs.tracking.tracker import Tracker

from .canary import PASSWORDS, URI_PASSWORD, Canaries, secret_environment
from .proxy import Proxy
from .surroundings import SEARCH_VARIABLES

SPACE = "name: example\nspace: {loss.temperature: {low: 0.1, high: 0.5}}\n"
ALL = Canaries([*PASSWORDS.values(), URI_PASSWORD])
UNREACHABLE = "127.0.0.1:9"  # the discard port, on which nothing listens

# Invalid or unreachable URIs with the exit code. {} is the secret.
INVALID = [
    ("SELFCON_STUDY_STORAGE", f"postgresql://user:{{}}@{UNREACHABLE}/db", 6),
    ("SELFCON_STUDY_STORAGE", f"postgresql://user:a/{{}}@b@{UNREACHABLE}/db", 6),
    ("SELFCON_STUDY_STORAGE", f"postgresql://user:{{}} b@{UNREACHABLE}/db", 6),
    ("SELFCON_STUDY_STORAGE", f"postgresql://{UNREACHABLE}/db?user=u&password={{}}", 6),
    ("SELFCON_STUDY_STORAGE", f"mysql://user:{{}}@{UNREACHABLE}/db", 6),
    ("SELFCON_STUDY_STORAGE", f"oracle://user:{{}}@{UNREACHABLE}/db", 2),
    ("SELFCON_STUDY_STORAGE", f"postgresql:/user:{{}}@{UNREACHABLE}/db", 2),
    ("MLFLOW_TRACKING_URI", f"http://user:{{}}@{UNREACHABLE}", 2),
    ("MLFLOW_TRACKING_URI", f"http://user:a/{{}}@{UNREACHABLE}", 2),
    ("MLFLOW_TRACKING_URI", f"http://{{}}@{UNREACHABLE}", 2),
    ("MLFLOW_TRACKING_URI", f"http://{UNREACHABLE}?token={{}}", 2),
    ("MLFLOW_TRACKING_URI", f"ftp://user:{{}}@{UNREACHABLE}", 2),
    ("RAY_ADDRESS", f"ray://user:{{}}@{UNREACHABLE}", 2),
    ("RAY_ADDRESS", f"user:{{}}@{UNREACHABLE}", 2),
    ("SELFCON_CHECKPOINT_STORAGE", "s3://key:{}@bucket/x", 2),
    ("SELFCON_CHECKPOINT_STORAGE", "s3://bucket/x?secret_key={}", 2),
    ("SELFCON_CHECKPOINT_STORAGE", f"s3://bucket/x?scheme=http&endpoint_override=key:{{}}@{UNREACHABLE}", 2),
    ("SELFCON_CHECKPOINT_STORAGE", "s3://bucket/x#{}", 2),
    (
        "SELFCON_CHECKPOINT_STORAGE",
        f"s3://bucket/x?scheme=http&endpoint_override={UNREACHABLE}",
        2,
    ),  # AWS keys
]


@pytest.fixture(scope="module")
def main() -> Callable[[list[str]], int]:
    found: Callable[[list[str]], int] = runpy.run_path(str(ROOT / "launch.py"))["main"]
    return found


@pytest.fixture
def check_launch(
    main: Callable[[list[str]], int],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Callable[[str, str, int], None]:
    """Return a function that launches a search with a variable and all secrets, and checks its output."""

    def check(variable: str, uri: str, code: int) -> None:
        monkeypatch.chdir(tmp_path)
        Path("space.yaml").write_text(SPACE)
        for name in SEARCH_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in secret_environment({variable: uri}).items():
            monkeypatch.setenv(name, value)
        for flags in ([], ["--debug"]):
            assert main(["--space", "space.yaml", *flags]) == code
            out, err = capfd.readouterr()
            assert out == ""
            assert err.splitlines()[-1].startswith("error: "), err
            assert ALL.in_text(err) == []
        assert ALL.in_files(tmp_path) == []

    return check


@pytest.mark.parametrize(("variable", "uri", "code"), INVALID)
def test_an_invalid_uri_is_shown_without_its_secret(
    check_launch: Callable[[str, str, int], None], variable: str, uri: str, code: int
) -> None:
    check_launch(variable, uri.format(URI_PASSWORD), code)


def test_a_wrong_password_is_not_shown(
    check_launch: Callable[[str, str, int], None], postgresql_server: Any
) -> None:
    check_launch(
        "SELFCON_STUDY_STORAGE", postgresql_server.url(password=False).replace("@", f":{URI_PASSWORD}@"), 6
    )


def test_the_password_of_a_failing_server_is_not_shown(
    check_launch: Callable[[str, str, int], None],
) -> None:
    proxy = Proxy(UNREACHABLE)
    proxy.fail()
    check_launch("MLFLOW_TRACKING_URI", f"http://user:{URI_PASSWORD}@{proxy.address}", 2)
    proxy.cut()


def test_a_tracking_database_does_not_contain_its_password(
    make_record: Callable[..., TrialRecord],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    postgresql_server: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    canaries, url = Canaries([postgresql_server.password]), postgresql_server.new_database()
    tracker = Tracker(
        uri=url.replace("://", "+psycopg://"), experiment="e", search="s", description="", tags={}, metric="m"
    )
    tracker.sync([make_record(0), make_record(1, "RUNNING")], remember_run=lambda *_: None)
    tracker.close("FINISHED", metrics={"best/value": 0.5}, summary="done")
    assert canaries.in_postgresql(url) == []
    assert canaries.in_text("".join([tracker.where, *capfd.readouterr()])) == []


def test_secrets_are_found_in_texts_files_databases_and_arguments(
    tmp_path: Path, postgresql_server: Any
) -> None:
    canaries = Canaries(["se/c@ret"])
    assert canaries.in_text("a se/c@ret b") == ["se/c@ret"]
    assert canaries.in_text("a se%2Fc%40ret b") == ["se%2Fc%40ret"]
    (tmp_path / "file").write_bytes(b"\0se/c@ret")
    with closing(sqlite3.connect(tmp_path / "rows.db")) as database:
        database.execute("CREATE TABLE texts (text TEXT)")
        database.execute("INSERT INTO texts VALUES (?)", ("-" * 4000 + "se/c@ret" * 40 + "-" * 4000,))
        database.commit()
    found = canaries.in_files(tmp_path)
    assert sorted(line.partition(": ")[0] for line in found) == [f"{tmp_path}/file", f"{tmp_path}/rows.db"]
    url = postgresql_server.new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE texts AS SELECT 'se/c@ret' AS text")
    assert canaries.in_postgresql(url) == ["texts: ['se/c@ret']"]
    with canaries.watched_arguments() as seen:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1)", "se/c@ret"], check=True)
    assert len(seen) == 1
