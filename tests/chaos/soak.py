"""The soaks: which searches run, on what, under which kills."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tune_jobs.study.records import TrialRecord

from . import facts as gathered
from .cluster import LocalCluster
from .disturbance import Disturbance, Story
from .facts import Facts
from .mlflow_server import MLflowServer
from .processes import survivors
from .schedule import Kill, Victim, draw_schedule
from .search import SearchCommand
from .surroundings import environment
from .training import TrainingWatch

NUM_NODES = 3
FIRST_RUNG = 3  # of space.yaml: no trial is pruned before this epoch
GONE_TIMEOUT_S = 30.0  # Ray's processes outlive a killed launcher by about 12 s
AT_THE_END = (Victim.SERVER, Victim.LAUNCHER)


@dataclass(frozen=True)
class Soaked:
    """One search that was disturbed: what happened, and what is there afterwards."""

    story: Story
    facts: Facts


def soak(folder: Path, *, seed: int, num_kills: int, note: Callable[[str], None]) -> dict[str, Soaked]:
    """Disturb two searches on a cluster of several nodes with an MLflow server, half of the kills each.

    One has one trial at a time and is compared with an undisturbed one; the other as many as fit. Raises
    `SoakError` when a search does not come to its end.
    """
    server = MLflowServer(folder, environment())
    with TemporaryDirectory(prefix="chaos-", dir="/tmp", ignore_cleanup_errors=True) as ray_folder:
        cluster = LocalCluster(Path(ray_folder), environment(), num_nodes=NUM_NODES)
        try:
            server.start()
            server.wait_until_ready()
            ground = _Ground(folder, seed, cluster, server, note)
            one = ground.disturb("one-at-a-time", num_kills=num_kills // 2, max_concurrent="1")
            several = ground.disturb("several-at-once", num_kills=num_kills - num_kills // 2)
            undisturbed = ground.undisturbed("one-at-a-time", num_trials=one.story.num_trials)
            one = replace(one, facts=replace(one.facts, undisturbed=undisturbed))
            return {"one at a time": one, "several at once": several}
        finally:
            cluster.stop()
            server.kill()


def short_soak(folder: Path, *, seed: int, note: Callable[[str], None]) -> Soaked:
    """Disturb a search of three short trials on this machine's own cluster, without a server: three kills."""
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
class _Ground:
    """What the searches of a soak run on."""

    folder: Path
    seed: int
    cluster: LocalCluster
    server: MLflowServer
    note: Callable[[str], None]

    def disturb(self, name: str, *, num_kills: int, max_concurrent: str = "auto") -> Soaked:
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
    training: TrainingWatch | None = None,
) -> Soaked:
    """Run a search to its end under the kills of a schedule, and gather what is there then.

    `training` tells what is really trained, where that is not in the search's folder. Raises `SoakError`.
    """
    note(f"{command.name}: {num_trials} trials, {len(schedule)} kills; {command.folder / command.name}.log")
    story = Disturbance(
        command, num_trials=num_trials, schedule=schedule, cluster=cluster, server=server, note=note,
        training=training,
    ).run()  # fmt: skip
    alive = survivors(story.processes, timeout_s=GONE_TIMEOUT_S)
    left_over = [f"process {process.pid} {process.title}" for process in alive]
    left_over += gathered.lock_left(command) + (cluster.in_use() if cluster else [])
    facts = Facts(
        num_trials=story.num_trials,
        records=gathered.records_of(command),
        attempts_ms=gathered.attempts_of(command),
        runs=gathered.runs_of(command),
        versions=gathered.versions_of(command),
        saved=story.saved,
        left_over=left_over,
    )
    return Soaked(story, facts)
