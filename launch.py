"""Start or resume a search: `python launch.py --space search_spaces/exit_position.yaml`."""

import sys

from tune_jobs.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
