"""The torch process group of the workers of a trial, created inside the workers.

`TorchTrainer` creates one too, but it imports torch into two processes that never compute, the trial actor
and the controller of Train, which takes about four seconds per trial.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not an explicit re-export

# The watchdog, which knows the location of a hang, must report it before a collective times out. It allows
# at least five minutes for the start of a training.
COLLECTIVE_MARGIN_S = 360.0


@contextmanager
def process_group(*, hang_timeout_s: float) -> Iterator[None]:
    """Create the process group of this Train run inside the context.

    The backend is NCCL with GPUs, else gloo; a single worker needs no group. The timeout of collectives is
    longer than `hang_timeout_s`, after which the watchdog ends the training. If a worker sees all GPUs of its
    node, LOCAL_RANK selects its current device.

    After an error the group is not destroyed: the other ranks would fail with a different error, which might
    be reported instead.
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
    """The store for the rendezvous, on a free port chosen by the system of rank 0."""
    import ray.util
    from ray.train.collective import broadcast_from_rank_zero
    from torch.distributed import TCPStore  # type: ignore[attr-defined]  # not an explicit re-export

    store, address = None, None
    if rank == 0:
        host = ray.util.get_node_ip_address()
        store = TCPStore(host, 0, world_size, is_master=True, wait_for_workers=False)
        address = (host, store.port)
    host, port = broadcast_from_rank_zero(address)
    return store or TCPStore(host, port, world_size, is_master=False, timeout=timeout)
