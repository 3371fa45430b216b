from pathlib import Path
from typing import Any

import pytest

from tune_jobs.commands.dry_run import dry_run
from tune_jobs.options import LaunchOptions
from tune_jobs.space import load_space

SPACE = """\
name: example
description: Which exit position is best for the sub-network, and at which temperature should it be trained?
train:
  data: {dataset: digits}
  model: {width: 8}
  optim: {epochs: 8}
space:
  model.exit_stages: {choices: [[1], [2], [1, 2]]}
  model.exit_depth: {choices: [fc, same], when: {model.exit_stages: [[1], [2]]}}
  loss.temperature:
    - {low: 0.05, high: 0.2, log: true, when: {model.exit_depth: [fc]}}
    - {low: 0.1, high: 0.5}
forbid: [{model.exit_stages: [1], model.exit_depth: same}]
start: [{model.exit_stages: [2], loss.temperature: 0.1}]
search: {num_trials: 6, max_concurrent: 3}
pruner: {kind: successive_halving, min_epochs: 2}
"""

EXPECTED = """\
search      example
            Which exit position is best for the sub-network, and at which temperature should it be
            trained?
objective   maximize val/top1
trials      6, suggested by tpe, seed 0
pruner      successive halving: after epoch 2 and 6 of 8, the best 1/3 continue
concurrent  3 on this machine: 4 CPUs / (1 worker x 1 CPU) = 4, at most 3 (search.max_concurrent)
disk        at most 89 MB of checkpoints (at most 4.9 MB each), plus a few MB of records and logs
experiment  example
registers   selfcon-digits
folder      out/example

explored: 4 combinations and 1 continuous range
  model.exit_stages       [1] | [2] | [1, 2]
  └─ model.exit_depth     fc | same   if [1] or [2]
                          fc          otherwise
     └─ loss.temperature  0.05 to 0.2, log   if fc
                          0.1 to 0.5         otherwise

never tried
  model.exit_stages [1] with model.exit_depth same

tried first
  model.exit_stages [2], loss.temperature 0.1

fixed (everything else has its default)
  data.dataset  digits
  model.width   8
  optim.epochs  8

example configurations
EXAMPLES

Nothing was started. To start it, and to resume it after a stop:
  python launch.py --space space.yaml --output out"""

PARETO = "objective=[{metric: val/top1}, {metric: cost/seconds, direction: minimize}]"


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_jobs.commands.dry_run.machine_resources", lambda: {"CPU": 4.0, "GPU": 0.0})


def preview(folder: Path, *overrides: str, **options: Any) -> str:
    path = folder / "space.yaml"
    path.write_text(SPACE)
    launch_options = LaunchOptions(space=Path("space.yaml"), overrides=overrides, **options)
    return dry_run(load_space(path, overrides=overrides), launch_options)


def line(text: str, label: str) -> str:
    (found,) = (line for line in text.splitlines() if line.startswith(label))
    return found.removeprefix(label).strip()


def test_the_dry_run_describes_the_search(tmp_path: Path) -> None:
    before, _, rest = preview(tmp_path, output=Path("out")).partition("example configurations\n")
    examples, _, after = rest.partition("\n\n")
    expected_before, _, expected_after = EXPECTED.partition("example configurations\nEXAMPLES\n\n")
    assert (before, after) == (expected_before, expected_after)
    assert len(examples.splitlines()) == 3
    assert all(example.startswith("  model.exit_stages [") for example in examples.splitlines())


@pytest.mark.parametrize(
    ("overrides", "options", "label", "text"),
    [
        ((), {"num_trials": 20}, "trials", "20, suggested by tpe, seed 0"),
        (("search={sampler: random, seed: 5}",), {}, "trials", "20, suggested by random, seed 5"),
        (
            ("objective={metric: cost/seconds, direction: minimize}",),
            {},
            "objective",
            "minimize cost/seconds",
        ),
        (
            (PARETO,),
            {},
            "objective",
            "maximize val/top1 and minimize cost/seconds; the first decides pruning and the winner",
        ),
        (
            ("constraints=[{metric: cost/peak_memory_mb, max: 4000}, {metric: val/top1, min: 0.5}]",),
            {},
            "feasible",
            "cost/peak_memory_mb at most 4000 and val/top1 at least 0.5",
        ),
        (
            ("confirm={top_k: 3, seeds: 2}",),
            {},
            "confirm",
            "the best 3 are trained with 2 seeds each: at most 3 more runs",
        ),
        (
            ("confirm={top_k: 3, seeds: 4}",),
            {"num_trials": 2},
            "confirm",
            "the best 3 are trained with 4 seeds each: at most 6 more runs",
        ),
        (
            ("confirm={top_k: 2, seeds: 3}",),
            {},
            "disk",
            "at most 148 MB of checkpoints (at most 4.9 MB each), plus a few MB of records and logs",
        ),
        (
            ("search={checkpoint_budget: 10MB, max_concurrent: 1, num_trials: 20}",),
            {},
            "disk",  # 3 of the running trial, 2 of the best trial, and the budget
            "at most 35 MB of checkpoints (at most 4.9 MB each), plus a few MB of records and logs",
        ),
        (("search={time_budget: 1h}",), {}, "budget", "1h over all launches"),
        (
            ("search={time_budget: 90, accelerator_hours: 2.5}",),
            {},
            "budget",
            "90 s over all launches and 2.5 accelerator-hours (these trials use no accelerator)",
        ),
        (
            ("search={accelerator_hours: 40}", "trial={gpus_per_worker: 1}"),
            {},
            "budget",
            "40 accelerator-hours",
        ),
        (("pruner={}",), {}, "pruner", "none: every trial trains for all its epochs"),
        (
            ("pruner={kind: median, min_epochs: 2}",),
            {},
            "pruner",
            "median: from epoch 2 of 8 on, trials worse than the median are pruned",
        ),
        (
            ("pruner={kind: hyperband, reduction_factor: 2}",),
            {},
            "pruner",
            "hyperband: first rungs at epoch 1 of 8 or later, the best 1/2 continue",
        ),
        (
            ("pruner={kind: median}", "train.optim.epochs=1"),
            {},
            "pruner",
            "median would first prune after epoch 1, but training ends at epoch 1",
        ),
        (
            ("train.optim.epochs=2",),
            {},
            "pruner",
            "successive halving would first prune after epoch 2, but training ends at epoch 2",
        ),
        (("search={}",), {}, "concurrent", "4 on this machine: 4 CPUs / (1 worker x 1 CPU) = 4"),
        (
            ("search={}", "trial={num_workers: 2}"),
            {},
            "concurrent",
            "2 on this machine: 4 CPUs / (2 workers x 1 CPU) = 2",
        ),
        (
            ("search={}", "trial={num_workers: [1, 3]}"),
            {},
            "concurrent",
            "2 on this machine: 4 CPUs / (1 to 3 workers x 1 CPU) = 2",
        ),
        (
            ("search={}",),
            {"address": "head:6379"},
            "concurrent",
            "as many as fit on the cluster at head:6379 when the search runs",
        ),
        (("tracking={registered_model: mine}",), {}, "registers", "mine"),
    ],
)
def test_each_line_follows_its_setting(
    tmp_path: Path, overrides: tuple[str, ...], options: dict[str, Any], label: str, text: str
) -> None:
    assert line(preview(tmp_path, *overrides, **options), label) == text


def test_empty_sections_are_omitted(tmp_path: Path) -> None:
    text = preview(tmp_path, "forbid=[]", "start=[]", "train={}", "description=''")
    titles = ("never tried", "tried first", "fixed", "feasible", "budget", "confirm")
    assert not any(title in text for title in titles)
    assert text.startswith("search      example\nobjective ")


def test_the_command_is_quoted_for_the_shell(tmp_path: Path) -> None:
    text = preview(tmp_path, "space.loss.temperature={low: 0.1, high: 0.3}", dry_run=True)
    assert text.endswith(
        "\n  python launch.py --space space.yaml --set 'space.loss.temperature={low: 0.1, high: 0.3}'"
    )
