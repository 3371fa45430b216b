"""Run a function of a test file on every rank of a gloo group and return the results."""

import importlib
import multiprocessing
import tempfile
import warnings
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import torch
from torch import distributed

TIMEOUT_S = 60


def on_ranks(function: Callable[..., Any], world_size: int, *arguments: Any) -> list[Any]:
    """Return what `function(*arguments)` returned on each of `world_size` ranks, in rank order.

    `function` must be at the top level of a test module. A rank that raises, or waits for another one longer
    than the time limit, fails the test; its traceback is on stderr.
    """
    context = forkserver()
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "module": function.__module__,
            "name": function.__name__,
            "arguments": arguments,
            "world_size": world_size,
            "folder": Path(folder),
        }
        processes = [
            context.Process(target=_be_a_rank, kwargs=job | {"rank": rank}) for rank in range(world_size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(2 * TIMEOUT_S)
            process.kill()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * world_size
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(world_size)]


def forkserver() -> ForkServerContext:
    """Return a context that forks from a server with torch imported: fast, without threads of tests."""
    context = multiprocessing.get_context("forkserver")
    # Importing torch._dynamo, which every optimiser needs, and scikit-learn takes two CPU seconds.
    context.set_forkserver_preload(
        ["torch._dynamo", "sklearn.datasets", "pytest", "hypothesis.strategies", "selfcon.train"]
    )
    return context


def _be_a_rank(
    *, module: str, name: str, arguments: tuple[Any, ...], rank: int, world_size: int, folder: Path
) -> None:
    """Run the function `name` of a test module as rank `rank` and write its result."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=TIMEOUT_S),
    )
    function = getattr(importlib.import_module(module), name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = function(*arguments)
    torch.save(result, folder / f"{rank}.pt")
    distributed.destroy_process_group()
