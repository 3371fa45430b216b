"""Fixed cost of a trial, compared with Ray's defaults, with the same training function.

The fixed cost is the time from scheduling to the first line of the training function, plus the time from
the last report to scheduling of the next trial, one trial at a time. "stock" is a TorchTrainer as
documented, with Ray's default environment; "stock settings" runs trials as the platform does in that
environment. Prints every round and the ratios of the medians:

    .venv/bin/python benchmarks/trial_overhead.py
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

KINDS = ("ours", "stock settings", "stock")
ROUNDS = 3
TRIALS = 3  # per search; the first one, which includes the start of the cluster, is excluded
EVENTS = "SELFCON_BENCHMARK_EVENTS"


def main() -> None:
    """Run all rounds, each search in a separate process, in alternating order."""
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repeat in range(ROUNDS):
        for kind in KINDS if repeat % 2 == 0 else reversed(KINDS):
            with tempfile.TemporaryDirectory() as folder:
                events = Path(folder) / "events.jsonl"
                environment = {**os.environ, EVENTS: str(events), "OMP_NUM_THREADS": "1"}
                command = [sys.executable, __file__, kind, folder]
                subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
                costs[kind].append(fixed_cost(events))
            print(f"round {repeat + 1}: {kind:14s} {costs[kind][-1]:5.1f} s", flush=True)
    ours = statistics.median(costs["ours"])
    for kind in KINDS[1:]:
        median = statistics.median(costs[kind])
        print(f"medians: ours {ours:.1f} s, {kind} {median:.1f} s, ratio {ours / median:.2f}")


def fixed_cost(events: Path) -> float:
    """Return the median fixed cost in seconds of the trials between the first and the last."""
    times: dict[str, list[float]] = {"scheduled": [], "first line": [], "last report": []}
    for line in events.read_text().splitlines():
        event = json.loads(line)
        times[event["name"]].append(event["time"])
    start = [b - a for a, b in zip(times["scheduled"], times["first line"], strict=True)]
    end = [b - a for a, b in zip(times["last report"], times["scheduled"][1:], strict=False)]
    return statistics.median(a + b for a, b in zip(start[1:], end[1:], strict=False))


def record_event(name: str) -> None:
    """Append an event to the file in the environment variable."""
    with Path(os.environ[EVENTS]).open("a") as file:
        file.write(json.dumps({"name": name, "time": time.time()}) + "\n")


def train_worker(_task: dict[str, Any]) -> None:
    """Training function of all kinds: two empty epochs."""
    record_event("first line")
    import ray.train

    for epoch in (1, 2):
        ray.train.report({"epoch": epoch})


def run_documented_trial(config: dict[str, Any]) -> None:
    """Run a trial as in Ray's documentation: a TorchTrainer inside a Tune function."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.tune.integration.ray_train import TuneReportCallback

    TorchTrainer(
        train_worker,
        train_loop_config={},
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(
            name=str(config["number"]),
            storage_path=config["search_folder"],
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]  # its type is that of the older Train API
        ),
    ).fit()


def run_our_trial(config: dict[str, Any]) -> None:
    """Run a trial as the platform does."""
    from tune_jobs.execution.trial import train_attempt

    train_attempt(config, train_worker)


def searcher() -> Any:
    """Return a searcher that schedules one trial at a time."""
    from ray.tune.search import Searcher

    class OneAtATime(Searcher):
        num_scheduled = 0
        is_running = False

        def suggest(self, trial_id: str) -> Any:
            if self.is_running:
                return None
            if self.num_scheduled == TRIALS:
                return Searcher.FINISHED
            self.num_scheduled, self.is_running = self.num_scheduled + 1, True
            record_event("scheduled")
            return {
                "name": f"{self.num_scheduled:04d}",
                "number": self.num_scheduled,
                "attempt": 1,
                "train": {},
                "last_epoch": -1,
                "num_workers": 1,
            }

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            assert not error
            self.is_running = False

        def save(self, checkpoint_path: str) -> None: ...

        def restore(self, checkpoint_path: str) -> None: ...

    return OneAtATime()


def scheduler(kind: str) -> Any:
    """Return a scheduler that stops a trial at its last report, as the platform does, or lets it finish."""
    from ray.tune.schedulers import FIFOScheduler, TrialScheduler

    class Ending(FIFOScheduler):
        def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
            is_last = result.get("epoch") == 2 and not result.get("done")
            if is_last:
                record_event("last report")
            return str(TrialScheduler.STOP if is_last and kind == "ours" else TrialScheduler.CONTINUE)

    return Ending()  # type: ignore[no-untyped-call]


def run(kind: str, folder: Path) -> None:
    """Run one search of empty trials; the kinds except 'ours' use Ray's defaults."""
    from ray import tune

    from tune_jobs.cluster import session
    from tune_jobs.cluster.resources import machine_resources
    from tune_jobs.execution.trial import WorkerGroup, tune_config

    if kind != "ours":
        session.ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}
    run_trial = run_documented_trial if kind == "stock" else run_our_trial
    workers = WorkerGroup(cpus_per_worker=1, gpus_per_worker=0, hang_timeout_s=1800)
    with session.ray_session(None, machine_resources(), namespace="benchmark"):
        tune.Tuner(
            tune.with_resources(run_trial, {"CPU": 0, "memory": 1}),
            param_space=tune_config(str(folder), workers, checkpoints=str(folder)),
            tune_config=tune.TuneConfig(search_alg=searcher(), scheduler=scheduler(kind), num_samples=-1),
            run_config=tune.RunConfig(storage_path=str(folder / "sessions"), name="1", verbose=0),
        ).fit()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        run(sys.argv[1], Path(sys.argv[2]))
