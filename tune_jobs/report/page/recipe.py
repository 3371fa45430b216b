"""How to reproduce a search: commands, launches, software versions and the space file."""

import math
from collections.abc import Mapping
from typing import Any

import yaml

from tune_jobs.report.page.section import Section, Table
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import duration, moment

VERSION = "selfcon.version."


def recipe(snapshot: Snapshot) -> Section:
    """Return the section with commands, launches, versions, and the space file."""
    commands = f"python launch.py --space {snapshot.name}.yaml"
    if snapshot.winner is not None:
        commands = (
            f"python launch.py --space best.yaml    # only the winner\n{commands}    # the whole search"
        )
    tables = [table for table in (_launch_table(snapshot), _version_table(snapshot)) if table is not None]
    return Section(
        name="reproduce",
        title="How to reproduce the search",
        hint="Save the space below as a file, check out the commit of the launch, and run the command.",
        notes=_notes(snapshot),
        tables=tuple(tables),
        code=(("Commands", commands), (f"{snapshot.name}.yaml", space_text(snapshot))),
    )


def space_text(snapshot: Snapshot) -> str:
    """Return the search as a space file, with the settings that the study stores.

    Start points and budgets are not stored, since they may change between launches.
    """
    fixed = snapshot.fixed
    content = {
        "name": snapshot.name,
        "description": snapshot.description,
        "train": _nested(fixed["train"]),
        "space": {
            name: branches if len(branches) > 1 else branches[0] for name, branches in fixed["space"].items()
        },
        "forbid": fixed.get("forbid"),
        "objective": fixed["objective"],
        "constraints": fixed.get("constraints"),
        "search": {"num_trials": snapshot.num_trials, "sampler": fixed["sampler"], "seed": fixed["seed"]},
        "pruner": fixed["pruner"],
        "confirm": snapshot.confirm and snapshot.confirm.model_dump(),
        "trial": dict(snapshot.trial),
        "tracking": dict(snapshot.tracking),
    }
    return "".join(_lines(key, value) for key, value in content.items() if value)


def _lines(key: str, value: Any) -> str:
    """A section of the file, on a single line or with one line for each entry, for readability."""
    if key in ("train", "space"):
        return f"{key}:\n" + "".join(f"  {_line({name: entry})}\n" for name, entry in value.items())
    if isinstance(value, list):
        return f"{key}:\n" + "".join(f"  - {{{_line(entry)}}}\n" for entry in value)
    return f"{_line({key: value})}\n"


def _line(mapping: Mapping[str, Any]) -> str:
    """A mapping on one line, without its outer braces."""
    text = yaml.safe_dump(
        dict(mapping), sort_keys=False, allow_unicode=True, default_flow_style=True, width=math.inf
    )
    return text.strip()[1:-1]


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        section, _, field = name.partition(".")
        if field:
            nested.setdefault(section, {})[field] = value
        else:
            nested[name] = value
    return nested


def _notes(snapshot: Snapshot) -> tuple[str, ...]:
    digest = snapshot.fixed.get("data_digest")
    notes = [f"The data must have the digest {digest}."] if digest else []
    if len({launch.commit for launch in snapshot.launches}) > 1:
        notes.append("The launches ran different code.")
    return (*notes, "Start points and budgets may change between launches; only the launched file has them.")


def _launch_table(snapshot: Snapshot) -> Table | None:
    columns = ("launch", "started", "last heartbeat", "duration", "commit")
    rows = tuple(
        (
            str(launch.number),
            moment(launch.started_ms),
            moment(launch.last_seen_ms),
            duration((launch.last_seen_ms - launch.started_ms) / 1000),
            launch.commit or "unknown",
        )
        for launch in snapshot.launches
    )
    return Table(columns, rows, numbers=frozenset({0})) if rows else None


def _version_table(snapshot: Snapshot) -> Table | None:
    """The software versions; if they differ between launches, each value with its launches."""
    names = dict.fromkeys(name for launch in snapshot.launches for name in launch.environment)
    rows = tuple(
        (name.removeprefix(VERSION).removeprefix("selfcon."), _by_launch(snapshot, name)) for name in names
    )
    return Table(("software", "version"), rows) if rows else None


def _by_launch(snapshot: Snapshot, name: str) -> str:
    found: dict[str, list[str]] = {}
    for launch in snapshot.launches:
        found.setdefault(launch.environment.get(name, "unknown"), []).append(str(launch.number))
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{value} (launch {', '.join(numbers)})" for value, numbers in found.items())
