"""What a search found out, in sentences: which values are best, what is tied with them, what hardly matters.

Trials are compared by the value that they ended with; two values of a parameter by the best trial of each. A
difference within `noise` is no difference. Pruned trials were behind others at a rung.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_jobs.noise import interval, noise, seed_deviation
from tune_jobs.records import State, TrialRecord
from tune_jobs.snapshot import Snapshot
from tune_jobs.wording import shown_value

FEW_TRIALS = 3  # of as few, a range of numbers says nothing
WIDE = 0.7  # of the range that was tried: where all of that is as good, the parameter hardly matters
NOUNS = {
    "model.exit_stages": "where the sub-network leaves",
    "model.exit_depth": "the depth of the sub-network",
    "loss.exit_weight": "the weight of the exit",
}


@dataclass(frozen=True)
class Group:
    """The trials with one value of a parameter; `gap` is how far the best is behind the best of all.

    `best` and `gap` are None where no trial of the group is COMPLETE, `tied` says that the gap is noise.
    """

    value: Any
    num_trials: int
    num_complete: int
    best: TrialRecord | None
    gap: float | None
    tied: bool


@dataclass(frozen=True)
class Answer:
    """The answer of a search: what is best, one sentence for each parameter, and reservations."""

    headline: str
    findings: tuple[str, ...]
    reservations: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """Return all sentences, the headline first."""
        return (self.headline, *self.findings, *self.reservations)


def answer(snapshot: Snapshot, importance: dict[str, float]) -> Answer | None:
    """Return what the search says so far; None as long as no trial may win.

    `importance` has the share of each parameter (see `importance.py`), or nothing; the findings have its
    order, and that of the file where it says nothing.
    """
    if snapshot.winner is None:
        return None
    names = [*importance, *(name for name in snapshot.space if name not in importance)]
    return Answer(
        headline=_headline(snapshot, snapshot.winner),
        findings=tuple(_with_share(_finding(snapshot, name), importance.get(name)) for name in names),
        reservations=tuple(_reservations(snapshot)),
    )


def groups(snapshot: Snapshot, name: str) -> list[Group]:
    """Return the trials by their value of a parameter, the best first, groups that no trial ended last."""
    bound, best = noise(snapshot), _best_value(snapshot)
    found = []
    for value in _values(snapshot, name):
        ended = [r for r in _ended(snapshot) if r.parameters.get(name) == value]
        own = [record for record in snapshot.ranked_alone if record.parameters.get(name) == value]
        gap = None if not own or best is None else abs(best - _value(own[0]))
        tied = gap is not None and gap <= (bound or 0.0)
        found.append(Group(value, len(ended), len(own), own[0] if own else None, gap, tied))
    return sorted(found, key=lambda group: math.inf if group.gap is None else group.gap)


def in_words(name: str, value: Any) -> str:
    """Return a value of a parameter as one says it: `after stage 2`, `temperature 0.1`."""
    if name == "model.exit_stages":
        return _after(value)
    return f"{noun(name)} {shown_value(value)}"


def noun(name: str) -> str:
    """Return what a parameter is called in a sentence."""
    return name.rpartition(".")[2].replace("_", " ")


def _after(stages: tuple[int, ...]) -> str:
    if not stages:
        return "without an exit"
    numbers = " and ".join(map(str, stages))
    return f"after stage{'s' if len(stages) > 1 else ''} {numbers}"


# --- the headline ------------------------------------------------------------------------------------------


def _headline(snapshot: Snapshot, winner: TrialRecord) -> str:
    stages = winner.parameters.get("model.exit_stages")
    others = [in_words(n, v) for n, v in winner.parameters.items() if n != "model.exit_stages"]
    what = ", ".join(others)
    if stages is not None:
        verb = f"leave {_after(stages)}" if stages else "train without an exit"
        what = f"{verb}, with {what}" if what else verb
    so_far = f"So far ({len(_ended(snapshot))} of {snapshot.num_trials} trials ended): "
    start = so_far if snapshot.is_running else ""
    text = f"{start}{what}: {_measured(snapshot, winner)} (trial {winner.number})."
    return text if start else f"{text[0].upper()}{text[1:]}"


def _measured(snapshot: Snapshot, winner: TrialRecord) -> str:
    metric = snapshot.objective.metric
    for candidate in snapshot.candidates:
        if candidate.trial.number == winner.number and candidate.standard_deviation is not None:
            spread, num_seeds = candidate.standard_deviation, len(candidate.values)
            return f"{metric} {candidate.mean:.4f} +- {spread:.4f} over {num_seeds} seeds"
    found = interval(snapshot, _value(winner))
    around = "" if found is None else f", 95 % interval {found[0]:.4f} to {found[1]:.4f}"
    return f"{metric} {_value(winner):.4f}{around}"


# --- the findings ------------------------------------------------------------------------------------------


def _finding(snapshot: Snapshot, name: str) -> str:
    branches = snapshot.space[name]
    if any("choices" in branch for branch in branches):
        return _finding_of_choices(name, groups(snapshot, name))
    is_log = any(branch.get("log") for branch in branches)
    return _finding_of_numbers(snapshot, name, is_log=is_log)


def _finding_of_choices(name: str, found: Sequence[Group]) -> str:
    subject = NOUNS.get(name, noun(name))
    compared = [group for group in found if group.best is not None]
    if not compared:
        return f"{_capital(subject)}: no trial that has it is complete."
    best, tied = compared[0], [group for group in compared[1:] if group.tied]
    unclear = [group for group in found if not group.tied and group is not best]
    if best.gap and not best.tied:
        return f"{_capital(subject)}: only trials behind the best have it; {_bare(name, best)} is its best."
    if tied and not unclear:
        names = _listed([_bare(name, group) for group in (best, *tied)])
        return f"{_capital(subject)} hardly matters: {names} are tied within noise."
    parts = [f"{_bare(name, best)} is best"]
    if tied:
        verb = "is" if len(tied) == 1 else "are"
        parts.append(f"{_listed([_bare(name, group) for group in tied])} {verb} tied with it within noise")
    parts += [_how_far_behind(name, group) for group in unclear]
    return f"{_capital(subject)}: {'; '.join(parts)}."


def _how_far_behind(name: str, group: Group) -> str:
    if group.gap is not None:
        return f"{_bare(name, group)} is behind by {group.gap:.4f} (best of {_trials(group.num_complete)})"
    if group.num_trials:
        return f"{_bare(name, group)} was pruned or failed in {_times(group.num_trials)}"
    return f"{_bare(name, group)} was not tried to an end"


def _finding_of_numbers(snapshot: Snapshot, name: str, *, is_log: bool) -> str:
    subject, bound, best = NOUNS.get(name, noun(name)), noise(snapshot) or 0.0, _best_value(snapshot)
    ended = [record for record in _ended(snapshot) if name in record.parameters]
    good = [
        record.parameters[name]
        for record in snapshot.ranked_alone
        if name in record.parameters and best is not None and abs(best - _value(record)) <= bound
    ]
    if len(ended) <= FEW_TRIALS or not good:
        return f"{_capital(subject)}: too few trials tell."
    low, high = min(good), max(good)
    tried = [record.parameters[name] for record in ended]
    if _span(low, high, is_log) >= WIDE * _span(min(tried), max(tried), is_log):
        return f"{_capital(subject)} hardly matters from {shown_value(low)} to {shown_value(high)}."
    beyond = [(sum(value < low for value in tried), "below"), (sum(value > high for value in tried), "above")]
    behind = " and ".join(f"the {_trials(count)} {where}" for count, where in beyond if count)
    within = (
        f"good at {shown_value(low)}"
        if low == high
        else f"good from {shown_value(low)} to {shown_value(high)}"
    )
    return f"{_capital(subject)}: {within}; {behind} came out behind."


def _span(low: float, high: float, is_log: bool) -> float:
    return math.log(high / low) if is_log else high - low


# --- reservations ------------------------------------------------------------------------------------------


def _reservations(snapshot: Snapshot) -> list[str]:
    bound, lines = noise(snapshot), []
    if bound is None:
        lines.append(f"How much of a difference in {snapshot.objective.metric} is chance is not known.")
    else:
        seeds = "no seed was repeated" if seed_deviation(snapshot.candidates) is None else "seeds included"
        lines.append(f"Differences of up to {bound:.4f} may be chance ({seeds}).")
    if len(snapshot.objectives) > 1:
        metrics = _listed([objective.metric for objective in snapshot.objectives])
        lines.append(
            f"{len(snapshot.front)} trials trade {metrics} against each other; none beats them in all."
        )
    return lines


# --- words and values --------------------------------------------------------------------------------------


def _with_share(text: str, share: float | None) -> str:
    return text if share is None else f"{text} Importance {share:.2f}."


def _values(snapshot: Snapshot, name: str) -> list[Any]:
    """The values that the file allows and those that trials have, each once, in that order."""
    found: list[Any] = []
    for branch in snapshot.space[name]:
        for choice in branch.get("choices", ()):
            value = tuple(choice) if isinstance(choice, list) else choice
            found += [] if value in found else [value]
    for record in snapshot.counted:
        if name in record.parameters and record.parameters[name] not in found:
            found.append(record.parameters[name])
    return found


def _ended(snapshot: Snapshot) -> list[TrialRecord]:
    return [record for record in snapshot.counted if record.state != State.RUNNING]


def _best_value(snapshot: Snapshot) -> float | None:
    return next((record.value for record in snapshot.ranked_alone), None)


def _value(record: TrialRecord) -> float:
    assert record.value is not None
    return record.value


def _bare(name: str, group: Group) -> str:
    return _after(group.value) if name == "model.exit_stages" else shown_value(group.value)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _times(count: int) -> str:
    return "its one trial" if count == 1 else f"all its {count} trials"


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"
