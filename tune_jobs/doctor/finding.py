"""What a check found: fine, worth knowing, or a fault, in one line with the remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How good or bad a finding is."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what helps, unless all is well."""

    level: Level
    what: str
    found: str
    remedy: str = ""


def ok(what: str, found: str) -> Finding:
    """Return that all is well with something."""
    return Finding(Level.OK, what, found)


def note(what: str, found: str, remedy: str) -> Finding:
    """Return something worth knowing: a search may run all the same."""
    return Finding(Level.NOTE, what, found, remedy)


def fault(what: str, found: str, remedy: str) -> Finding:
    """Return what would keep a search from running."""
    return Finding(Level.FAULT, what, found, remedy)


def counted(findings: Iterable[Finding]) -> str:
    """Return how many findings there are of each level, in words."""
    levels = [finding.level for finding in findings]
    words = [f"{levels.count(Level.OK)} ok"]
    for level in (Level.NOTE, Level.FAULT):
        number = levels.count(level)
        words.append(f"{number or 'no'} {level}{'' if number == 1 else 's'}")
    return ", ".join(words)


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
