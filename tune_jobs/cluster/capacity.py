"""Number of concurrent trials on the connected cluster, updated when nodes join or leave."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from tune_jobs.cluster.concurrency import trials_at_once, waiting_for, worker_resources, workers_for_next
from tune_jobs.cluster.nodes import present_nodes
from tune_jobs.space.settings import TrialSettings

RECOUNT_S = 2.0


class Capacity:
    """Counts the trials that fit into the connected cluster, and calls `note` when the count changes.

    While no trial fits, a placement group requests the minimum number of workers of one trial, so that an
    autoscaler adds nodes. Ray removes it when this process ends.
    """

    def __init__(
        self, trial: TrialSettings, *, limit: int | Literal["auto"], note: Callable[[str], None]
    ) -> None:
        self._trial, self._limit, self._note = trial, limit, note
        self._counted_s = -math.inf
        self._nodes: list[Mapping[str, float]] = []
        self._at_once: int | None = None
        self._arithmetic = self._waiting = ""
        self._demand: PlacementGroup | None = None

    def at_once(self) -> int:
        """Return the number of concurrent trials, counted at most `RECOUNT_S` seconds ago."""
        if self._at_once is None or time.monotonic() - self._counted_s >= RECOUNT_S:
            self._at_once = self._count(before=self._at_once)
        return self._at_once

    def workers_for_next(self, live: Sequence[int]) -> int:
        """Return the number of workers of the next trial in addition to the running ones; 0 if it must wait.

        Free resources are counted first: an attempt keeps its number of workers.
        """
        if (self._limit != "auto" and len(live) >= self._limit) or not self._fitting_workers(live):
            return 0
        self._at_once = self._count(before=self._at_once)
        return self._fitting_workers(live)

    def _fitting_workers(self, live: Sequence[int]) -> int:
        return workers_for_next(self._nodes, self._trial, live) if self.at_once() else 0

    def summary(self) -> str:
        """Return the count with its calculation: `2 at once (2 CPUs / (1 worker x 1 CPU) = 2)`."""
        return f"{self.at_once()} at once ({self._arithmetic})"

    def close(self) -> None:
        """Withdraw the request for nodes."""
        if self._demand is not None:
            remove_placement_group(self._demand)
            self._demand = None

    def _count(self, *, before: int | None) -> int:
        self._nodes = [node.resources for node in present_nodes()]
        fit = trials_at_once(self._nodes, self._trial, limit=self._limit)
        self._arithmetic = fit.arithmetic
        if fit.count:
            self._resume(fit.count, before)
        else:
            self._wait(waiting_for(self._nodes, self._trial))
        self._counted_s = time.monotonic()
        return fit.count

    def _resume(self, at_once: int, before: int | None) -> None:
        self.close()
        self._waiting = ""
        if before not in (None, at_once):
            self._note(f"{at_once} trial{'' if at_once == 1 else 's'} at once now ({self._arithmetic})")

    def _wait(self, waiting: str) -> None:
        if self._demand is None:
            self._demand = placement_group([worker_resources(self._trial)] * self._trial.min_workers)
        if waiting != self._waiting:
            self._note(waiting)
            self._waiting = waiting
