import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyte
import pytest
from rich.console import Console

from tests.project import ROOT
from tune_jobs.study.records import EpochRecord, TrialRecord
from tune_jobs.terminal.live_panel import HINT, REFRESH_PER_S, PanelContext, panel
from tune_jobs.terminal.progress_view import progress_view

RecordMaker = Callable[..., TrialRecord]
CONTEXT = PanelContext(
    title="exits: 9 trials",
    elapsed_s=83.0,
    budgets=("1 min of 2 h",),
    places={"log": "runs/exits/ray.log", "MLflow": "mlflow ui, then http://127.0.0.1:5000"},
    events=("  0:01  trial 0   temperature 0.1", "  0:07  trial 0   complete  0.9300"),
    hint=HINT,
)


def view(records: list[TrialRecord], *live: int, **changes: Any) -> Any:
    given = {"metric": "val/top1", "direction": "maximize", "num_planned": 9, "since_ms": 0, **changes}
    return progress_view(records, live=live, **given)


def drawn(records: list[TrialRecord], *live: int, width: int = 100, height: int = 30) -> list[str]:
    """The lines of the panel on a terminal of this size."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(panel(view(records, *live), CONTEXT, height=height))
    return [line.rstrip() for line in captured.get().splitlines()]


def running(make_record: RecordMaker, number: int, **changes: Any) -> TrialRecord:
    return replace(make_record(number, "RUNNING", num_epochs=2), workers=(1,), **changes)


def test_the_panel_before_the_first_trial() -> None:
    assert drawn([]) == [
        "exits: 9 trials   0 ended · 1 min 23 s",
        "best    no trial is complete yet",
        "ended   none yet",
        "budget  1 min of 2 h",
        "log     runs/exits/ray.log",
        "MLflow  mlflow ui, then http://127.0.0.1:5000",
        "    0:01  trial 0   temperature 0.1",
        "    0:07  trial 0   complete  0.9300",
        HINT,
    ]


def test_best_running_and_ended_trials_are_shown(make_record: RecordMaker) -> None:
    records = [
        make_record(0),
        make_record(1, "PRUNED", num_epochs=1, reason="rung"),
        make_record(2, "PRUNED", num_epochs=1, reason="collapsed"),
        make_record(3, "FAIL", num_epochs=1, reason="out of memory"),
        make_record(4, "FAIL", num_epochs=1, reason="invalid"),  # does not count
        running(make_record, 5),
        running(make_record, 6, epochs=()),
    ]
    lines = drawn(records, 5, 6)
    assert lines[1] == "best    val/top1 0.9300  trial 0  temperature 0.1  exit_stages [1]"
    assert lines[2] == (
        "     5  ━━━━━━━━━━  2/2  val/top1 0.9150  0 s left  temperature 0.15  exit_stages [1]"
    )
    assert lines[3] == "     6  starting    temperature 0.16  exit_stages [1]"
    assert lines[4] == "ended   1 complete · 2 pruned (1 rung, 1 collapsed) · 1 failed (1 out of memory)"


def test_a_running_trial_shows_its_speed_and_the_time_left(make_record: RecordMaker) -> None:
    record = running(make_record, 5, attempts=2)
    config = {**(record.config or {}), "optim.epochs": 12}
    times = ((0, 0, 1), (1, 1000, 1), (2, 9000, 2), (3, 19000, 2), (4, 29000, 2))
    epochs = [
        EpochRecord(e, {"val/top1": 0.5, "cost/images_per_second": 1234.0}, ms, a) for e, ms, a in times
    ]
    record = replace(record, config=config, epochs=tuple(epochs), workers=(1, 4))
    assert drawn([record], 5)[2] == (
        "     5  ━━━╌╌╌╌╌╌╌  4/12  val/top1 0.5000  1,234 images/s  1 min 20 s left  attempt 2  4 workers  t…"
    )


def test_the_time_left_is_estimated_from_the_trials_of_this_launch(make_record: RecordMaker) -> None:
    ended = [make_record(number) for number in range(3)]  # 9.5 s each
    found = view([*ended, running(make_record, 3), running(make_record, 4)], 3, 4, num_planned=9)
    assert found.left_s == pytest.approx(9.5 * (9 - 3 - 2) / 2)
    assert view([*ended, running(make_record, 3)], 3, since_ms=ended[-1].started_ms + 1).left_s is None
    assert view(ended).left_s is None
    assert view([*ended, running(make_record, 3)], 3, is_stopping=True).left_s is None


def test_the_best_trial_follows_the_constraints_and_the_direction(make_record: RecordMaker) -> None:
    records = [make_record(0), replace(make_record(1), violations={"cost": 1.0}), make_record(2)]
    assert view(records, direction="minimize").best[0] == "2"
    assert view(records).best[0] == "0"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("height", [6, 10, 15, 40])
def test_the_panel_is_never_larger_than_the_terminal(
    make_record: RecordMaker, width: int, height: int
) -> None:
    records = [make_record(0), *(running(make_record, number) for number in range(1, 21))]
    lines = drawn(records, *range(1, 21), width=width, height=height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert lines[0].startswith("exits: 9 trials")
    assert any(line.startswith("ended   1 complete") for line in lines)


def test_on_a_small_terminal_events_are_omitted_first_and_the_hint_last(make_record: RecordMaker) -> None:
    records = [make_record(0), running(make_record, 1)]
    assert drawn(records, 1, height=10)[-1] == HINT
    assert not any("trial 0   complete" in line for line in drawn(records, 1, height=8))
    many = [make_record(0), *(running(make_record, number) for number in range(1, 21))]
    assert "  and 13 more" in drawn(many, *range(1, 21), height=13)


# --- on a terminal -----------------------------------------------------------------------------------------

SEARCH = """
import sys, time
from pathlib import Path
from tune_jobs.terminal.interruption import Interruption
from tune_jobs.terminal.live_panel import progress_display
from tune_jobs.terminal.quiet import quiet_libraries
from tune_jobs.space import load_space
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.terminal.streams import Terminal, UserConsole

Path("space.yaml").write_text(
    "name: live\\ntrain: {optim: {epochs: 40}}\\nspace: {loss.temperature: {low: 0.05, high: 0.5}}\\n"
)
quiet_libraries()
space = load_space(Path("space.yaml"))
study = SearchStudy("sqlite:///study.db", space, data_digest="d")
study.set_num_trials(2)
terminal = Terminal()
with terminal.libraries_redirected() as redirect_to:
    redirect_to(Path("ray.log"))
    console = UserConsole(file=terminal.out, soft_wrap=True)
    interruption = Interruption(60.0, terminal)
    display = progress_display(
        terminal, console, study, space, places=lambda: {"log": "ray.log"},
        is_stopping=lambda: interruption.requested, start_s=time.monotonic(),
    )
    with interruption.caught(), display.shown():
        attempt = study.next_attempt()
        display.attempt_started(attempt)
        for epoch in range(41):
            print("noise")
            metrics = {"val/top1": 0.01 * epoch, "train/loss": 1.0}
            study.report(attempt.number, attempt.attempt, epoch, metrics)
            display.epoch_reported(attempt.number, epoch, {})
            time.sleep(0.25)
            if interruption.requested and epoch > 20:
                time.sleep(1.0)
                break
    console.write_line("the end")
"""


@contextmanager
def on_terminal(
    folder: Path, *, script: str = SEARCH, columns: int = 80, lines: int = 20
) -> Iterator[tuple[Any, Any, int]]:
    """A script in a process with a terminal: the process, the screen, and the descriptor of its output."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder, stdin=child, stdout=child, stderr=child, env=environment
    )
    os.close(child)
    try:
        yield process, pyte.Screen(columns, lines), parent
    finally:
        process.kill()
        process.wait()
        os.close(parent)


def wait_for(pattern: str, screen: Any, parent: int) -> list[str]:
    """Feed the screen until a line matches the pattern; return its lines."""
    stream, deadline = pyte.ByteStream(screen), time.monotonic() + 60
    while not any(re.search(pattern, line) for line in screen.display):
        assert time.monotonic() < deadline, "\n".join(screen.display)
        if select.select([parent], [], [], 1.0)[0]:
            try:
                stream.feed(os.read(parent, 1 << 16))
            except OSError:  # the process has ended
                raise AssertionError("\n".join(screen.display)) from None
    return [line.rstrip() for line in screen.display]


def test_a_terminal_shows_one_panel_that_ctrl_c_does_not_break(tmp_path: Path) -> None:
    with on_terminal(tmp_path) as (process, screen, parent):
        lines = wait_for("1[0-9]/40", screen, parent)
        assert lines[0].startswith("live: 2 trials   0 ended · ")
        assert lines[1] == "best    no trial is complete yet"
        assert sum("/40  val/top1 0.1" in line for line in lines) == 1
        assert "log     ray.log" in lines
        process.send_signal(signal.SIGINT)
        lines = wait_for("stopping: running trials have 60 s to finish their epoch", screen, parent)
        lines = wait_for("the end", screen, parent)
        assert process.wait(timeout=30) == 0
        assert not screen.cursor.hidden
        assert not any("val/top1" in line or "noise" in line for line in lines)  # the panel is erased
    assert (tmp_path / "ray.log").read_text().count("noise") > 20


def test_a_panel_that_cannot_be_drawn_does_not_end_the_search(tmp_path: Path) -> None:
    broken = SEARCH.replace('places=lambda: {"log": "ray.log"}', 'places=lambda: {}["no such place"]')
    with on_terminal(tmp_path, script=broken) as (process, screen, parent):
        wait_for("live continues; its panel cannot be drawn: KeyError", screen, parent)
        process.send_signal(signal.SIGINT)
        wait_for("the end", screen, parent)
        assert process.wait(timeout=30) == 0


def test_a_pipe_gets_lines_even_with_forced_colours(tmp_path: Path) -> None:
    short = SEARCH.replace("range(41)", "range(2)")
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", short],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("\n") == 4  # the start, two epochs, the end
    assert "trial 0   epoch 1/40" in done.stdout


def test_a_terminal_with_a_limited_character_set_gets_lines(tmp_path: Path) -> None:
    latin = "import sys\nsys.stdout.reconfigure(encoding='latin-1')\n"
    short = SEARCH.replace("range(41)", "range(3)")
    with on_terminal(tmp_path, script=latin + short) as (process, screen, parent):
        lines = wait_for("the end", screen, parent)
        assert process.wait(timeout=30) == 0
        assert any("trial 0   epoch 2/40" in line for line in lines)


def test_drawing_the_panel_of_a_large_search_is_cheap(make_record: RecordMaker) -> None:
    records = [make_record(number) for number in range(500)]
    records += [running(make_record, number) for number in range(500, 508)]
    start_s = time.process_time()
    for _ in range(20):
        drawn(records, *range(500, 508))
    each_s = (time.process_time() - start_s) / 20
    print(f"a frame costs {1000 * each_s:.1f} ms of CPU, {100 * REFRESH_PER_S * each_s:.2f} % of a core")
    assert REFRESH_PER_S * each_s < 0.02
