"""Runs a search to its end while a schedule of kills is carried out on it."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .cluster import LocalCluster
from .journal import Journal
from .mlflow_server import MLflowServer
from .processes import Process, family, kill
from .schedule import OF_A_TRIAL, Kill, Victim
from .search import Launches, SearchCommand
from .training import Saved, TrainingWatch

POLL_S = 0.05  # an epoch takes many times as long
TIME_PER_KILL_S, TIME_PER_TRIAL_S, TIME_TO_START_S = 60.0, 120.0, 120.0
NOTICE_S = 30  # which is what a cloud gives, at the least
MAX_BLOWS = 2  # three attempts in a row without a new epoch fail a trial

# How Ray names the processes of a trial.
TITLES = {
    Victim.WORKER: "ray::RayTrainWorker",
    Victim.TRIAL: "ray::ImplicitFunc",
    Victim.CONTROLLER: "ray::TrainController",
}
EXIT_CODES = {Victim.LAUNCHER: {-signal.SIGKILL}, Victim.LAUNCHER_ASKED: {143, -signal.SIGTERM},
              Victim.SERVER: {5}, Victim.HEAD: {4}}  # fmt: skip


class SoakError(Exception):
    """The search did not come to its end."""


@dataclass
class Story:
    """What happened: kills that were carried out, exit codes of the launches, checkpoints that were seen."""

    kills: list[Victim] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    processes: set[Process] = field(default_factory=set)  # all that the launchers started
    num_trials: int = 0
    seconds: float = 0.0


class Disturbance:
    """One search under fire. `cluster` and `server` are None where the search uses this machine's own."""

    def __init__(
        self,
        command: SearchCommand,
        *,
        num_trials: int,
        schedule: Sequence[Kill],
        note: Callable[[str], None],
        cluster: LocalCluster | None = None,
        server: MLflowServer | None = None,
        training: TrainingWatch | None = None,
    ) -> None:
        self._kills_left, self._cluster, self._server = list(schedule), cluster, server
        self._launches, self._journal = Launches(command), Journal()
        self._training = training or TrainingWatch(command.search_folder)
        self._story, self._note = Story(num_trials=num_trials), note
        self._expected: set[int] = set()
        self._armed_s: float | None = None  # since when all is there for the next kill
        self._server_back_s = 0.0
        self._leaving: dict[int, float] = {}  # when which node is taken back
        self._start_s = time.monotonic()
        self._time_s = TIME_TO_START_S + TIME_PER_KILL_S * len(schedule) + TIME_PER_TRIAL_S * num_trials

    def run(self) -> Story:
        """Return when the search is complete and no kill is left. Raises `SoakError`."""
        try:
            self._launch()
            while not self._is_over():
                self._look()
                self._strike()
                self._tend_server()
                self._tend_nodes()
                time.sleep(POLL_S)
        finally:
            self._launches.end()
        self._story.exit_codes, self._story.saved = self._launches.exit_codes, self._training.saved
        self._story.seconds = time.monotonic() - self._start_s
        return self._story

    def _launch(self) -> None:
        self._expected = {0}
        if self._server_back_s > time.monotonic() - TIME_TO_START_S:
            self._expected |= EXIT_CODES[Victim.SERVER]  # it is away, or may be still starting
        self._launches.start(self._story.num_trials)

    def _is_over(self) -> bool:
        """See how the launcher is; start it again when it has ended and the search goes on."""
        if time.monotonic() - self._start_s > self._time_s:
            raise SoakError(f"no end after {self._time_s:.0f} s:\n{self._launches.newest_words()}")
        code = self._launches.exit_code
        if code is None:
            return False
        self._launches.exit_codes.append(code)
        self._look()
        if code not in self._expected:
            wanted = ", ".join(map(str, sorted(self._expected)))
            raise SoakError(f"exit code {code}, expected {wanted}:\n{self._launches.newest_words()}")
        if code == 0 and not self._kills_left:
            return True
        if code == 0 and self._kills_left[0].progress is not None:
            self._story.num_trials += 1  # the search was faster than the kills: it is extended
        if code in EXIT_CODES[Victim.SERVER]:
            self._await_server()
        self._await_cluster()
        self._launch()
        return False

    def _look(self) -> None:
        for line in self._launches.new_lines():
            self._journal.add(line)
        self._training.look()
        if self._cluster is None:
            self._story.processes.update(family(self._launches.pid))

    # --- kills ---------------------------------------------------------------------------------------------

    def _strike(self) -> None:
        """Carry out the next kill if it is time."""
        targets = self._targets(self._kills_left[0]) if self._kills_left else []
        if not targets:
            if self._kills_left and self._kills_left[0].victim in OF_A_TRIAL:
                self._armed_s = None
            return
        now = time.monotonic()
        self._armed_s = self._armed_s or now
        if now - self._armed_s < self._kills_left[0].delay_s:
            return
        blow, self._armed_s = self._kills_left.pop(0), None
        self._carry_out(blow, targets[int(blow.choice * len(targets))])

    def _targets(self, blow: Kill) -> list[int]:
        """What the kill may hit now, as numbers of processes or, of a node, its index."""
        if not self._is_time(blow) or (self._cluster is not None and not self._cluster.is_up):
            return []
        if blow.victim in (Victim.LAUNCHER, Victim.LAUNCHER_ASKED):
            return [self._launches.pid]
        if blow.victim == Victim.SERVER:
            return [0] if self._server is not None and self._server.is_up else []
        if blow.victim in (Victim.NODE, Victim.NODE_TOLD):
            families = self._cluster.families() if self._cluster else []
            here = {index: members for index, members in enumerate(families) if index not in self._leaving}
            busy = [index for index, members in here.items() if _members(members, *TITLES.values())]
            return busy or ([] if blow.victim == Victim.NODE_TOLD else list(here))
        # The head too: what asks for no CPU may run there.
        everywhere = self._cluster.processes() if self._cluster else family(self._launches.pid)
        if blow.victim == Victim.HEAD:
            return _members(everywhere, TITLES[Victim.WORKER])[:1] if self._cluster else []
        return sorted(_members(everywhere, TITLES[blow.victim]))

    def _is_time(self, blow: Kill) -> bool:
        if blow.victim in OF_A_TRIAL and self._journal.most_blows >= MAX_BLOWS:
            return False
        if blow.progress is None:
            return self._journal.num_ended >= self._story.num_trials
        return self._journal.progress >= blow.progress

    def _carry_out(self, blow: Kill, target: int) -> None:
        self._expected |= EXIT_CODES.get(blow.victim, set())
        self._story.kills.append(blow.victim)
        self._note(f"{self._journal.progress} epochs: kill {len(self._story.kills)}, {blow.victim}")
        if blow.victim in OF_A_TRIAL:
            self._journal.struck()
        if blow.victim == Victim.LAUNCHER:
            self._launches.send(signal.SIGKILL)
        elif blow.victim == Victim.LAUNCHER_ASKED:
            self._launches.send(signal.SIGTERM)
        elif blow.victim == Victim.NODE and self._cluster is not None:
            self._cluster.replace(target)
        elif blow.victim == Victim.NODE_TOLD and self._cluster is not None:
            self._cluster.drain(target, seconds=NOTICE_S)
            self._leaving[target] = time.monotonic() + NOTICE_S
        elif blow.victim == Victim.HEAD and self._cluster is not None:
            self._cluster.kill_head()
        elif blow.victim == Victim.SERVER and self._server is not None:
            self._server.kill()
            self._server_back_s = time.monotonic() + blow.pause_s
        else:
            kill(process for process in family(target) if process.pid == target)

    def _tend_server(self) -> None:
        if self._server is not None and not self._server.is_up and time.monotonic() >= self._server_back_s:
            self._server.start()

    def _tend_nodes(self) -> None:
        """Take the nodes back whose time has come; others take their place."""
        for index in [index for index, due_s in self._leaving.items() if time.monotonic() >= due_s]:
            del self._leaving[index]
            if self._cluster is not None and self._cluster.is_up:
                self._cluster.replace(index)

    def _await_cluster(self) -> None:
        """Start the cluster anew where its head was killed: not before the launcher has found that out."""
        if self._cluster is not None and not self._cluster.is_up:
            self._cluster.stop()
            self._leaving.clear()
            self._cluster.start()

    def _await_server(self) -> None:
        assert self._server is not None
        while not self._server.is_up:
            self._tend_server()
            time.sleep(POLL_S)
        self._server.wait_until_ready()


def _members(processes: Sequence[Process], *titles: str) -> list[int]:
    return [process.pid for process in processes if process.title.startswith(titles)]
