"""The same bits in every run, on a GPU too."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# cuBLAS reads it when it is first used; torch insists on it. Two of its values give the same bits each time.
_CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """On a GPU take the kernels that add in a fixed order; afterwards all is as it was. CPUs need nothing.

    cuDNN's default kernels for gradients of convolutions, and sums by index, add in whatever order threads
    come: two runs then differ in their last bits, hence in everything after some epochs. An operation that
    has no such kernel raises `RuntimeError`, which names it; no network of ours uses one. What it costs is in
    docs/results.md. Serves as a decorator too.
    """
    if not torch.cuda.is_available():
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
