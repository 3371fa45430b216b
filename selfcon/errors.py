"""Exceptions of this package.

SelfConError
├── ConfigError          a setting or argument is invalid
├── CheckpointError      a checkpoint is missing, damaged or belongs to another run
├── NonFiniteLossError   training produced numbers that are not finite
└── TrainingStopped      a run was asked to stop between two steps; not a failure
"""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


class SelfConError(Exception):
    """Base class of the exceptions of this package."""


class ConfigError(SelfConError):
    """Invalid value of the user; the message is one line with the key, what is expected and what was got.

    `key` is the dotted name of the value (`loss.temperature`), `hint` the nearest valid name or None.
    """

    def __init__(self, key: str, expected: str, got: str, hint: str | None = None) -> None:
        # Pickle must pass these four arguments to __init__, not the message.
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
    """A run stopped on request after step `step` of epoch `epoch`, both counted from 1.

    `save(directory)` writes a checkpoint of this state, and `payloads()` returns the contents of its files;
    one rank may call them. Other processes get only the message.
    """

    def __init__(
        self,
        *,
        epoch: int,
        step: int,
        save: Callable[[Path], None],
        payloads: Callable[[], dict[str, bytes]],
    ) -> None:
        super().__init__(f"stopped on request after step {step} of epoch {epoch}")
        self.epoch, self.step, self.save, self.payloads = epoch, step, save, payloads

    def __reduce__(self) -> tuple[Any, ...]:
        return SelfConError, (str(self),)


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most similar to `word`, ignoring case, or None if none is similar."""
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    matches = difflib.get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.6)
    return by_lower_case[matches[0]] if matches else None
