"""`python -m tests.chaos`: run the soak test; exit code 1 if an invariant does not hold."""

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

MIN_KILLS = 8  # so that every victim is killed


def main() -> int:
    """Run the soak test with the flags of the command line and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=secrets.randbelow(10_000), help="seed of an earlier run, to repeat it"
    )
    parser.add_argument("--kills", type=int, default=24, help=f"number of kills, at least {MIN_KILLS} (24)")
    flags = parser.parse_args()
    if flags.kills < MIN_KILLS:
        parser.error(f"--kills: expected at least {MIN_KILLS}, got {flags.kills}")
    # Only processes started from here inherit the token and can use the cluster.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    console, start_s = Console(soft_wrap=True), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))

    def note(text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - start_s), 60)
        console.print(f"{minutes:3d}:{seconds:02d}  {text}", markup=False, highlight=False)

    note(f"seed {flags.seed}, {flags.kills} kills; all files are in {folder}")
    try:
        searches = soak(folder, seed=flags.seed, num_kills=flags.kills, note=note)
    except SoakError as error:
        console.print(f"BROKEN {error}", markup=False, highlight=False)
        return 1
    return 0 if print_tables(console, searches) else 1


if __name__ == "__main__":
    sys.exit(main())
