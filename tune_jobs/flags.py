"""Flags of the command line and the text of --help."""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from selfcon.version import VERSION
from tune_jobs.errors import BadInputError

USAGE = "python launch.py --space FILE [flags]"
DESCRIPTION = """\
Search for the best Self-Contrastive image encoder in a search space. Optuna
suggests the trials, Ray Tune runs them, and MLflow records them. The same
command starts a search, resumes an interrupted one, and shows the result of
a finished one:

  python launch.py --space search_spaces/exit_position.yaml

Preview a search without starting it, or extend it to more trials:

  python launch.py --space search_spaces/exit_position.yaml --dry-run
  python launch.py --space search_spaces/exit_position.yaml --num-trials 30

The search writes a report (report.html), a table of all trials (trials.csv)
and the winning configuration (best.yaml) to its folder. To train the winner
again:

  python launch.py --space runs/exit_position/best.yaml
"""
EPILOG = """\
exit codes:
  0         complete
  1         internal error, a difference found by --reproduce, or a problem
            found by --doctor
  2         invalid input or insufficient resources; nothing was started
  3         no trial succeeded, or the first trials failed with the same error
  4         the Ray cluster was lost; run the same command to resume
  5         complete, but not all records are in MLflow yet; run the same
            command to send the rest
  6         storage cannot be used; fix it and run the same command
  7         another launcher runs this search
  130, 143  interrupted (Ctrl-C, SIGTERM); run the same command to resume

See docs/search_spaces.md for the search-space file and docs/operations.md for
troubleshooting.
"""
MAX_WIDTH = 100


class Parser(argparse.ArgumentParser):
    """Argument parser that raises `BadInputError` for invalid flags; `flags` lists the known flags."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.flags: list[str] = []

    def adder(self, title: str) -> Callable[..., None]:
        """Return a function that adds a flag to a new group, with the arguments of `add_argument`."""
        group = self.add_argument_group(title)

        def add(*names: str, **settings: Any) -> None:
            self.flags += names
            group.add_argument(*names, **settings)

        return add

    def error(self, message: str) -> NoReturn:
        """Raise `BadInputError` with the message, without argparse's prefix."""
        raise BadInputError(message.removeprefix("argument "))


def make_parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        prog="launch.py",
        usage=USAGE,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=_formatter,
        allow_abbrev=False,
        add_help=False,
    )
    _add_search(parser)
    _add_modes(parser)
    _add_locations(parser)
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(MAX_WIDTH, shutil.get_terminal_size().columns - 2)
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=23, width=width)


def _add_search(parser: Parser) -> None:
    add = parser.adder("search options")
    add("--space", type=Path, metavar="FILE", help="the search-space file (YAML)")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="override a key of the file, e.g. --set train.optim.epochs=4; can be repeated")  # fmt: skip
    add(
        "--name",
        metavar="NAME",
        help="name of the search (default: the `name` in the file, else the name of the file)",
    )
    add(
        "--num-trials",
        type=_num_trials,
        metavar="N",
        help="total number of trials; raise it to extend a search, even a finished one",
    )


def _add_modes(parser: Parser) -> None:
    add = parser.adder("modes (instead of running the search)")
    add("--dry-run", action="store_true",
        help="validate the file and show what would run, without starting it")  # fmt: skip
    add("--report", action="store_true",
        help="write and show the report of the results so far, even while the search runs")  # fmt: skip
    add("--reproduce", type=_trial_number, metavar="N",
        help="train trial N again from its record and report any differences")  # fmt: skip
    add("--compare", nargs="+", default=[], metavar="NAME",
        help="compare two or more searches by name; cannot be combined with --space")  # fmt: skip
    add("--doctor", action="store_true",
        help="check the installation and everything the flags name, without starting a search;"
             " does not need --space")  # fmt: skip
    add("-h", "--help", action="help", help="show this help and exit")
    add("--version", action="version", version=f"selfcon-search {VERSION}", help="show the version")


def _add_locations(parser: Parser) -> None:
    add = parser.adder("cluster and storage")
    add("--output", type=Path, default=Path("runs"), metavar="DIR",
        help="write the search to DIR/NAME (default: runs)")  # fmt: skip
    add("--address", metavar="HOST:PORT", help="Ray cluster to use (default: RAY_ADDRESS, else this machine)")
    add("--tracking-uri", metavar="URI",
        help="MLflow tracking URI (default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db)")  # fmt: skip
    add("--study-storage", metavar="URL",
        help="database of the Optuna study (default: SELFCON_STUDY_STORAGE, else"
             " DIR/NAME/study.db)")  # fmt: skip
    add("--checkpoint-storage", metavar="PLACE",
        help="checkpoint location: a path shared by all nodes, or s3://BUCKET/PATH"
             " (default: SELFCON_CHECKPOINT_STORAGE, else DIR/NAME)")  # fmt: skip
    add("--debug", action="store_true", help="show tracebacks of errors")


def _num_trials(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:10]) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)


def _trial_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected the number of a trial, got {text}")
    return int(text[:10])
