import json
import os
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.cluster.session import ray_session


def add_then_fail_on_rank_1(task: dict[str, Any]) -> None:
    """Write a sum over all ranks and the rank's own numbers; then raise on rank 1."""
    import torch
    from torch import distributed

    from selfcon.distributed import rank, reduce_sum, row_counts, world_size
    from tune_jobs.execution.process_group import process_group

    with process_group(hang_timeout_s=60):
        found = {
            "rank": rank(),
            "world_size": world_size(),
            "local_rank": os.environ["LOCAL_RANK"],
            "sum": reduce_sum(torch.tensor([10.0 ** rank()])).item(),
        }
        Path(task["folder"], f"{rank()}.json").write_text(json.dumps(found))
    assert not distributed.is_initialized()
    with process_group(hang_timeout_s=60):
        if rank() == 1:
            raise ValueError("photo.jpg: damaged")
        row_counts(1)  # waits for the rank that fails


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore:`use_:DeprecationWarning")  # a warning of Ray
def test_the_workers_of_a_run_are_one_process_group_and_a_failing_rank_is_reported(
    tmp_path: Path,
) -> None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    from tune_jobs.execution.failure_causes import failure_of
    from tune_jobs.study.records import Reason

    num_workers = 2
    with ray_session(None, {"CPU": 2, "GPU": 0}, namespace="test"):
        trainer = DataParallelTrainer(
            add_then_fail_on_rank_1,
            train_loop_config={"folder": str(tmp_path)},
            scaling_config=ScalingConfig(num_workers=num_workers),
            run_config=RunConfig(name="1", storage_path=str(tmp_path / "train")),
        )
        with pytest.raises(TrainingFailedError) as failure:
            trainer.fit()
    assert failure_of(failure.value) == (Reason.ERROR, "photo.jpg: damaged")
    found = [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(num_workers)]
    assert found == [
        {"rank": 0, "world_size": 2, "local_rank": "0", "sum": 11.0},
        {"rank": 1, "world_size": 2, "local_rank": "1", "sum": 11.0},
    ]
