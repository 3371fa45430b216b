import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

from selfcon.config import OptimConfig
from selfcon.optim import build_optimizer, learning_rate_at


def rates(*, steps_per_epoch: int = 4, **fields: Any) -> list[float]:
    """The learning rate of every step, from the first to the last."""
    optim = OptimConfig(**fields)
    return [
        learning_rate_at(optim, epoch=epoch, step=step, steps_per_epoch=steps_per_epoch)
        for epoch in range(optim.epochs)
        for step in range(steps_per_epoch)
    ]


def by_epoch(**fields: Any) -> list[float]:
    return rates(steps_per_epoch=1, **fields)


# The published runs of the authors: epochs, learning rate, and steps per epoch at their batch size.
RECIPES = {"cifar100": (1000, 0.5, 49), "imagenet": (800, 0.25, 626)}


def recipe(*, epochs: int, rate: float, num_steps: int, epoch: int, step: int) -> float:
    """The formulas of the authors for 10 epochs of warm-up; epochs count from 1."""
    eta_min = rate * 0.1**3
    warmup_to = eta_min + (rate - eta_min) * (1 + math.cos(math.pi * 10 / epochs)) / 2
    p = (step + (epoch - 1) * num_steps) / (10 * num_steps)
    cosine = eta_min + (rate - eta_min) * (1 + math.cos(math.pi * epoch / epochs)) / 2
    return 0.01 + p * (warmup_to - 0.01) if epoch <= 10 else cosine


@pytest.mark.parametrize("name", RECIPES)
def test_learning_rates_of_all_steps_equal_the_authors_formulas(name: str) -> None:
    epochs, rate, num_steps = RECIPES[name]
    optim = OptimConfig(epochs=epochs, learning_rate=rate, warmup_epochs=10)
    steps = [(epoch, step) for epoch in range(1, 12) for step in range(num_steps)]
    steps += [(epoch, step) for epoch in range(12, epochs + 1) for step in (0, num_steps - 1)]
    for epoch, step in steps:
        found = learning_rate_at(optim, epoch=epoch - 1, step=step, steps_per_epoch=num_steps)
        expected = recipe(epochs=epochs, rate=rate, num_steps=num_steps, epoch=epoch, step=step)
        assert found == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("name", "epoch", "step", "expected"),
    [
        ("cifar100", 1, 0, 0.01),
        ("cifar100", 1, 1, 0.0109997485),
        ("cifar100", 10, 48, 0.4988770150),
        ("cifar100", 11, 0, 0.4998508864),
        ("cifar100", 500, 0, 0.25025),
        ("cifar100", 1000, 48, 0.0005),
        ("imagenet", 1, 0, 0.01),
        ("imagenet", 11, 0, 0.2498835115),
        ("imagenet", 400, 0, 0.125125),
        ("imagenet", 800, 625, 0.00025),
    ],
)
def test_learning_rates_of_the_recipes(name: str, epoch: int, step: int, expected: float) -> None:
    epochs, rate, num_steps = RECIPES[name]
    optim = OptimConfig(epochs=epochs, learning_rate=rate, warmup_epochs=10)
    found = learning_rate_at(optim, epoch=epoch - 1, step=step, steps_per_epoch=num_steps)
    assert found == pytest.approx(expected, abs=1e-10)


def test_cosine_values() -> None:
    # learning rate 1 over 4 epochs: 0.001 + 0.999 (1 + cos(45, 90, 135, 180 degrees)) / 2
    found = by_epoch(epochs=4, learning_rate=1.0)
    assert found == pytest.approx([0.8536998372, 0.5005, 0.1473001628, 0.001], abs=1e-10)


@pytest.mark.parametrize("epochs", [1, 2, 7, 100])
def test_cosine_ends_at_a_thousandth_in_the_last_epoch(epochs: int) -> None:
    found = by_epoch(epochs=epochs, learning_rate=0.3)
    assert found[-1] == pytest.approx(0.3e-3, rel=1e-12)
    assert all(first > second for first, second in itertools.pairwise(found))
    assert found[0] < 0.3


def test_step_takes_effect_after_that_many_epochs() -> None:
    found = by_epoch(epochs=6, learning_rate=0.8, schedule="step", step_epochs=(2, 3), step_factor=0.5)
    assert found == pytest.approx([0.8, 0.8, 0.4, 0.2, 0.2, 0.2], rel=1e-15)


def test_constant_schedule_is_constant() -> None:
    assert set(rates(epochs=5, learning_rate=0.7, schedule="constant")) == {0.7}


@pytest.mark.parametrize("schedule", [{"schedule": "cosine"}, {"schedule": "step", "step_epochs": (3,)}])
def test_without_warmup_the_rate_is_constant_within_an_epoch(schedule: dict[str, Any]) -> None:
    found = rates(epochs=5, learning_rate=0.2, steps_per_epoch=3, **schedule)
    assert found[0::3] == found[1::3] == found[2::3]


@pytest.mark.parametrize(
    "schedule", [{"schedule": "cosine"}, {"schedule": "constant"}, {"schedule": "step", "step_epochs": (4,)}]
)
@pytest.mark.parametrize("warmup_epochs", [1, 2, 4])
def test_warmup_is_linear_from_a_hundredth_to_the_schedule(
    schedule: dict[str, Any], warmup_epochs: int
) -> None:
    fields = {"epochs": 10, "learning_rate": 0.4, **schedule}
    num_steps = 5 * warmup_epochs
    found = rates(steps_per_epoch=5, warmup_epochs=warmup_epochs, **fields)
    target = by_epoch(**fields)[warmup_epochs - 1]
    expected = [0.01 + step / num_steps * (target - 0.01) for step in range(num_steps)]
    assert found[:num_steps] == pytest.approx(expected, rel=1e-13)
    assert found[num_steps:] == rates(steps_per_epoch=5, **fields)[num_steps:]


def test_schedule_continues_from_the_end_of_warmup() -> None:
    found = rates(epochs=100, learning_rate=0.5, warmup_epochs=10, steps_per_epoch=20)
    rise = found[1] - found[0]
    assert abs(found[200] - found[199]) < 2 * rise
    assert max(found) == found[199]


@pytest.mark.parametrize("learning_rate", [0.01, 0.004, 1e-6])
def test_warmup_never_decreases(learning_rate: float) -> None:
    found = rates(epochs=20, learning_rate=learning_rate, warmup_epochs=3, steps_per_epoch=5)
    target = by_epoch(epochs=20, learning_rate=learning_rate)[2]
    assert set(found[:15]) == {target}


def test_warmup_starts_below_its_target_for_a_rate_just_above_a_hundredth() -> None:
    found = rates(epochs=20, learning_rate=0.0101, warmup_epochs=1, steps_per_epoch=5)
    assert found[0] == pytest.approx(0.01, abs=1e-15)
    assert all(first < second for first, second in itertools.pairwise(found[:5]))


@pytest.mark.parametrize(("epoch", "step"), [(-1, 0), (8, 0), (0, -1), (0, 3)])
def test_invalid_epoch_or_step_is_rejected(epoch: int, step: int) -> None:
    message = f"expected an epoch below 8 and a step below 3, both from 0, got epoch {epoch}, step {step}"
    with pytest.raises(ValueError, match=message):
        learning_rate_at(OptimConfig(epochs=8), epoch=epoch, step=step, steps_per_epoch=3)


def test_the_optimiser_is_plain_sgd_on_every_parameter() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optim = OptimConfig(learning_rate=0.3, momentum=0.8, weight_decay=0.02)
    optimizer = build_optimizer(network.parameters(), optim)
    (group,) = optimizer.param_groups
    assert len(group["params"]) == 4
    settings = {name: group[name] for name in ("lr", "momentum", "weight_decay", "dampening", "nesterov")}
    assert settings == {"lr": 0.3, "momentum": 0.8, "weight_decay": 0.02, "dampening": 0, "nesterov": False}


def test_optimiser_step_equals_the_textbook_formula() -> None:
    parameter = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    optimizer = build_optimizer([parameter], OptimConfig(learning_rate=0.1, momentum=0.9, weight_decay=0.01))
    value, velocity = 2.0, 0.0
    for gradient in (1.0, -0.5, 0.25):
        parameter.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        velocity = 0.9 * velocity + gradient + 0.01 * value
        value -= 0.1 * velocity
    assert parameter.item() == pytest.approx(value, rel=1e-14)
