"""Environment variables that can affect a search without an error."""

from collections.abc import Iterator, Mapping
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # not in its stub

from tune_jobs.doctor.finding import Finding, note, ok
from tune_jobs.urls import masked_uri

SUBJECT = "environment"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
LOOPBACK = ("127.0.0.1", "localhost")


def check(environment: Mapping[str, str], cpus_per_worker: float | None) -> Iterator[Finding]:
    """Yield a note for each such variable, or an ok finding if there is none.

    `cpus_per_worker` is that of the space, None if unknown.
    """
    notes = [*_proxies(environment), *_devices(environment), *_threads(environment, cpus_per_worker)]
    yield from notes or [ok(SUBJECT, "no variable that affects a search")]


def _proxies(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Proxies: local requests, to Ray's dashboard or an MLflow server, must not use a proxy."""
    lower = {name.lower(): value for name, value in environment.items() if value}
    given = [name for name in PROXIES if name in lower]
    exceptions = {"no": lower.get("no_proxy", "")}
    proxied = [host for host in LOOPBACK if not proxy_bypass_environment(host, exceptions)]
    if given and proxied:
        words = (
            f"{given[0]}={masked_uri(lower[given[0]])} also applies to requests to {' and '.join(proxied)}"
        )
        yield note(SUBJECT, words, f"export no_proxy={','.join(LOOPBACK)}")


def _devices(environment: Mapping[str, str]) -> Iterator[Finding]:
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return
    hidden = visible.strip().startswith("-1") or not visible.strip()
    effect = "no GPU is used" if hidden else "the other GPUs are not used"
    yield note(SUBJECT, f"CUDA_VISIBLE_DEVICES={visible}: {effect}", "unset it to use all GPUs")


def _threads(environment: Mapping[str, str], cpus_per_worker: float | None) -> Iterator[Finding]:
    """OMP_NUM_THREADS: Ray sets it for each worker to its number of CPUs, unless it is already set."""
    threads = environment.get("OMP_NUM_THREADS", "").strip()
    if threads and not (threads.isdecimal() and cpus_per_worker == int(threads)):
        words = (
            f"OMP_NUM_THREADS={threads}: sets the number of threads of each worker, regardless of its CPUs"
        )
        yield note(SUBJECT, words, "unset it: then each worker has one thread per CPU")
