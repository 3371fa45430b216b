"""Building blocks of the page: sections and tables."""

from dataclasses import dataclass

from tune_jobs.report.page.plot import Figure


@dataclass(frozen=True)
class Table:
    """A table of texts; `numbers` are the indices of the right-aligned columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    """A section of the page: a hint on how to read it, notes, figures and tables.

    `code` holds pairs of a heading and a text to copy.
    """

    name: str
    title: str
    hint: str
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    code: tuple[tuple[str, str], ...] = ()
