"""Measurement of time, alternating in one process, and of peak memory, each in a separate process."""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def alternating_seconds(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    finished: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Return the seconds of each call of each function. Calls alternate, so that all have the same load.

    The order is reversed in every second round; the first round is a warm-up. `finished` waits for the end of
    asynchronous work: `torch.cuda.synchronize` on a GPU.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name in list(functions) if repeat % 2 else reversed(list(functions)):
            started = time.perf_counter()
            functions[name]()
            finished()
            if repeat:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def spread(values: list[float]) -> str:
    """Return the median and the range as text."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def peak_megabytes(
    prepare: Callable[..., Callable[[], object]], *arguments: Any, on_gpu: bool = False
) -> float:
    """Return the peak memory of `prepare(*arguments)()` above that before the call, in 10^6 bytes.

    Measures the resident memory of a new process or, with `on_gpu`, the memory of its tensors on the GPU.
    `prepare` creates the inputs, which do not count; it must be at the top level of a module.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak_of_gpu if on_gpu else _peak_of, prepare, arguments).result()


def _peak_of(prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> float:
    function = prepare(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # reset the high-water mark
    before = _resident_megabytes("VmRSS")
    function()
    return _resident_megabytes("VmHWM") - before


def _peak_of_gpu(prepare: Callable[..., Callable[[], object]], arguments: tuple[Any, ...]) -> float:
    import torch  # not needed by every benchmark

    function = prepare(*arguments)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _resident_megabytes(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / 1e6
