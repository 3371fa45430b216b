"""Conditions of training collapse: one changed setting at a time, three projection heads, three seeds.

A run is stuck if the loss of its last epoch is within 1 % of that of identical features
(selfcon/collapse.py). Runs are appended to docs/collapse.csv and not repeated if they are in it. Prints a
table and draws a plot:

    .venv/bin/python benchmarks/collapse.py
"""

import csv
import itertools
import os
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from selfcon.collapse import collapsed_loss_of
from selfcon.config import TrainConfig

DOCS = Path(__file__).parents[1] / "docs"
RESULTS, PLOT = DOCS / "collapse.csv", DOCS / "collapse.png"
COLUMNS = ("factor", "value", "head", "seed", "loss", "collapsed_loss", "top1", "untrained_top1")

BASE: dict[str, Any] = {
    "data.image_size": 16,
    "data.augmentation": "none",
    "model.width": 8,
    "optim.epochs": 8,
    "optim.warmup_epochs": 1,
    "optim.global_batch_size": 64,
    "optim.learning_rate": 0.1,
    "evaluate.every_epochs": 8,
}
# The first value is that of BASE.
FACTORS: dict[str, tuple[Any, ...]] = {
    "optim.learning_rate": (0.1, 0.005, 0.02, 0.05, 0.3),
    "optim.warmup_epochs": (1, 0, 4),
    "optim.global_batch_size": (64, 32, 128),
    "loss.temperature": (0.1, 0.05, 0.5),
    "model.exit_stages": ((2,), (), (1,), (3,), (1, 2, 3)),
}
HEADS = ("batch", "input", "none")
SEEDS = (0, 1, 2)


def main() -> None:
    """Run the missing runs, then print the table and draw the plot."""
    done = {_key(row) for row in _rows()}
    missing = [run for run in _runs() if tuple(map(str, run)) not in done]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, future in enumerate(as_completed([pool.submit(_train, *run) for run in missing]), 1):
            _append(future.result())
            print(f"\r{number} of {len(missing)} runs", end="", flush=True)
    print()
    _print_table()
    _draw()


def _runs() -> Iterator[tuple[str, Any, str, int]]:
    """The base once, as the first factor, then each other value of each factor."""
    first = next(iter(FACTORS))
    settings = [(name, value) for name, values in FACTORS.items() for value in values[name != first :]]
    return ((*setting, head, seed) for setting, head, seed in itertools.product(settings, HEADS, SEEDS))


def _train(factor: str, value: Any, head: str, seed: int) -> dict[str, Any]:
    import torch

    from selfcon.train import EpochReport, fit

    torch.set_num_threads(1)
    config = TrainConfig.from_flat(
        BASE | {factor: value, "model.projection_normalization": head, "seed": seed}
    )
    reports: list[EpochReport] = []
    fit(config, report=reports.append)
    return {
        "factor": factor,
        "value": value,
        "head": head,
        "seed": seed,
        "loss": reports[-1].metrics["train/loss"],
        "collapsed_loss": collapsed_loss_of(config),
        "top1": reports[-1].metrics["val/top1"],
        "untrained_top1": reports[0].metrics["val/top1"],
    }


def _rows() -> list[dict[str, str]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return list(csv.DictReader(file))


def _append(row: dict[str, Any]) -> None:
    is_new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def _key(row: dict[str, str]) -> tuple[str, str, str, str]:
    return row["factor"], row["value"], row["head"], row["seed"]


def _is_stuck(row: dict[str, str]) -> bool:
    return abs(float(row["loss"]) / float(row["collapsed_loss"]) - 1) <= 0.01


def _cell(factor: str, value: Any, head: str) -> list[dict[str, str]]:
    """Rows of a setting; the base is stored only under the first factor."""
    if value == FACTORS[factor][0]:
        factor = next(iter(FACTORS))
        value = FACTORS[factor][0]
    return [row for row in _rows() if _key(row)[:3] == (factor, str(value), head)]


def _print_table() -> None:
    print("| setting | " + " | ".join(f"{head}: stuck, top1" for head in HEADS) + " |")
    print("|---" * (len(HEADS) + 1) + "|")
    for factor, values in FACTORS.items():
        for value in values:
            cells = [_cell(factor, value, head) for head in HEADS]
            words = [
                f"{sum(map(_is_stuck, rows))} of {len(rows)}, "
                f"{statistics.mean(float(row['top1']) for row in rows):.3f}"
                for rows in cells
            ]
            print(f"| {factor} {_shown(value)} | " + " | ".join(words) + " |")


def _draw() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    figure, panels = pyplot.subplots(1, len(FACTORS), figsize=(16, 3.6), sharey=True, layout="constrained")
    for panel, (factor, values) in zip(panels, FACTORS.items(), strict=True):
        ordered = sorted(values)
        for number, head in enumerate(HEADS):
            for place, value in enumerate(ordered):
                for row in _cell(factor, value, head):
                    marker = "x" if _is_stuck(row) else "o"
                    panel.plot(place + 0.2 * (number - 1), float(row["top1"]), f"C{number}{marker}")
        panel.axhline(statistics.mean(float(row["untrained_top1"]) for row in _rows()), color="grey", ls=":")
        panel.set_xticks(range(len(ordered)), [_shown(value) for value in ordered])
        panel.set_xlabel(factor)
    panels[0].set_ylabel("val/top1 (dotted: untrained)")
    legend = [(f"C{number}", "o", f"head: {head}") for number, head in enumerate(HEADS)]
    legend.append(("black", "x", "stuck at the collapse value"))
    handles = [
        Line2D([], [], color=color, marker=marker, ls="", label=label) for color, marker, label in legend
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    figure.savefig(PLOT, dpi=110)


def _shown(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    main()
