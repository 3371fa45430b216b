"""Ranks of a training run for the tests, each a process that writes OUT/<rank>.json.

Each runs `selfcon.train.fit` in a gloo group, or without one if the world size is 1, and records the loss of
every step and the reports.
"""

import hashlib
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, distributed

from selfcon.callbacks import Callbacks
from selfcon.checkpoints.folder import checkpoint_name, newest_valid
from selfcon.config import TrainConfig
from selfcon.errors import TrainingStopped
from selfcon.losses.objective import training_loss
from selfcon.train import EpochReport, fit
from tests.selfcon.ranks import forkserver

TIMEOUT_S = 120


def run_ranks(
    folder: Path,
    config: TrainConfig,
    *,
    world_size: int,
    exit_codes: Sequence[int] | None = None,
    **instructions: Any,
) -> list[dict[str, Any]]:
    """Return what each rank of a gloo group records when it trains `config`; one process needs no group.

    Instructions: `checkpoints`, the folder of checkpoints to save to and resume from; `attempt`; `kill` or
    `stop`, each [rank, step]: SIGKILL within that step of the process, or a stop request after it; and
    `stop_in_evaluation`, the epoch in whose evaluation a stop is requested, after which the first rank saves
    and is killed. A killed rank records nothing.
    """
    output = folder / f"{world_size}-ranks-{len(list(folder.glob('*-ranks-*')))}"
    output.mkdir(parents=True)
    spec = {
        "config": config.flat(),
        "world_size": world_size,
        "init_method": f"file://{output}/rendezvous",
        "output": str(output),
        **instructions,
    }
    (output / "spec.json").write_text(json.dumps(spec, default=str))
    processes = [
        forkserver().Process(target=_be_a_rank, args=(output / "spec.json", rank))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(TIMEOUT_S)
        assert [process.exitcode for process in processes] == list(exit_codes or [0] * world_size)
    finally:
        for process in processes:
            process.kill()
            process.join()
    paths = [output / f"{rank}.json" for rank in range(world_size)]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def recording(losses: list[float], *, killed_at: int | None) -> Callable[..., Tensor]:
    """Return a loss function that records this rank's share of every step.

    The mean over the ranks is the loss of the global batch.
    """

    def recorded_loss(*args: Any, **kwargs: Any) -> Tensor:
        if len(losses) + 1 == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        loss = training_loss(*args, **kwargs)
        losses.append(loss.item())
        return loss

    return recorded_loss


def step_of(instruction: list[int] | None, rank: int) -> int | None:
    """Return the step of an instruction for this rank, else None."""
    return instruction[1] if instruction and instruction[0] == rank else None


def train(spec: dict[str, Any], rank: int) -> dict[str, Any]:
    """Train, and return the record of this rank."""
    config, attempt = TrainConfig.from_flat(spec["config"]), spec.get("attempt", 0)
    checkpoints = Path(spec["checkpoints"]) if "checkpoints" in spec else None
    losses: list[float] = []
    reports: list[dict[str, float]] = []

    def report(epoch_report: EpochReport) -> None:
        reports.append(epoch_report.metrics)
        if rank == 0 and checkpoints is not None:
            epoch_report.save(checkpoints / checkpoint_name(epoch=epoch_report.epoch, attempt=attempt))

    resume_from = newest_valid(checkpoints) if checkpoints else None
    if spec["world_size"] > 1:
        distributed.barrier()  # no rank writes before all have read
    stopped_at = step_of(spec.get("stop"), rank)
    stop_epoch, place, saved = spec.get("stop_in_evaluation", -1), "", False

    def progress(now: str) -> None:
        nonlocal place
        if saved:
            os.kill(os.getpid(), signal.SIGKILL)
        place = now

    def stop_requested() -> bool:
        return len(losses) == stopped_at or place.startswith(f"evaluation of epoch {stop_epoch},")

    def save(stopped: TrainingStopped) -> None:
        nonlocal saved
        assert checkpoints is not None
        name = checkpoint_name(epoch=stopped.epoch - 1, step=stopped.step, attempt=attempt)
        stopped.save(checkpoints / name)
        saved = stop_epoch > 0

    result: dict[str, Any] = {"resumed_from": resume_from and resume_from.name}
    try:
        with patch(
            "selfcon.train.training_loss", recording(losses, killed_at=step_of(spec.get("kill"), rank))
        ):
            trained = fit(
                config,
                report=report,
                resume_from=resume_from,
                callbacks=Callbacks(progress=progress, stop_requested=stop_requested, save_at_once=save),
            )
    except TrainingStopped as stopped:
        result["stopped"] = str(stopped)
        if rank == 0:
            save(stopped)
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {error}"
    else:
        result["weights"] = {name: digest(value) for name, value in trained.encoder.state_dict().items()}
    return {**result, "losses": losses, "reports": reports}


def digest(value: Tensor) -> str:
    return hashlib.sha256(value.cpu().contiguous().numpy().tobytes()).hexdigest()


def _be_a_rank(spec_path: Path, rank: int) -> None:
    torch.set_num_threads(1)
    spec = json.loads(spec_path.read_text())
    if spec["world_size"] > 1:
        distributed.init_process_group(
            "gloo", init_method=spec["init_method"], rank=rank, world_size=spec["world_size"]
        )
    result = train(spec, rank)
    (Path(spec["output"]) / f"{rank}.json").write_text(json.dumps(result))
    if spec["world_size"] > 1 and "error" not in result:
        distributed.destroy_process_group()
    # The record is on disk. On a busy machine, threads of gloo sometimes abort the interpreter at exit.
    os._exit(0)
