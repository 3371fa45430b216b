"""The user's own stdout and stderr, and how what libraries print is kept away from them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
    suppress,
)
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

from rich.console import Console, ConsoleDimensions

# The descriptors, where also the C++ of Ray and gRPC writes.
STDOUT, STDERR = 1, 2

SHOW_CURSOR = "\x1b[?25h"

DEFAULT_SIZE = ConsoleDimensions(80, 25)


class Terminal:
    """What the user reads: `out` and `err`, wherever those of the process lead meanwhile."""

    def __init__(self) -> None:
        self._own: tuple[TextIO, TextIO] | None = None
        self._say: Callable[[str], None] | None = None

    @property
    def out(self) -> TextIO:
        """The user's stdout."""
        return sys.stdout if self._own is None else self._own[0]

    @property
    def err(self) -> TextIO:
        """The user's stderr."""
        return sys.stderr if self._own is None else self._own[1]

    def tell(self, text: str) -> None:
        """Print a line on the user's stdout, at once."""
        self._print(text, self.out)

    def warn(self, text: str) -> None:
        """Print a line on the user's stderr, at once."""
        self._print(text, self.err)

    @contextmanager
    def with_panel(self, say: Callable[[str], None]) -> Iterator[None]:
        """While a panel is drawn, lines are for `say`, which knows where there is room for them."""
        self._say = say
        try:
            yield
        finally:
            self._say = None

    def abandon_panel(self) -> None:
        """Leave the panel as it is, with the cursor below it, for a process that ends at once."""
        if self._say is not None:
            self._say = None
            print(SHOW_CURSOR, file=self.out, flush=True)

    def _print(self, text: str, stream: TextIO) -> None:
        if self._say is None:
            print(text, file=stream, flush=True)
        else:
            self._say(text)

    @contextmanager
    def libraries_redirected(self) -> Iterator[Callable[[Path], None]]:
        """Keep what others print from the user for the time of the block, in Python or below it.

        It is lost until the value of the block is called with a file: that is where it is added from then on.
        """
        with ExitStack() as stack:
            out = stack.enter_context(_led_away(STDOUT, sys.stdout, redirect_stdout))
            err = stack.enter_context(_led_away(STDERR, sys.stderr, redirect_stderr))
            numbers = [number for number, own in ((STDOUT, out), (STDERR, err)) if own is not None]
            self._own = out, err
            stack.callback(setattr, self, "_own", None)
            _lead(numbers, Path(os.devnull))
            yield lambda path: _lead(numbers, path)


class UserConsole(Console):
    """As wide and high as the terminal that it writes to, whatever descriptors 0 to 2 are."""

    def write_line(self, text: str) -> None:
        """Print a text as it is."""
        self.print(text, markup=False, highlight=False)

    @property  # type: ignore[misc]  # nobody sets it
    def size(self) -> ConsoleDimensions:
        """Return the size now; for what is no terminal it is rich's guess.

        Some terminals do not know theirs (`script` without one around it) and say 0.
        """
        try:
            columns, lines = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):
            return super().size
        return ConsoleDimensions(columns or DEFAULT_SIZE.width, lines or DEFAULT_SIZE.height)


@contextmanager
def _led_away(
    number: int, stream: TextIO, redirect: Callable[[TextIO], AbstractContextManager[object]]
) -> Iterator[TextIO]:
    """Let Python's stream write to the descriptor, which may lead elsewhere in the block; the user's stream.

    What the stream of before still holds is written where it belongs. One that is None was closed from the
    start: its descriptor may be another file's.
    """
    if stream is None:
        yield stream
        return
    stream.flush()
    before = os.dup(number)
    try:
        with _kept(stream, number) as own, redirect(_unbuffered(number)):
            yield own
    finally:
        with suppress(OSError):  # of a full disk, where it is noise that is lost
            stream.flush()
        os.dup2(before, number)
        os.close(before)


def _lead(numbers: list[int], path: Path) -> None:
    with path.open("ab") as file:
        for number in numbers:
            os.dup2(file.fileno(), number)


def _kept(stream: TextIO, number: int) -> AbstractContextManager[TextIO]:
    """The user's stream: the same where it does not end in the descriptor, else one that ends there now."""
    try:
        ends_there = stream.fileno() == number
    except (OSError, ValueError):  # it has none
        ends_there = False
    if not ends_there:
        return nullcontext(stream)
    return os.fdopen(os.dup(number), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)


def _unbuffered(number: int) -> TextIO:
    """A stream that writes to the descriptor at once, and leaves it open."""
    raw = os.fdopen(number, "wb", buffering=0, closefd=False)
    return TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
