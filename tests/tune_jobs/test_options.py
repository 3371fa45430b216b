import shlex
from pathlib import Path

import pytest

from tune_jobs.options import LaunchOptions, holds_password


def test_the_command_is_short_where_nothing_was_asked_for() -> None:
    assert LaunchOptions(space=Path("a.yaml")).command() == "python launch.py --space a.yaml"


def test_the_command_asks_for_the_same_search_again() -> None:
    options = LaunchOptions(
        space=Path("my space.yaml"),
        output=Path("out"),
        name="b",
        address="auto",
        tracking_uri="http://host",
        study_storage="postgresql://host/db",
        num_trials=5,
        overrides=("search.seed=1", "space.loss.temperature={low: 1, high: 2}"),
        dry_run=True,
        debug=True,
    )
    assert shlex.split(options.command())[2:] == [
        *("--space", "my space.yaml", "--output", "out", "--name", "b", "--address", "auto"),
        *("--tracking-uri", "http://host", "--study-storage", "postgresql://host/db", "--num-trials", "5"),
        *("--set", "search.seed=1", "--set", "space.loss.temperature={low: 1, high: 2}"),
    ]


def test_the_command_leaves_out_what_the_environment_gave() -> None:
    options = LaunchOptions(
        space=Path("a.yaml"), tracking_uri="http://u:p@host", from_environment=("tracking_uri",)
    )
    assert options.command() == "python launch.py --space a.yaml"


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:secret@host:5000",
        "http://:secret@host",
        "postgresql+psycopg2://user:se/c#ret@host/db",
        "postgresql://user@host/db?password=secret",
        "mysql://host/db?user=u&PASSWD=secret",
    ],
)
def test_a_password_in_a_uri_is_seen(uri: str) -> None:
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
def test_a_uri_without_a_password_is_told_apart(uri: str) -> None:
    assert not holds_password(uri)
