"""The exceptions a caller may meet.

SelfConError
├── ConfigError          a value the user gave cannot be used
├── CheckpointError      a checkpoint is missing, damaged or belongs to another run
├── NonFiniteLossError   training produced numbers that are not finite
└── TrainingStopped      a run was asked to stop between two steps: no failure
"""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class SelfConError(Exception):
    """Root of everything this package raises on purpose."""


class ConfigError(SelfConError):
    """A value the user gave cannot be used: one line that says which, what must hold and what was got.

    `key` is the dotted name of the value (`loss.temperature`), `hint` the nearest valid name or None.
    """

    def __init__(self, key: str, expected: str, got: str, hint: str | None = None) -> None:
        # The four parts, not the line, are what pickle hands to __init__ on the other side of a process.
        super().__init__(key, expected, got, hint)
        self.key, self.expected, self.got, self.hint = key, expected, got, hint

    def __str__(self) -> str:
        suffix = f" (did you mean {self.hint}?)" if self.hint else ""
        return f"{self.key}: expected {self.expected}, got {self.got}{suffix}"


class CheckpointError(SelfConError):
    """A checkpoint is missing, damaged or belongs to another run; the message names file and reason."""


class NonFiniteLossError(SelfConError):
    """Training produced numbers that are not finite; the message names epoch, step and what it was."""


class TrainingStopped(SelfConError):  # noqa: N818 - as StopIteration, it is no error
    """A run was asked to stop and did so after step `step` of epoch `epoch`, both counted from 1.

    `save(directory)` writes a checkpoint of this moment and `payloads()` returns its files' contents; one
    rank may call them. Other processes get the message only.
    """

    def __init__(
        self,
        *,
        epoch: int,
        step: int,
        save: Callable[[Path], None],
        payloads: Callable[[], dict[str, bytes]],
    ) -> None:
        super().__init__(f"stopped as asked, after step {step} of epoch {epoch}")
        self.epoch, self.step, self.save, self.payloads = epoch, step, save, payloads

    def __reduce__(self) -> tuple[Any, ...]:
        return SelfConError, (str(self),)


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that looks most like `word`, capitals aside, or None when nothing comes close."""
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[matches[0]] if matches else None
