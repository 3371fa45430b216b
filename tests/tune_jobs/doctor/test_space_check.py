from pathlib import Path

import pytest

from tune_jobs.doctor import space_check
from tune_jobs.doctor.finding import Level
from tune_jobs.errors import BadInputError
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace, load_space

TEXT = "name: s\nspace: {loss.temperature: {low: 0.1, high: 0.5}}\nsearch: {num_trials: 4}\n"


def space(folder: Path, *overrides: str) -> SearchSpace:
    (folder / "space.yaml").write_text(TEXT)
    return load_space(folder / "space.yaml", overrides=overrides)


def test_the_finding_on_a_space_shows_its_trials_and_whether_it_resumes(tmp_path: Path) -> None:
    options = LaunchOptions(output=tmp_path)
    (finding,) = space_check.file(space(tmp_path), options)
    assert finding.message == f"s: 4 trials over loss.temperature; starts in {tmp_path}/s"
    (tmp_path / "s").mkdir()
    (finding,) = space_check.file(space(tmp_path), options)
    assert finding.message.endswith(f"; resumes in {tmp_path}/s")


def test_errors_of_preflight_are_raised(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    with pytest.raises(BadInputError, match="--output"):
        list(space_check.file(space(tmp_path), LaunchOptions(output=tmp_path)))
    with pytest.raises(BadInputError, match=r"trial\.cpus_per_worker"):
        list(space_check.capacity(space(tmp_path, "trial.cpus_per_worker=10000")))
    with pytest.raises(BadInputError, match=r"train\.data\.root"):
        list(space_check.data(space(tmp_path, "train.data.root=/no/such")))


def test_capacity_and_data_are_shown(tmp_path: Path) -> None:
    (capacity,) = space_check.capacity(space(tmp_path))
    assert " at once: " in capacity.message
    (data,) = space_check.data(space(tmp_path))
    assert data.message == "digits, embedded, needs no folder"
    existing = ("train.data.dataset=folder", f"train.data.root={tmp_path}")
    (data,) = space_check.data(space(tmp_path, *existing))
    assert data.message == f"folder, found {tmp_path}"


def test_on_a_cluster_local_state_is_noted(tmp_path: Path) -> None:
    options = LaunchOptions(output=tmp_path, address="auto", study_storage="postgresql://host/db")
    (finding,) = space_check.on_cluster(space(tmp_path), options)
    assert finding.level == Level.NOTE
    assert finding.message.startswith(f"checkpoints (--checkpoint-storage): in {tmp_path}/s")
    remote = LaunchOptions(address="auto", study_storage="postgresql://h/d", checkpoint_storage="s3://b")
    assert list(space_check.on_cluster(space(tmp_path), remote)) == []
