"""torch: whether it and torchvision can be imported together, which devices it sees, how ranks can talk."""

import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from tune_jobs.doctor.finding import Finding, fault, first_line, note, ok

REINSTALL = "install both anew, from one index: pip install --force-reinstall torch torchvision"
SIDE = 128  # of the matrices that a device multiplies
DRIVER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class GPU:
    """A device that torch sees; `error` is why it cannot compute, empty where it can."""

    name: str
    memory_bytes: int
    free_bytes: int
    capability: str
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class TorchFacts:
    """What torch says of itself; errors are empty where there are none, `cuda` is None for a CPU build.

    `no_gpu` is why torch sees no device. `listed_gpus` are those that nvidia-smi lists for this process.
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


def look(wants_gpus: bool) -> Iterator[Finding]:
    """Yield what `findings` says of this Python's torch; `wants_gpus` is whether the space asks for GPUs."""
    try:
        import torch  # noqa: F401 - alone first: what it lacks is not torchvision's fault
    except Exception as error:  # what is missing or damaged may raise anything
        yield fault("torch", f"cannot be imported: {first_line(error)}", REINSTALL)
        return
    yield from findings(facts(), wants_gpus=wants_gpus)


def findings(facts: TorchFacts, *, wants_gpus: bool) -> Iterator[Finding]:
    """Yield a line for torch, for torchvision, for each device, and for the ways ranks can talk."""
    build = f"built for CUDA {facts.cuda}" if facts.cuda else "built for CPUs"
    yield ok("torch", f"{facts.version}, {build}, {facts.threads} CPU threads")
    if facts.torchvision_error:
        found = f"does not go with torch {facts.version}: {facts.torchvision_error}"
        yield fault("torchvision", found, REINSTALL)
    else:
        yield ok("torchvision", f"{facts.torchvision}, imported beside torch")
    yield from _devices(facts, wants_gpus=wants_gpus)
    yield _ranks(facts)


def _devices(facts: TorchFacts, *, wants_gpus: bool) -> Iterator[Finding]:
    for index, gpu in enumerate(facts.gpus):
        words = (
            f"{gpu.name}, {gpu.free_bytes / 1e9:.1f} of {gpu.memory_bytes / 1e9:.1f} GB free,"
            f" capability {gpu.capability}{f', driver {facts.driver}' if facts.driver else ''}"
        )
        if gpu.error:
            remedy = "install a torch that is built for it, or leave it out by CUDA_VISIBLE_DEVICES"
            yield fault(f"GPU {index}", f"{words}: cannot compute: {gpu.error}", remedy)
        else:
            yield ok(f"GPU {index}", f"{words}, computes")
    if not facts.gpus:
        yield _no_device(facts, wants_gpus=wants_gpus)


def _no_device(facts: TorchFacts, *, wants_gpus: bool) -> Finding:
    say = fault if wants_gpus or (facts.listed_gpus and facts.cuda) else note
    if facts.listed_gpus and not facts.cuda:
        found = f"nvidia-smi lists {facts.listed_gpus}, but torch is built for CPUs"
        return say("GPUs", found, "to use them: install torch and torchvision built for CUDA")
    if facts.listed_gpus:
        found = f"nvidia-smi lists {facts.listed_gpus}, but torch cannot use them: {facts.no_gpu}"
        return say("GPUs", found, "a newer driver, or a torch that is built for an older CUDA")
    if wants_gpus:
        return fault("GPUs", "none, and the space asks for them", "trial.gpus_per_worker=0, or --address")
    if facts.cuda:
        remedy = (
            "nothing, if CPUs are to do the work; else install NVIDIA's driver (nvidia-smi lists GPUs then)"
        )
        return note("GPUs", f"none for torch, which is built for them: {facts.no_gpu}", remedy)
    return ok("GPUs", "none: trainings run on CPUs")


def _ranks(facts: TorchFacts) -> Finding:
    what = "process groups"
    if facts.gloo_error:
        remedy = (
            "GLOO_SOCKET_IFNAME names a network interface (ip link lists them); reinstall torch without gloo"
        )
        return fault(what, f"gloo, by which CPUs talk, fails: {facts.gloo_error}", remedy)
    if facts.gpus and not facts.has_nccl:
        return fault(what, "torch has no NCCL, by which GPUs talk", REINSTALL)
    return ok(what, "gloo works" + (", NCCL is there" if facts.has_nccl else ", no NCCL (GPUs need it)"))


def facts() -> TorchFacts:
    """Return what torch says of itself, here and now: a quick computation on each device."""
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
    """Its version, and why it cannot be imported: `operator torchvision::nms does not exist`, most often."""
    try:
        import torchvision
    except Exception as error:
        return "", first_line(error)
    return str(torchvision.__version__), ""


def _gpus() -> tuple[tuple[GPU, ...], str]:
    import torch

    with warnings.catch_warnings(record=True) as said:  # that is how torch tells of a driver that is too old
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return tuple(_gpu(index) for index in range(torch.cuda.device_count())), ""
    try:
        torch.cuda.init()
    except Exception as error:
        return (), first_line(error).partition(". ")[0]
    return (), str(said[0].message) if said else "no reason given"


def _gpu(index: int) -> GPU:
    import torch

    properties = torch.cuda.get_device_properties(index)
    capability = f"{properties.major}.{properties.minor}"
    try:
        free, _ = torch.cuda.mem_get_info(index)
        matrix = torch.ones(SIDE, SIDE, device=f"cuda:{index}")
        right = float((matrix @ matrix).sum()) == SIDE**3
        error = "" if right else "a product of matrices came out wrong"
    except Exception as reason:
        free, error = 0, first_line(reason)
    return GPU(properties.name, properties.total_memory, free, capability, error)


def _driver() -> str:
    """The version of NVIDIA's driver, empty where nobody tells."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().partition("\n")[0]


def _gloo_error() -> str:
    """Why one rank alone cannot make a group: it finds no address of its own, say."""
    import torch
    from torch import distributed
    from torch._C._distributed_c10d import HashStore  # where torch's own stub has it

    if not (distributed.is_available() and distributed.is_gloo_available()):
        return "torch is built without it"
    try:
        distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
        distributed.all_reduce(torch.ones(1))
        distributed.destroy_process_group()
    except Exception as error:
        return first_line(error)
    return ""
