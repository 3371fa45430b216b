"""Results of a soak test as tables."""

from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from .invariants import INVARIANTS, Finding
from .schedule import Victim
from .soak import SoakResult


def print_tables(console: Console, searches: Mapping[str, SoakResult]) -> bool:
    """Print kills and invariants with a column for each search; return whether all invariants hold."""
    console.print(_kills(searches))
    findings = {name: [check(each.facts) for each in searches.values()] for name, check in INVARIANTS.items()}
    table = Table("invariant", *searches, title="Invariants")
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


def _kills(searches: Mapping[str, SoakResult]) -> Table:
    histories = [each.history for each in searches.values()]
    table = Table("victim", *searches, title=f"{sum(len(history.kills) for history in histories)} kills")
    for victim in Victim:
        table.add_row(victim, *(str(history.kills.count(victim)) for history in histories))
    table.add_section()
    table.add_row("launches", *(str(len(history.exit_codes)) for history in histories))
    table.add_row("exit codes", *(_codes(history.exit_codes) for history in histories))
    table.add_row("minutes", *(f"{history.seconds / 60:.1f}" for history in histories))
    return table


def _codes(codes: list[int]) -> str:
    return ", ".join(f"{code} ({count}x)" for code, count in sorted(Counter(codes).items()))
