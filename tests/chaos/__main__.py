"""`python -m tests.chaos`: run the soak and print its tables; exit code 1 where something does not hold."""

import argparse
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

import optuna
from rich.console import Console

from .disturbance import SoakError
from .soak import soak
from .table import print_tables

MIN_KILLS = 8  # so that every victim is hit


def main() -> int:
    """Run the soak that the command line asks for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="repeat an earlier soak")
    parser.add_argument("--kills", type=int, default=24, help=f"how many, at least {MIN_KILLS} (24)")
    flags = parser.parse_args()
    if flags.kills < MIN_KILLS:
        parser.error(f"--kills: expected at least {MIN_KILLS}, got {flags.kills}")
    # Nobody else may use the cluster; whoever we start has the token from us.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    console, start_s = Console(soft_wrap=True), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))

    def note(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - start_s), 60)
        console.print(f"{minutes:3d}:{seconds:02d}  {text}", markup=False, highlight=False)

    note(f"seed {flags.seed}, {flags.kills} kills; everything lies in {folder}")
    try:
        searches = soak(folder, seed=flags.seed, num_kills=flags.kills, note=note)
    except SoakError as error:
        console.print(f"BROKEN {error}", markup=False, highlight=False)
        return 1
    return 0 if print_tables(console, searches) else 1


if __name__ == "__main__":
    sys.exit(main())
