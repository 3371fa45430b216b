"""What a search found out, in sentences: which values are best, what is tied with them, what hardly matters.

Two values of a parameter are compared by the best trial of each (see `standing.py`); a difference within
`noise` is no difference.
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

FEW_TRIALS = 3  # of as few, a range of numbers says nothing
WIDE = 0.7  # of the range that was tried: where all of that is as good, the parameter hardly matters
EXITS = "model.exit_stages"
NOUNS = {
    EXITS: "where the sub-network leaves",
    "model.exit_depth": "the depth of the sub-network",
    "loss.exit_weight": "the weight of the exit",
}


@dataclass(frozen=True)
class Answer:
    """The answer of a search: what is best, one sentence for each parameter, and reservations."""

    headline: str
    findings: tuple[str, ...]
    reservations: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """Return all sentences, the headline first."""
        return (self.headline, *self.findings, *self.reservations)


@dataclass(frozen=True)
class _Finding:
    """What is known of a parameter; it `matters` where some of its values are known to be better."""

    name: str
    words: str
    matters: bool

    def sentence(self, share: float | None) -> str:
        """The finding with its subject. Importance says nothing of differences that are chance."""
        subject = NOUNS.get(self.name, noun(self.name))
        text = f"{subject[0].upper()}{subject[1:]}{self.words}"
        return text if share is None or not self.matters else f"{text} Importance {share:.2f}."


def answer(snapshot: Snapshot, importance: Mapping[str, float]) -> Answer | None:
    """Return what the search says so far; None as long as no trial may win.

    `importance` has the share of each parameter (see `importance.py`), or nothing; the findings have its
    order, and that of the file where it says nothing; what hardly matters comes last.
    """
    if snapshot.winner is None:
        return None
    names = [*importance, *(name for name in snapshot.space if name not in importance)]
    findings = [_finding(snapshot, name) for name in names if _may_differ(snapshot.space[name])]
    return Answer(
        headline=_headline(snapshot, snapshot.winner),
        findings=tuple(
            found.sentence(importance.get(found.name))
            for found in sorted(findings, key=lambda found: not found.matters)
        ),
        reservations=tuple(_reservations(snapshot)),
    )


# --- the headline ------------------------------------------------------------------------------------------


def _headline(snapshot: Snapshot, winner: TrialRecord) -> str:
    others = [f"{noun(n)} {shown_value(v)}" for n, v in winner.parameters.items() if n != EXITS]
    what = ", ".join(others)
    if EXITS in winner.parameters:
        stages = winner.parameters[EXITS]
        verb = f"leave {value_in_words(EXITS, stages)}" if stages else "train without an exit"
        what = f"{verb}, with {what}" if what else verb
    text = f"{what}: {_measured(snapshot, winner)} (trial {winner.number})."
    if snapshot.is_over:
        return _capital(text)
    return f"So far ({len(ended(snapshot))} of {snapshot.num_trials} trials ended): {text}"


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


def _may_differ(branches: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is anything to find out: a single choice is none."""
    return len(branches) > 1 or len(branches[0].get("choices", ())) != 1


def _finding(snapshot: Snapshot, name: str) -> _Finding:
    branches = snapshot.space[name]
    if any("choices" in branch for branch in branches):
        return _about_choices(name, groups(snapshot, name))
    is_log = all(branch.get("log") for branch in branches)
    return _about_numbers(snapshot, name, is_log=is_log)


def _about_choices(name: str, found: Sequence[Group]) -> _Finding:
    if not found or found[0].best is None:
        return _Finding(name, ": no trial with it can be compared.", matters=False)
    first, others = found[0], found[1:]
    tied = [group for group in others if group.best is not None and group.best.tied]
    unclear = [group for group in others if group not in tied]
    names = [value_in_words(name, group.value) for group in (first, *tied)]
    if not found[0].best.tied:
        behind = f"{names[0]} by {found[0].best.gap:.4f}"
        return _Finding(name, f": where it is searched, all trials are behind; {behind}.", matters=True)
    if tied and not unclear:
        return _all_tied(name, names, tied)
    is_alone = all(group.best is None for group in others)
    parts = [f"only {names[0]} can be judged" if is_alone else f"{names[0]} is best{_as_far_as([first])}"]
    if tied:
        verb = "is" if len(tied) == 1 else "are"
        parts.append(f"{_listed(names[1:])} {verb} tied with it within noise{_pruned_early(tied)}")
    words = "; ".join([*parts, *(_behind(name, group) for group in unclear)])
    return _Finding(name, f": {words}.", matters=not is_alone)


def _all_tied(name: str, names: Sequence[str], tied: Sequence[Group]) -> _Finding:
    """Where every value was trained to its end that says something; of pruned trials it says little."""
    early = _pruned_early(tied)
    if early:
        return _Finding(name, f": {_listed(names)} cannot be told apart{early}.", matters=False)
    return _Finding(name, f" hardly matters: {_listed(names)} are tied within noise.", matters=False)


def _pruned_early(tied: Sequence[Group]) -> str:
    known = _as_far_as(tied)
    return f" ({known.strip()}, where pruning ended trials)" if known else ""


def _as_far_as(found: Sequence[Group]) -> str:
    """Up to which epoch something is known of all these values; nothing where each has a complete trial."""
    epochs = [group.best.epoch for group in found if group.best is not None and not group.best.is_complete]
    return f" as far as epoch {min(epochs)}" if epochs else ""


def _behind(name: str, group: Group) -> str:
    words = value_in_words(name, group.value)
    if group.best is not None:
        when = "" if group.best.is_complete else f" after epoch {group.best.epoch}"
        return f"{words} is behind by {group.best.gap:.4f}{when} ({counted(len(group.records), 'trial')})"
    if group.records:
        return f"{words} came to nothing in {counted(len(group.records), 'trial')}"
    return f"{words} was not tried"


def _about_numbers(snapshot: Snapshot, name: str, *, is_log: bool) -> _Finding:
    compared = [one for one in trial_gaps(snapshot) if name in one.record.parameters]
    tried = [one.record.parameters[name] for one in compared]
    good = [one.record.parameters[name] for one in compared if one.tied and one.is_complete]
    num_complete = sum(one.is_complete for one in compared)
    if len(compared) <= FEW_TRIALS or len(set(tried)) == 1 or num_complete == 1 or not good:
        return _Finding(name, ": too few trials tell.", matters=False)
    low, high = min(good), max(good)
    if _span(low, high, is_log) >= WIDE * _span(min(tried), max(tried), is_log):
        words = f" hardly matters from {shown_value(low)} to {shown_value(high)}."
        return _Finding(name, words, matters=False)
    within = f"at {shown_value(low)}" if low == high else f"from {shown_value(low)} to {shown_value(high)}"
    return _Finding(name, f": good {within}{_beyond(name, compared, low, high)}.", matters=True)


def _beyond(name: str, compared: Sequence[TrialGap], low: float, high: float) -> str:
    """What became of the trials outside the good range; one pruned while it was tied tells nothing of it."""
    behind = [one.record.parameters[name] for one in compared if not one.tied]
    counts = {"below": sum(value < low for value in behind), "above": sum(value > high for value in behind)}
    words = " and ".join(f"{counted(count, 'trial')} {where}" for where, count in counts.items() if count)
    unclear = [one for one in compared if one.tied and not low <= one.record.parameters[name] <= high]
    return "".join(
        [
            f"; {words} came out behind" if words else "",
            f"; {counted(len(unclear), 'trial')} outside ended before they could tell" if unclear else "",
        ]
    )


def _span(low: float, high: float, is_log: bool) -> float:
    return math.log(high / low) if is_log and low > 0 else high - low


# --- reservations ------------------------------------------------------------------------------------------


def _reservations(snapshot: Snapshot) -> list[str]:
    bound, lines = noise(snapshot), []
    if bound is None:
        lines.append(f"How much of a difference in {snapshot.objective.metric} is chance is not known.")
    else:
        seeds = "no seed was repeated" if seed_deviation(snapshot.candidates) is None else "seeds included"
        lines.append(f"Differences of up to {bound:.4f} may be chance ({seeds}).")
    untrained = _untrained(snapshot)
    winner = snapshot.winner
    if untrained is not None and winner is not None:
        best = value_of(snapshot, winner)
        gain = best - untrained if snapshot.maximize else untrained - best
        if gain <= (bound or 0.0):
            lines.append(f"The best is no better than an untrained network ({untrained:.4f}), chance aside.")
    if len(snapshot.objectives) > 1:
        metrics = _listed([objective.metric for objective in snapshot.objectives])
        lines.append(f"{counted(len(snapshot.front), 'trial')} trade {metrics}: no other beats them in all.")
    return lines


def _untrained(snapshot: Snapshot) -> float | None:
    """The first objective of the winner's network before it was trained, where that was measured."""
    epochs = () if snapshot.winner is None else snapshot.winner.epochs
    return epochs[0].metrics.get(snapshot.objective.metric) if epochs and epochs[0].epoch == 0 else None


# --- words -------------------------------------------------------------------------------------------------


def value_in_words(name: str, value: Any) -> str:
    """Return a value of a parameter as one says it: `after stage 2`, `fc`, `0.1`."""
    if name != EXITS:
        return shown_value(value)
    stages = " and ".join(map(str, value))
    return f"after stage{'s' if len(value) > 1 else ''} {stages}" if stages else "without an exit"


def noun(name: str) -> str:
    """Return what a parameter is called in a sentence: the last word of its name."""
    return name.rpartition(".")[2].replace("_", " ")


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _capital(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"
