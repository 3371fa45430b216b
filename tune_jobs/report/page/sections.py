"""The sections of the page in their order: what each shows, and how to read it."""

from collections.abc import Mapping, Sequence

from tune_jobs.report.noise import noise
from tune_jobs.report.page import facts
from tune_jobs.report.page.combinations import combinations
from tune_jobs.report.page.curves import curves
from tune_jobs.report.page.history import history
from tune_jobs.report.page.importance_bars import importance_bars
from tune_jobs.report.page.parallel import parallel
from tune_jobs.report.page.plot import Figure
from tune_jobs.report.page.recipe import recipe
from tune_jobs.report.page.section import Section, Table
from tune_jobs.report.page.seeds import seed_table, seeds
from tune_jobs.report.page.slices import slices
from tune_jobs.report.page.spans import idle
from tune_jobs.report.page.timeline import timeline
from tune_jobs.report.page.tradeoff import tradeoff
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import duration, share


def sections(snapshot: Snapshot, importance: Mapping[str, float]) -> list[Section]:
    """Return what comes after the answer and the table of trials, in the order in which one asks."""
    return [
        _section("history", "Optimisation history", "Did the search still improve when it ended?",
                 [history(snapshot)], nothing="No trial has a value yet."),
        _section("curves", "Learning curves", "What was pruned ends at a cross; dotted lines are rungs.",
                 [curves(snapshot)], nothing="No epoch was trained yet."),
        _section("importance", "Parameter importance",
                 "What sets the best trials apart, in shares (PED-ANOVA); where all is tied, that is chance.",
                 [importance_bars(importance)], nothing="Too few trials tell, or all are equally good."),
        _section("parallel", "Parallel coordinates",
                 "A line is a trial, lighter the better it is; it breaks where a parameter is not in use.",
                 [parallel(snapshot)], nothing="No trial has a value yet."),
        _section("combinations", "Exit position by sub-network depth",
                 "Each cell has the best value and how many trials there were: few trials, little evidence.",
                 [combinations(snapshot, importance)], nothing="No parameter of this search is a choice."),
        _section("slices", "Slices", "The objective against each parameter, whatever the others were.",
                 list(slices(snapshot)), nothing="No trial has a value yet."),
        _section("tradeoff", _tradeoff_title(snapshot),
                 "No trial beats one on the line in both; away from it another is as good or better in both.",
                 [tradeoff(snapshot)], nothing="No trial is complete yet."),
        _section("timeline", "Timeline", "A bar is an attempt of a trial; the launches stand above.",
                 [timeline(snapshot)], notes=_idle(snapshot), nothing="Nothing has begun yet."),
        _section("seeds", "Seeds and intervals", "What lies in the band may be as good as the best.",
                 [seeds(snapshot)], notes=_noise(snapshot), nothing="No trial is complete yet.",
                 tables=[seed_table(snapshot)] if snapshot.candidates else []),
        recipe(snapshot),
    ]  # fmt: skip


def first_tables(snapshot: Snapshot) -> list[Table]:
    """Return what stands beside the answer: the winner's choices and test figures, and the search's facts."""
    found = [facts.winner_parameters(snapshot), facts.figures_on_test(snapshot), facts.facts(snapshot)]
    return [table for table in found if table is not None]


def _section(
    name: str,
    title: str,
    hint: str,
    figures: Sequence[Figure | None],
    *,
    tables: Sequence[Table | None] = (),
    notes: tuple[str, ...] = (),
    nothing: str = "",
) -> Section:
    drawn = tuple(figure for figure in figures if figure is not None)
    shown = tuple(table for table in tables if table is not None)
    missing = (nothing,) if nothing and not drawn and not shown else ()
    return Section(name, title, hint, notes=(*missing, *notes), figures=drawn, tables=shown)


def _tradeoff_title(snapshot: Snapshot) -> str:
    return "Pareto front" if len(snapshot.objectives) > 1 else "Accuracy against cost"


def _idle(snapshot: Snapshot) -> tuple[str, ...]:
    found = idle(snapshot)
    if not found.total_ms:
        return ()
    between, within, total = (ms / 1000 for ms in (found.between_ms, found.within_ms, found.total_ms))
    return (
        f"Of {duration(total)} from the first launch to the last sign of life, no trial was in training "
        f"for {duration(between)} between launches ({share(between, total)}) and for {duration(within)} "
        f"within them ({share(within, total)}).",
    )


def _noise(snapshot: Snapshot) -> tuple[str, ...]:
    bound = noise(snapshot)
    if bound is None:
        return ("How much of a difference is chance is not known.",)
    return (f"Two equally good trials differ by less than {bound:.4f}, 19 times in 20.",)
