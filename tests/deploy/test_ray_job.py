import zipfile
from pathlib import Path

import yaml
from ray._private.runtime_env.packaging import create_package

ROOT = Path(__file__).parents[2]
RUNTIME_ENV = yaml.safe_load((ROOT / "deploy" / "ray-job" / "runtime-env.yaml").read_text())


def test_a_submitted_job_takes_the_code_and_the_searches_along_and_nothing_else(tmp_path: Path) -> None:
    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True, excludes=RUNTIME_ENV["excludes"])
    names = zipfile.ZipFile(package).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "launch.py", "search_spaces", "selfcon", "tune_jobs",
    }  # fmt: skip
    for name in ("search_spaces/smoke.yaml", "selfcon/data/imagenet100.txt", "tune_jobs/space/schema.py"):
        assert name in names
    assert not [name for name in names if "__pycache__" in name]


def test_a_submitted_job_holds_no_environment() -> None:
    assert RUNTIME_ENV.keys() == {"working_dir", "excludes"}
