"""Nodes that are about to go: Ray drains one when a cloud, or whoever runs the cluster, takes it back.

Ray Train has a watcher for this too, an actor more for each attempt, after whose notice its controller waits
for the node's end. It is switched off: an attempt ends with its checkpoint at once, and the search decides.
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
    """Yield a function that says at once whether one of the nodes was being drained a second ago.

    The cluster is asked by a thread, for the time of the context.
    """
    drained, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(POLL_S):
            try:
                if nodes & draining_nodes():
                    drained.set()
                    return
            except Exception as error:  # a cluster that does not answer now is asked again
                log.warning("the draining nodes are not known: %s", error)

    threading.Thread(target=watch, name="drain notice", daemon=True).start()
    try:
        yield drained.is_set
    finally:
        over.set()
