"""The exceptions a caller may meet.

    SelfConError
    ├── ConfigError          a value the user gave cannot be used
    ├── CheckpointError      a checkpoint is missing, damaged or belongs to another run
    └── NonFiniteLossError   training produced a loss that is not a finite number
"""

import difflib
from collections.abc import Iterable


class SelfConError(Exception):
    """Root of everything this package raises on purpose."""


class ConfigError(SelfConError):
    """A value the user gave cannot be used: one line that says which, what must hold and what was got.

    `key` is the dotted name of the value (`loss.temperature`), `hint` the nearest valid name or None.
    """

    def __init__(self, key: str, expected: str, got: str, hint: str | None = None) -> None:
        self.key, self.expected, self.got, self.hint = key, expected, got, hint
        suffix = f" (did you mean {hint}?)" if hint else ""
        super().__init__(f"{key}: expected {expected}, got {got}{suffix}")


class CheckpointError(SelfConError):
    """A checkpoint is missing, damaged or belongs to another run; the message names file and reason."""


class NonFiniteLossError(SelfConError):
    """Training produced a loss that is not a finite number; the message names epoch, step and value."""


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that looks most like `word`, or None when nothing comes close."""
    matches = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.6)
    return matches[0] if matches else None
