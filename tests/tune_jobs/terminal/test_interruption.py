import os
import signal

import pytest

from tune_jobs.terminal.interruption import Interruption


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_requests_a_stop_and_the_second_exits(
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


def test_running_trials_are_overdue_after_the_grace_period(capsys: pytest.CaptureFixture[str]) -> None:
    interruption = Interruption(grace_s=0)
    with interruption.caught():
        os.kill(os.getpid(), signal.SIGTERM)
    assert interruption.overdue
    assert capsys.readouterr().err


def test_the_previous_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption(grace_s=1).caught():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
