import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.project import ROOT
from tests.selfcon.tiny_datasets import write_image_folder
from tune_jobs.__main__ import main
from tune_jobs.commands.command_line import parse
from tune_jobs.errors import (
    AlreadyRunningError,
    BadInputError,
    ClusterLostError,
    NoSuccessError,
    SearchError,
    StorageError,
    TrackingError,
)

RESUME = "resume with: python launch.py --space good.yaml"
SPACE = """\
name: example
space: {loss.temperature: {low: 0.1, high: 0.5}}
start: [{loss.temperature: 0.2}]
"""
# Runs launch.py in a fresh process and prints which of the slow libraries it imported.
LIST_SLOW_IMPORTS = """\
import runpy, sys
sys.argv = ["launch.py", *sys.argv[1:]]
try:
    runpy.run_path("launch.py", run_name="__main__")
except SystemExit as end:
    slow = {"torch", "ray", "optuna", "mlflow", "sklearn", "numpy", "rich"} & set(sys.modules)
    print("code", end.code, "imported", sorted(slow))
"""

REFUSED_FLAGS: list[tuple[list[str], str]] = [
    ([], "--space: expected a search-space file, got none"),
    (["--sapce", "good.yaml"],
     "--sapce: expected a flag that --help lists, got an unknown one (did you mean --space?)"),
    (["--space", "good.yaml", "--dryrun"],
     "--dryrun: expected a flag that --help lists, got an unknown one (did you mean --dry-run?)"),
    (["--space", "good.yaml", "--out=x"], "--out=x: expected a flag that --help lists, got an unknown one"
                                          " (did you mean --output?)"),
    (["--space", "good.yaml", "more"], "more: expected a flag that --help lists, got an unknown one"),
    (["--space", "good.yaml", "--reproduce", "0", "--dry-run"],
     "expected one of the flags instead of running a search, got --dry-run and --reproduce"),
    (["--space", "good.yaml", "--compare", "a", "b"],
     "--compare: expected no --space in addition, got good.yaml"),
    (["--space"], "--space: expected one argument"),
    (["--space", "goof.yaml"], "goof.yaml: expected a readable file, got: no such file or directory"
                               " (did you mean good.yaml?)"),
    (["--space", "."], ".: expected a readable file, got: is a directory"),
    (["--space", "good.yaml", "--num-trials", "0"],
     "--num-trials: expected a whole number of at least 1, got 0"),
    (["--space", "good.yaml", "--num-trials", "many"],
     "--num-trials: expected a whole number of at least 1, got many"),
    (["--space", "good.yaml", "--name", "a/b"],
     "--name: expected a name of at most 64 letters, digits, '.', '_' or '-', with a letter or digit at both"
     " ends, got a/b"),
    (["--space", "good.yaml", "--output", "good.yaml"],
     "--output: expected a folder, got the file {cwd}/good.yaml"),
    (["--space", "good.yaml", "--tracking-uri", "http://user:secret@host"],
     "--tracking-uri: expected a URI without a password, which the process list would show"
     " (set MLFLOW_TRACKING_URI instead), got one with a password"),
    (["--space", "good.yaml", "--study-storage", "postgresql://host/db?user=u&password=secret"],
     "--study-storage: expected a URI without a password, which the process list would show"
     " (set SELFCON_STUDY_STORAGE instead), got one with a password"),
    (["--space", "good.yaml", "--checkpoint-storage", "s3://key:secret@bucket/path"],
     "--checkpoint-storage: expected a URI without a password, which the process list would show"
     " (set SELFCON_CHECKPOINT_STORAGE instead), got one with a password"),
    (["--space", "good.yaml", "--checkpoint-storage", "gs://bucket/path"],
     "--checkpoint-storage: expected a path, or s3://BUCKET/PATH with endpoint_override, region, scheme alone"
     " (keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on each node), got gs://bucket/path"),
    (["--space", "good.yaml", "--set", "search.num_trials"],
     "--set search.num_trials: expected KEY=VALUE, such as train.optim.epochs=4"),
    (["--space", "good.yaml", "--set", "search.num_trials=0"],
     "--set search.num_trials=0: search.num_trials: expected a whole number of at least 1, got 0"),
    (["--space", "good.yaml", "--set", "trial.num_workers=5"],
     "--set trial.num_workers=5: trial.num_workers: expected workers that fit this machine (or the --address"
     " of a cluster), got 2 CPUs / (5 workers x 1 CPU) = 0 trials at once"),
    (["--space", "good.yaml", "--set", "train.data.root=/no/such"],
     "--set train.data.root=/no/such: train.data.root: expected a folder that exists (digits is embedded and"
     " needs none: remove the key), got /no/such"),
]  # fmt: skip

# Errors found when the data are read; {cwd} is the folder of the search.
BAD_DATA: list[tuple[str, Callable[[Path], object], str]] = [
    ("folder", lambda root: root.mkdir(),
     "a folder with train/<class>/ and images in it, got {cwd}/images with nothing"),
    ("folder", lambda root: one_class(root / "train"),
     "a folder for each of two classes or more in {cwd}/images/train, got only ant"),
    ("folder", lambda root: (write_image_folder(root) / "train/bee/000.png").write_text("text"),
     "images that can be read, got {cwd}/images/train/bee/000.png: not an image of format JPEG or PNG"),
    ("folder", lambda root: truncate(write_image_folder(root) / "train/bee/001.jpg"),
     "images that can be read, got {cwd}/images/train/bee/001.jpg: image file is truncated ("),
    ("folder", lambda root: (write_image_folder(root) / "train/a.png").symlink_to("/etc"),
     "links that stay in {cwd}/images, got {cwd}/images/train/a.png, a link to /etc"),
    ("folder", lambda root: write_image_folder(root, parts={"train": 2}),
     "at least 3 training images of each class, one for each of training, validation, test, got 2 of ant"),
    ("imagenet", write_image_folder,
     "a folder with val/<class>/ and images in it, got {cwd}/images with train"),
    ("cifar10", lambda root: root.mkdir(),
     "data_batch_1 in cifar-10-batches-py/ under data.root, as unpacked from"
     " https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz, got no"
     " {cwd}/images/cifar-10-batches-py/data_batch_1"),
    ("tinyimagenet", lambda root: root.mkdir(),
     "wnids.txt in tiny-imagenet-200/ under data.root, as unpacked from"
     " http://cs231n.stanford.edu/tiny-imagenet-200.zip, got no"
     " {cwd}/images/tiny-imagenet-200/wnids.txt"),
]  # fmt: skip

RunSearch = Callable[[Any, Any], int]


def one_class(folder: Path) -> None:
    write_image_folder(folder.parent, classes=("ant",))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a valid space file, on a machine with 2 CPUs."""
    for variable in (
        "RAY_ADDRESS",
        "MLFLOW_TRACKING_URI",
        "SELFCON_STUDY_STORAGE",
        "SELFCON_CHECKPOINT_STORAGE",
    ):
        monkeypatch.delenv(variable, raising=False)
    for module in ("preflight", "dry_run"):
        monkeypatch.setattr(
            f"tune_jobs.commands.{module}.machine_resources", lambda: {"CPU": 2.0, "GPU": 0.0}
        )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(SPACE)
    return tmp_path


@pytest.fixture
def replace_search(monkeypatch: pytest.MonkeyPatch) -> Callable[[RunSearch], None]:
    """Return a function that replaces `run_search`."""

    def replace(run_search: RunSearch) -> None:
        module = ModuleType("tune_jobs.commands.search")
        module.run_search = run_search  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "tune_jobs.commands.search", module)

    return replace


def raises(error: BaseException) -> RunSearch:
    def run_search(_space: Any, _options: Any) -> int:
        raise error

    return run_search


@pytest.mark.parametrize(("flags", "message"), REFUSED_FLAGS)
def test_a_mistake_in_the_flags_is_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path, flags: list[str], message: str
) -> None:
    assert main(flags) == 2
    assert capsys.readouterr() == ("", f"error: {message.format(cwd=folder)}\n")
    assert [path.name for path in folder.iterdir()] == ["good.yaml"]


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_are_one_line_before_anything_is_written(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    case: tuple[str, Callable[[Path], object], str],
) -> None:
    dataset, write, expected = case
    write(folder / "images")
    (folder / "good.yaml").write_text(
        f"{SPACE}train:\n  data: {{dataset: {dataset}, root: {folder}/images}}\n"
    )
    assert main(["--space", "good.yaml"]) == 2
    place = f"good.yaml:5:{len(f'  data: {{dataset: {dataset}, root: ') + 1}"
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {place}: data.root: expected {expected.format(cwd=folder)}")
    assert sorted(path.name for path in folder.iterdir()) == ["good.yaml", "images"]


@pytest.mark.parametrize(
    ("storage", "place"),
    [
        ("s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http", "s3://bucket/x/example?"),
        ("good.yaml/x", "{cwd}/good.yaml/x/example"),
    ],
)
def test_a_checkpoint_storage_that_cannot_be_used_is_one_line_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], folder: Path, storage: str, place: str
) -> None:
    assert main(["--space", "good.yaml", "--checkpoint-storage", storage]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {place.format(cwd=folder)}")
    assert ": the checkpoint storage cannot be used: " in err
    assert [path.name for path in folder.iterdir()] == ["good.yaml"]


def test_a_search_runs_with_the_options_of_the_flags(replace_search: Callable[[RunSearch], None]) -> None:
    calls: list[tuple[Any, Any]] = []
    replace_search(lambda space, options: calls.append((space, options)) or 4)  # type: ignore[func-returns-value]
    flags = "--output out --name other --num-trials 7 --set search.seed=3 --set search.seed=4 --debug"
    assert main(["--space", "good.yaml", *flags.split()]) == 4
    ((space, options),) = calls
    assert (space.name, space.search.seed) == ("other", 4)
    assert (options.space, options.output, options.name) == (Path("good.yaml"), Path("out"), "other")
    assert (options.num_trials, options.overrides) == (7, ("search.seed=3", "search.seed=4"))
    assert (options.dry_run, options.report, options.debug) == (False, False, True)
    assert (options.address, options.tracking_uri, options.study_storage) == (None, None, None)


def test_missing_flags_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@host")
    monkeypatch.setenv("SELFCON_STUDY_STORAGE", "postgresql://user:secret@host/db")
    options = parse(["--space", "good.yaml", "--address", "auto"])
    assert options.address == "auto"
    assert options.tracking_uri == "http://user:secret@host"
    assert options.study_storage == "postgresql://user:secret@host/db"
    assert options.command() == "python launch.py --space good.yaml --address auto"


def test_with_an_address_the_resources_of_this_machine_do_not_matter(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--space", "good.yaml", "--dry-run", "--address", "auto", "--set", "trial.num_workers=100"]
    assert main(flags) == 0
    assert "as many as fit on the cluster at auto when the search runs" in capsys.readouterr().out


def test_a_report_needs_no_resources_for_a_trial(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--space", "good.yaml", "--set", "trial.num_workers=100"]
    assert main(flags) == 2
    assert main([*flags, "--report"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: --report: expected a search that was started, got no study in ")


def test_a_dry_run_starts_nothing(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    replace_search: Callable[[RunSearch], None],
) -> None:
    replace_search(raises(AssertionError("started")))
    assert main(["--space", "good.yaml", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("search      example\n")
    assert err == ""
    assert [path.name for path in folder.iterdir()] == ["good.yaml"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SearchError("internal"), 1),
        (BadInputError("input"), 2),
        (NoSuccessError("none"), 3),
        (ClusterLostError("lost"), 4),
        (TrackingError("later"), 5),
        (StorageError("full"), 6),
        (AlreadyRunningError("other"), 7),
    ],
)
def test_every_error_of_a_search_has_its_exit_code(
    capsys: pytest.CaptureFixture[str],
    replace_search: Callable[[RunSearch], None],
    error: SearchError,
    code: int,
) -> None:
    replace_search(raises(error))
    assert main(["--space", "good.yaml"]) == code
    resume = f"; {RESUME}" if code in (4, 5, 6) else ""
    assert capsys.readouterr() == ("", f"error: {error}{resume}\n")


def test_an_error_of_several_lines_is_printed_as_one(
    capsys: pytest.CaptureFixture[str], replace_search: Callable[[RunSearch], None]
) -> None:
    replace_search(raises(StorageError("the disk\nis full")))
    assert main(["--space", "good.yaml"]) == 6
    assert capsys.readouterr().err == f"error: the disk is full; {RESUME}\n"


def test_an_internal_error_is_one_line(
    capsys: pytest.CaptureFixture[str], replace_search: Callable[[RunSearch], None]
) -> None:
    replace_search(raises(ZeroDivisionError("division by zero")))
    assert main(["--space", "good.yaml"]) == 1
    expected = "error: ZeroDivisionError: division by zero (internal error; --debug shows the traceback)\n"
    assert capsys.readouterr() == ("", expected)


def test_an_interruption_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], replace_search: Callable[[RunSearch], None]
) -> None:
    replace_search(raises(KeyboardInterrupt()))
    assert main(["--space", "good.yaml"]) == 130
    assert capsys.readouterr() == ("", f"error: interrupted; {RESUME}\n")


def test_debug_shows_the_traceback(
    capsys: pytest.CaptureFixture[str], replace_search: Callable[[RunSearch], None]
) -> None:
    replace_search(raises(StorageError("full")))
    assert main(["--space", "good.yaml", "--debug"]) == 6
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.endswith(f"\nerror: full; {RESUME}\n")


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--help"], 0),
        (["--space", "search_spaces/exit_position.yaml", "--dry-run"], 0),
        (["--space", "nowhere.yaml"], 2),
        (["--space", "search_spaces/exit_position.yaml", "--set", "train.loss.temperature=0"], 2),
    ],
)
def test_help_validation_and_dry_run_import_nothing_slow(flags: list[str], code: int) -> None:
    command = [sys.executable, "-c", LIST_SLOW_IMPORTS, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == f"code {code} imported []"


def test_the_doctor_needs_no_space_file_and_leaves_no_files(folder: Path) -> None:
    command = [sys.executable, str(ROOT / "launch.py"), "--doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[-1].endswith(", no faults")
    assert [path.name for path in folder.iterdir()] == ["good.yaml"]


def test_the_command_works_from_any_folder(folder: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "launch.py"),
        "--space",
        "good.yaml",
        "--set",
        "search.num_trials=x",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    expected = "search.num_trials: expected a whole number of at least 1, got x"
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: --set search.num_trials=x: {expected}\n"
    assert [path.name for path in folder.iterdir()] == ["good.yaml"]


def test_help_lists_every_flag() -> None:
    command = [sys.executable, "launch.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    flags = "--space --dry-run --output --name --address --tracking-uri --study-storage --set --num-trials"
    assert all(f"{flag} " in done.stdout for flag in [*flags.split(), "--report", "--doctor", "--debug"])
