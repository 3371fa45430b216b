"""Record a terminal: python docs/record_terminal.py FOLDER NAME COMMAND [COMMAND ...]

Runs the commands one after the other in FOLDER, in a terminal of 100 columns and 30 lines, and writes its
content with the original timing: `docs/NAME.cast` (asciicast v2, for `asciinema play`), `docs/NAME.gif` (one
frame for each change) and `docs/NAME.png` (the frame at 80 % of all frames). Needs the `dev` extra.
"""

import fcntl
import json
import os
import pty
import select
import shlex
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import pyte
from PIL import Image, ImageDraw, ImageFont

COLUMNS, LINES = 100, 30
STEP_S = 1.0  # changes within this interval are one frame
LAST_FRAME_S = 5.0
STILL = 0.8  # position of the frame for the PNG
FONT, FONT_SIZE, LINE_HEIGHT = "DejaVuSansMono", 13, 17
BACKGROUND, FOREGROUND = "#1b1f24", "#d7dbe0"
COLORS = {
    "black": "#5c6370", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b", "yellow": "#e5c07b",
    "blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "white": "#d7dbe0", "default": FOREGROUND,
}  # fmt: skip

Event = tuple[float, bytes]
Style = tuple[str, bool]
Frame = tuple[tuple[str, Style], ...]


def main(folder: str, name: str, *commands: str) -> None:
    """Record the commands and write the three files."""
    start, events = time.monotonic(), []
    for command in commands:
        events.append((time.monotonic() - start, f"\x1b[1m$\x1b[0m {command}\r\n".encode()))
        events += [(at - start, data) for at, data in output_of(command, Path(folder))]
    place = Path(__file__).with_name(name)
    write_cast(place.with_suffix(".cast"), events)
    frames = list(frames_of(events))
    pictures = [drawn(lines) for _, lines in frames]
    times = [at for at, _ in frames]
    pictures[round(STILL * len(pictures))].save(place.with_suffix(".png"))
    write_animation(place.with_suffix(".gif"), pictures, times)


def output_of(command: str, folder: Path) -> Iterator[Event]:
    """Yield the terminal output of a command, with timestamps."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}
    process = subprocess.Popen(
        shlex.split(command), cwd=folder, env=environment, stdin=child, stdout=child, stderr=child
    )
    os.close(child)
    while True:
        is_over = process.poll() is not None
        if select.select([parent], [], [], 0.1)[0]:
            try:
                yield time.monotonic(), os.read(parent, 1 << 16)
            except OSError:  # the last process has closed the terminal
                break
        elif is_over:
            break
    os.close(parent)


def write_cast(path: Path, events: list[Event]) -> None:
    """Write an asciicast of the events; events of one step are merged."""
    header = {"version": 2, "width": COLUMNS, "height": LINES, "env": {"TERM": "xterm-256color"}}
    lines = [json.dumps(header)]
    for step, group in groupby(events, key=lambda event: int(event[0] / STEP_S)):
        text = b"".join(data for _, data in group).decode(errors="replace")
        lines.append(json.dumps([step * STEP_S, "o", text], ensure_ascii=False))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def frames_of(events: list[Event]) -> Iterator[tuple[float, list[Frame]]]:
    """Yield the screen of the terminal after each change, with its time."""
    screen = pyte.Screen(COLUMNS, LINES)
    stream, shown = pyte.ByteStream(screen), None
    for step, group in groupby(events, key=lambda event: int(event[0] / STEP_S)):
        for _, data in group:
            stream.feed(data)
        lines = [_runs(screen, line) for line in range(LINES)]
        if lines != shown:
            shown = lines
            yield step * STEP_S, lines


def _runs(screen: pyte.Screen, line: int) -> Frame:
    """A line as pieces of text with one style each."""
    cells = [screen.buffer[line][column] for column in range(COLUMNS)]
    styled = [(cell.data, (cell.fg, cell.bold)) for cell in cells]
    return tuple(("".join(d for d, _ in run), style) for style, run in groupby(styled, key=lambda c: c[1]))


def drawn(lines: list[Frame]) -> Image.Image:
    """Return an image of a screen."""
    plain, bold = (ImageFont.truetype(f"{FONT}{weight}.ttf", FONT_SIZE) for weight in ("", "-Bold"))
    width = plain.getlength("M")
    picture = Image.new("RGB", (int(width * COLUMNS) + 24, LINE_HEIGHT * LINES + 20), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for row, runs in enumerate(lines):
        column = 0
        for text, (color, is_bold) in runs:
            at = (12 + column * width, 10 + row * LINE_HEIGHT)
            fill = COLORS.get(color.removeprefix("bright"), f"#{color}" if len(color) == 6 else FOREGROUND)
            draw.text(at, text, fill=fill, font=bold if is_bold else plain)
            column += len(text)
    return picture.quantize(32, method=Image.Quantize.MAXCOVERAGE)


def write_animation(path: Path, pictures: list[Image.Image], times: list[float]) -> None:
    """Write the images as an animation with the original timing."""
    durations = [1000 * (after - at) for at, after in pairwise(times)]
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=[int(duration) for duration in [*durations, 1000 * LAST_FRAME_S]],
        loop=0,
        optimize=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
