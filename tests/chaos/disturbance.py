"""Runs a search to its end while killing its parts according to a schedule."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .cluster import LocalCluster
from .journal import Journal
from .mlflow_server import MLflowServer
from .processes import Process, kill, process_tree
from .schedule import TRIAL_VICTIMS, Kill, Victim
from .search import Launches, SearchCommand
from .training import Saved, TrainingMonitor

POLL_S = 0.05  # much shorter than an epoch
TIMEOUT_PER_KILL_S, TIMEOUT_PER_TRIAL_S, START_TIMEOUT_S = 60.0, 120.0, 120.0
NOTICE_S = 30  # the shortest notice of the clouds
MAX_KILLS_WITHOUT_EPOCH = 2  # a trial fails after three attempts in a row without a new epoch

# Process titles of Ray.
TITLES = {
    Victim.WORKER: "ray::RayTrainWorker",
    Victim.TRIAL: "ray::ImplicitFunc",
    Victim.CONTROLLER: "ray::TrainController",
}
EXIT_CODES = {Victim.LAUNCHER: {-signal.SIGKILL}, Victim.LAUNCHER_SIGTERM: {143, -signal.SIGTERM},
              Victim.SERVER: {5}, Victim.HEAD: {4}}  # fmt: skip


class SoakError(Exception):
    """The search did not complete."""


@dataclass
class History:
    """Kills, exit codes of the launches, and checkpoints of a search, in order."""

    kills: list[Victim] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    saved: list[Saved] = field(default_factory=list)
    processes: set[Process] = field(default_factory=set)  # all processes that the launchers started
    num_trials: int = 0
    seconds: float = 0.0


class Disturbance:
    """Runs one search under kills. `cluster` is None for a local cluster, `server` for a local file."""

    def __init__(
        self,
        command: SearchCommand,
        *,
        num_trials: int,
        schedule: Sequence[Kill],
        note: Callable[[str], None],
        cluster: LocalCluster | None = None,
        server: MLflowServer | None = None,
        training: TrainingMonitor | None = None,
    ) -> None:
        self._kills_left, self._cluster, self._server = list(schedule), cluster, server
        self._launches, self._journal = Launches(command), Journal()
        self._training = training or TrainingMonitor(command.search_folder)
        self._history, self._note = History(num_trials=num_trials), note
        self._expected: set[int] = set()
        self._ready_since_s: float | None = None  # when the next kill became possible
        self._server_restart_s = 0.0
        self._draining: dict[int, float] = {}  # node index to time of preemption
        self._start_s = time.monotonic()
        self._timeout_s = (
            START_TIMEOUT_S + TIMEOUT_PER_KILL_S * len(schedule) + TIMEOUT_PER_TRIAL_S * num_trials
        )

    def run(self) -> History:
        """Run until the search is complete and no kill is left. Raises `SoakError`."""
        try:
            self._launch()
            while not self._is_over():
                self._observe()
                self._kill_if_due()
                self._restart_server_if_due()
                self._replace_drained_nodes()
                time.sleep(POLL_S)
        finally:
            self._launches.end()
        self._history.exit_codes, self._history.saved = self._launches.exit_codes, self._training.saved
        self._history.seconds = time.monotonic() - self._start_s
        return self._history

    def _launch(self) -> None:
        self._expected = {0}
        if self._server_restart_s > time.monotonic() - START_TIMEOUT_S:
            self._expected |= EXIT_CODES[Victim.SERVER]  # it is down, or may still be starting
        self._launches.start(self._history.num_trials)

    def _is_over(self) -> bool:
        """Return whether all is done; restart the launcher if it has ended before."""
        if time.monotonic() - self._start_s > self._timeout_s:
            raise SoakError(f"not complete after {self._timeout_s:.0f} s:\n{self._launches.log_tail()}")
        code = self._launches.exit_code
        if code is None:
            return False
        self._launches.exit_codes.append(code)
        self._observe()
        if code not in self._expected:
            expected = ", ".join(map(str, sorted(self._expected)))
            raise SoakError(f"exit code {code}, expected {expected}:\n{self._launches.log_tail()}")
        if code == 0 and not self._kills_left:
            return True
        if code == 0 and self._kills_left[0].progress is not None:
            self._history.num_trials += 1  # the search ended before the kills, so extend it
        if code in EXIT_CODES[Victim.SERVER]:
            self._wait_for_server()
        self._restart_cluster()
        self._launch()
        return False

    def _observe(self) -> None:
        for line in self._launches.new_lines():
            self._journal.add(line)
        self._training.poll()
        if self._cluster is None:
            self._history.processes.update(process_tree(self._launches.pid))

    # --- kills ---------------------------------------------------------------------------------------------

    def _kill_if_due(self) -> None:
        """Carry out the next kill if it is due."""
        targets = self._targets(self._kills_left[0]) if self._kills_left else []
        if not targets:
            if self._kills_left and self._kills_left[0].victim in TRIAL_VICTIMS:
                self._ready_since_s = None
            return
        now = time.monotonic()
        self._ready_since_s = self._ready_since_s or now
        if now - self._ready_since_s < self._kills_left[0].delay_s:
            return
        planned, self._ready_since_s = self._kills_left.pop(0), None
        self._carry_out(planned, targets[int(planned.choice * len(targets))])

    def _targets(self, planned: Kill) -> list[int]:
        """Possible targets of a kill now: process ids or, for nodes, indices."""
        if not self._is_time(planned) or (self._cluster is not None and not self._cluster.is_up):
            return []
        if planned.victim in (Victim.LAUNCHER, Victim.LAUNCHER_SIGTERM):
            return [self._launches.pid]
        if planned.victim == Victim.SERVER:
            return [0] if self._server is not None and self._server.is_up else []
        if planned.victim in (Victim.NODE, Victim.PREEMPTED_NODE):
            families = self._cluster.node_processes() if self._cluster else []
            running = {
                index: members for index, members in enumerate(families) if index not in self._draining
            }
            busy = [index for index, members in running.items() if _members(members, *TITLES.values())]
            return busy or ([] if planned.victim == Victim.PREEMPTED_NODE else list(running))
        # Including the head: processes that request no CPU may run there.
        everywhere = self._cluster.processes() if self._cluster else process_tree(self._launches.pid)
        if planned.victim == Victim.HEAD:
            return _members(everywhere, TITLES[Victim.WORKER])[:1] if self._cluster else []
        return sorted(_members(everywhere, TITLES[planned.victim]))

    def _is_time(self, planned: Kill) -> bool:
        if (
            planned.victim in TRIAL_VICTIMS
            and self._journal.most_kills_since_epoch >= MAX_KILLS_WITHOUT_EPOCH
        ):
            return False
        if planned.progress is None:
            return self._journal.num_ended >= self._history.num_trials
        return self._journal.progress >= planned.progress

    def _carry_out(self, planned: Kill, target: int) -> None:
        self._expected |= EXIT_CODES.get(planned.victim, set())
        self._history.kills.append(planned.victim)
        self._note(f"{self._journal.progress} epochs: kill {len(self._history.kills)}, {planned.victim}")
        if planned.victim in TRIAL_VICTIMS:
            self._journal.record_kill()
        if planned.victim == Victim.LAUNCHER:
            self._launches.send(signal.SIGKILL)
        elif planned.victim == Victim.LAUNCHER_SIGTERM:
            self._launches.send(signal.SIGTERM)
        elif planned.victim == Victim.NODE and self._cluster is not None:
            self._cluster.replace(target)
        elif planned.victim == Victim.PREEMPTED_NODE and self._cluster is not None:
            self._cluster.drain(target, seconds=NOTICE_S)
            self._draining[target] = time.monotonic() + NOTICE_S
        elif planned.victim == Victim.HEAD and self._cluster is not None:
            self._cluster.kill_head()
        elif planned.victim == Victim.SERVER and self._server is not None:
            self._server.kill()
            self._server_restart_s = time.monotonic() + planned.pause_s
        else:
            kill(process for process in process_tree(target) if process.pid == target)

    def _restart_server_if_due(self) -> None:
        if self._server is not None and not self._server.is_up and time.monotonic() >= self._server_restart_s:
            self._server.start()

    def _replace_drained_nodes(self) -> None:
        """Replace the nodes whose notice has expired."""
        for index in [index for index, due_s in self._draining.items() if time.monotonic() >= due_s]:
            del self._draining[index]
            if self._cluster is not None and self._cluster.is_up:
                self._cluster.replace(index)

    def _restart_cluster(self) -> None:
        """Restart the cluster if its head was killed; called after the launcher has detected that."""
        if self._cluster is not None and not self._cluster.is_up:
            self._cluster.stop()
            self._draining.clear()
            self._cluster.start()

    def _wait_for_server(self) -> None:
        assert self._server is not None
        while not self._server.is_up:
            self._restart_server_if_due()
            time.sleep(POLL_S)
        self._server.wait_until_ready()


def _members(processes: Sequence[Process], *titles: str) -> list[int]:
    return [process.pid for process in processes if process.title.startswith(titles)]
