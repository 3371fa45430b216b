"""The parts that the page is put together from."""

from dataclasses import dataclass

from tune_jobs.report.page.plot import Figure


@dataclass(frozen=True)
class Table:
    """A table of texts; `numbers` are the places of the columns that stand flush right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Section:
    """A section of the page: how to read it in a sentence, then what it shows in words, figures and tables.

    `code` are texts to copy, each under its heading.
    """

    name: str
    title: str
    hint: str
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    code: tuple[tuple[str, str], ...] = ()
