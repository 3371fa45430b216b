"""Comparison of a retrained trial with its record, and of the two environments: pure functions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tune_jobs.provenance import shown_commit
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.snapshot import Launch

# Other numbers of workers, threads or kernels change the order of summation; float32 has only 7 digits.
ROUNDING = 1e-4
NOT_COMPARED = "cost/"  # time and memory depend on the machine
VERSION = "selfcon.version."


@dataclass(frozen=True)
class Difference:
    """A recorded value and the retrained one."""

    epoch: int
    metric: str
    recorded: float
    retrained: float

    @property
    def size(self) -> float:
        """The absolute difference, relative to the recorded value if that is above 1 in magnitude."""
        return abs(self.retrained - self.recorded) / max(1.0, abs(self.recorded))


@dataclass(frozen=True)
class Comparison:
    """Result of a reproduction: compared, missing and differing values, and both final states.

    `newest` holds the difference of each metric in the last epoch that both reported.
    """

    num_epochs: int
    num_values: int
    num_missing: int
    differences: tuple[Difference, ...]
    final_states: tuple[str, str]  # recorded, retrained
    newest: Mapping[str, float]

    @property
    def drifted(self) -> bool:
        """Whether a value is missing or differs by more than rounding, or the final states differ."""
        is_incomplete = self.num_missing > 0 or self.num_values == 0
        recorded, retrained = self.final_states
        is_different = any(difference.size > ROUNDING for difference in self.differences)
        return is_incomplete or is_different or recorded != retrained

    def last_difference(self, metric: str) -> float | None:
        """Return the absolute difference of a metric in its last compared epoch, None if there is none."""
        return None if metric not in self.newest else abs(self.newest[metric])

    def lines(self) -> list[str]:
        """Return the verdict, then the first and the largest difference, as lines of text."""
        compared = f"{self.num_values} values of {self.num_epochs} epochs"
        if self.num_values == 0:
            lines = ["drift: no reported value can be compared"]
        elif self.drifted:
            lines = [f"drift: {len(self.differences)} of {compared} differ"]
        elif self.differences:
            lines = [f"reproduced: {compared} agree within rounding ({ROUNDING:g})"]
        else:
            lines = [f"reproduced: {compared} are identical"]
        if self.num_missing:
            lines.append(f"  {self.num_missing} recorded values were not reported this time")
        recorded, retrained = self.final_states
        if recorded != retrained:
            lines.append(f"  final state: {retrained}, recorded {recorded}")
        if self.differences:
            largest = max(self.differences, key=lambda difference: difference.size)
            shown = {"first": self.differences[0], "largest": largest}
            lines += [f"  {which} difference: {_shown(found)}" for which, found in shown.items()]
        return lines


def compare(recorded: TrialRecord, retrained: TrialRecord) -> Comparison:
    """Return the comparison of all metrics except cost, epoch by epoch."""
    pairs = list(_pairs(recorded, retrained))
    differing = [pair for pair in pairs if pair.recorded != pair.retrained]
    return Comparison(
        num_epochs=len({pair.epoch for pair in pairs}),
        num_values=len(pairs),
        num_missing=_num_compared(recorded) - len(pairs),
        differences=tuple(differing),
        final_states=(_final_state(recorded), _final_state(retrained)),
        newest={pair.metric: pair.retrained - pair.recorded for pair in pairs},
    )


def changes(
    launch: Launch | None, *, environment: Mapping[str, str], commit: str | None, workers: Sequence[set[int]]
) -> list[str]:
    """Return the differences from the launch that trained a trial, one line each.

    `workers` holds the worker counts of the trial's attempts, then those of the reproduction.
    """
    if launch is None:
        return ["unknown: the study does not record the environment of the trial"]
    lines = []
    if launch.commit != commit or (commit or "").endswith("-dirty"):
        lines.append(f"code: {shown_commit(commit)}, recorded with {shown_commit(launch.commit)}")
    for name in sorted({*launch.environment, *environment}):
        before, now = launch.environment.get(name, "none"), environment.get(name, "none")
        if before != now:
            what = name.removeprefix(VERSION).removeprefix("selfcon.")
            lines.append(f"{what}: {now}, recorded with {before}")
    if workers[0] != workers[1]:
        before, now = (" and ".join(map(str, sorted(found))) for found in workers)
        lines.append(f"workers: {now}, recorded with {before}")
    return lines


def launch_of(record: TrialRecord, launches: Sequence[Launch]) -> Launch | None:
    """Return the launch in which a trial reported its newest epoch, None if it is unknown."""
    time_ms = record.epochs[-1].timestamp_ms if record.epochs else record.started_ms
    return next((launch for launch in reversed(launches) if launch.started_ms <= time_ms), None)


def _pairs(recorded: TrialRecord, retrained: TrialRecord) -> Iterator[Difference]:
    found = {epoch.epoch: epoch.metrics for epoch in retrained.epochs}
    for epoch in recorded.epochs:
        for metric, value in sorted(epoch.metrics.items()):
            other = found.get(epoch.epoch, {}).get(metric)
            if other is not None and not metric.startswith(NOT_COMPARED):
                yield Difference(epoch.epoch, metric, value, other)


def _num_compared(record: TrialRecord) -> int:
    return sum(not metric.startswith(NOT_COMPARED) for epoch in record.epochs for metric in epoch.metrics)


def _final_state(record: TrialRecord) -> str:
    """The final state of a trial as text; for a failure with its reason, else with its last epoch."""
    if record.state == State.FAIL:
        return f"failed ({record.reason})"
    return f"{record.state.word} after epoch {record.last_epoch}"


def _shown(found: Difference) -> str:
    return f"{found.metric} in epoch {found.epoch}: {found.retrained:.9g}, recorded {found.recorded:.9g}"
