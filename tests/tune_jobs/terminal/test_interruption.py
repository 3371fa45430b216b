import os
import signal

import pytest

from tune_jobs.terminal.interruption import Interruption


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks_and_the_second_leaves(
    number: signal.Signals, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    interruption = Interruption(grace_s=60)
    with interruption.caught():
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested
        assert interruption.exit_code == exit_code
        assert not interruption.overdue
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert "stopping" in capsys.readouterr().err


def test_what_runs_is_stopped_when_the_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    interruption = Interruption(grace_s=0)
    with interruption.caught():
        os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.overdue
    assert capsys.readouterr().err


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption(grace_s=1).caught():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
