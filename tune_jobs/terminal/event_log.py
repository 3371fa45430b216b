"""What the user reads while a search runs: one line for each event."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.trial_study import Attempt, TrialStudy
from tune_jobs.wording import shown_parameters


class EventLog:
    """Writes when a trial starts or goes on, each of its epochs, and how it ended, one line at a time.

    Times are counted from `start_s`, a reading of `time.monotonic`.
    """

    def __init__(
        self, write: Callable[[str], None], study: TrialStudy, *, metric: str, start_s: float
    ) -> None:
        self._write, self._study, self._metric = write, study, metric
        self._start_s = start_s

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Lines stay where they are written: there is nothing to draw or to take away."""
        yield

    def note(self, text: str) -> None:
        """Write a line about the search as a whole."""
        self._write(text)

    def attempt_started(self, attempt: Attempt) -> None:
        """An attempt of a trial begins."""
        record = self._study.record(attempt.number)
        what = shown_parameters(record.parameters)
        how = []
        if attempt.attempt > 1:
            how = [f"goes on after epoch {max(record.last_epoch, 0)}", f"attempt {attempt.attempt}"]
        if set(record.workers) != {1}:
            how.append(f"on {attempt.num_workers} worker{'' if attempt.num_workers == 1 else 's'}")
        self._line(record, f"{', '.join(how)}: {what}" if how else what)

    def epoch_reported(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trial reported an epoch."""
        record = self._study.record(number)
        value = f"{self._metric} {metrics[self._metric]:.4f}" if self._metric in metrics else ""
        loss = f"  loss {metrics['train/loss']:.3f}" if "train/loss" in metrics else "  untrained"
        self._line(record, f"epoch {epoch}/{record.total_epochs}  {value}{loss}")

    def note_received(self, number: int, text: str) -> None:
        """A trial tells what it met."""
        self._line(self._study.record(number), text)

    def attempt_ended(self, number: int) -> None:
        """An attempt is over."""
        record = self._study.record(number)
        self._line(record, ending(record))

    def _line(self, record: TrialRecord, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._start_s), 60)
        self._write(f"{minutes:3d}:{seconds:02d}  trial {record.label:<3} {text}")


def ending(record: TrialRecord) -> str:
    """Return in words how an attempt left its trial."""
    why = f" ({record.reason})" if record.reason else ""
    message = f": {record.message}" if record.message else ""
    if record.state == State.COMPLETE:
        return f"complete  {record.value:.4f}"
    if record.state == State.RUNNING:
        return _left_running(record)
    if record.state == State.PRUNED:
        return f"pruned{why} after epoch {record.last_epoch}{message}"
    return f"failed{why}{message}"


def _left_running(record: TrialRecord) -> str:
    """How the newest attempt of a trial that goes on ended; with its launcher, if nothing is known."""
    end = next((end for end in record.attempt_ends if end.attempt == record.attempts), None)
    if end is None:
        return "stopped, to be handed out again"
    why = "" if end.reason == Reason.PREEMPTED else f": {end.message}"
    return f"{end.reason} in epoch {record.last_epoch + 1}, to be handed out again{why}"
