"""Whether a trial that was trained again is what was recorded, and what is different now: pure functions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tune_jobs.provenance import shown_commit
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.snapshot import Launch

# Other numbers of workers, threads or kernels add up in another order, and float32 has but 7 digits.
ROUNDING = 1e-4
NOT_COMPARED = "cost/"  # time and memory are the machine's
VERSION = "selfcon.version."


@dataclass(frozen=True)
class Difference:
    """A value that came out otherwise."""

    epoch: int
    metric: str
    recorded: float
    again: float

    @property
    def size(self) -> float:
        """How far apart the values are, relative to the recorded one where that is above 1."""
        return abs(self.again - self.recorded) / max(1.0, abs(self.recorded))


@dataclass(frozen=True)
class Comparison:
    """What came of a repetition: how many values were compared or are missing, which differ, and both ends.

    `newest` has the difference in each metric in the last epoch that both reported.
    """

    num_epochs: int
    num_values: int
    num_missing: int
    differences: tuple[Difference, ...]
    ends: tuple[str, str]
    newest: Mapping[str, float]

    @property
    def drifted(self) -> bool:
        """Whether anything differs by more than rounding, is missing, or ended otherwise."""
        is_incomplete = self.num_missing > 0 or self.num_values == 0 or self.ends[0] != self.ends[1]
        return is_incomplete or any(difference.size > ROUNDING for difference in self.differences)

    def of_the_objective(self, metric: str) -> float | None:
        """Return by how much a metric differs in the last epoch compared, None where it was not reported."""
        return None if metric not in self.newest else abs(self.newest[metric])

    def lines(self) -> list[str]:
        """Return the verdict, and the first and the largest of the differences."""
        compared = f"{self.num_values} values of {self.num_epochs} epochs"
        if self.num_values == 0:
            lines = ["drift: nothing was reported that could be compared"]
        elif self.drifted:
            lines = [f"drift: {len(self.differences)} of {compared} differ"]
        elif self.differences:
            lines = [f"reproduced: {compared} agree within rounding ({ROUNDING:g})"]
        else:
            lines = [f"reproduced: {compared} are identical"]
        if self.num_missing:
            lines.append(f"  {self.num_missing} values that were recorded were not reported this time")
        if self.ends[0] != self.ends[1]:
            lines.append(f"  the trial ended {self.ends[0]}, this time {self.ends[1]}")
        if self.differences:
            largest = max(self.differences, key=lambda difference: difference.size)
            shown = {"first": self.differences[0], "largest": largest}
            lines += [f"  {which} difference: {_in_words(found)}" for which, found in shown.items()]
        return lines


def compare(recorded: TrialRecord, again: TrialRecord) -> Comparison:
    """Return how a repetition compares with the trial, epoch by epoch, in all metrics but cost."""
    pairs = list(_pairs(recorded, again))
    differing = [pair for pair in pairs if pair.recorded != pair.again]
    return Comparison(
        num_epochs=len({pair.epoch for pair in pairs}),
        num_values=len(pairs),
        num_missing=_num_compared(recorded) - len(pairs),
        differences=tuple(differing),
        ends=(_end(recorded), _end(again)),
        newest={pair.metric: pair.again - pair.recorded for pair in pairs},
    )


def changes(
    launch: Launch | None, *, environment: Mapping[str, str], commit: str | None, workers: Sequence[set[int]]
) -> list[str]:
    """Return what is different now from the launch that trained a trial, a line each.

    `workers` are the numbers of workers of the trial's attempts, and of those of the repetition.
    """
    if launch is None:
        return ["unknown: the study does not say on what the trial was trained"]
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
    """Return the launch under which a trial reported its newest epoch, None where it is not known."""
    time_ms = record.epochs[-1].timestamp_ms if record.epochs else record.started_ms
    return next((launch for launch in reversed(launches) if launch.started_ms <= time_ms), None)


def _pairs(recorded: TrialRecord, again: TrialRecord) -> Iterator[Difference]:
    found = {epoch.epoch: epoch.metrics for epoch in again.epochs}
    for epoch in recorded.epochs:
        for metric, value in sorted(epoch.metrics.items()):
            other = found.get(epoch.epoch, {}).get(metric)
            if other is not None and not metric.startswith(NOT_COMPARED):
                yield Difference(epoch.epoch, metric, value, other)


def _num_compared(record: TrialRecord) -> int:
    return sum(not metric.startswith(NOT_COMPARED) for epoch in record.epochs for metric in epoch.metrics)


def _end(record: TrialRecord) -> str:
    """How a trial ended in words; a failure by its reason."""
    if record.state == State.FAIL:
        return f"failed ({record.reason})"
    return f"{record.state.word} after epoch {record.last_epoch}"


def _in_words(found: Difference) -> str:
    return f"{found.metric} in epoch {found.epoch}: {found.again:.9g}, recorded {found.recorded:.9g}"
