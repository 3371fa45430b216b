"""The training step on several ranks, compared with one process on the same batch, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor

from selfcon.config import TrainConfig
from selfcon.data.batches import epoch_batches
from selfcon.run import Run, start_run
from selfcon.train import train_step
from tests.selfcon.ranks import on_ranks

NUM_STEPS = 3
OBJECTIVES: dict[str, dict[str, Any]] = {
    "SelfCon": {"model.exit_stages": [1, 3], "loss.exit_weight": [0.3, 2.0]},
    "two views, no labels": {"data.num_views": 2, "loss.use_labels": False},
    "cross-entropy": {"loss.objective": "cross_entropy"},
}


def started(fields: dict[str, Any]) -> tuple[Run, list[tuple[Tensor, Tensor]]]:
    """Return a run in training mode, and this rank's share of its first batches."""
    config = TrainConfig.from_flat({"data.image_size": 16, "model.width": 8} | fields)
    run = start_run(config)
    run.network.train()
    batches = epoch_batches(run.dataset, config=config, epoch=0, device=run.device, dtype=run.dtype)
    return run, [next(batches) for _ in range(NUM_STEPS)]


def steps(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the losses of the steps, the gradient of the first, and the final network."""
    run, batches = started({"optim.precision": "fp64", "optim.learning_rate": 0.01} | fields)
    losses, gradients = [], []
    for images_RCHW, labels_B in batches:
        losses.append(train_step(run, images_RCHW, labels_B, place="here"))
        grads = {name: parameter.grad for name, parameter in run.encoder.named_parameters()}
        gradients.append({name: grad.clone() for name, grad in grads.items() if grad is not None})
    return {
        "rows": len(batches[0][1]),
        "losses": losses,
        "gradient": gradients[0],
        "state": dict(run.encoder.state_dict()),
    }


@pytest.mark.parametrize(
    ("normalization", "objective"),
    [("group", "SelfCon"), ("frozen", "SelfCon"), *(("batch", objective) for objective in OBJECTIVES)],
)
@pytest.mark.parametrize(("world_size", "batch_size", "shares"), [(2, 33, {16, 17}), (4, 34, {8, 9})])
def test_gradients_over_ranks_equal_one_process_on_the_same_batch(
    world_size: int, batch_size: int, shares: set[int], normalization: str, objective: str
) -> None:
    fields = {"model.normalization": normalization, "optim.global_batch_size": batch_size}
    fields |= OBJECTIVES[objective]
    alone = steps(fields)
    of_rank = on_ranks(steps, world_size, fields)
    assert {rank["rows"] for rank in of_rank} == shares
    assert max(float(grad.abs().max()) for grad in alone["gradient"].values()) > 0.1
    for rank in of_rank:
        torch.testing.assert_close(rank["gradient"], alone["gradient"], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(rank["losses"], alone["losses"], rtol=1e-9, atol=0)
        torch.testing.assert_close(rank["state"], alone["state"], rtol=1e-8, atol=1e-9)
        # All ranks must have bit-identical weights.
        for name, value in rank["state"].items():
            assert torch.equal(value, of_rank[0]["state"][name])
