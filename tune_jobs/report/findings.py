"""Findings of a search as sentences: best values, ties, and parameters that hardly matter.

Two values of a parameter are compared by the best trial of each (see `comparison.py`); a difference within
`noise` counts as a tie.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_jobs.report.comparison import Group, TrialGap, ended, groups, trial_gaps, value_of
from tune_jobs.report.noise import interval, noise, seed_deviation
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import counted, shown_value

FEW_TRIALS = 3  # a range of good values needs more trials
WIDE = 0.7  # a parameter hardly matters if its good values span this share of the range that was tried
EXITS = "model.exit_stages"
NOUNS = {
    EXITS: "exit position",
    "model.exit_depth": "sub-network depth",
}


@dataclass(frozen=True)
class Answer:
    """The answer of a search: the best configuration, one sentence for each parameter, and caveats."""

    headline: str
    findings: tuple[str, ...]
    caveats: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """Return all sentences, the headline first."""
        return (self.headline, *self.findings, *self.caveats)


@dataclass(frozen=True)
class _Finding:
    """The finding for one parameter; it `matters` if some of its values are better than others."""

    name: str
    predicate: str
    matters: bool

    def sentence(self, share: float | None) -> str:
        """The finding as a sentence; without its importance if the differences are within noise."""
        subject = NOUNS.get(self.name, noun(self.name))
        text = f"{subject[0].upper()}{subject[1:]}{self.predicate}"
        return text if share is None or not self.matters else f"{text} Importance {share:.2f}."


def answer(snapshot: Snapshot, importance: Mapping[str, float]) -> Answer | None:
    """Return the answer of the search so far; None without a winner.

    `importance` holds the share of each parameter (see `importance.py`) or is empty. The findings follow its
    order, then the order of the space file; parameters that hardly matter come last.
    """
    if snapshot.winner is None:
        return None
    names = [*importance, *(name for name in snapshot.space if name not in importance)]
    findings = [_finding(snapshot, name) for name in names if _has_several_values(snapshot.space[name])]
    return Answer(
        headline=_headline(snapshot, snapshot.winner),
        findings=tuple(
            found.sentence(importance.get(found.name))
            for found in sorted(findings, key=lambda found: not found.matters)
        ),
        caveats=tuple(_caveats(snapshot)),
    )


# --- the headline ------------------------------------------------------------------------------------------


def _headline(snapshot: Snapshot, winner: TrialRecord) -> str:
    parts = [f"{noun(n)} {shown_value(v)}" for n, v in winner.parameters.items() if n != EXITS]
    if EXITS in winner.parameters:
        stages = winner.parameters[EXITS]
        position = value_phrase(EXITS, stages)
        parts.insert(0, f"exit after {position}" if stages else position)
    text = f"{', '.join(parts)}; {_measured(snapshot, winner)} (trial {winner.number})."
    if snapshot.is_over:
        return f"Best configuration: {text}"
    return f"Best so far ({len(ended(snapshot))} of {snapshot.num_trials} trials ended): {text}"


def _measured(snapshot: Snapshot, winner: TrialRecord) -> str:
    metric, value = snapshot.objective.metric, winner.value
    assert value is not None
    for candidate in snapshot.candidates:
        spread = candidate.standard_deviation
        if candidate.trial.number == winner.number and spread is not None:
            return f"{metric} {candidate.mean:.4f} ± {spread:.4f} over {len(candidate.values)} seeds"
    found = interval(snapshot, value)
    around = "" if found is None else f", 95 % interval {found[0]:.4f} to {found[1]:.4f}"
    return f"{metric} {value:.4f}{around}"


# --- the findings ------------------------------------------------------------------------------------------


def _has_several_values(branches: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the values of a parameter can be compared: a single choice cannot."""
    return len(branches) > 1 or len(branches[0].get("choices", ())) != 1


def _finding(snapshot: Snapshot, name: str) -> _Finding:
    branches = snapshot.space[name]
    if any("choices" in branch for branch in branches):
        return _about_choices(name, groups(snapshot, name))
    is_log = all(branch.get("log") for branch in branches)
    return _about_numbers(snapshot, name, is_log=is_log)


def _about_choices(name: str, found: Sequence[Group]) -> _Finding:
    if not found or found[0].best is None:
        return _Finding(name, ": no trial in which it is active can be compared.", matters=False)
    first, others = found[0], found[1:]
    tied = [group for group in others if group.best is not None and group.best.tied]
    unclear = [group for group in others if group not in tied]
    names = [value_phrase(name, group.value) for group in (first, *tied)]
    if not found[0].best.tied:
        behind = f"{names[0]} by {found[0].best.gap:.4f}"
        predicate = f": all trials in which it is active are behind the best one; {behind}."
        return _Finding(name, predicate, matters=True)
    if tied and not unclear:
        return _all_tied(name, names, tied)
    is_alone = all(group.best is None for group in others)
    early = _comparison_epoch([first])
    best = f"{names[0]} is best ({early})" if early else f"{names[0]} is best"
    parts = [f"only {names[0]} has a usable result" if is_alone else best]
    if tied:
        verb = "is" if len(tied) == 1 else "are"
        parts.append(f"{_listed(names[1:])} {verb} tied with it within noise{_pruned_early(tied)}")
    predicate = "; ".join([*parts, *(_behind(name, group) for group in unclear)])
    return _Finding(name, f": {predicate}.", matters=not is_alone)


def _all_tied(name: str, names: Sequence[str], tied: Sequence[Group]) -> _Finding:
    """A tie of all values: the parameter hardly matters only if each value has a complete trial."""
    early = _pruned_early(tied)
    if early:
        return _Finding(name, f": {_listed(names)} are tied within noise{early}.", matters=False)
    return _Finding(name, f" hardly matters: {_listed(names)} are tied within noise.", matters=False)


def _pruned_early(tied: Sequence[Group]) -> str:
    epoch = _comparison_epoch(tied)
    return f" ({epoch}, where pruning stopped trials)" if epoch else ""


def _comparison_epoch(found: Sequence[Group]) -> str:
    """The epoch at which values without a complete trial are compared; empty if each value has one."""
    epochs = {group.best.epoch for group in found if group.best is not None and not group.best.is_complete}
    if not epochs:
        return ""
    return f"compared at epoch {min(epochs)}{' or later' if len(epochs) > 1 else ''}"


def _behind(name: str, group: Group) -> str:
    value = value_phrase(name, group.value)
    if group.best is not None:
        when = "" if group.best.is_complete else f" at epoch {group.best.epoch}"
        return f"{value} is behind by {group.best.gap:.4f}{when} ({counted(len(group.records), 'trial')})"
    if group.records:
        return f"{value} had no usable result in {counted(len(group.records), 'trial')}"
    return f"{value} was not tried"


def _about_numbers(snapshot: Snapshot, name: str, *, is_log: bool) -> _Finding:
    compared = [one for one in trial_gaps(snapshot) if name in one.record.parameters]
    tried = [one.record.parameters[name] for one in compared]
    good = [one.record.parameters[name] for one in compared if one.tied and one.is_complete]
    num_complete = sum(one.is_complete for one in compared)
    if len(compared) <= FEW_TRIALS or len(set(tried)) == 1 or num_complete == 1 or not good:
        return _Finding(name, ": not enough trials to tell.", matters=False)
    low, high = min(good), max(good)
    if _span(low, high, is_log) >= WIDE * _span(min(tried), max(tried), is_log):
        predicate = f" hardly matters from {shown_value(low)} to {shown_value(high)}."
        return _Finding(name, predicate, matters=False)
    good_range = (
        f"at {shown_value(low)}" if low == high else f"from {shown_value(low)} to {shown_value(high)}"
    )
    return _Finding(name, f": good {good_range}{_outside(name, compared, low, high)}.", matters=True)


def _outside(name: str, compared: Sequence[TrialGap], low: float, high: float) -> str:
    """The trials outside the good range; a trial pruned while tied says nothing about its value."""
    behind = [one.record.parameters[name] for one in compared if not one.tied]
    counts = {"below": sum(value < low for value in behind), "above": sum(value > high for value in behind)}
    worse = " and ".join(f"{counted(count, 'trial')} {side}" for side, count in counts.items() if count)
    unclear = [one for one in compared if one.tied and not low <= one.record.parameters[name] <= high]
    num_unclear, verb = counted(len(unclear), "trial"), "was" if len(unclear) == 1 else "were"
    return "".join(
        [
            f"; {worse} performed worse" if worse else "",
            f"; {num_unclear} outside {verb} pruned while still tied with the best" if unclear else "",
        ]
    )


def _span(low: float, high: float, is_log: bool) -> float:
    return math.log(high / low) if is_log and low > 0 else high - low


# --- caveats -----------------------------------------------------------------------------------------------


def _caveats(snapshot: Snapshot) -> list[str]:
    bound, lines = noise(snapshot), []
    if bound is None:
        lines.append(
            f"How large a difference in {snapshot.objective.metric} can be due to chance is not known."
        )
    else:
        deviation = seed_deviation(snapshot.candidates)
        seeds = "no seed was repeated" if deviation is None else "variation over seeds included"
        lines.append(f"Differences of up to {bound:.4f} may be due to chance ({seeds}).")
    untrained = _untrained(snapshot)
    winner = snapshot.winner
    if untrained is not None and winner is not None:
        best = value_of(snapshot, winner)
        gain = best - untrained if snapshot.maximize else untrained - best
        if gain <= (bound or 0.0):
            lines.append(
                f"The best trial does not beat its untrained network ({untrained:.4f}) by more than noise."
            )
    if len(snapshot.objectives) > 1:
        metrics = _listed([objective.metric for objective in snapshot.objectives])
        verb = "is" if len(snapshot.front) == 1 else "are"
        lines.append(f"{counted(len(snapshot.front), 'trial')} {verb} on the Pareto front of {metrics}.")
    return lines


def _untrained(snapshot: Snapshot) -> float | None:
    """The first objective of the winner's untrained network (epoch 0); None if it was not measured."""
    epochs = () if snapshot.winner is None else snapshot.winner.epochs
    return epochs[0].metrics.get(snapshot.objective.metric) if epochs and epochs[0].epoch == 0 else None


# --- phrases -----------------------------------------------------------------------------------------------


def value_phrase(name: str, value: Any) -> str:
    """Return a parameter value as a sentence has it: `stage 2`, `stages 1+2`, `no exit`, `fc`, `0.1`."""
    if name != EXITS:
        return shown_value(value)
    stages = "+".join(map(str, value))
    return f"stage{'s' if len(value) > 1 else ''} {stages}" if stages else "no exit"


def noun(name: str) -> str:
    """Return the name of a parameter in a sentence: the last part of its dotted name, with spaces."""
    return name.rpartition(".")[2].replace("_", " ")


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
