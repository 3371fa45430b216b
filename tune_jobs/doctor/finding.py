"""Findings of checks: ok, note or fault, in one line with a remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"


@dataclass(frozen=True)
class Finding:
    """Result of a check, in one line, with a remedy unless it is ok."""

    level: Level
    subject: str
    message: str
    remedy: str = ""


def ok(subject: str, message: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(Level.OK, subject, message)


def note(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding that does not prevent a search."""
    return Finding(Level.NOTE, subject, message, remedy)


def fault(subject: str, message: str, remedy: str) -> Finding:
    """Return a finding that prevents a search."""
    return Finding(Level.FAULT, subject, message, remedy)


def counted(findings: Iterable[Finding]) -> str:
    """Return the number of findings of each level as text."""
    levels = [finding.level for finding in findings]
    words = [f"{levels.count(Level.OK)} ok"]
    for level in (Level.NOTE, Level.FAULT):
        number = levels.count(level)
        words.append(f"{number or 'no'} {level}{'' if number == 1 else 's'}")
    return ", ".join(words)


def first_line(error: BaseException) -> str:
    """Return the first line of an error."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
