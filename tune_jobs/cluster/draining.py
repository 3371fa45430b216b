"""Preemption notices: Ray drains a node before a cloud or an administrator removes it.

Ray Train can watch for this too, with an additional actor for each attempt, but its controller then waits
until the node is gone. That is disabled: the attempt writes a checkpoint and ends at once, and the search
reschedules it.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tune_jobs.cluster.ray_internals import draining_nodes

log = logging.getLogger(__name__)

POLL_S = 1.0


@contextmanager
def drain_notice(nodes: frozenset[str]) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether one of the nodes is draining, without blocking.

    A thread polls the cluster every second inside the context.
    """
    drained, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            try:
                if nodes & draining_nodes():
                    drained.set()
                    return
            except Exception as error:  # if the cluster does not answer, it is polled again
                log.warning("cannot list the draining nodes: %s", error)

    threading.Thread(target=watch, name="drain notice", daemon=True).start()
    try:
        yield drained.is_set
    finally:
        over.set()
