"""Variables of the environment that get in the way of a search without a word."""

from collections.abc import Iterator, Mapping
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # not in its stub

from tune_jobs.doctor.finding import Finding, note, ok
from tune_jobs.urls import masked_uri

WHAT = "environment"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
LOOPBACK = ("127.0.0.1", "localhost")


def look(environment: Mapping[str, str], cpus_per_worker: float | None) -> Iterator[Finding]:
    """Yield a line for each variable that does, or one that there is none.

    `cpus_per_worker` is that of the space, None where none is known.
    """
    notes = [*_proxies(environment), *_devices(environment), *_threads(environment, cpus_per_worker)]
    yield from notes or [ok(WHAT, "no variable that gets in the way")]


def _proxies(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Requests of this machine to itself, to Ray's dashboard or an MLflow server, must not leave it."""
    lower = {name.lower(): value for name, value in environment.items() if value}
    given = [name for name in PROXIES if name in lower]
    exceptions = {"no": lower.get("no_proxy", "")}
    taken = [host for host in LOOPBACK if not proxy_bypass_environment(host, exceptions)]
    if given and taken:
        words = f"{given[0]}={masked_uri(lower[given[0]])} takes requests to {' and '.join(taken)} too"
        yield note(WHAT, words, f"export no_proxy={','.join(LOOPBACK)}")


def _devices(environment: Mapping[str, str]) -> Iterator[Finding]:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return
    hidden = visible.strip().startswith("-1") or not visible.strip()
    effect = "no GPU is used" if hidden else "the other GPUs are not used"
    yield note(WHAT, f"CUDA_VISIBLE_DEVICES={visible}: {effect}", "unset it to use all")


def _threads(environment: Mapping[str, str], cpus_per_worker: float | None) -> Iterator[Finding]:
    """Ray sets it for each worker, to the CPUs that the worker has, unless it is there already."""
    threads = environment.get("OMP_NUM_THREADS", "").strip()
    if threads and not (threads.isdecimal() and cpus_per_worker == int(threads)):
        words = f"OMP_NUM_THREADS={threads}: so many threads in each worker, whatever its CPUs"
        yield note(WHAT, words, "unset it: a worker then has a thread for each of its CPUs")
