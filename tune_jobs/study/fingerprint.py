"""Immutable settings of a search: stored in its study, compared at every launch."""

from collections.abc import Iterator, Mapping
from typing import Any

from selfcon.values import shown
from tune_jobs.errors import BadInputError
from tune_jobs.space import SearchSpace
from tune_jobs.study.records import as_json
from tune_jobs.study.store import StudyStore

FIXED_ATTRIBUTE = "fixed"
_MISSING = object()


def check_immutable_settings(store: StudyStore, fixed: Mapping[str, Any], *, name: str) -> None:
    """Store the immutable settings at the first launch, and compare them at later launches.

    Raises `BadInputError` with the first difference: its dotted key, the stored value, and the new value.
    """
    stored = store.attribute(FIXED_ATTRIBUTE)
    if stored is None:
        store.set_attribute(FIXED_ATTRIBUTE, as_json(fixed))
    else:
        refuse_changes(stored, fixed, name=name)


def refuse_changed_space(stored: Mapping[str, Any], space: SearchSpace) -> None:
    """Raise `BadInputError` if the space file differs from the search in an immutable setting.

    `stored` is the value of `FIXED_ATTRIBUTE` of the study. The data set is not compared.
    """
    digest = stored["data_digest"]
    refuse_changes(stored, {**space.immutable_settings(), "data_digest": digest}, name=space.name)


def refuse_changes(stored: Mapping[str, Any], fixed: Mapping[str, Any], *, name: str) -> None:
    """Raise `BadInputError` with the first difference from the settings that the search was started with."""
    for key, before, now in differences(stored, as_json(fixed)):
        raise BadInputError(
            f"{key}: expected {_shown(before)}, as when {name} was started, got {_shown(now)} "
            "(use another --name to start a new search)"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, old value, new value) for each difference of nested mappings, in order of the
    keys."""
    for key in sorted({*before, *now}):
        old, new = before.get(key, _MISSING), now.get(key, _MISSING)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from ((f"{key}.{rest}", *pair) for rest, *pair in differences(old, new))
        elif old != new:
            yield key, old, new


def _shown(value: Any) -> str:
    return "nothing" if value is _MISSING else shown(value)
