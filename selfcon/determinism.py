"""The same bits in every run, on a GPU too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Read when a process first multiplies on a GPU. Some versions of torch insist on one of two values then.
_CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """On a GPU take the kernels that add in a fixed order, and afterwards those of before. CPUs need nothing.

    cuDNN's default kernels for gradients of convolutions, and sums by index, add in whatever order threads
    come: two runs then differ in their last bits, hence in everything after some epochs. An operation that
    has no such kernel raises `RuntimeError`, which names it; no network of ours uses one. What it costs is in
    docs/results.md. CUBLAS_WORKSPACE_CONFIG is set where it is not, and stays; where a process has multiplied
    on the GPU before without it, those versions of torch that insist on it raise. Serves as a decorator too.
    """
    if not _has_gpu():
        yield
        return
    os.environ.setdefault(*_CUBLAS)
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # its property is unknown to type checkers
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # it helps code that reads what it never wrote
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill


def _has_gpu() -> bool:
    return torch.cuda.is_available()
