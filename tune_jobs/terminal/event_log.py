"""Progress of a search as text: one line for each event."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.trial_study import Attempt, TrialStudy
from tune_jobs.wording import shown_parameters


class EventLog:
    """Writes one line when an attempt of a trial starts, after each epoch, and when the attempt ends.

    Times are relative to `start_s`, a value of `time.monotonic`.
    """

    def __init__(
        self, write: Callable[[str], None], study: TrialStudy, *, metric: str, start_s: float
    ) -> None:
        self._write, self._study, self._metric = write, study, metric
        self._start_s = start_s

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Do nothing before and after the block: lines need no set-up and no clean-up."""
        yield

    def note(self, text: str) -> None:
        """Write a line about the search as a whole."""
        self._write(text)

    def attempt_started(self, attempt: Attempt) -> None:
        """Write that an attempt of a trial starts, with its parameters."""
        record = self._study.record(attempt.number)
        what = shown_parameters(record.parameters)
        how = []
        if attempt.attempt > 1:
            how = [f"resumes after epoch {max(record.last_epoch, 0)}", f"attempt {attempt.attempt}"]
        if set(record.workers) != {1}:
            how.append(f"on {attempt.num_workers} worker{'' if attempt.num_workers == 1 else 's'}")
        self._line(record, f"{', '.join(how)}: {what}" if how else what)

    def epoch_reported(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of an epoch that a trial reported."""
        record = self._study.record(number)
        value = f"{self._metric} {metrics[self._metric]:.4f}" if self._metric in metrics else ""
        loss = f"  loss {metrics['train/loss']:.3f}" if "train/loss" in metrics else "  untrained"
        self._line(record, f"epoch {epoch}/{record.total_epochs}  {value}{loss}")

    def note_received(self, number: int, text: str) -> None:
        """Write a note that a trial reported."""
        self._line(self._study.record(number), text)

    def attempt_ended(self, number: int) -> None:
        """Write how an attempt ended."""
        record = self._study.record(number)
        self._line(record, ending(record))

    def _line(self, record: TrialRecord, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._start_s), 60)
        self._write(f"{minutes:3d}:{seconds:02d}  trial {record.label:<3} {text}")


def ending(record: TrialRecord) -> str:
    """Return how the newest attempt of a trial ended, as text."""
    why = f" ({record.reason})" if record.reason else ""
    message = f": {record.message}" if record.message else ""
    if record.state == State.COMPLETE:
        return f"complete  {record.value:.4f}"
    if record.state == State.RUNNING:
        return _unfinished(record)
    if record.state == State.PRUNED:
        return f"pruned{why} after epoch {record.last_epoch}{message}"
    return f"failed{why}{message}"


def _unfinished(record: TrialRecord) -> str:
    """How the newest attempt of an unfinished trial ended; without a recorded end, the launcher stopped."""
    end = next((end for end in record.attempt_ends if end.attempt == record.attempts), None)
    if end is None:
        return "stopped, will be resumed"
    why = "" if end.reason == Reason.PREEMPTED else f": {end.message}"
    return f"{end.reason} in epoch {record.last_epoch + 1}, will be rescheduled{why}"
