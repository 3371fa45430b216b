"""The result of a soak as tables."""

from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from .invariants import INVARIANTS, Finding
from .schedule import Victim
from .soak import Soaked


def print_tables(console: Console, searches: Mapping[str, Soaked]) -> bool:
    """Print what was killed and what holds, a column for each search; return whether everything holds."""
    console.print(_kills(searches))
    findings = {name: [check(each.facts) for each in searches.values()] for name, check in INVARIANTS.items()}
    table = Table("what must hold", *searches, title="Invariants")
    for name, found in findings.items():
        table.add_row(name, *map(_cell, found))
    console.print(table)
    broken = [f"{name}: {case}" for name, found in findings.items() for one in found for case in one.broken]
    for line in broken:
        console.print(f"BROKEN {line}", markup=False, highlight=False)
    return not broken


def _cell(finding: Finding) -> str:
    verdict = "BROKEN" if finding.broken else "holds"
    return f"{verdict}: {finding.counted}" if finding.counted else "-"


def _kills(searches: Mapping[str, Soaked]) -> Table:
    stories = [each.story for each in searches.values()]
    table = Table("what was killed", *searches, title=f"{sum(len(story.kills) for story in stories)} kills")
    for victim in Victim:
        table.add_row(victim, *(str(story.kills.count(victim)) for story in stories))
    table.add_section()
    table.add_row("launches", *(str(len(story.exit_codes)) for story in stories))
    table.add_row("exit codes", *(_codes(story.exit_codes) for story in stories))
    table.add_row("minutes", *(f"{story.seconds / 60:.1f}" for story in stories))
    return table


def _codes(codes: list[int]) -> str:
    return ", ".join(f"{code} ({count}x)" for code, count in sorted(Counter(codes).items()))
