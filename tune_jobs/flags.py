"""The flags of the command line, and the page that --help shows."""

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from tune_jobs.errors import BadInputError

USAGE = "python launch.py --space FILE [flags]"
DESCRIPTION = """\
Find the best Self-Contrastive image encoder that a search space holds. Ray Tune
runs the trials, an Optuna study decides them, MLflow records them. One command
starts a search, goes on with it after any interruption, and shows the result of
a finished one:

  python launch.py --space search_spaces/exit_position.yaml

Look first at what it would do, and go on beyond its end:

  python launch.py --space search_spaces/exit_position.yaml --dry-run
  python launch.py --space search_spaces/exit_position.yaml --num-trials 30

The folder of the search then has the report (report.html), the table of trials
(trials.csv), and the winner as a search of its own, which trains it again:

  python launch.py --space runs/exit_position/best.yaml
"""
EPILOG = """\
exit codes:
  0  complete                       4  cluster lost; the same command goes on
  1  a fault of ours, a drift, or   5  complete, but tracking is not synced yet
     one that --doctor found        6  storage cannot be used
  2  bad input or no room;          7  another launcher runs this search
     nothing was started
  3  no trial succeeded             130, 143  interrupted; the same command goes on

docs/search_spaces.md describes the file, docs/operations.md what to do when
something goes wrong.
"""
MAX_WIDTH = 100


class Parser(argparse.ArgumentParser):
    """Raises what is wrong with the flags as `BadInputError`; `flags` are those that it knows."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.flags: list[str] = []

    def adder(self, title: str) -> Callable[..., None]:
        """Return a function that adds a flag to a new group, as `add_argument` does."""
        group = self.add_argument_group(title)

        def add(*names: str, **settings: Any) -> None:
            self.flags += names
            group.add_argument(*names, **settings)

        return add

    def error(self, message: str) -> NoReturn:
        """Raise the complaint without argparse's own words before it."""
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
    _add_instead(parser)
    _add_places(parser)
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    width = min(MAX_WIDTH, shutil.get_terminal_size().columns - 2)
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=23, width=width)


def _add_search(parser: Parser) -> None:
    add = parser.adder("the search")
    add("--space", type=Path, metavar="FILE", help="the search-space file (YAML)")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="replace a key of the file, e.g. --set train.optim.epochs=4; may be repeated")  # fmt: skip
    add(
        "--name",
        metavar="NAME",
        help="make it another search: the file's `name`, else its stem, is the default",
    )
    add(
        "--num-trials",
        type=_num_trials,
        metavar="N",
        help="raise the number of trials, also of a finished search",
    )


def _add_instead(parser: Parser) -> None:
    add = parser.adder("instead of running it")
    add("--dry-run", action="store_true", help="check the file and show what would run; start nothing")
    add("--report", action="store_true",
        help="write and show the report of what is there, also while it runs; train nothing")  # fmt: skip
    add("--reproduce", type=_trial_number, metavar="N",
        help="train trial N again from its record, compare, and name what is different now")  # fmt: skip
    add("--compare", nargs="+", default=[], metavar="NAME",
        help="searches side by side, by their names; takes no --space")  # fmt: skip
    add("--doctor", action="store_true",
        help="check the installation and what the flags name; starts nothing, needs no --space")  # fmt: skip
    add("-h", "--help", action="help", help="show this page")


def _add_places(parser: Parser) -> None:
    add = parser.adder("where it runs and what it writes to")
    add("--output", type=Path, default=Path("runs"), metavar="DIR", help="keep the search in DIR/NAME (runs)")
    add("--address", metavar="HOST:PORT", help="a Ray cluster, or RAY_ADDRESS (this machine is the cluster)")
    add("--tracking-uri", metavar="URI", help="MLflow, or MLFLOW_TRACKING_URI (sqlite:///mlflow.db)")
    add("--study-storage", metavar="URL",
        help="an Optuna database, or SELFCON_STUDY_STORAGE (DIR/NAME/study.db)")  # fmt: skip
    add("--checkpoint-storage", metavar="PLACE",
        help="a path that all nodes share or s3://BUCKET/PATH, or SELFCON_CHECKPOINT_STORAGE"
             " (DIR/NAME)")  # fmt: skip
    add("--debug", action="store_true", help="show tracebacks")


def _num_trials(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:10]) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return int(text)


def _trial_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected the number of a trial, got {text}")
    return int(text[:10])
