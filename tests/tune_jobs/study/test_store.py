from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.event
from sqlalchemy.engine import Engine

from tune_jobs.errors import StorageError
from tune_jobs.study.store import StudyStore


@pytest.fixture
def store(tmp_path: Path) -> StudyStore:
    return StudyStore(f"sqlite:///{tmp_path}/study.db", name="e/s", directions=["maximize"])


def test_a_full_disk_rolls_back_the_write(tmp_path: Path, store: StudyStore) -> None:
    store.set_attribute("a", 1)

    def limit_pages(connection: Any, _record: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    sqlalchemy.event.listen(Engine, "connect", limit_pages)
    try:
        full = StudyStore(f"sqlite:///{tmp_path}/study.db", name="e/s", directions=["maximize"])
        with pytest.raises(StorageError, match=r"cannot be used: .*full"):
            full.set_attribute("b", "x" * 100_000)
    finally:
        sqlalchemy.event.remove(Engine, "connect", limit_pages)
    again = StudyStore(f"sqlite:///{tmp_path}/study.db", name="e/s", directions=["maximize"])
    again.set_attribute("c", 3)
    assert [again.attribute(name) for name in "abc"] == [1, None, 3]
