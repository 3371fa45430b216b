"""Time to the first metric and to the first finished trial, compared with plain Ray Tune.

Both train the trials of search_spaces/exit_position.yaml; the time is measured from the start of the process.
"plain" follows Ray's documentation: a Tuner with defaults and a function with a TorchTrainer, which calls
`selfcon.train.fit` and reports each epoch. Prints every round and the ratios of the medians:

    .venv/bin/python benchmarks/first_minutes.py
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SPACE = ROOT / "search_spaces" / "exit_position.yaml"
ROUNDS = 3
EVENTS = ("first metric", "first finished trial")
# As many concurrent trials as fit, two here; plain Ray Tune runs one.
OURS = {"ours": (), "ours, one at a time": ("--set", "search.max_concurrent=1")}
KINDS = (*OURS, "plain")
# Text in the launcher's lines for an epoch and for the end of a trial; plain prints the names of the events.
MARKS = (" epoch ", "  complete ")
EXIT_TIMEOUT_S = 90.0


def main() -> None:
    """Run all rounds, one process at a time, in alternating order."""
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for repeat in range(ROUNDS):
        for kind in KINDS if repeat % 2 == 0 else reversed(KINDS):
            times[kind].append(timed(kind))
            words = ", ".join(f"{e} {s:.1f} s" for e, s in zip(EVENTS, times[kind][-1], strict=True))
            print(f"round {repeat + 1}: {kind:19s}  {words}", flush=True)
    for index, event in enumerate(EVENTS):
        medians = {kind: statistics.median(seconds[index] for seconds in times[kind]) for kind in KINDS}
        for kind in OURS:
            ratio = medians[kind] / medians["plain"]
            print(
                f"medians: {event}: {kind} {medians[kind]:.1f} s, plain {medians['plain']:.1f} s: {ratio:.2f}"
            )


def timed(kind: str) -> tuple[float, float]:
    """Return the seconds from the start of a process to each event, then stop it."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "plain", folder]
        if kind in OURS:
            command = [sys.executable, str(ROOT / "launch.py"), "--space", str(SPACE), *OURS[kind]]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        start = time.monotonic()
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            found = tuple(seconds_to(process, mark) - start for mark in (MARKS if kind in OURS else EVENTS))
            stop(process)
    return found[0], found[1]


def seconds_to(process: subprocess.Popen[str], mark: str) -> float:
    """Return the time when the process prints a line with the mark."""
    assert process.stdout is not None
    for line in process.stdout:
        if mark in line:
            return time.monotonic()
    raise RuntimeError(f"the process ended with {process.wait()} before it printed {mark!r}")


def stop(process: subprocess.Popen[str]) -> None:
    """Interrupt the process twice, so that it does not wait for its trials."""
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=EXIT_TIMEOUT_S)
        return
    process.kill()


def train_worker(config: dict[str, Any]) -> None:
    """Train one configuration and report each epoch."""
    import ray.train

    from selfcon.config import TrainConfig
    from selfcon.train import fit

    fit(
        TrainConfig.from_mapping(config),
        report=lambda epoch: ray.train.report({"epoch": epoch.epoch, **epoch.metrics}),
    )


def run_trial(config: dict[str, Any]) -> None:
    """Run a trial as in Ray's documentation."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    from tune_jobs.space import load_space

    parameters = {name: tuple(v) if isinstance(v, list) else v for name, v in config["parameters"].items()}
    TorchTrainer(
        train_worker,
        train_loop_config=load_space(SPACE).resolve(parameters).model_dump(mode="json"),
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(storage_path=config["folder"], callbacks=[TuneReportCallback()]),  # type: ignore[list-item]
    ).fit()


def run_plain(folder: str) -> None:
    """Search the same space with plain Ray Tune."""
    from ray import tune

    class Printer(tune.Callback):
        def on_trial_result(self, *_: Any, **__: Any) -> None:
            print(EVENTS[0], flush=True)

        def on_trial_complete(self, *_: Any, **__: Any) -> None:
            print(EVENTS[1], flush=True)

    space = {
        "model.exit_stages": tune.choice([[1], [2], [3]]),
        "loss.temperature": tune.loguniform(0.05, 0.5),
        "loss.exit_weight": tune.loguniform(0.1, 4.0),
    }
    tune.Tuner(
        run_trial,
        param_space={"folder": folder, "parameters": space},
        # Two concurrent trials would take both CPUs, and their workers would wait forever.
        tune_config=tune.TuneConfig(metric="val/top1", mode="max", num_samples=12, max_concurrent_trials=1),
        run_config=tune.RunConfig(storage_path=folder, callbacks=[Printer()]),
    ).fit()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        run_plain(sys.argv[2])
