"""Bit-identical results in every run, also on a GPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Read at the first matrix product of a process on a GPU. Some versions of torch require one of two values.
_CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """Use deterministic kernels on a GPU, and restore the previous setting afterwards. No effect on CPUs.

    The default kernels of cuDNN for gradients of convolutions, and sums by index, add in the order of thread
    execution: two runs then differ in their last bits, and visibly after some epochs. An operation without a
    deterministic kernel raises `RuntimeError` with its name; no network of this package uses one. The cost is
    in docs/results.md. CUBLAS_WORKSPACE_CONFIG is set if it is not; if a process has used cuBLAS before
    without it, some versions of torch raise an error. Can be used as a decorator.
    """
    if not _has_gpu():
        yield
        return
    os.environ.setdefault(*_CUBLAS)
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic  # type checkers do not know this property
    fill = memory.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # only useful for code that reads uninitialised memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill


def _has_gpu() -> bool:
    return torch.cuda.is_available()
