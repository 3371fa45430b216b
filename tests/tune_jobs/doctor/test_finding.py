import pytest

from tune_jobs.doctor.finding import Finding, counted, fault, first_line, note, ok

OK, NOTE, FAULT = ok("a", "fine"), note("b", "odd", "look"), fault("c", "broken", "fix it")


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        ([OK, OK], "2 ok, no notes, no faults"),
        ([OK, NOTE, FAULT], "1 ok, 1 note, 1 fault"),
        ([NOTE, NOTE, FAULT, FAULT], "0 ok, 2 notes, 2 faults"),
    ],
)
def test_findings_are_counted_by_level(findings: list[Finding], words: str) -> None:
    assert counted(findings) == words


@pytest.mark.parametrize(
    ("error", "line"), [(ValueError("a\nb"), "a"), (ValueError("\n a\nb"), "a"), (KeyError(), "KeyError")]
)
def test_an_error_is_shown_in_one_line(error: Exception, line: str) -> None:
    assert first_line(error) == line
