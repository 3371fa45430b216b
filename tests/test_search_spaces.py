from pathlib import Path

import pytest

from selfcon.config import TrainConfig
from tune_jobs.options import LaunchOptions
from tune_jobs.preview import dry_run
from tune_jobs.pruning import rungs
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.space.examples import RandomTrial

PATHS = sorted((Path(__file__).parents[1] / "search_spaces").glob("*.yaml"))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def space(path: Path) -> SearchSpace:
    return load_space(path)


def test_the_searches_of_the_contract_are_shipped() -> None:
    names = {"exit_position", "loss_weights", "smoke", "subnetwork_depth", "temperature"}
    assert {path.stem for path in PATHS} == names


def test_a_shipped_space_is_named_after_its_file_and_says_what_it_asks(
    path: Path, space: SearchSpace
) -> None:
    assert space.name == space.tracking.experiment == path.stem
    assert space.description.endswith(("?", "."))
    first, *_ = path.read_text().splitlines()
    assert first.startswith("# ")
    assert all(f"# {word}" in space.text for word in ("Cost:", "Expect:"))


def test_whatever_a_shipped_space_suggests_can_be_trained(space: SearchSpace) -> None:
    drawn = [space.suggest(RandomTrial(seed)) for seed in range(300)]
    configs = [space.resolve(parameters) for parameters in drawn if not space.is_forbidden(parameters)]
    assert len(configs) > 200
    assert all(isinstance(config, TrainConfig) for config in configs)


def test_a_shipped_space_fits_a_small_machine_and_can_prune(space: SearchSpace) -> None:
    assert (space.trial.num_workers, space.trial.cpus_per_worker, space.trial.gpus_per_worker) == (
        1,
        1.0,
        0.0,
    )
    assert rungs(space.pruner, epochs=space.train["optim.epochs"])


def test_a_shipped_space_says_what_to_try_first(space: SearchSpace) -> None:
    assert space.start_points()


def test_a_shipped_space_has_a_preview(path: Path, space: SearchSpace) -> None:
    assert space.name in dry_run(space, LaunchOptions(space=path))


def test_the_main_search_is_long_enough_to_learn_from() -> None:
    space = load_space(PATHS[0])
    assert space.name == "exit_position"
    assert space.search.num_trials >= 12
    assert {"model.exit_stages", "model.exit_depth", "loss.temperature", "loss.exit_weight"} <= set(
        space.parameters
    )
