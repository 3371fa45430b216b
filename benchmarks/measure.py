"""How the benchmarks measure: times by turns in one process, memory each in a process of its own.

What runs on a GPU is waited for, and its memory is the GPU's, where the caller says so.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def seconds_by_turns(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    finished: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Return the seconds of each call, function by function: called by turns, so all meet the same load.

    The order is reversed in every other round; one round before them is not counted. `finished` returns when
    all is done that a call began: `torch.cuda.synchronize` on a GPU.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name in list(functions) if turn % 2 else reversed(list(functions)):
            started = time.perf_counter()
            functions[name]()
            finished()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def spread(values: list[float]) -> str:
    """Return the median and the range in words."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def peak_megabytes(
    prepare: Callable[..., Callable[[], object]], *arguments: Any, on_gpu: bool = False
) -> float:
    """Return what `prepare(*arguments)()` took at its peak above what stood before it, in 10^6 bytes.

    The resident memory of a fresh process, as Linux counts it, or with `on_gpu` what its tensors take of the
    GPU. `prepare` makes the inputs, which do not count; it stands at the top level of a module.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_of_gpu if on_gpu else _peak_of, prepare, arguments).result()


def _peak_of(prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> float:
    function = prepare(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = _resident_megabytes("VmRSS")
    function()
    return _resident_megabytes("VmHWM") - before


def _peak_of_gpu(prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> float:
    import torch  # not every benchmark needs it

    function = prepare(*arguments)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _resident_megabytes(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / 1e6
