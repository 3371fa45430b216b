from pathlib import Path

import pytest

from tune_jobs.commands import preflight
from tune_jobs.commands.preflight import check_output
from tune_jobs.errors import BadInputError
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace, load_space


def space(folder: Path, *overrides: str) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text("space: {seed: {low: 0, high: 9}}\ntrial: {num_workers: 2, cpus_per_worker: 2}\n")
    return load_space(path, overrides=overrides)


def test_the_output_can_be_in_new_folders_but_not_below_a_file(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "folder" / "name")
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match=rf"^--output: expected a folder, got the file {tmp_path}/file$"):
        check_output(tmp_path / "file" / "folder" / "name")


def test_with_an_address_only_the_space_file_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "machine_resources", lambda: {"CPU": 1.0, "GPU": 0.0})
    options = LaunchOptions(space=Path("space.yaml"), output=tmp_path, address="auto")
    preflight.preflight(space(tmp_path, "train.data.root=/no/such"), options)
    forbidding = space(tmp_path, "space.seed.high=0", "forbid=[{seed: 0}]")
    with pytest.raises(BadInputError, match="forbid: expected entries that allow at least one configuration"):
        preflight.preflight(forbidding, options)
