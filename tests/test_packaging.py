"""The two distributions: the platform with the method, and the method alone."""

import ast
import email
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from email.message import Message
from pathlib import Path

import pytest

from selfcon.version import VERSION
from tests.project import ROOT

PythonRunner = Callable[..., subprocess.CompletedProcess[str]]
# How a distribution is called, where what is imported has another name.
DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}
HEAVY = ("ray", "optuna", "mlflow", "matplotlib", "plotly", "sqlalchemy", "yaml", "rich")


def build(source: Path, folder: Path) -> zipfile.ZipFile:
    """Return the wheel of a source tree."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder / "wheels"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (folder / "wheels").glob("*.whl")
    return zipfile.ZipFile(wheel)


def tracked(*paths: str) -> list[str]:
    """The files of the project below these paths, as git knows them, with those that are new."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *paths]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def copy(folder: Path, *paths: str) -> Path:
    """Copy files of the project: building writes into the source tree."""
    for name in tracked(*paths):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return email.message_from_bytes(wheel.read(name))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("platform")
    names = ("selfcon", "tune_jobs", "pyproject.toml", "README.md", "LICENSE")
    return build(copy(folder / "source", *names), folder)


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("method")
    return build(copy(folder / "source", "selfcon") / "selfcon", folder)


def test_the_platform_holds_every_file_of_both_packages(platform: zipfile.ZipFile) -> None:
    wanted = {name for name in tracked("selfcon", "tune_jobs") if name != "selfcon/pyproject.toml"}
    assert wanted <= set(platform.namelist())
    (entry_points,) = [name for name in platform.namelist() if name.endswith("/entry_points.txt")]
    assert b"selfcon-search = tune_jobs.__main__:main" in platform.read(entry_points)


def test_the_method_alone_holds_every_file_of_its_package(method: zipfile.ZipFile) -> None:
    wanted = {name for name in tracked("selfcon") if name != "selfcon/pyproject.toml"}
    assert {name for name in method.namelist() if name.startswith("selfcon/")} == wanted


def test_the_version_comes_from_one_place(platform: zipfile.ZipFile, method: zipfile.ZipFile) -> None:
    assert metadata(platform)["Version"] == metadata(method)["Version"] == VERSION


def test_the_method_alone_needs_what_it_imports_and_nothing_else() -> None:
    nodes = [
        node
        for path in (ROOT / "selfcon").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    names = {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    imported = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"selfcon"}
    own, whole = (
        tomllib.loads((ROOT / path).read_text())["project"]["dependencies"]
        for path in ("selfcon/pyproject.toml", "pyproject.toml")
    )
    assert {DISTRIBUTIONS.get(name, name) for name in imported} == {line.split(">=")[0] for line in own}
    assert set(own) <= set(whole)


def test_an_index_shows_absolute_links(platform: zipfile.ZipFile) -> None:
    text = metadata(platform).get_payload()
    assert "](https://" in text
    assert "](docs/" not in text
    assert "](CONTRIBUTING" not in text


def test_the_method_alone_trains_without_the_platform(
    method: zipfile.ZipFile, tmp_path: Path, run_python: PythonRunner
) -> None:
    method.extractall(tmp_path)
    code = f"""
import sys
for name in {HEAVY}: sys.modules[name] = None
import selfcon
config = selfcon.TrainConfig.from_flat({{
    "data.image_size": 8, "data.augmentation": "none", "model.width": 4, "model.projection_dim": 8,
    "optim.epochs": 1, "evaluate.probe_epochs": 1,
}})
result = selfcon.fit(config, report=lambda report: None)
print(selfcon.__file__, sorted(result.metrics)[0])
"""
    done = run_python(code, cwd=tmp_path, environment={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/selfcon/__init__.py cost/accelerator_hours\n"


def test_the_platform_runs_from_its_wheel(
    platform: zipfile.ZipFile, tmp_path: Path, run_python: PythonRunner
) -> None:
    platform.extractall(tmp_path)
    environment = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": "1"}
    code = (
        "import runpy, sys; sys.argv[1:] = ['--version']; runpy.run_module('tune_jobs', run_name='__main__')"
    )
    done = run_python(code, cwd=tmp_path, environment=environment)
    assert (done.returncode, done.stdout) == (0, f"selfcon-search {VERSION}\n"), done.stderr


@pytest.mark.parametrize("module", ["selfcon", "tune_jobs"])
def test_importing_a_package_loads_nothing_heavy(
    module: str, run_python: PythonRunner, tmp_path: Path
) -> None:
    heavy = {*HEAVY, "torch", "numpy", "pydantic"}
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    done = run_python(code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_public_names_are_importable(run_python: PythonRunner, tmp_path: Path) -> None:
    code = """
import selfcon
from selfcon.loss import selfcon_loss
from selfcon.model import build_encoder
from selfcon.config import TrainConfig
from selfcon.train import fit
from selfcon.evaluate import evaluate_encoder
from selfcon.export import load_encoder
from selfcon.data.dataset import load_dataset
assert all(getattr(selfcon, name) is globals()[name] for name in selfcon.__all__)
assert set(dir(selfcon)) == set(selfcon.__all__)
from tune_jobs.registry import load_encoder
try:
    selfcon.nothing
except AttributeError as error:
    print(error)
"""
    done = run_python(code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "module 'selfcon' has no attribute 'nothing'\n"), done.stderr
