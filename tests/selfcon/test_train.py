import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from selfcon.callbacks import Callbacks
from selfcon.checkpoints.folder import load_checkpoint
from selfcon.collapse import collapsed_loss_of, is_collapsed
from selfcon.config import TrainConfig
from selfcon.errors import CheckpointError, ConfigError, NonFiniteLossError
from selfcon.model.cost import encoder_parameters, forward_macs
from selfcon.optim import learning_rate_at
from selfcon.train import EpochReport, TrainResult, fit
from tests.selfcon.fit_worker import run_ranks

TINY: dict[str, Any] = {
    "data.image_size": 8,
    "data.validation_fraction": 0.2,
    "model.width": 4,
    "optim.epochs": 3,
    "optim.global_batch_size": 64,
    "optim.learning_rate": 0.1,
    "evaluate.probe_epochs": 10,
}


def config_with(**changes: Any) -> TrainConfig:
    """TINY with changes; a double underscore stands for the dot."""
    return TrainConfig.from_flat(TINY | {name.replace("__", "."): value for name, value in changes.items()})


def fitted(
    config: TrainConfig, *, resume_from: Path | None = None, save_to: Path | None = None
) -> tuple[TrainResult, list[EpochReport]]:
    """Train, and return the result and all reports; save every epoch to the folder, if one is given."""
    reports: list[EpochReport] = []

    def report(epoch_report: EpochReport) -> None:
        reports.append(epoch_report)
        if save_to is not None:
            epoch_report.save(save_to / f"{epoch_report.epoch}-a0")

    return fit(config, report=report, resume_from=resume_from), reports


def alone_and_together(folder: Path, config: TrainConfig) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the record of one process, and those of two ranks that share its batches."""
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(run_ranks, folder, config, world_size=size) for size in (1, 2)]
    (alone,), ranks = (run.result() for run in runs)
    return alone, ranks


def differences(alone: dict[str, Any], ranks: list[dict[str, Any]]) -> list[float]:
    """Return how much the mean of the ranks' losses differs from the loss of one process, by step."""
    together = [(mine + other) / 2 for mine, other in zip(*(rank["losses"] for rank in ranks), strict=True)]
    return [abs(one - two) for one, two in zip(alone["losses"], together, strict=True)]


# The loss falls clearly below that of a collapsed network, for which the comparison would be trivial, and the
# runs are not so chaotic that rounding exceeds the bound (as another order of rows in one process would).
LEARNING: dict[str, dict[str, Any]] = {
    "group": {"data__image_size": 16, "loss__use_labels": False},
    "batch": {"model__width": 8, "loss__use_labels": False},
    "frozen": {
        "model__width": 8,
        "data__augmentation": "weak",
        "optim__global_batch_size": 32,
        "optim__learning_rate": 0.02,
        "optim__epochs": 2,
    },
}


@pytest.mark.parametrize(("normalization", "share"), [("group", 0.85), ("batch", 0.7), ("frozen", 0.97)])
def test_loss_curve_of_two_ranks_equals_one_process(tmp_path: Path, normalization: str, share: float) -> None:
    precise = {"optim__precision": "fp64", "model__normalization": normalization}
    config = config_with(**precise, **LEARNING[normalization], evaluate__every_epochs=4)
    alone, ranks = alone_and_together(tmp_path, config)
    assert len(alone["losses"]) >= 50
    assert math.fsum(alone["losses"][-10:]) / 10 < share * collapsed_loss_of(config)
    assert max(differences(alone, ranks)) < 1e-9


@pytest.fixture(scope="module")
def in_single_precision(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return alone_and_together(tmp_path_factory.mktemp("single"), config_with(**LEARNING["batch"]))


def test_first_steps_of_two_ranks_equal_one_process_in_float32(
    in_single_precision: tuple[dict[str, Any], list[dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    by_step = differences(*in_single_precision)
    with capsys.disabled():
        print(f"\nfloat32: two ranks against one, {len(by_step)} steps: {max(by_step):.1e} at most")
    # Later steps have no bound, because training amplifies rounding errors.
    assert by_step[0] < 1e-5


def test_ranks_report_the_same_metrics(
    in_single_precision: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    _, (first, second) = in_single_precision
    assert len(first["reports"]) == 4
    assert first["reports"] == second["reports"]


def volatile(name: str) -> bool:
    """Return whether a metric measures the machine."""
    return name in {
        f"cost/{what}" for what in ("seconds", "accelerator_hours", "images_per_second", "peak_memory_mb")
    }


@pytest.mark.parametrize("stopped_after", [0, 1, 2])
def test_resumed_run_is_bit_identical_to_an_uninterrupted_one(tmp_path: Path, stopped_after: int) -> None:
    config = config_with()
    _, whole = fitted(config, save_to=tmp_path / "whole")
    _, resumed = fitted(
        config, resume_from=tmp_path / "whole" / f"{stopped_after}-a0", save_to=tmp_path / "resumed"
    )
    expected, found = (
        load_checkpoint(tmp_path / run / "3-a0", config=config) for run in ("whole", "resumed")
    )
    assert expected.optimizer
    for ours, theirs in ((found.model, expected.model), (found.optimizer, expected.optimizer)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert [item.epoch for item in resumed] == list(range(stopped_after, 4))
    for item, reference in zip(resumed, whole[stopped_after:], strict=True):
        assert item.metrics.keys() == reference.metrics.keys()
        assert {k: v for k, v in item.metrics.items() if not volatile(k)} == {
            k: v for k, v in reference.metrics.items() if not volatile(k)
        }


BESIDE_SELFCON: dict[str, dict[str, Any]] = {
    "SupCon": {"model__exit_stages": [], "data__num_views": 2},
    "SupCon-S": {"model__exit_stages": []},
    "SimCLR": {
        "model__exit_stages": [],
        "data__num_views": 2,
        "data__augmentation": "weak",
        "loss__use_labels": False,
    },
    "cross-entropy": {"loss__objective": "cross_entropy", "model__exit_stages": []},
    "cross-entropy at every exit": {"loss__objective": "cross_entropy", "model__exit_stages": [1, 3]},
}


@pytest.mark.parametrize("method", BESIDE_SELFCON)
def test_every_other_objective_learns_and_resumes_bit_identically(tmp_path: Path, method: str) -> None:
    config = config_with(**({"data__augmentation": "none"} | BESIDE_SELFCON[method]), optim__epochs=2)
    result, reports = fitted(config, save_to=tmp_path)
    losses = [item.metrics["train/loss"] for item in reports[1:]]
    assert losses[-1] < 0.95 * losses[0]
    resumed, _ = fitted(config, resume_from=tmp_path / "1-a0")
    weights, expected = resumed.encoder.state_dict(), result.encoder.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    exits = {f"val/exit{stage}_top1" for stage in config.model.exit_stages}
    assert exits == {name for name in result.metrics if name.startswith("val/exit")}


def test_resumed_run_continues_its_costs(tmp_path: Path) -> None:
    config = config_with(optim__epochs=2)
    _, whole = fitted(config, save_to=tmp_path)
    _, resumed = fitted(config, resume_from=tmp_path / "1-a0")
    assert resumed[0].metrics == whole[1].metrics
    assert resumed[1].metrics["cost/seconds"] > whole[1].metrics["cost/seconds"]


def test_run_resumed_at_its_end_reports_the_last_epoch_again(tmp_path: Path) -> None:
    config = config_with(optim__epochs=1)
    result, whole = fitted(config, save_to=tmp_path)
    again, resumed = fitted(config, resume_from=tmp_path / "1-a0")
    assert [item.epoch for item in resumed] == [1]
    assert resumed[0].metrics == whole[1].metrics == again.metrics
    assert_equal_weights(again, result)


def test_checkpoint_of_another_configuration_is_rejected(tmp_path: Path) -> None:
    fitted(config_with(optim__epochs=1), save_to=tmp_path)
    with pytest.raises(CheckpointError, match=r"optim\.learning_rate is 0\.1, expected 0\.2"):
        fitted(config_with(optim__epochs=1, optim__learning_rate=0.2), resume_from=tmp_path / "0-a0")


def test_earlier_epochs_cannot_be_saved(tmp_path: Path) -> None:
    _, reports = fitted(config_with(optim__epochs=1))
    with pytest.raises(CheckpointError, match="step 0 can no longer be saved: the run is at step 17"):
        reports[0].save(tmp_path / "0-a0")


def assert_equal_weights(one: TrainResult, other: TrainResult) -> None:
    theirs = other.encoder.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in one.encoder.state_dict().items())


def test_weights_depend_only_on_the_seed() -> None:
    config = config_with(optim__epochs=1)
    first, _ = fitted(config)
    torch.manual_seed(12345)
    assert_equal_weights(fitted(config)[0], first)
    other, _ = fitted(config_with(optim__epochs=1, seed=1))
    assert other.metrics["train/loss"] != first.metrics["train/loss"]


def test_training_does_not_change_the_random_state_of_the_caller() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    fitted(config_with(optim__epochs=1))
    assert torch.equal(torch.rand(3), expected)


VAL = {"val/exit2_top1", "val/top1", "val/ensemble_top1", "val/knn_top1"}
COST = {
    "cost/seconds",
    "cost/peak_memory_mb",
    "cost/accelerator_hours",
    "cost/train_macs",
    "cost/encoder_parameters",
}
TRAIN = {"train/loss", "train/learning_rate", "cost/images_per_second"}


def test_every_epoch_reports_its_metrics_starting_with_the_untrained_network() -> None:
    result, reports = fitted(config_with())
    assert [item.epoch for item in reports] == [0, 1, 2, 3]
    assert [set(item.metrics) for item in reports] == [VAL | COST, *[VAL | COST | TRAIN] * 3]
    assert result.metrics == reports[-1].metrics
    assert all(0 <= item.metrics[name] <= 1 for item in reports for name in VAL)
    assert not result.encoder.training


def test_progress_is_called_at_each_step_batch_and_epoch_of_the_probes() -> None:
    places: list[str] = []
    config = config_with(optim__epochs=1, evaluate__probe_epochs=3)
    fit(
        config,
        report=lambda report: places.append(f"report {report.epoch}"),
        callbacks=Callbacks(progress=places.append),
    )
    # 1,150 training and 287 other images are encoded 256 at a time.
    evaluation = [f"features, batch {batch + 1}" for part in (5, 2) for batch in range(part)]
    evaluation += [f"probes, epoch {epoch + 1}" for epoch in range(3)]
    assert places == [
        "before the first epoch",
        *(f"evaluation of epoch 0, {place}" for place in evaluation),
        "report 0",
        *(f"epoch 1, step {step + 1}" for step in range(17)),
        *(f"evaluation of epoch 1, {place}" for place in evaluation),
        "report 1",
    ]


def test_only_evaluated_epochs_and_the_last_have_accuracies() -> None:
    _, reports = fitted(config_with(optim__epochs=5, evaluate__every_epochs=2))
    assert [item.epoch for item in reports if "val/top1" in item.metrics] == [0, 2, 4, 5]
    assert all(set(item.metrics) == COST | TRAIN for item in reports if item.epoch in (1, 3))


def test_costs_are_totals_since_the_start_of_the_trial() -> None:
    result, reports = fitted(config_with(data__num_views=2))
    seconds, macs, memory, parameters, hours = (
        [item.metrics[f"cost/{name}"] for item in reports]
        for name in ("seconds", "train_macs", "peak_memory_mb", "encoder_parameters", "accelerator_hours")
    )
    assert 0 < seconds[0] < seconds[1] < seconds[2] < seconds[3]
    # 1,150 training images make 17 batches of 64, seen in two views; a step costs three forward passes.
    macs_per_epoch = 3 * forward_macs(result.encoder, image_size=8) * 17 * 64 * 2
    assert macs == [epoch * macs_per_epoch for epoch in range(4)]
    assert memory == sorted(memory)
    assert 50 < memory[0] < 10_000
    assert parameters == [encoder_parameters(result.encoder)] * 4
    assert hours == pytest.approx([used / 3600 if torch.cuda.is_available() else 0.0 for used in seconds])
    spent = seconds[2] - seconds[1]
    assert reports[2].metrics["cost/images_per_second"] > 17 * 64 / spent


def test_reported_learning_rate_is_that_of_the_schedule() -> None:
    config = config_with(optim__warmup_epochs=1)
    _, reports = fitted(config)
    expected = [
        learning_rate_at(config.optim, epoch=epoch, step=16, steps_per_epoch=17) for epoch in range(3)
    ]
    assert [item.metrics["train/learning_rate"] for item in reports[1:]] == expected


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Use one thread: which value overflows first depends on the order of sums, and thus on the threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("learning_rate", "head", "reason"),
    [
        (1e30, "batch", "the loss is nan"),
        (1e12, "batch", "the projections have overflowed, with a norm of 0"),
        (1e8, "none", "the projections have overflowed, with a norm of 0"),
    ],
)
def test_overflow_error_names_epoch_and_step(learning_rate: float, head: str, reason: str) -> None:
    config = config_with(optim__learning_rate=learning_rate, model__projection_normalization=head)
    with pytest.raises(NonFiniteLossError, match=rf"epoch 1, step \d+: {reason}"):
        fitted(config)


def test_overflow_raises_the_same_error_on_every_rank(tmp_path: Path) -> None:
    config = config_with(optim__learning_rate=1e30)
    errors = [rank["error"] for rank in run_ranks(tmp_path, config, world_size=2)]
    assert errors[0].startswith("NonFiniteLossError: epoch 1, step")
    assert errors[0] == errors[1]


def test_batch_larger_than_the_training_split_raises_config_error() -> None:
    with pytest.raises(ConfigError, match=r"optim\.global_batch_size"):
        fitted(config_with(optim__global_batch_size=4096))


@pytest.mark.parametrize(("projection_normalization", "collapsed"), [("none", True), ("batch", False)])
def test_authors_head_collapses_and_the_default_head_learns(
    projection_normalization: str, collapsed: bool
) -> None:
    config = config_with(
        data__image_size=16,
        data__augmentation="none",
        model__width=16,
        model__projection_normalization=projection_normalization,
        optim__epochs=4,
        evaluate__every_epochs=4,
    )
    _, reports = fitted(config)
    found = is_collapsed(
        [report.metrics["train/loss"] for report in reports[1:]],
        collapsed_loss=collapsed_loss_of(config),
        warmup_epochs=config.optim.warmup_epochs,
        top1=reports[-1].metrics["val/top1"],
        untrained_top1=reports[0].metrics["val/top1"],
    )
    assert found is collapsed
    above_untrained = reports[-1].metrics["val/top1"] - reports[0].metrics["val/top1"]
    assert (above_untrained < -0.1) is collapsed
