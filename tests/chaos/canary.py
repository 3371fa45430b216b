"""Canary secrets that a search gets and must not write anywhere, and the places to check for them."""

import re
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from .processes import process_tree

# A different one for each variable, so that a leak shows its source.
PASSWORDS = {
    name: f"canary-{number}-8f3b"
    for number, name in enumerate(
        ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
    )
}
URI_PASSWORD = "canary-of-a-uri-8f3b"
POLL_S = 0.2


class Canaries:
    """Secrets to search for, verbatim and URL-encoded."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = {form for secret in secrets for form in (secret, urllib.parse.quote(secret, safe=""))}

    def in_text(self, text: str) -> list[str]:
        """Return the secrets in a text."""
        return sorted(secret for secret in self._secrets if secret in text)

    def in_files(self, *folders: Path) -> list[str]:
        """Return each file with a secret in its bytes or, for an SQLite database, in its rows."""
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
    def watched_arguments(self) -> Iterator[set[str]]:
        """Collect the arguments of processes that contain a secret while the block runs."""
        found: set[str] = set()
        is_over = threading.Event()

        def poll() -> None:
            while not is_over.wait(POLL_S):
                found.update(line for line in _arguments() if self.in_text(line))

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            is_over.set()
            thread.join()


def ray_session_folder(launcher: int) -> Path:
    """Return the session folder of the local Ray cluster that a launcher has started."""
    found = (re.search(r"--session[-_]dir=(\S+)", process.title) for process in process_tree(launcher))
    return Path(next(folder[1] for folder in found if folder is not None))


def secret_environment(uris: Mapping[str, str]) -> dict[str, str]:
    """Return environment variables for a launcher: all secrets, and the given URIs."""
    return {**PASSWORDS, "AWS_ACCESS_KEY_ID": "key", "MLFLOW_TRACKING_USERNAME": "somebody", **uris}


def _content(path: Path) -> str:
    content = path.read_bytes()
    text = content.decode(errors="replace")
    if content.startswith(b"SQLite format 3\0"):  # SQLite splits long texts over pages
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            text += "\n".join(database.iterdump())
    return text


def _rows(connection: "psycopg.Connection[Any]", statement: str) -> list[Any]:
    return connection.execute(statement.encode()).fetchall()


def _arguments() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # the process has ended
            continue
