"""The torch process group of a trial's workers, made inside the workers.

`TorchTrainer` makes one too, but imports torch for it into two processes that never compute, the trial's and
Train's controller, one after the other: about four seconds of every trial.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but unsaid

# Who waits for a rank that hangs is to be told so by the watchdog, which knows where it waits. It waits for
# five minutes at least as a training starts.
COLLECTIVE_MARGIN_S = 360.0


@contextmanager
def process_group(*, hang_timeout_s: float) -> Iterator[None]:
    """Join this Train worker with the others of its run for the time of the context.

    A collective waits for somewhat longer than `hang_timeout_s`, after which a watchdog ends the training.
    NCCL where there are GPUs, else gloo. A worker that is alone needs no group. LOCAL_RANK tells which GPU is
    this one's, should a node's workers see all of them; it becomes the current device.

    After an error the group is left as it is: closed, it would make the other ranks fail of that, and theirs
    might be the words that are told.
    """
    import ray.train
    from torch import cuda, distributed

    context = ray.train.get_context()
    os.environ["LOCAL_RANK"] = str(context.get_local_rank())
    if cuda.is_available():
        cuda.set_device(context.get_local_rank() % cuda.device_count())
    if context.get_world_size() == 1:
        yield
        return
    timeout = timedelta(seconds=hang_timeout_s + COLLECTIVE_MARGIN_S)
    distributed.init_process_group(
        "nccl" if cuda.is_available() else "gloo",
        store=_store(context.get_world_rank(), context.get_world_size(), timeout=timeout),
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        timeout=timeout,
    )
    yield
    distributed.destroy_process_group()


def _store(rank: int, world_size: int, *, timeout: timedelta) -> "TCPStore":
    """Where the ranks find each other: on a port that rank 0's system chose, so none can be taken."""
    import ray.util
    from ray.train.collective import broadcast_from_rank_zero
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # exported, but unsaid

    store, address = None, None
    if rank == 0:
        host = ray.util.get_node_ip_address()
        store = TCPStore(host, 0, world_size, is_master=True, wait_for_workers=False)
        address = (host, store.port)
    host, port = broadcast_from_rank_zero(address)
    return store or TCPStore(host, port, world_size, is_master=False, timeout=timeout)
