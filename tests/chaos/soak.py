"""Soak tests: their searches, clusters and kills."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tune_jobs.study.records import TrialRecord

from . import facts as gathered
from .cluster import LocalCluster
from .disturbance import Disturbance, History
from .facts import Facts
from .mlflow_server import MLflowServer
from .processes import survivors
from .schedule import Kill, Victim, draw_schedule
from .search import SearchCommand
from .surroundings import environment
from .training import TrainingMonitor

NUM_NODES = 3
FIRST_RUNG = 3  # min_epochs in space.yaml: no trial is pruned before this epoch
EXIT_TIMEOUT_S = 30.0  # Ray's processes outlive a killed launcher by about 12 s
AT_THE_END = (Victim.SERVER, Victim.LAUNCHER)


@dataclass(frozen=True)
class SoakResult:
    """History of a search under kills, and the facts after it."""

    history: History
    facts: Facts


def soak(folder: Path, *, seed: int, num_kills: int, note: Callable[[str], None]) -> dict[str, SoakResult]:
    """Run two searches on a cluster of several nodes with an MLflow server, each with half of the kills.

    One runs one trial at a time and is compared with the same search without kills; the other runs as many as
    fit. Raises `SoakError` if a search does not complete.
    """
    server = MLflowServer(folder, environment())
    with TemporaryDirectory(prefix="chaos-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder:
        cluster = LocalCluster(Path(ray_folder), environment(), num_nodes=NUM_NODES)
        try:
            server.start()
            server.wait_until_ready()
            setup = _Environment(folder, seed, cluster, server, note)
            one = setup.disturb("one-at-a-time", num_kills=num_kills // 2, max_concurrent="1")
            several = setup.disturb("several-at-once", num_kills=num_kills - num_kills // 2)
            undisturbed = setup.undisturbed("one-at-a-time", num_trials=one.history.num_trials)
            one = replace(one, facts=replace(one.facts, undisturbed=undisturbed))
            return {"one at a time": one, "several at once": several}
        finally:
            cluster.stop()
            server.kill()


def short_soak(folder: Path, *, seed: int, note: Callable[[str], None]) -> SoakResult:
    """Run a search of three short trials on a local cluster, without a server, with three kills."""
    command = SearchCommand(
        folder=folder,
        name="short",
        overrides=(f"search.seed={seed}", "train.optim.epochs=3", "pruner.kind=none"),
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
    )
    victims = (Victim.WORKER, Victim.TRIAL, Victim.LAUNCHER)
    schedule = draw_schedule(seed, num_kills=3, num_epochs=8, victims=victims)
    return disturb(command, num_trials=3, schedule=schedule, note=note)


@dataclass(frozen=True)
class _Environment:
    """Cluster, server and folder of the searches of a soak test."""

    folder: Path
    seed: int
    cluster: LocalCluster
    server: MLflowServer
    note: Callable[[str], None]

    def disturb(self, name: str, *, num_kills: int, max_concurrent: str = "auto") -> SoakResult:
        num_trials = max(4, num_kills // 2)
        schedule = draw_schedule(
            self.seed + (max_concurrent == "1"),
            num_kills=num_kills,
            num_epochs=num_trials * (FIRST_RUNG + 1),
            victims=tuple(Victim),
            at_the_end=AT_THE_END,
        )
        command = self._command(name, self.folder, self.server.uri, max_concurrent)
        return disturb(
            command, num_trials=num_trials, schedule=schedule, note=self.note,
            cluster=self.cluster, server=self.server,
        )  # fmt: skip

    def undisturbed(self, name: str, *, num_trials: int) -> list[TrialRecord]:
        folder = self.folder / "undisturbed"
        folder.mkdir()
        command = self._command(name, folder, f"sqlite:///{folder / 'mlflow.db'}", "1")
        self.note(f"{name}: the same search without kills")
        Disturbance(command, num_trials=num_trials, schedule=[], cluster=self.cluster, note=self.note).run()
        return gathered.records_of(command)

    def _command(self, name: str, folder: Path, uri: str, max_concurrent: str) -> SearchCommand:
        return SearchCommand(
            folder=folder,
            name=name,
            overrides=(f"search.seed={self.seed}", f"search.max_concurrent={max_concurrent}"),
            tracking_uri=uri,
            address=self.cluster.address,
        )


def disturb(
    command: SearchCommand,
    *,
    num_trials: int,
    schedule: list[Kill],
    note: Callable[[str], None],
    cluster: LocalCluster | None = None,
    server: MLflowServer | None = None,
    training: TrainingMonitor | None = None,
) -> SoakResult:
    """Run a search to its end under the kills of a schedule, and collect the facts.

    `training` watches the checkpoints if they are not in the folder of the search. Raises `SoakError`.
    """
    note(f"{command.name}: {num_trials} trials, {len(schedule)} kills; {command.folder / command.name}.log")
    history = Disturbance(
        command, num_trials=num_trials, schedule=schedule, cluster=cluster, server=server, note=note,
        training=training,
    ).run()  # fmt: skip
    alive = survivors(history.processes, timeout_s=EXIT_TIMEOUT_S)
    orphaned = [f"process {process.pid} {process.title}" for process in alive]
    orphaned += gathered.held_lock(command) + (cluster.in_use() if cluster else [])
    facts = Facts(
        num_trials=history.num_trials,
        records=gathered.records_of(command),
        attempts_ms=gathered.attempts_of(command),
        runs=gathered.runs_of(command),
        versions=gathered.versions_of(command),
        saved=history.saved,
        orphaned=orphaned,
    )
    return SoakResult(history, facts)
