"""The sections of the page in order: what each shows, and a hint on how to read it."""

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
    """Return the sections after the answer and the table of trials, in order."""
    return [
        _section("history", "Optimisation history", "Was the search still improving when it ended?",
                 [history(snapshot)], empty="No trial has a value yet."),
        _section("curves", "Learning curves", "Pruned trials end at a cross; dotted lines are the rungs.",
                 [curves(snapshot)], empty="No epoch has been trained yet."),
        _section("importance", "Parameter importance",
                 "How much each parameter separates the best trials from the others, as shares (PED-ANOVA); "
                 "if all trials are tied, the shares reflect only chance.",
                 [importance_bars(importance)],
                 empty="Not enough trials to tell, or all are equally good."),
        _section("parallel", "Parallel coordinates",
                 "Each line is a trial, lighter for better values; it has a gap at an inactive parameter.",
                 [parallel(snapshot)], empty="No trial has a value yet."),
        _section("combinations", "Exit position by sub-network depth",
                 "Each cell shows the best value and the number of trials: few trials are weak evidence.",
                 [combinations(snapshot, importance)], empty="This search has no categorical parameter."),
        _section("slices", "Slices", "The objective against each parameter, over all values of the others.",
                 list(slices(snapshot)), empty="No trial has a value yet."),
        _section("tradeoff", _tradeoff_title(snapshot),
                 "No trial is better in both than one on the line; any other is equalled or beaten in both.",
                 [tradeoff(snapshot)], empty="No trial is complete yet."),
        _section("timeline", "Timeline", "Each bar is an attempt of a trial; the launches are at the top.",
                 [timeline(snapshot)], notes=_idle(snapshot), empty="No attempt has started yet."),
        _section("seeds", "Seeds and intervals", "Trials within the band may be as good as the best one.",
                 [seeds(snapshot)], notes=_noise(snapshot), empty="No trial is complete yet.",
                 tables=[seed_table(snapshot)] if snapshot.candidates else []),
        recipe(snapshot),
    ]  # fmt: skip


def first_tables(snapshot: Snapshot) -> list[Table]:
    """Return the tables next to the answer: the winner's parameters and test metrics, facts of the search."""
    found = [facts.winner_parameters(snapshot), facts.winner_test_metrics(snapshot), facts.facts(snapshot)]
    return [table for table in found if table is not None]


def _section(
    name: str,
    title: str,
    hint: str,
    figures: Sequence[Figure | None],
    *,
    tables: Sequence[Table | None] = (),
    notes: tuple[str, ...] = (),
    empty: str = "",
) -> Section:
    drawn = tuple(figure for figure in figures if figure is not None)
    shown = tuple(table for table in tables if table is not None)
    missing = (empty,) if empty and not drawn and not shown else ()
    return Section(name, title, hint, notes=(*missing, *notes), figures=drawn, tables=shown)


def _tradeoff_title(snapshot: Snapshot) -> str:
    return "Pareto front" if len(snapshot.objectives) > 1 else "Accuracy against cost"


def _idle(snapshot: Snapshot) -> tuple[str, ...]:
    found = idle(snapshot)
    if not found.total_ms:
        return ()
    between, within, total = (ms / 1000 for ms in (found.between_ms, found.within_ms, found.total_ms))
    return (
        f"Of {duration(total)} from the first launch to the last recorded activity, no trial was training "
        f"for {duration(between)} between launches ({share(between, total)}) and for {duration(within)} "
        f"within them ({share(within, total)}).",
    )


def _noise(snapshot: Snapshot) -> tuple[str, ...]:
    bound = noise(snapshot)
    if bound is None:
        return ("How large a difference can be due to chance is not known.",)
    return (f"Two equally good trials differ by less than {bound:.4f} in 19 of 20 cases.",)
