"""A secret in every variable that takes a URI is in no message, where it is refused or leads nowhere.

That a search writes none is tested where one runs, in `test_tracking_faults.py`.
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

from .canary import OF_URI, PASSWORDS, Canaries, given
from .proxy import Proxy
from .surroundings import FOREIGN

SPACE = "name: example\nspace: {loss.temperature: {low: 0.1, high: 0.5}}\n"
ALL = Canaries([*PASSWORDS.values(), OF_URI])
NOBODY = "127.0.0.1:9"  # the port of a service that nobody runs any more

# What is wrong or leads nowhere, with the exit code. {} is the secret.
REFUSED = [
    ("SELFCON_STUDY_STORAGE", f"postgresql://user:{{}}@{NOBODY}/db", 6),
    ("SELFCON_STUDY_STORAGE", f"postgresql://user:a/{{}}@b@{NOBODY}/db", 6),
    ("SELFCON_STUDY_STORAGE", f"postgresql://user:{{}} b@{NOBODY}/db", 6),
    ("SELFCON_STUDY_STORAGE", f"postgresql://{NOBODY}/db?user=u&password={{}}", 6),
    ("SELFCON_STUDY_STORAGE", f"mysql://user:{{}}@{NOBODY}/db", 6),
    ("SELFCON_STUDY_STORAGE", f"oracle://user:{{}}@{NOBODY}/db", 2),
    ("SELFCON_STUDY_STORAGE", f"postgresql:/user:{{}}@{NOBODY}/db", 2),
    ("MLFLOW_TRACKING_URI", f"http://user:{{}}@{NOBODY}", 2),
    ("MLFLOW_TRACKING_URI", f"http://user:a/{{}}@{NOBODY}", 2),
    ("MLFLOW_TRACKING_URI", f"http://{{}}@{NOBODY}", 2),
    ("MLFLOW_TRACKING_URI", f"http://{NOBODY}?token={{}}", 2),
    ("MLFLOW_TRACKING_URI", f"ftp://user:{{}}@{NOBODY}", 2),
    ("RAY_ADDRESS", f"ray://user:{{}}@{NOBODY}", 2),
    ("RAY_ADDRESS", f"user:{{}}@{NOBODY}", 2),
    ("SELFCON_CHECKPOINT_STORAGE", "s3://key:{}@bucket/x", 2),
    ("SELFCON_CHECKPOINT_STORAGE", "s3://bucket/x?secret_key={}", 2),
    ("SELFCON_CHECKPOINT_STORAGE", f"s3://bucket/x?scheme=http&endpoint_override=key:{{}}@{NOBODY}", 2),
    ("SELFCON_CHECKPOINT_STORAGE", "s3://bucket/x#{}", 2),
    ("SELFCON_CHECKPOINT_STORAGE", f"s3://bucket/x?scheme=http&endpoint_override={NOBODY}", 2),  # AWS keys
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
    """Return a function that launches a search with a variable and the secrets, and looks at what it said."""

    def check(variable: str, uri: str, code: int) -> None:
        monkeypatch.chdir(tmp_path)
        Path("space.yaml").write_text(SPACE)
        for name in FOREIGN:
            monkeypatch.delenv(name, raising=False)
        for name, value in given({variable: uri}).items():
            monkeypatch.setenv(name, value)
        for flags in ([], ["--debug"]):
            assert main(["--space", "space.yaml", *flags]) == code
            out, err = capfd.readouterr()
            assert out == ""
            assert err.splitlines()[-1].startswith("error: "), err
            assert ALL.in_text(err) == []
        assert ALL.in_files(tmp_path) == []

    return check


@pytest.mark.parametrize(("variable", "uri", "code"), REFUSED)
def test_a_refusal_shows_no_secret(
    check_launch: Callable[[str, str, int], None], variable: str, uri: str, code: int
) -> None:
    check_launch(variable, uri.format(OF_URI), code)


def test_a_wrong_password_is_not_shown(
    check_launch: Callable[[str, str, int], None], postgresql_server: Any
) -> None:
    check_launch(
        "SELFCON_STUDY_STORAGE", postgresql_server.url(password=False).replace("@", f":{OF_URI}@"), 6
    )


def test_the_password_of_a_server_with_a_fault_is_not_shown(
    check_launch: Callable[[str, str, int], None],
) -> None:
    proxy = Proxy(NOBODY)
    proxy.fail()
    check_launch("MLFLOW_TRACKING_URI", f"http://user:{OF_URI}@{proxy.address}", 2)
    proxy.cut()


def test_a_tracking_database_does_not_hold_its_own_password(
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


def test_secrets_are_found_where_they_are(tmp_path: Path, postgresql_server: Any) -> None:
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
    with canaries.watching_arguments() as seen:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1)", "se/c@ret"], check=True)
    assert len(seen) == 1
