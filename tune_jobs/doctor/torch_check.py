"""torch: import with torchvision, devices, and process-group communication."""

import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from tune_jobs.doctor.finding import Finding, fault, first_line, note, ok

REINSTALL = "reinstall both from the same index: pip install --force-reinstall torch torchvision"
SIDE = 128  # size of the matrices in the test of a device
DRIVER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class GPU:
    """Device of torch; `error` is the reason why it cannot compute, empty if it can."""

    name: str
    memory_bytes: int
    free_bytes: int
    capability: str
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class TorchFacts:
    """Facts about torch; errors are empty if there are none, `cuda` is None for a CPU build.

    `no_gpu` is the reason why torch sees no device. `listed_gpus` are those that nvidia-smi lists for this
    process.
    """

    version: str
    cuda: str | None
    threads: int
    torchvision: str
    torchvision_error: str
    gpus: tuple[GPU, ...]
    no_gpu: str
    driver: str
    listed_gpus: int
    gloo_error: str
    has_nccl: bool


def check(wants_gpus: bool) -> Iterator[Finding]:
    """Yield the findings on the installed torch; `wants_gpus` is whether the space requests GPUs."""
    try:
        import torch  # noqa: F401 - alone first, to separate its errors from those of torchvision
    except Exception as error:  # a damaged installation may raise any exception
        yield fault("torch", f"cannot be imported: {first_line(error)}", REINSTALL)
        return
    yield from findings(facts(), wants_gpus=wants_gpus)


def findings(facts: TorchFacts, *, wants_gpus: bool) -> Iterator[Finding]:
    """Yield the findings on torch, torchvision, each device, and process-group communication."""
    build = f"built for CUDA {facts.cuda}" if facts.cuda else "CPU build"
    yield ok("torch", f"{facts.version}, {build}, {facts.threads} CPU threads")
    if facts.torchvision_error:
        message = f"not compatible with torch {facts.version}: {facts.torchvision_error}"
        yield fault("torchvision", message, REINSTALL)
    else:
        yield ok("torchvision", f"{facts.torchvision}, imported together with torch")
    yield from _devices(facts, wants_gpus=wants_gpus)
    yield _process_groups(facts)


def _devices(facts: TorchFacts, *, wants_gpus: bool) -> Iterator[Finding]:
    for index, gpu in enumerate(facts.gpus):
        words = (
            f"{gpu.name}, {gpu.free_bytes / 1e9:.1f} of {gpu.memory_bytes / 1e9:.1f} GB free,"
            f" capability {gpu.capability}{f', driver {facts.driver}' if facts.driver else ''}"
        )
        if gpu.error:
            remedy = "install a torch build that supports it, or exclude it with CUDA_VISIBLE_DEVICES"
            yield fault(f"GPU {index}", f"{words}: cannot compute: {gpu.error}", remedy)
        else:
            yield ok(f"GPU {index}", f"{words}, computes")
    if not facts.gpus:
        yield _no_device(facts, wants_gpus=wants_gpus)


def _no_device(facts: TorchFacts, *, wants_gpus: bool) -> Finding:
    say = fault if wants_gpus or (facts.listed_gpus and facts.cuda) else note
    if facts.listed_gpus and not facts.cuda:
        message = f"nvidia-smi lists {facts.listed_gpus}, but torch is a CPU build"
        return say("GPUs", message, "to use them, install CUDA builds of torch and torchvision")
    if facts.listed_gpus:
        message = f"nvidia-smi lists {facts.listed_gpus}, but torch cannot use them: {facts.no_gpu}"
        return say("GPUs", message, "install a newer driver, or a torch build for an older CUDA")
    if wants_gpus:
        return fault(
            "GPUs", "none, but the space requests them", "set trial.gpus_per_worker=0, or pass --address"
        )
    if facts.cuda:
        remedy = "no action to train on CPUs; otherwise install the NVIDIA driver and check nvidia-smi"
        return note("GPUs", f"torch is built for CUDA but finds no GPU: {facts.no_gpu}", remedy)
    return ok("GPUs", "none; training runs on CPUs")


def _process_groups(facts: TorchFacts) -> Finding:
    subject = "process groups"
    if facts.gloo_error:
        remedy = (
            "set GLOO_SOCKET_IFNAME to a network interface (see ip link); if torch has no gloo, reinstall it"
        )
        return fault(subject, f"gloo (communication of CPU workers) fails: {facts.gloo_error}", remedy)
    if facts.gpus and not facts.has_nccl:
        return fault(subject, "torch has no NCCL, which GPU workers need", REINSTALL)
    return ok(
        subject, "gloo works" + (", NCCL is available" if facts.has_nccl else ", no NCCL (only GPUs need it)")
    )


def facts() -> TorchFacts:
    """Return the facts about torch, after a quick computation on each device."""
    import torch
    from torch import distributed

    from tune_jobs.cluster.resources import machine_resources

    torchvision, torchvision_error = _torchvision()
    gpus, no_gpu = _gpus()
    return TorchFacts(
        version=torch.__version__,
        cuda=torch.version.cuda,
        threads=torch.get_num_threads(),
        torchvision=torchvision,
        torchvision_error=torchvision_error,
        gpus=gpus,
        no_gpu=no_gpu,
        driver=_driver() if gpus else "",
        listed_gpus=int(machine_resources()["GPU"]),
        gloo_error=_gloo_error(),
        has_nccl=distributed.is_available() and distributed.is_nccl_available(),
    )


def _torchvision() -> tuple[str, str]:
    """Version of torchvision, and its import error, usually `operator torchvision::nms does not exist`."""
    try:
        import torchvision
    except Exception as error:
        return "", first_line(error)
    return str(torchvision.__version__), ""


def _gpus() -> tuple[tuple[GPU, ...], str]:
    import torch

    with warnings.catch_warnings(record=True) as caught:  # torch reports an old driver by a warning
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return tuple(_gpu(index) for index in range(torch.cuda.device_count())), ""
    try:
        torch.cuda.init()
    except Exception as error:
        return (), first_line(error).partition(". ")[0]
    return (), str(caught[0].message) if caught else "no reason given"


def _gpu(index: int) -> GPU:
    import torch

    properties = torch.cuda.get_device_properties(index)
    capability = f"{properties.major}.{properties.minor}"
    try:
        free, _ = torch.cuda.mem_get_info(index)
        matrix = torch.ones(SIDE, SIDE, device=f"cuda:{index}")
        right = float((matrix @ matrix).sum()) == SIDE**3
        error = "" if right else "wrong result of a matrix product"
    except Exception as reason:
        free, error = 0, first_line(reason)
    return GPU(properties.name, properties.total_memory, free, capability, error)


def _driver() -> str:
    """Version of the NVIDIA driver, empty if unknown."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().partition("\n")[0]


def _gloo_error() -> str:
    """Error of a process group with one rank, for example if the host name has no address."""
    import torch
    from torch import distributed
    from torch._C._distributed_c10d import HashStore  # the type stub of torch has it only there

    if not (distributed.is_available() and distributed.is_gloo_available()):
        return "torch is built without it"
    try:
        distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        distributed.all_reduce(torch.ones(1))
        distributed.destroy_process_group()
    except Exception as error:
        return first_line(error)
    return ""
