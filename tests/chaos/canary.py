"""Secrets that a search is given and that must stand nowhere afterwards, and every place where one looks."""

import re
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from .processes import family

# One each, so that what is found tells where it came from.
PASSWORDS = {
    name: f"canary-{number}-8f3b"
    for number, name in enumerate(
        ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    )
}
OF_URI = "canary-of-a-uri-8f3b"
POLL_S = 0.2


class Canaries:
    """Secrets to look for: as they are given, and as a URI writes them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = {form for secret in secrets for form in (secret, urllib.parse.quote(secret, safe=""))}

    def in_text(self, text: str) -> list[str]:
        """Return the secrets in a text."""
        return sorted(secret for secret in self._secrets if secret in text)

    def in_files(self, *folders: Path) -> list[str]:
        """Return each file with a secret in its bytes, or, of an SQLite database, in its rows."""
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        assert files
        return [f"{path}: {found}" for path in files if (found := self.in_text(_content(path)))]

    def in_postgresql(self, url: str) -> list[str]:
        """Return each table of a database with a secret in one of its rows."""
        with psycopg.connect(url) as connection:
            tables = _rows(connection, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            assert tables
            contents = {
                table: str(_rows(connection, f'SELECT rows::text FROM "{table}" AS rows'))
                for (table,) in tables
            }
        return [f"{table}: {found}" for table, text in contents.items() if (found := self.in_text(text))]

    @contextmanager
    def watching_arguments(self) -> Iterator[set[str]]:
        """Give a set that grows, as long as the block goes, by the arguments of processes that hold one."""
        found: set[str] = set()
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(POLL_S):
                found.update(words for words in _arguments() if self.in_text(words))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield found
        finally:
            is_over.set()
            watcher.join()


def ray_session_folder(launcher: int) -> Path:
    """Return where the Ray cluster that a launcher has started on its machine writes."""
    found = (re.search(r"--session[-_]dir=(\S+)", process.title) for process in family(launcher))
    return Path(next(folder[1] for folder in found if folder is not None))


def given(uris: Mapping[str, str]) -> dict[str, str]:
    """Return variables for a launcher: these, and a secret in each that is one as a whole."""
    return {**PASSWORDS, "AWS_ACCESS_KEY_ID": "key", "MLFLOW_TRACKING_USERNAME": "somebody", **uris}


def _content(path: Path) -> str:
    content = path.read_bytes()
    text = content.decode(errors="replace")
    if content.startswith(b"SQLite format 3\0"):  # a long text lies there in pieces
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            text += "\n".join(database.iterdump())
    return text


def _rows(connection: "psycopg.Connection[Any]", statement: str) -> list[Any]:
    return connection.execute(statement.encode()).fetchall()


def _arguments() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
