"""Live panel of a running search, for terminals that can redraw lines."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from rich.console import Group
from rich.live import Live
from rich.text import Text

from tune_jobs.space import SearchSpace
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.study.store import now_ms
from tune_jobs.study.trial_study import Attempt, TrialStudy
from tune_jobs.terminal.event_log import EventLog
from tune_jobs.terminal.progress_view import ProgressView, RunningTrial, progress_view
from tune_jobs.terminal.streams import Terminal, UserConsole
from tune_jobs.wording import duration

REFRESH_PER_S = 2
NUM_EVENTS = 3
TERMINAL_ERRORS = (OSError, UnicodeError)  # of a closed terminal, or one with a limited character set
BAR_WIDTH = 10
COLORS = {"complete": "green", "pruned": "yellow", "failed": "red"}
HINT = "Ctrl-C stops after the running epochs; the same command resumes"


@dataclass(frozen=True)
class PanelContext:
    """Content of the panel apart from the trials: title, elapsed time, budgets, locations, last events."""

    title: str
    elapsed_s: float
    budgets: tuple[str, ...]
    places: Mapping[str, str]
    events: tuple[str, ...]
    hint: str


def panel(view: ProgressView, context: PanelContext, *, height: int) -> Group:
    """Return the panel, at most `height` lines high; the least important lines are omitted first."""
    fixed = [_head(view, context), _best(view), _ended(view)]
    optional = [
        [_one_line(Text(f"  {event}", style="dim")) for event in context.events],
        [_labelled(what, place, style="dim") for what, place in context.places.items()],
        [_labelled("budget", " · ".join(context.budgets))] if context.budgets else [],
        [Text(context.hint, style="dim")],
    ]
    free = height - len(fixed) - 1
    num_rows = max(1, min(len(view.running), free - 2))
    running = [_row(trial, view.metric) for trial in view.running[:num_rows]]
    if len(view.running) > num_rows:
        running.append(Text(f"  and {len(view.running) - num_rows} more", style="dim"))
    free -= len(running)
    shown: list[list[Text]] = []
    for lines in reversed(optional):  # priority: hint, budget, places, events
        kept = lines if len(lines) <= free else []
        shown.insert(0, kept)
        free -= len(kept)
    events, places, budget, hint = shown
    lines = [*fixed[:2], *running, fixed[2], *budget, *places, *events, *hint]
    return Group(*lines[:height])


class LivePanel:
    """Draws the panel of one stage of a search inside `shown`; receives the same events as `EventLog`.

    `places` returns the locations to show, `is_stopping` whether no further trial starts. Both are called for
    every frame.
    """

    def __init__(
        self,
        terminal: Terminal,
        console: UserConsole,
        study: TrialStudy,
        space: SearchSpace,
        *,
        places: Callable[[], Mapping[str, str]],
        is_stopping: Callable[[], bool],
        start_s: float,
    ) -> None:
        self._is_stopping = is_stopping
        self._terminal, self._console, self._study, self._space = terminal, console, study, space
        self._places, self._start_s = places, start_s
        self._since_ms = now_ms()
        self._live: dict[int, int] = {}
        self._hint = HINT
        self._events: deque[str] = deque(maxlen=NUM_EVENTS)
        metric = space.objective.metric
        self._log = EventLog(self._events.append, study, metric=metric, start_s=start_s)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw the panel inside the block, and erase it at the end."""
        live = Live(
            get_renderable=self._guarded_panel,
            console=self._console,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with suppress(*TERMINAL_ERRORS):
            live.start()
        try:
            with self._terminal.with_panel(self._show_line):
                yield
        finally:
            with suppress(*TERMINAL_ERRORS):
                live.stop()

    def note(self, text: str) -> None:
        """Show a line about the search as a whole."""
        self._log.note(text)

    def attempt_started(self, attempt: Attempt) -> None:
        """Show an attempt that starts."""
        self._live[attempt.number] = attempt.attempt
        self._log.attempt_started(attempt)

    def epoch_reported(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Do nothing: the row of the trial shows its newest epoch."""

    def note_received(self, number: int, text: str) -> None:
        """Show a note that a trial reported."""
        self._log.note_received(number, text)

    def attempt_ended(self, number: int) -> None:
        """Show how an attempt ended."""
        self._live.pop(number, None)
        self._log.attempt_ended(number)

    def _show_line(self, text: str) -> None:
        """Print a line above the panel, and show it instead of the hint."""
        self._hint = text
        with suppress(*TERMINAL_ERRORS):
            self._console.write_line(text)

    def _guarded_panel(self) -> Group:
        """The panel, or the error if it cannot be drawn: that must not end the search."""
        try:
            return self._panel()
        except Exception as error:
            return Group(
                _one_line(Text(f"{self._space.name} continues; its panel cannot be drawn: {error!r}"))
            )

    def _panel(self) -> Group:
        objective = self._space.objective
        view = progress_view(
            self._study.records(),
            live=list(self._live),
            metric=objective.metric,
            direction=objective.direction,
            num_planned=self._study.num_planned,
            since_ms=self._since_ms,
            is_stopping=self._is_stopping(),
        )
        context = PanelContext(
            title=f"{self._space.name}: {self._study.plan}",
            elapsed_s=time.monotonic() - self._start_s,
            budgets=self._budgets(view) if isinstance(self._study, SearchStudy) else (),
            places=self._places(),
            events=tuple(self._events),
            hint=self._hint,
        )
        return panel(view, context, height=self._console.size.height - 1)

    def _budgets(self, view: ProgressView) -> tuple[str, ...]:
        """How much of each budget is used; the confirmation counts towards none."""
        search, hours = self._space.search, view.accelerator_hours
        used = []
        if search.time_budget_s is not None:
            used.append(f"{duration(self._study.spent_s)} of {duration(search.time_budget_s)}")
        if search.accelerator_hours is not None or hours:
            limit = "" if search.accelerator_hours is None else f" of {search.accelerator_hours:g}"
            used.append(f"{hours:.2f}{limit} accelerator-hours")
        return tuple(used)


def progress_display(
    terminal: Terminal,
    console: UserConsole,
    study: TrialStudy,
    space: SearchSpace,
    *,
    places: Callable[[], Mapping[str, str]],
    is_stopping: Callable[[], bool],
    start_s: float,
) -> EventLog | LivePanel:
    """Return the display of a stage: the panel on a terminal, else one line for each event."""
    # With FORCE_COLOR, rich treats a pipe as a terminal, but a pipe cannot show a panel.
    is_drawn = console.is_terminal and not console.is_dumb_terminal and console.file.isatty()
    if is_drawn and not console.options.ascii_only:
        return LivePanel(
            terminal, console, study, space, places=places, is_stopping=is_stopping, start_s=start_s
        )
    return EventLog(console.write_line, study, metric=space.objective.metric, start_s=start_s)


# --- the lines ---------------------------------------------------------------------------------------------


def _head(view: ProgressView, context: PanelContext) -> Text:
    left = "" if view.left_s is None else f" · about {duration(view.left_s)} left"
    text = Text(context.title, style="bold")
    text.append(f"   {view.num_ended} ended · {duration(context.elapsed_s)}{left}", "default")
    return _one_line(text)


def _best(view: ProgressView) -> Text:
    if view.best is None:
        return _labelled("best", "no trial is complete yet")
    label, value, parameters = view.best
    text = _labelled("best", f"{view.metric} {value:.4f}", style="bold green")
    text.append(f"  trial {label}  {parameters}", "default")
    return text


def _ended(view: ProgressView) -> Text:
    text = _labelled("ended", "")
    for index, (state, reasons) in enumerate(view.ended.items()):
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if reason)
        text.append("" if index == 0 else " · ")
        text.append(f"{sum(reasons.values())} {state}", COLORS.get(state, "default"))
        text.append(f" ({why})" if why else "")
    if not view.ended:
        text.append("none yet")
    return text


def _row(trial: RunningTrial, metric: str) -> Text:
    text = Text(f"  {trial.label:>4}  ", no_wrap=True, overflow="ellipsis")
    attempt = f"attempt {trial.attempt}  " if trial.attempt > 1 else ""
    workers = f"{trial.num_workers} workers  " if trial.num_workers > 1 else ""
    if trial.epoch < 0:
        text.append(f"{'starting':{BAR_WIDTH}}  ", "dim")
    else:
        done = round(BAR_WIDTH * trial.progress)
        text.append("━" * done, "cyan")
        text.append("╌" * (BAR_WIDTH - done) + "  ", "dim")
        text.append(f"{trial.epoch}/{trial.total_epochs}  ")
        text.append("untrained  " if trial.value is None else f"{metric} {trial.value:.4f}  ")
        text.append(_speed(trial), "dim")
    text.append(f"{attempt}{workers}", "dim")
    text.append(trial.parameters)
    return text


def _speed(trial: RunningTrial) -> str:
    rate = "" if not trial.images_per_second else f"{trial.images_per_second:,.0f} images/s  "
    if trial.epoch_s is None or trial.left_s is None:
        return rate
    return f"{rate}{duration(trial.left_s)} left  "


def _labelled(label: str, text: str, *, style: str = "") -> Text:
    found = Text(f"{label:8}", style="dim")
    found.append(text, style or "default")
    return _one_line(found)


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
