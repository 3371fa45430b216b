from pathlib import Path

import pytest
from optuna.trial import FixedTrial

from selfcon.config import TrainConfig
from tests.project import ROOT
from tune_jobs.commands.dry_run import dry_run
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.space.examples import RandomTrial
from tune_jobs.study.pruning import rungs

PATHS = sorted((ROOT / "search_spaces").glob("*.yaml"))
RECIPES = {
    "cifar100_resnet18",
    "imagenet_resnet34",
    "imagenet_resnet50",
}  # recipes of the paper, which need GPUs and data
OPTIM_FIELDS = ("optim.global_batch_size", "optim.learning_rate", "optim.epochs")
PROBE_FIELDS = ("evaluate.probe_epochs", "evaluate.probe_learning_rate", "evaluate.probe_batch_size")
ON_DIGITS = [path for path in PATHS if path.stem not in RECIPES]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


@pytest.fixture
def space(path: Path) -> SearchSpace:
    return load_space(path)


def test_all_expected_search_spaces_are_shipped() -> None:
    names = {"exit_position", "loss_weights", "smoke", "subnetwork_depth", "temperature"}
    assert {path.stem for path in PATHS} == names | RECIPES


def test_a_shipped_space_is_named_after_its_file_and_documented(path: Path, space: SearchSpace) -> None:
    assert space.name == space.tracking.experiment == path.stem
    assert space.description.endswith(("?", "."))
    first, second, *_ = path.read_text().splitlines()
    assert first == "# yaml-language-server: $schema=schema.json"
    assert second.startswith("# ")
    assert all(f"# {word}" in space.text for word in ("Cost:", "Expect:"))


def test_every_configuration_of_a_shipped_space_is_valid(space: SearchSpace) -> None:
    sampled = [space.suggest(RandomTrial(seed)) for seed in range(300)]
    configs = [space.resolve(parameters) for parameters in sampled if not space.is_forbidden(parameters)]
    assert len(configs) > 200
    assert all(isinstance(config, TrainConfig) for config in configs)


@pytest.mark.parametrize("path", ON_DIGITS, ids=lambda path: path.stem)
def test_a_space_on_the_digits_fits_a_small_machine(path: Path) -> None:
    space = load_space(path)
    assert (space.trial.num_workers, space.trial.cpus_per_worker, space.trial.gpus_per_worker) == (
        1,
        1.0,
        0.0,
    )


def test_a_shipped_space_has_rungs_for_pruning(space: SearchSpace) -> None:
    assert rungs(space.pruner, epochs=space.train["optim.epochs"])


def test_a_shipped_space_has_starting_points(space: SearchSpace) -> None:
    assert space.start_points()


def test_a_shipped_space_has_a_dry_run(path: Path, space: SearchSpace) -> None:
    assert space.name in dry_run(space, LaunchOptions(space=path))


def test_the_main_search_has_enough_trials_and_parameters() -> None:
    space = load_space(next(path for path in PATHS if path.stem == "exit_position"))
    assert space.search.num_trials >= 12
    assert {"model.exit_stages", "model.exit_depth", "loss.temperature", "loss.exit_weight"} <= set(
        space.parameters
    )


@pytest.mark.parametrize(
    ("name", "optim", "depth", "probe"),
    [
        ("cifar100_resnet18", (1024, 0.5, 1000), "fc", (100, 3.0, 512)),
        ("imagenet_resnet34", (2048, 0.25, 800), "same", (40, 5.0, 512)),
        ("imagenet_resnet50", (2048, 0.25, 800), "same", (40, 5.0, 512)),
    ],
)
def test_a_recipe_starts_with_the_published_configuration(
    name: str, optim: tuple[int, float, int], depth: str, probe: tuple[int, float, int]
) -> None:
    space = load_space(next(path for path in PATHS if path.stem == name))
    config = space.resolve(space.suggest(FixedTrial(space.start_points()[0]))).flat()
    dataset, backbone = name.split("_")
    published = {
        "data.dataset": dataset,
        "data.augmentation": "standard",
        "model.backbone": backbone,
        "model.exit_depth": depth,
        **dict(zip(PROBE_FIELDS, probe, strict=True)),
        **dict(zip(OPTIM_FIELDS, optim, strict=True)),
        "optim.schedule": "cosine",
        "optim.warmup_epochs": 10,
        "optim.momentum": 0.9,
        "optim.weight_decay": 1e-4,
        "model.projection_normalization": "none",
        "model.exit_stages": (2,),
        "loss.temperature": 0.1,
        "loss.exit_weight": 1.0,
        "data.num_views": 1,
    }
    assert {key: config[key] for key in published} == published
