from pathlib import Path

import pytest

from tune_jobs.urls import (
    checkpoint_place,
    holds_password,
    is_checkpoint_storage,
    is_same_database,
    masked,
    masked_uri,
)


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:secret@host:5000",
        "http://:secret@host",
        "postgresql+psycopg2://user:se/c#ret@host/db",
        "postgresql://user@host/db?password=secret",
        "mysql://host/db?user=u&PASSWD=secret",
        "s3://KEY:SE/CRET@bucket/path",
        "s3://bucket/path?secret_key=secret",
        "http://host?token=secret",
    ],
)
def test_a_password_in_a_uri_is_detected(uri: str) -> None:
    assert holds_password(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:5000",
        "https://user@host/path",
        "sqlite:///mlflow.db",
        "sqlite:////home/a:b/c@d.db",
        "postgresql://user@host:5432/db?sslmode=require&passwordless=1",
        "databricks://profile",
        "mlruns",
    ],
)
def test_a_uri_without_a_password_is_accepted(uri: str) -> None:
    assert not holds_password(uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:se/c@r et@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?user=me&password=***"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("postgresql:/me:secret@host/db", "***@host/db"),
        ("me:secret@host:6379", "***@host:6379"),
        ("https://secret@host:5000/x", "https://***@host:5000/x"),
        ("s3://bucket/x?endpoint_override=me:secret@host", "s3://***@host"),
        ("s3://bucket/x#secret", "s3://bucket/x#***"),
        ("sqlite:////home/a:b/me@host/study.db", "sqlite:////home/a:b/me@host/study.db"),
        ("mlruns", "mlruns"),
    ],
)
def test_secrets_in_a_uri_are_masked(uri: str, shown: str) -> None:
    assert masked_uri(uri) == shown


@pytest.mark.parametrize("password", ["p@ss", "se/cret", "a:b@c", "@"])
def test_a_password_with_special_characters_is_masked_completely(password: str) -> None:
    assert masked(f"no answer from https://me:{password}@host/x") == "no answer from https://me:***@host/x"


def test_secrets_in_the_uris_of_a_text_are_masked() -> None:
    text = "MLflow at https://secret@host: http://me:se/cret@host:80/x?a=1 of postgresql://me@host/db?token=secret"
    assert masked(text) == (
        "MLflow at https://***@host: http://me:***@host:80/x?a=1 of postgresql://me@host/db?token=***"
    )


@pytest.mark.parametrize(
    "place",
    ["/shared/x", "x", "s3://bucket", "s3://b/p?endpoint_override=127.0.0.1:9000&scheme=http&region=r"],
)
def test_a_path_or_an_s3_location_is_a_checkpoint_storage(place: str) -> None:
    assert is_checkpoint_storage(place)


@pytest.mark.parametrize(
    "place",
    [
        "gs://bucket/x",
        "S4://bucket",
        "s3:///x",
        "s3://k:s@b/x",
        "s3://b/x?access_key=k",
        "s3://b/x#y",
        "s3://b/x?region=k:s@r",
    ],
)
def test_an_unsupported_location_is_not_a_checkpoint_storage(place: str) -> None:
    assert not is_checkpoint_storage(place)


def test_every_search_has_its_own_location_in_a_storage() -> None:
    folder = Path("/runs/a")
    assert checkpoint_place(None, folder) == "/runs/a"
    assert checkpoint_place("/shared", folder) == "/shared/a"
    assert checkpoint_place("s3://b/p/?scheme=http", folder) == "s3://b/p/a?scheme=http"
    assert checkpoint_place("s3://b", folder) == "s3://b/a"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("sqlite:///a.db", "sqlite:///a.db", True),
        ("sqlite:///a.db", "sqlite:////HERE/a.db", True),
        ("sqlite:///a.db", "sqlite:///b/../a.db", True),
        ("sqlite:///a.db", "sqlite:////there/a.db", False),
        ("postgresql://me:x@host/db", "postgresql+psycopg2://you@host/db", True),
        ("postgresql://me@HOST:5432/db", "postgresql://me@host/db", True),
        ("postgresql:///db?host=host&user=me", "postgresql://host/db", True),
        ("postgresql://127.0.0.1/db", "postgresql://me@localhost:5432/db", True),
        ("mysql://host/db", "mysql+pymysql://host:3306/db", True),
        ("postgresql:///db?host=one", "postgresql:///db?host=other", False),
        ("postgresql://host/db", "postgresql://host:5433/db", False),
        ("postgresql://host/db", "mysql://host/db", False),
        ("postgresql://me@host/db", "postgresql://me@host/other", False),
        ("postgresql://me@host/db", "http://host/db", False),
    ],
)
def test_the_same_database_is_recognised_by_its_location(
    first: str, second: str, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_same_database(first, second.replace("/HERE", str(tmp_path))) == same
