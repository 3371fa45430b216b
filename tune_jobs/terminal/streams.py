"""The user's stdout and stderr, separated from what libraries print."""

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

# File descriptors, which the C++ code of Ray and gRPC writes to directly.
STDOUT, STDERR = 1, 2

SHOW_CURSOR = "\x1b[?25h"

DEFAULT_SIZE = ConsoleDimensions(80, 25)


class Terminal:
    """Output to the user, also while stdout and stderr of the process are redirected."""

    def __init__(self) -> None:
        self._own: tuple[TextIO, TextIO] | None = None
        self._write_above_panel: Callable[[str], None] | None = None

    @property
    def out(self) -> TextIO:
        """The user's stdout."""
        return sys.stdout if self._own is None else self._own[0]

    @property
    def err(self) -> TextIO:
        """The user's stderr."""
        return sys.stderr if self._own is None else self._own[1]

    def info(self, text: str) -> None:
        """Print a line on the user's stdout, flushed."""
        self._print(text, self.out)

    def warn(self, text: str) -> None:
        """Print a line on the user's stderr, flushed."""
        self._print(text, self.err)

    @contextmanager
    def with_panel(self, write_above_panel: Callable[[str], None]) -> Iterator[None]:
        """Send lines to `write_above_panel` inside the block, so that they do not overwrite the panel."""
        self._write_above_panel = write_above_panel
        try:
            yield
        finally:
            self._write_above_panel = None

    def abandon_panel(self) -> None:
        """Stop drawing the panel and show the cursor again, before the process exits."""
        if self._write_above_panel is not None:
            self._write_above_panel = None
            print(SHOW_CURSOR, file=self.out, flush=True)

    def _print(self, text: str, stream: TextIO) -> None:
        if self._write_above_panel is None:
            print(text, file=stream, flush=True)
        else:
            self._write_above_panel(text)

    @contextmanager
    def libraries_redirected(self) -> Iterator[Callable[[Path], None]]:
        """Redirect everything that libraries print inside the block, from Python or from native code.

        The output is discarded until the yielded function is called with a file, and then appended to it.
        """
        with ExitStack() as stack:
            out = stack.enter_context(_redirected(STDOUT, sys.stdout, redirect_stdout))
            err = stack.enter_context(_redirected(STDERR, sys.stderr, redirect_stderr))
            numbers = [number for number, own in ((STDOUT, out), (STDERR, err)) if own is not None]
            self._own = out, err
            stack.callback(setattr, self, "_own", None)
            _point_to(numbers, Path(os.devnull))
            yield lambda path: _point_to(numbers, path)


class UserConsole(Console):
    """Console with the size of the terminal it writes to, whatever descriptors 0 to 2 are."""

    def write_line(self, text: str) -> None:
        """Print a line without markup or highlighting."""
        self.print(text, markup=False, highlight=False)

    @property  # type: ignore[misc]  # it is never set
    def size(self) -> ConsoleDimensions:
        """Return the current size; rich's guess if the output is not a terminal.

        Some terminals do not know their size and report 0 (`script` when it runs without a terminal).
        """
        try:
            columns, lines = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):
            return super().size
        return ConsoleDimensions(columns or DEFAULT_SIZE.width, lines or DEFAULT_SIZE.height)


@contextmanager
def _redirected(
    number: int, stream: TextIO, redirect: Callable[[TextIO], AbstractContextManager[object]]
) -> Iterator[TextIO]:
    """Let Python's stream write to the descriptor, which can be redirected in the block; yield the user's.

    Text that is buffered before the block still reaches the user. A stream that is None was closed from the
    start: its descriptor may belong to another file.
    """
    if stream is None:
        yield stream
        return
    stream.flush()
    before = os.dup(number)
    try:
        with _users_stream(stream, number) as own, redirect(_unbuffered(number)):
            yield own
    finally:
        with suppress(OSError):  # the disk is full; only output of libraries is lost
            stream.flush()
        os.dup2(before, number)
        os.close(before)


def _point_to(numbers: list[int], path: Path) -> None:
    with path.open("ab") as file:
        for number in numbers:
            os.dup2(file.fileno(), number)


def _users_stream(stream: TextIO, number: int) -> AbstractContextManager[TextIO]:
    """The user's stream: `stream`, or a stream on a duplicate of the descriptor if `stream` writes to it."""
    try:
        uses_descriptor = stream.fileno() == number
    except (OSError, ValueError):  # it has no descriptor
        uses_descriptor = False
    if not uses_descriptor:
        return nullcontext(stream)
    return os.fdopen(os.dup(number), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)


def _unbuffered(number: int) -> TextIO:
    """An unbuffered stream on the descriptor, which stays open when the stream is closed."""
    raw = os.fdopen(number, "wb", buffering=0, closefd=False)
    return TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
