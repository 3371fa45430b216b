from pathlib import Path
from typing import Any

import pytest

from tune_jobs.errors import BadInputError
from tune_jobs.study.fingerprint import check_immutable_settings, differences
from tune_jobs.study.store import StudyStore


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"x": 1, "y": [1]}}, {"a": {"x": 1, "y": [2]}}, [("a.y", [1], [2])]),
        ({"a": {"x": {"z": 1}}, "b": 1}, {"a": {"x": {"z": 2}}, "b": 2}, [("a.x.z", 1, 2), ("b", 1, 2)]),
        ({"a": {"x": 1}}, {"a": [1]}, [("a", {"x": 1}, [1])]),
    ],
)
def test_differences_have_dotted_keys(
    before: dict[str, Any], now: dict[str, Any], expected: list[tuple[str, Any, Any]]
) -> None:
    assert list(differences(before, now)) == expected


@pytest.mark.parametrize(
    ("fixed", "line"),
    [
        ({"train": {"optim.epochs": 4}}, "train.optim.epochs: expected 8, as when s was started, got 4"),
        ({"train": {}}, "train.optim.epochs: expected 8, as when s was started, got nothing"),
        (
            {"train": {"optim.epochs": 8}, "constraints": [{"metric": "m", "max": 1.0}]},
            "constraints: expected nothing, as when s was started, got [{metric: m, max: 1.0}]",
        ),
    ],
)
def test_the_message_has_the_first_changed_setting(tmp_path: Path, fixed: dict[str, Any], line: str) -> None:
    def store() -> StudyStore:
        return StudyStore(f"sqlite:///{tmp_path}/study.db", name="e/s", directions=["maximize"])

    check_immutable_settings(store(), {"train": {"optim.epochs": 8}}, name="s")
    check_immutable_settings(store(), {"train": {"optim.epochs": 8}}, name="s")
    with pytest.raises(BadInputError) as caught:
        check_immutable_settings(store(), fixed, name="s")
    assert str(caught.value) == f"{line} (use another --name to start a new search)"
