import shlex
from pathlib import Path

from tune_jobs.options import LaunchOptions


def test_the_command_omits_flags_with_default_values() -> None:
    assert LaunchOptions(space=Path("a.yaml")).command() == "python launch.py --space a.yaml"


def test_the_command_resumes_the_same_search() -> None:
    options = LaunchOptions(
        space=Path("my space.yaml"),
        output=Path("out"),
        name="b",
        address="auto",
        tracking_uri="http://host",
        study_storage="postgresql://host/db",
        checkpoint_storage="s3://bucket/path",
        num_trials=5,
        overrides=("search.seed=1", "space.loss.temperature={low: 1, high: 2}"),
        dry_run=True,
        debug=True,
    )
    assert shlex.split(options.command())[2:] == [
        *("--space", "my space.yaml", "--output", "out", "--name", "b", "--address", "auto"),
        *("--tracking-uri", "http://host", "--study-storage", "postgresql://host/db"),
        *("--checkpoint-storage", "s3://bucket/path", "--num-trials", "5"),
        *("--set", "search.seed=1", "--set", "space.loss.temperature={low: 1, high: 2}"),
    ]


def test_the_command_omits_values_from_the_environment() -> None:
    options = LaunchOptions(
        space=Path("a.yaml"), tracking_uri="http://u:p@host", from_environment=("tracking_uri",)
    )
    assert options.command() == "python launch.py --space a.yaml"
